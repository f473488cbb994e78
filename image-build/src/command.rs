//! Outside programs: run, checked, their output kept for the error.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Runs to the end and gives stdout; an error carries the end of stderr.
pub fn output(command: &mut Command) -> Result<Vec<u8>> {
    let shown = show(command);
    let done = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {shown}"))?;
    if !done.status.success() {
        let mut said = String::from_utf8_lossy(&done.stderr).into_owned();
        said.push_str(&String::from_utf8_lossy(&done.stdout));
        bail!("{shown}: {}\n{}", done.status, tail(&said, 40));
    }
    Ok(done.stdout)
}

/// As `output`, for programs that speak UTF-8.
pub fn text(command: &mut Command) -> Result<String> {
    let shown = show(command);
    String::from_utf8(output(command)?).with_context(|| format!("output of {shown}"))
}

/// Runs with our own stdout and stderr.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("starting {shown}"))?;
    if !status.success() {
        bail!("{shown}: {status}");
    }
    Ok(())
}

/// A command with its arguments.
pub fn command<S: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    arguments: impl IntoIterator<Item = S>,
) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// The last `lines` lines.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn show(command: &Command) -> String {
    let mut shown = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        shown.push(' ');
        shown.push_str(&argument.to_string_lossy());
    }
    shown
}
