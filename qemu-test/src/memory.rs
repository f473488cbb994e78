//! How much memory the appliance has in use.

use anyhow::{Context, Result};

use crate::agent::Agent;

const PAGE_KIB: u64 = 4;

/// What `/proc/meminfo` says, and what it leaves out.
pub struct Memory {
    meminfo: String,
    /// Pages in the processors' lists of free ones: up to an eighth of a zone
    /// since Linux 6.7, as chance has it, and not counted as available though
    /// the first who is short of memory gets them.
    in_lists: u64,
}

impl Memory {
    pub fn of(agent: &mut Agent) -> Result<Self> {
        Ok(Self {
            meminfo: agent.read("/proc/meminfo")?,
            in_lists: in_lists(&agent.read("/proc/zoneinfo")?),
        })
    }

    /// In KiB, all that nobody could have who asks for memory.
    pub fn in_use(&self) -> Result<u64> {
        let free = self.field("MemAvailable")? + self.in_lists * PAGE_KIB;
        Ok(self.field("MemTotal")?.saturating_sub(free))
    }

    /// In KiB.
    pub fn field(&self, name: &str) -> Result<u64> {
        field(&self.meminfo, name).with_context(|| format!("{name} in /proc/meminfo"))
    }

    /// For who has to find out where it went.
    pub fn text(&self) -> &str {
        &self.meminfo
    }
}

/// In KiB, what a `/proc/meminfo` says.
pub(crate) fn field(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    let number = line.strip_prefix(':')?.split_whitespace().next()?;
    number.parse().ok()
}

/// The sum of the pagesets' `count` lines of `/proc/zoneinfo`.
fn in_lists(zoneinfo: &str) -> u64 {
    let counts = zoneinfo
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("count:"));
    counts.filter_map(|n| n.trim().parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_not_in_use() {
        let zoneinfo = "Node 0, zone DMA\n  pagesets\n    cpu: 0\n              count: 7\n\
             cpu: 1\n              count:    30\n high: 9\n";
        let memory = Memory {
            meminfo: "MemTotal:  2000 kB\nMemAvailable:    1500 kB\n".to_owned(),
            in_lists: in_lists(zoneinfo),
        };
        assert_eq!(memory.in_use().expect("both are there"), 2000 - 1500 - 148);
        assert!(memory.field("Mem").is_err());
    }
}
