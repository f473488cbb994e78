//! exec and logs.

use std::process::Command;

use anyhow::{Result, ensure};
use image_build::command;
use qemu_test::appliance::{Appliance, POD};
use qemu_test::copy;
use qemu_test::kubectl::Running;
use qemu_test::pod::Pod;
use qemu_test::wait::{self, Seen};

use crate::lifecycle::nginx;

pub(crate) fn exec_passes_streams_and_codes(appliance: &mut Appliance) -> Result<()> {
    nginx(appliance)?;
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

pub(crate) fn files_are_copied(appliance: &mut Appliance) -> Result<()> {
    nginx(appliance)?;
    let [there, back] = copy::there_and_back(appliance, "nginx", "/tmp", 16, POD)?;
    println!("16 MiB: {there:.1?} there, {back:.1?} back");
    let remove = ["exec", "nginx", "--", "rm", "/tmp/copied"];
    appliance.kubectl.run(&remove).map(drop)
}

/// Nothing is left in the guest, nor on the way, of a client that is killed.
pub(crate) fn what_is_executed_ends_with_its_client(appliance: &mut Appliance) -> Result<()> {
    nginx(appliance)?;
    let kubectl = &appliance.kubectl;
    let script = "echo $$ >/tmp/executed; echo up; exec sleep 100000";
    for words in [
        ["exec", "nginx", "--"].as_slice(),
        &["exec", "-i", "nginx", "--"],
    ] {
        let words = [words, &["/bin/sh", "-c", script]].concat();
        let mut running = kubectl.start(&words)?;
        running.until("first line", POD, |said| said.contains("up").then_some(()))?;
        let look = [
            "exec",
            "nginx",
            "--",
            "/bin/sh",
            "-c",
            "kill -0 $(cat /tmp/executed)",
        ];
        ensure!(kubectl.say(&look)?.status.success(), "it doesn't run");
        drop(running);
        wait::until("end of what was executed", POD, || {
            Ok(match kubectl.say(&look)?.code() {
                Some(1) => Seen::Done(()),
                code => Seen::NotYet(format!("exit code {code:?}")),
            })
        })?;
    }
    Ok(())
}

/// kubectl wants a terminal for -t: script(1) gives it one. Its size changes
/// while the command runs.
pub(crate) fn exec_has_a_terminal(appliance: &mut Appliance) -> Result<()> {
    nginx(appliance)?;
    // The size comes on a stream of its own, so the shell may be there before it.
    let inside = "until_size() { until [ \"$(stty size)\" = \"$1\" ]; do sleep 0.1; done; }; \
                  until_size \"33 99\"; stty size; tty; \
                  until_size \"44 77\"; echo resized; exit 5";
    let outside = format!(
        "echo on $(tty); stty rows 33 cols 99; {} exec -it nginx -- /bin/sh -c '{inside}'",
        appliance.kubectl.shell_words()
    );
    let mut script = Command::new("script");
    let words = ["--quiet", "--return", "--command", &outside, "/dev/null"];
    let mut running = Running::start(script.args(words))?;
    let terminal = running.until("size and terminal", POD, |said| {
        let inside = said.contains("33 99") && said.matches("/dev/pts/").count() >= 2;
        let line = said.lines().find_map(|line| line.strip_prefix("on "))?;
        inside.then(|| line.trim().to_owned())
    })?;
    let size = ["-F", &terminal, "rows", "44", "cols", "77"];
    command::output(&mut command::command("stty", size))?;
    let ended = running.finish(POD)?;
    let said = running.output();
    ensure!(ended.code() == Some(5), "{ended}: {said}");
    ensure!(said.contains("resized"), "{said}");
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
    wait::until_equal("nothing in the last second", POD, &String::new(), || {
        logs(&["-c", "main", "--since=1s"])
    })?;
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
