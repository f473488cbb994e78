//! cgroup v2: one group for all containers, in it one for each attempt.
//!
//! ```text
//!   ROOT (guest-init, unlimited)
//!   └── containers        memory.max = available - RESERVE, pids.max
//!       └── NAME.ATTEMPT  the container's own limits
//! ```
//!
//! A controller that the kernel lacks limits nothing; that is no error, so that
//! the same program runs in tests.

use crate::errors::{failed, refuse};
use guest_protocol::figures::field;
use guest_protocol::{Limits, Refusal, RefusalKind};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What containers together can never use, for the agent and the kernel.
const RESERVE: u64 = 12 << 20;
/// Kernel memory that a process costs at least; bounds `pids.max`.
const PROCESS_COST: u64 = 32 << 10;
const PIDS_MAX: u64 = 32 << 10;
const CPU_PERIOD: u64 = 100_000;

/// The group of one attempt; removed by [`Group::remove`].
#[derive(Clone, Debug)]
pub(crate) struct Group(pub(crate) PathBuf);

/// Makes the common group. Called once, before the first container, with the
/// bytes of memory that are available then.
pub(crate) fn set_up(root: &Path, available: u64) -> io::Result<()> {
    delegate(root);
    let all = root.join("containers");
    make(&all)?;
    delegate(&all);
    let bound = available.saturating_sub(RESERVE.min(available / 4));
    try_write(&all, "memory.max", &bound.to_string());
    let pids = (bound / PROCESS_COST).clamp(64, PIDS_MAX);
    try_write(&all, "pids.max", &pids.to_string());
    Ok(())
}

impl Group {
    pub(crate) fn create(root: &Path, name: &str, limits: Limits) -> io::Result<Self> {
        let path = root.join("containers").join(name);
        make(&path)?;
        for (file, value) in settings(limits) {
            try_write(&path, file, &value);
        }
        Ok(Self(path))
    }

    /// Gives it other limits. Memory that it uses is not taken away, but what
    /// the kernel can take back, such as the page cache, is asked for.
    ///
    /// # Errors
    /// It uses more memory than it may have from now on, or the kernel's.
    pub(crate) fn change(&self, name: &str, limits: Limits) -> Result<(), Refusal> {
        let used = self.shrink_to(limits.memory);
        if limits.memory > 0 && used > limits.memory {
            let message = format!(
                "attempting to set container {name:?} memory limit ({}) below current usage ({used})",
                limits.memory
            );
            return Err(refuse(RefusalKind::InUse, message));
        }
        for (file, value) in changes(limits) {
            let path = self.0.join(file);
            if path.exists() {
                fs::write(&path, value).map_err(failed(file))?;
            }
        }
        Ok(())
    }

    /// What it uses of memory, of which more than `limit` was given back as far
    /// as possible; 0 is no limit.
    fn shrink_to(&self, limit: u64) -> u64 {
        let used = || {
            let text = fs::read_to_string(self.0.join("memory.current"));
            text.ok().and_then(|text| text.trim().parse().ok())
        };
        let before: u64 = used().unwrap_or(0);
        if limit == 0 || before <= limit {
            return before;
        }
        // It fails where less could be had, which the figure tells.
        let _ = fs::write(self.0.join("memory.reclaim"), (before - limit).to_string());
        used().unwrap_or(before)
    }

    /// Kills everything in it.
    pub(crate) fn kill(&self) {
        try_write(&self.0, "cgroup.kill", "1");
    }

    /// Whether the kernel killed something in it for want of memory.
    pub(crate) fn out_of_memory(&self) -> bool {
        let events = fs::read_to_string(self.0.join("memory.events")).unwrap_or_default();
        field(&events, "oom_kill").is_some_and(|count| count > 0)
    }

    /// Whether any process is left in it.
    pub(crate) fn populated(&self) -> bool {
        let events = fs::read_to_string(self.0.join("cgroup.events")).unwrap_or_default();
        field(&events, "populated") == Some(1)
    }

    pub(crate) fn remove(&self) -> io::Result<()> {
        fs::remove_dir(&self.0)
    }
}

/// The files of limits that change, and what is written to each.
fn changes(limits: Limits) -> Vec<(&'static str, String)> {
    const LIFTED: [(&str, &str); 3] = [
        ("memory.max", "max"),
        ("cpu.max", "max"),
        ("cpu.weight", "100"),
    ];
    let set = settings(limits);
    let own = LIFTED.into_iter().map(|(file, lifted)| {
        let given = set.iter().find(|(other, _)| *other == file);
        let value = given.map_or_else(|| lifted.to_owned(), |(_, value)| value.clone());
        (file, value)
    });
    own.collect()
}

/// The files and what is written to each.
fn settings(limits: Limits) -> Vec<(&'static str, String)> {
    let mut settings = vec![("memory.oom.group", "1".to_owned())];
    if limits.memory > 0 {
        settings.push(("memory.max", limits.memory.to_string()));
        settings.push(("memory.swap.max", "0".to_owned()));
    }
    if limits.cpu_milli > 0 {
        // The kernel refuses a quota below a millisecond.
        let quota = (limits.cpu_milli.saturating_mul(CPU_PERIOD) / 1000).max(1000);
        settings.push(("cpu.max", format!("{quota} {CPU_PERIOD}")));
    }
    if limits.cpu_weight > 0 {
        let weight = limits.cpu_weight.clamp(1, 10_000);
        settings.push(("cpu.weight", weight.to_string()));
    }
    if limits.pids > 0 {
        settings.push(("pids.max", limits.pids.to_string()));
    }
    settings
}

fn delegate(group: &Path) {
    for controller in ["+memory", "+pids", "+cpu"] {
        try_write(group, "cgroup.subtree_control", controller);
    }
    // Only counts, and many kernels lack it.
    let known = fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
    if known
        .split_whitespace()
        .any(|controller| controller == "io")
    {
        try_write(group, "cgroup.subtree_control", "+io");
    }
}

fn make(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// A limit that can't be set is reported on the console and the container
/// runs without it: the micro-VM still bounds it.
fn try_write(group: &Path, file: &str, value: &str) {
    let path = group.join(file);
    if let (true, Err(error)) = (path.exists(), fs::write(&path, value)) {
        crate::console::say(format_args!("{}: {error}", path.display()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_become_files() {
        let limits = Limits {
            memory: 1 << 20,
            cpu_milli: 250,
            cpu_weight: 100_000,
            pids: 7,
        };
        let got: Vec<_> = settings(limits);
        for wanted in [
            ("memory.max", "1048576"),
            ("cpu.max", "25000 100000"),
            ("cpu.weight", "10000"),
            ("pids.max", "7"),
            ("memory.oom.group", "1"),
        ] {
            assert!(
                got.iter()
                    .any(|(file, value)| (*file, value.as_str()) == wanted),
                "{got:?}"
            );
        }
        assert_eq!(settings(Limits::default()).len(), 1, "0 is no limit");
        let all = |limits| changes(limits).into_iter().map(|(_, value)| value);
        assert!(all(limits).eq(["1048576", "25000 100000", "10000"]));
        let lifted = ["max", "max", "100"];
        assert!(all(Limits::default()).eq(lifted));
    }
}
