//! Upstream's exponential back-off: 10 s, doubling to 300 s, forgotten when
//! ten minutes pass between the last restart and the next failure.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

pub(crate) const INITIAL: SignedDuration = SignedDuration::from_secs(10);
pub(crate) const MAX: SignedDuration = SignedDuration::from_secs(300);
/// Twice the maximum, as upstream's flow control has it.
const RESET: SignedDuration = SignedDuration::from_secs(600);

/// The back-off of one container, image or machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Backoff {
    entry: Option<Entry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    delay: SignedDuration,
    updated: Timestamp,
}

impl Backoff {
    /// When to try again after a failure at `failed`: at once for the first.
    pub(crate) fn due(&self, failed: Timestamp) -> Timestamp {
        match self.current(failed) {
            Some(entry) => later(failed, entry.delay),
            None => failed,
        }
    }

    /// The delay that holds a failure at `failed` back, if any does.
    pub(crate) fn delay(&self, failed: Timestamp) -> Option<SignedDuration> {
        self.current(failed).map(|entry| entry.delay)
    }

    /// Counts one more try, at `now`, after a failure at `failed`.
    pub(crate) fn next(&mut self, failed: Timestamp, now: Timestamp) {
        let delay = self
            .current(failed)
            .map_or(INITIAL, |entry| (entry.delay * 2).min(MAX));
        self.entry = Some(Entry {
            delay,
            updated: now,
        });
    }

    fn current(&self, failed: Timestamp) -> Option<Entry> {
        self.entry
            .filter(|entry| failed.duration_since(entry.updated) <= RESET)
    }
}

/// `at + by`, at the end of time if that does not exist.
pub(crate) fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// A duration as Go prints it: `10s`, `1m20s`, `5m0s`, `850ms`, `1.234s`.
pub(crate) fn go_duration(duration: SignedDuration) -> String {
    let millis = duration.as_millis().max(0);
    if millis == 0 {
        return "0s".to_owned();
    }
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (hours, minutes) = (millis / 3_600_000, millis / 60_000 % 60);
    let (seconds, rest) = (millis / 1000 % 60, millis % 1000);
    let mut text = String::new();
    if hours > 0 {
        text.push_str(&format!("{hours}h"));
    }
    if hours > 0 || minutes > 0 {
        text.push_str(&format!("{minutes}m"));
    }
    if rest == 0 {
        text.push_str(&format!("{seconds}s"));
    } else {
        let fraction = format!("{rest:03}");
        text.push_str(&format!("{seconds}.{}s", fraction.trim_end_matches('0')));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::new(second, 0).expect("in range")
    }

    #[test]
    fn delays_double_to_five_minutes() {
        let mut backoff = Backoff::default();
        let mut now = at(1000);
        assert_eq!(backoff.due(now), now, "the first restart is at once");
        for expected in [10, 20, 40, 80, 160, 300, 300] {
            backoff.next(now, now);
            assert_eq!(
                backoff.delay(now),
                Some(SignedDuration::from_secs(expected))
            );
            now = backoff.due(now);
        }
    }

    #[test]
    fn ten_minutes_of_running_forget_the_delay() {
        let mut backoff = Backoff::default();
        backoff.next(at(0), at(0));
        backoff.next(at(10), at(10));
        assert_eq!(backoff.due(at(610)), at(630));
        assert_eq!(backoff.due(at(611)), at(611));
        backoff.next(at(611), at(611));
        assert_eq!(backoff.delay(at(611)), Some(INITIAL));
    }

    #[test]
    fn durations_read_as_in_go() {
        for (millis, text) in [
            (0, "0s"),
            (850, "850ms"),
            (1200, "1.2s"),
            (1234, "1.234s"),
            (10_000, "10s"),
            (80_000, "1m20s"),
            (300_000, "5m0s"),
            (3_600_000, "1h0m0s"),
        ] {
            assert_eq!(go_duration(SignedDuration::from_millis(millis)), text);
        }
    }
}
