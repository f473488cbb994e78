//! The kernel's figures, from the text of its files: guests and the host read
//! the same ones, and tell them by the same types.
//!
//! A line that is none is passed over; a sum ends at the largest number.

use crate::{InterfaceStats, IoStats, MemoryStats, Throttling};

/// The value of `NAME value` in a flat keyed file of a cgroup.
#[must_use]
pub fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(' ')?;
        (key == name).then(|| value.trim().parse().ok())?
    })
}

/// A line of `/proc/meminfo`, in bytes; 0 if it is not there.
#[must_use]
pub fn meminfo(text: &str, name: &str) -> u64 {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next());
    let kib = number.and_then(|kib| kib.parse::<u64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

/// A field of `cpu.stat` in microseconds, as nanoseconds.
#[must_use]
pub fn nanoseconds(cpu_stat: &str, name: &str) -> Option<u64> {
    field(cpu_stat, name).map(|us| us.saturating_mul(1000))
}

impl Throttling {
    /// Of `cpu.stat`; none where nothing is limited.
    #[must_use]
    pub fn read(cpu_stat: &str) -> Option<Self> {
        Some(Self {
            periods: field(cpu_stat, "nr_periods")?,
            throttled_periods: field(cpu_stat, "nr_throttled").unwrap_or(0),
            throttled_ns: nanoseconds(cpu_stat, "throttled_usec").unwrap_or(0),
        })
    }
}

impl MemoryStats {
    /// Of `memory.current` (`usage`) and `memory.stat`.
    #[must_use]
    pub fn read(usage: u64, memory_stat: &str) -> Self {
        let of = |name: &str| field(memory_stat, name).unwrap_or(0);
        Self {
            usage,
            rss: of("anon"),
            cache: of("file"),
            mapped_file: of("file_mapped"),
            active_file: of("active_file"),
            inactive_file: of("inactive_file"),
            page_faults: of("pgfault"),
            major_page_faults: of("pgmajfault"),
        }
    }
}

impl IoStats {
    /// Of `io.stat`: `MAJOR:MINOR rbytes=N wbytes=N rios=N wios=N ...` a line,
    /// summed up.
    #[must_use]
    pub fn read(io_stat: &str) -> Self {
        let mut sum = Self::default();
        for word in io_stat.split_whitespace() {
            let Some((key, value)) = word.split_once('=') else {
                continue;
            };
            let counter = match key {
                "rbytes" => &mut sum.read_bytes,
                "wbytes" => &mut sum.write_bytes,
                "rios" => &mut sum.reads,
                "wios" => &mut sum.writes,
                _ => continue,
            };
            *counter = counter.saturating_add(value.parse().unwrap_or(0));
        }
        sum
    }
}

impl InterfaceStats {
    /// Of `/proc/net/dev`: at most `most`, the loopback isn't one. A line is a
    /// name, eight figures received, eight sent.
    #[must_use]
    pub fn read(net_dev: &str, most: usize) -> Vec<Self> {
        let all = net_dev.lines().filter_map(Self::line);
        all.filter(|one| one.name != "lo").take(most).collect()
    }

    fn line(line: &str) -> Option<Self> {
        let (name, figures) = line.split_once(':')?;
        let figures = figures.split_whitespace().map(|text| text.parse().ok());
        let figures: Vec<u64> = figures.collect::<Option<_>>()?;
        let at = |place: usize| figures.get(place).copied();
        Some(Self {
            name: name.trim().to_owned(),
            rx_bytes: at(0)?,
            rx_packets: at(1)?,
            rx_errors: at(2)?,
            rx_dropped: at(3)?,
            tx_bytes: at(8)?,
            tx_packets: at(9)?,
            tx_errors: at(10)?,
            tx_dropped: at(11)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_whole_names() {
        let events = "oom 3\noom_kill 2\noom_group_kill x\n";
        assert_eq!(field(events, "oom_kill"), Some(2));
        assert_eq!(field(events, "oom_group_kill"), None);
        assert_eq!(field(events, "low"), None);
    }

    #[test]
    fn memory_is_told_in_kibibytes() {
        let memory = "MemTotal:  2048 kB\nMemAvailable:    1 kB\n";
        assert_eq!(meminfo(memory, "MemTotal"), 2 << 20);
        assert_eq!(meminfo(memory, "MemFree"), 0);
        assert_eq!(meminfo("MemTotal:  7 kB\n", "MemTotal"), 7168);
    }

    #[test]
    fn devices_are_summed_up() {
        let text = "253:0 rbytes=10 wbytes=2 rios=3 wios=1 dbytes=9 dios=9\n\
                    253:16 rbytes=5 wbytes=x rios\n";
        let wanted = IoStats {
            read_bytes: 15,
            write_bytes: 2,
            reads: 3,
            writes: 1,
        };
        assert_eq!(IoStats::read(text), wanted);
        assert_eq!(IoStats::read(""), IoStats::default());
    }

    #[test]
    fn interfaces_but_the_loopback_are_read() {
        let text = "Inter-|   Receive    |  Transmit\n face |bytes packets\n\
            lo: 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\n\
            eth0: 10 11 12 13 0 0 0 0 20 21 22 23 0 0 0 0\n broken: 1 x\n";
        let [eth0] = &InterfaceStats::read(text, 16)[..] else {
            panic!("one interface");
        };
        assert_eq!((eth0.name.as_str(), eth0.rx_bytes), ("eth0", 10));
        assert_eq!((eth0.rx_dropped, eth0.tx_bytes), (13, 20));
        assert_eq!((eth0.tx_packets, eth0.tx_dropped), (21, 23));
        assert_eq!(InterfaceStats::read(text, 0), []);
    }
}
