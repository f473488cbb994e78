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

/// Go's text of a `time.Duration` in nanoseconds: `1h0m0.5s`, `1.5ms`, `0s`.
pub fn go_duration(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    let all = ns.unsigned_abs();
    let decimal = |unit: u64, width: usize| {
        let (whole, rest) = (all % (60 * NS) / unit, all % unit);
        let text = format!("{whole}.{rest:0width$}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let (hours, minutes) = (all / (3600 * NS), all / (60 * NS) % 60);
    match all {
        0 => "0s".to_owned(),
        1..1_000 => format!("{sign}{all}ns"),
        1_000..1_000_000 => format!("{sign}{}µs", decimal(1_000, 3)),
        1_000_000..NS => format!("{sign}{}ms", decimal(1_000_000, 6)),
        _ if hours > 0 => format!("{sign}{hours}h{minutes}m{}s", decimal(NS, 9)),
        _ if minutes > 0 => format!("{sign}{minutes}m{}s", decimal(NS, 9)),
        _ => format!("{sign}{}s", decimal(NS, 9)),
    }
}

/// Nanoseconds of a second.
const NS: u64 = 1_000_000_000;

/// The nanoseconds of what [`go_duration`] writes, and of all else that Go's
/// `time.ParseDuration` reads.
pub fn parse_go_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut sum = 0_i128;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.');
        let (unit, after) = after.split_at(end.unwrap_or(after.len()));
        let unit: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || whole.len() > 19 {
            return None;
        }
        // Finer digits than a billionth of an hour don't count.
        let fraction = fraction.get(..fraction.len().min(18))?;
        let digits = |text: &str| match text {
            "" => Some(0_i128),
            text => text.parse().ok(),
        };
        let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        let part = digits(whole)?.checked_mul(unit)?;
        let finer = digits(fraction)?.checked_mul(unit)? / scale;
        sum = sum.checked_add(part)?.checked_add(finer)?;
        rest = after;
    }
    i64::try_from(if negative { -sum } else { sum }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_go_writes_them() {
        for (ns, text) in [
            (0, "0s"),
            (15_000_000_000, "15s"),
            (15_012_345_678, "15.012345678s"),
            (90_500_000_000, "1m30.5s"),
            (3_600_000_000_000, "1h0m0s"),
            (1_500_000, "1.5ms"),
            (1_500, "1.5µs"),
            (7, "7ns"),
            (-15_000_000_000, "-15s"),
        ] {
            assert_eq!(go_duration(ns), text);
            assert_eq!(parse_go_duration(text), Some(ns), "{text}");
        }
        for (text, ns) in [
            ("1h1ms", Some(3_600_001_000_000)),
            (".5s", Some(500_000_000)),
            ("0", Some(0)),
            ("", None),
            ("15", None),
            ("s", None),
            ("1d", None),
            ("1.5.5s", None),
            ("9999999999999999999h", None),
        ] {
            assert_eq!(parse_go_duration(text), ns, "{text}");
        }
    }

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
