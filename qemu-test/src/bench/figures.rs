//! Figures out of what programs, logs and /proc say. Pure.

use std::collections::BTreeMap;

/// Microseconds by name.
pub(crate) type Times = BTreeMap<String, u64>;

/// `node info pod NS/NAME phases_us seen=0 images=… launched=…`, since the node
/// saw the pod.
pub(crate) fn phases(console: &str, pod: &str) -> Option<Times> {
    let head = format!("pod {pod} phases_us ");
    let line = console.lines().rev().find_map(|line| {
        let (_, rest) = line.split_once(&head)?;
        Some(rest)
    })?;
    let pairs = line.split_whitespace().filter_map(|pair| {
        let (name, micros) = pair.split_once('=')?;
        Some((name.to_owned(), micros.parse().ok()?))
    });
    Some(pairs.collect())
}

/// What the boot example says at its end, as `exec` (from spawn to the vmm's
/// main), `run` (from main to the first KVM_RUN) and `mark` (from spawn to the
/// guest's line).
pub(crate) fn boot(lines: &[String]) -> Times {
    let mut times = Times::new();
    let sentences = [
        ("spawn to main ", "exec"),
        ("main to first KVM_RUN ", "run"),
        ("boot: mark ", "mark"),
    ];
    for line in lines {
        for (sentence, name) in sentences {
            let number = line
                .split_once(sentence)
                .and_then(|(_, rest)| rest.split(' ').next());
            if let Some(micros) = number.and_then(|number| number.parse().ok()) {
                times.insert(name.to_owned(), micros);
            }
        }
    }
    times
}

/// The resident memory in KiB of a process but for its guest's, from
/// /proc/PID/smaps: the guest's is the largest mapping and what touches it.
pub(crate) fn beside_guest(smaps: &str) -> Option<u64> {
    let mappings = mappings(smaps);
    let largest = (0..mappings.len()).max_by_key(|at| mappings[*at].size())?;
    let (mut first, mut last) = (largest, largest);
    while first > 0 && mappings[first - 1].end == mappings[first].start {
        first -= 1;
    }
    while last + 1 < mappings.len() && mappings[last].end == mappings[last + 1].start {
        last += 1;
    }
    let others = mappings
        .iter()
        .enumerate()
        .filter(|(at, _)| *at < first || *at > last);
    Some(others.map(|(_, mapping)| mapping.resident).sum())
}

#[derive(Debug)]
struct Mapping {
    start: u64,
    end: u64,
    resident: u64,
}

impl Mapping {
    fn size(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }
}

fn mappings(smaps: &str) -> Vec<Mapping> {
    let mut all: Vec<Mapping> = Vec::new();
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let Some(word) = words.next() else {
            continue;
        };
        if word == "Rss:" {
            let resident = words.next().and_then(|number| number.parse().ok());
            if let (Some(mapping), Some(resident)) = (all.last_mut(), resident) {
                mapping.resident = resident;
            }
            continue;
        }
        let hexadecimal = |text| u64::from_str_radix(text, 16).ok();
        let range = word.split_once('-');
        let Some((start, end)) = range.and_then(|(a, b)| Some((hexadecimal(a)?, hexadecimal(b)?)))
        else {
            continue;
        };
        all.push(Mapping {
            start,
            end,
            resident: 0,
        });
    }
    all
}

/// What counters gained between their two readings, `NAME VALUE` a line each,
/// the largest first.
pub(crate) fn gained(lines: &[String]) -> Vec<(String, u64)> {
    let mut first: BTreeMap<&str, u64> = BTreeMap::new();
    let mut gains = Vec::new();
    for line in lines {
        let Some((name, value)) = line.split_once(' ') else {
            continue;
        };
        let Ok(value) = value.parse() else {
            continue;
        };
        match first.get(name) {
            None => drop(first.insert(name, value)),
            Some(before) => gains.push((name.to_owned(), value.saturating_sub(*before))),
        }
    }
    // Nanoseconds are no counts of events.
    gains.retain(|(name, gain)| *gain > 0 && !name.ends_with("_ns"));
    gains.sort_by_key(|(_, gain)| std::cmp::Reverse(*gain));
    gains
}

/// The middle of several runs; of an even number, the lower of the two.
pub(crate) fn median(mut values: Vec<u64>) -> Option<u64> {
    values.sort_unstable();
    let middle = values.len().checked_sub(1)? / 2;
    values.get(middle).copied()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn phases_are_the_last_of_the_pod() {
        let console = "node info pod default/b phases_us seen=0 started=5\n\
             node info pod default/a phases_us seen=0 launched=70 status=?\n\
             node info pod default/b phases_us seen=0 started=9\n";
        let found = phases(console, "default/b").unwrap();
        assert_eq!(found.get("started"), Some(&9));
        let found = phases(console, "default/a").unwrap();
        assert_eq!(found.len(), 2);
        assert!(phases(console, "default/c").is_none());
    }

    #[test]
    fn the_boot_example_is_understood() {
        let lines = [
            "guest-init: 0.1.0",
            "boot: spawn to main 1200 us, main to first KVM_RUN 3400 us",
            "boot: mark 60000 us after spawn, 55000 us after the first KVM_RUN",
        ]
        .map(str::to_owned);
        let found = boot(&lines);
        let wanted = [("exec", 1200), ("mark", 60000), ("run", 3400)];
        assert_eq!(found, wanted.map(|(name, n)| (name.to_owned(), n)).into());
    }

    #[test]
    fn guest_memory_is_not_counted_though_split() {
        let smaps = "1000-3000 r-xp 0 00:01 5 /vmm\nSize: 8 kB\nRss: 7 kB\n\
             100000-200000 rw-s 0 00:01 6 /kernel\nRss: 500 kB\n\
             200000-9000000 rw-p 0 00:00 0\nRss: 9000 kB\n\
             9000000-9001000 rw-p 0 00:00 0 x\nRss: 4 kB\n\
             a000000-a001000 rw-p 0 00:00 0 [stack]\nRss: 2 kB\nVmFlags: rd\n";
        assert_eq!(beside_guest(smaps), Some(9));
        assert_eq!(beside_guest(""), None);
    }

    #[test]
    fn counters_are_compared() {
        let lines = ["exits 10", "sh: oops", "halts 1", "idle 3", "exits 30"];
        let more = ["halts 90", "idle 3", "wait_ns 1", "wait_ns 9"];
        let lines: Vec<String> = lines.iter().chain(&more).map(|l| (*l).to_owned()).collect();
        let wanted = [("halts".to_owned(), 89), ("exits".to_owned(), 20)];
        assert_eq!(gained(&lines), wanted);
    }

    #[test]
    fn the_middle_is_found() {
        assert_eq!(median(vec![3, 1, 2]), Some(2));
        assert_eq!(median(vec![]), None);
    }
}
