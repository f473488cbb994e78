//! exec and logs.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use qemu_test::appliance::{Appliance, POD};
use qemu_test::pod::Pod;
use qemu_test::wait;

pub(crate) fn exec_passes_streams_and_codes(appliance: &mut Appliance) -> Result<()> {
    let kubectl = &appliance.kubectl;
    for (script, input, code, stdout, stderr) in [
        ("exit 7", "", 7, "", ""),
        ("echo out; echo err >&2", "", 0, "out\n", "err\n"),
        ("cat; exit 3", "through\n", 3, "through\n", ""),
    ] {
        let words = ["exec", "-i", "nginx", "--", "/bin/sh", "-c", script];
        let said = kubectl.say_with(&words, input)?;
        ensure!(said.code() == Some(code), "{script}: {said:?}");
        ensure!(said.stdout == stdout, "{script}: {said:?}");
        ensure!(said.stderr.starts_with(stderr), "{script}: {said:?}");
    }
    // More than any buffer on the way.
    let script = "dd if=/dev/zero bs=1024 count=2048 2>/dev/null | tr '\\0' x";
    let said = kubectl.say(&["exec", "nginx", "--", "/bin/sh", "-c", script])?;
    ensure!(
        said.stdout.len() == 2 << 20,
        "{} bytes of 2 MiB",
        said.stdout.len()
    );
    let said = kubectl.say(&["exec", "nginx", "--", "/no/such/program"])?;
    ensure!(!said.status.success(), "a missing program: {said:?}");
    Ok(())
}

/// kubectl wants a terminal for -t: script(1) gives it one.
pub(crate) fn exec_has_a_terminal(appliance: &mut Appliance) -> Result<()> {
    let inner = format!(
        "stty rows 33 cols 99; {} exec -it nginx -- /bin/sh -c 'stty size; tty; exit 5'",
        appliance.kubectl.shell_words()
    );
    let said = Command::new("timeout")
        .args([
            "60",
            "script",
            "--quiet",
            "--return",
            "--command",
            &inner,
            "/dev/null",
        ])
        .stdin(std::process::Stdio::null())
        .output()
        .context("script")?;
    let text = String::from_utf8_lossy(&said.stdout);
    ensure!(said.status.code() == Some(5), "{:?}: {text}", said.status);
    ensure!(text.contains("33 99"), "size of the terminal: {text}");
    ensure!(text.contains("/dev/pts/"), "name of the terminal: {text}");
    Ok(())
}

pub(crate) fn logs_select(appliance: &mut Appliance) -> Result<()> {
    let script = "for i in 1 2 3 4 5; do echo line $i; done; echo err >&2; exec sleep 100000";
    appliance.create(
        &Pod::script("talk", script).beside("other", "echo from other; exec sleep 100000"),
    )?;
    appliance.until_phase("talk", "Running")?;
    let logs = |more: &[&str]| {
        let mut words = vec!["logs", "talk"];
        words.extend(more);
        appliance.kubectl.run(&words)
    };
    let all = "line 1\nline 2\nline 3\nline 4\nline 5\nerr\n".to_owned();
    wait::until_equal("whole log", POD, &all, || {
        // Two streams: their order among each other is not promised.
        let text = logs(&["-c", "main"])?;
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_by_key(|line| *line == "err");
        Ok(lines.iter().map(|line| format!("{line}\n")).collect())
    })?;
    ensure!(logs(&["-c", "main", "--tail=2"])?.lines().count() == 2);
    ensure!(logs(&["-c", "other"])? == "from other\n");
    ensure!(logs(&["-c", "main", "--since=1h"])?.lines().count() == 6);
    let stamped = logs(&["-c", "other", "--timestamps"])?;
    ensure!(
        stamped.contains("T") && stamped.ends_with("Z from other\n"),
        "{stamped:?}"
    );
    let script = "for i in 1 2 3; do echo tick $i; sleep 1; done";
    appliance.create(&Pod::script("ticks", script))?;
    appliance.until_phase("ticks", "Running")?;
    let mut follow = appliance.kubectl.start(&["logs", "-f", "ticks"])?;
    let ended = follow.finish(POD)?;
    ensure!(ended.success(), "logs -f: {ended}");
    ensure!(
        follow.output() == "tick 1\ntick 2\ntick 3\n",
        "{:?}",
        follow.output()
    );
    appliance.delete("ticks")?;
    appliance.delete("talk")
}
