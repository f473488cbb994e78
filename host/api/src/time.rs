//! Times on the wire, and ages as `kubectl` prints them.

use jiff::{Timestamp, Unit};

/// `metav1.Time`: seconds, UTC.
pub fn rfc3339(at: Timestamp) -> String {
    let whole = Timestamp::from_second(at.as_second()).unwrap_or(at);
    format!("{whole:.0}")
}

/// `metav1.MicroTime`: microseconds, UTC.
pub fn rfc3339_micro(at: Timestamp) -> String {
    format!("{:.6}", at.round(Unit::Microsecond).unwrap_or(at))
}

pub fn parse(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// `apimachinery/pkg/util/duration.HumanDuration`: two units at most.
pub fn human_duration(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let two = |n: i64, big: i64, b: char, small: i64, s: char| match (n % big) / small {
        0 => format!("{}{b}", n / big),
        rest => format!("{}{b}{rest}{s}", n / big),
    };
    match seconds {
        i64::MIN..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        n if n < 2 * MINUTE => format!("{n}s"),
        n if n < 10 * MINUTE => two(n, MINUTE, 'm', 1, 's'),
        n if n < 3 * HOUR => format!("{}m", n / MINUTE),
        n if n < 8 * HOUR => two(n, HOUR, 'h', MINUTE, 'm'),
        n if n < 2 * DAY => format!("{}h", n / HOUR),
        n if n < 8 * DAY => two(n, DAY, 'd', HOUR, 'h'),
        n if n < 2 * YEAR => format!("{}d", n / DAY),
        n if n < 8 * YEAR => two(n, YEAR, 'y', DAY, 'd'),
        n => format!("{}y", n / YEAR),
    }
}

/// The age of a timestamp's text; `<unknown>` when there is none.
pub fn age(text: Option<&str>, now: Timestamp) -> String {
    match text.and_then(parse) {
        Some(at) => human_duration(now.duration_since(at).as_secs()),
        None => "<unknown>".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_kubectl_prints_them() {
        for (seconds, text) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (10_800, "3h"),
            (3 * 3600 + 60, "3h1m"),
            (86_400, "24h"),
            (2 * 86_400, "2d"),
            (9 * 86_400, "9d"),
            (-5, "<invalid>"),
        ] {
            assert_eq!(human_duration(seconds), text);
        }
    }

    #[test]
    fn wire_forms() {
        let at = Timestamp::new(1_700_000_000, 123_456_789);
        assert_eq!(
            at.as_ref().map(|t| rfc3339(*t)).ok().as_deref(),
            Some("2023-11-14T22:13:20Z")
        );
        assert_eq!(
            at.map(rfc3339_micro).ok().as_deref(),
            Some("2023-11-14T22:13:20.123457Z")
        );
    }
}
