//! Processes that `atoll-lab run` leaves behind, found again by files of the lab.
//!
//! A file holds the pid and when the process started, so that another process
//! with the same pid later is never taken for ours.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use image_build::command::{self, command};

const NAMES: [&str; 2] = ["qemu", "registry"];

/// Writes down a process that runs.
pub fn record(lab: &Path, name: &str, pid: u32) -> Result<()> {
    let started = started(pid).with_context(|| format!("{name} has ended already"))?;
    Ok(fs::write(file(lab, name), format!("{pid} {started}"))?)
}

/// Whether any of them runs.
pub fn any(lab: &Path) -> Result<bool> {
    for name in NAMES {
        if runs(lab, name)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether this one runs.
pub fn runs(lab: &Path, name: &str) -> Result<bool> {
    Ok(recorded(lab, name)?.is_some())
}

/// SIGKILL, if it runs.
pub fn kill(lab: &Path, name: &str) -> Result<()> {
    if let Some(pid) = recorded(lab, name)? {
        command::output(&mut command("kill", ["-KILL", &pid.to_string()]))?;
    }
    Ok(())
}

fn recorded(lab: &Path, name: &str) -> Result<Option<u32>> {
    let Ok(text) = fs::read_to_string(file(lab, name)) else {
        return Ok(None);
    };
    let (pid, then) = text.split_once(' ').context("pid file")?;
    let pid = pid.parse()?;
    Ok((started(pid).as_deref() == Some(then)).then_some(pid))
}

/// Field 22 of `/proc/PID/stat` (proc(5)): ticks since boot; none for a zombie.
fn started(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    if fields.first() == Some(&"Z") {
        return None;
    }
    fields.get(19).map(|field| (*field).to_owned())
}

fn file(lab: &Path, name: &str) -> std::path::PathBuf {
    lab.join(format!("{name}.pid"))
}
