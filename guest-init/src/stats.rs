//! Figures of the guest and its containers, read from proc and cgroup files.

use crate::guest::Guest;
use guest_protocol::Stats;
use std::fs;

pub(crate) fn collect(guest: &Guest) -> Stats {
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let cpu = fs::read_to_string("/proc/stat").unwrap_or_default();
    Stats {
        memory_total: meminfo(&memory, "MemTotal"),
        memory_available: meminfo(&memory, "MemAvailable"),
        cpu_ns: cpu_ns(&cpu),
        containers: guest
            .all_running()
            .iter()
            .map(|attempt| attempt.group.stats(attempt.name()))
            .collect(),
    }
}

/// In bytes; 0 if it is not there.
pub(crate) fn meminfo(text: &str, name: &str) -> u64 {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) << 10
}

/// Busy time of all processors: the first line's ticks of 10 ms (USER_HZ) but
/// idle and iowait, which stand at the fourth and fifth place; guest time is
/// in user time already (proc_stat(5)).
fn cpu_ns(text: &str) -> u64 {
    let line = text.lines().next().unwrap_or_default();
    let ticks = line.split_whitespace().skip(1).take(8).enumerate();
    let busy = ticks.filter(|(place, _)| !matches!(place, 3 | 4));
    busy.filter_map(|(_, ticks)| ticks.parse::<u64>().ok())
        .sum::<u64>()
        * 10_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_their_lines() {
        let memory = "MemTotal:  2048 kB\nMemAvailable:    1 kB\n";
        assert_eq!(meminfo(memory, "MemTotal"), 2 << 20);
        assert_eq!(meminfo(memory, "MemFree"), 0);
        assert_eq!(cpu_ns("cpu  1 2 3 100 100 4 5 6 7 8\n"), 21 * 10_000_000);
    }
}
