//! Values of upstream's configuration, parsed once: a signal, a size that is a
//! quantity or a share, a span of time in Go's words. Each is written again as
//! it was meant.

use crate::pod::backoff::go_duration;
use crate::pod::resources::units;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// Why a value isn't used.
#[derive(Debug, thiserror::Error)]
#[error("{text:?}: {wanted}")]
pub(crate) struct ValueError {
    text: String,
    wanted: &'static str,
}

impl ValueError {
    fn new(text: String, wanted: &'static str) -> Self {
        Self { text, wanted }
    }
}

/// What eviction looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum Signal {
    MemoryAvailable,
    NodeFsAvailable,
    NodeFsInodesFree,
    ImageFsAvailable,
    ImageFsInodesFree,
    PidAvailable,
}

impl Signal {
    pub(crate) const ALL: [Self; 6] = [
        Self::MemoryAvailable,
        Self::NodeFsAvailable,
        Self::NodeFsInodesFree,
        Self::ImageFsAvailable,
        Self::ImageFsInodesFree,
        Self::PidAvailable,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::MemoryAvailable => "memory.available",
            Self::NodeFsAvailable => "nodefs.available",
            Self::NodeFsInodesFree => "nodefs.inodesFree",
            Self::ImageFsAvailable => "imagefs.available",
            Self::ImageFsInodesFree => "imagefs.inodesFree",
            Self::PidAvailable => "pid.available",
        }
    }
}

impl TryFrom<String> for Signal {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        let known = Self::ALL.into_iter().find(|signal| signal.name() == text);
        known.ok_or_else(|| ValueError::new(text, "not an eviction signal"))
    }
}

impl From<Signal> for String {
    fn from(signal: Signal) -> Self {
        signal.name().to_owned()
    }
}

/// A quantity, or a share of a capacity.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum Size {
    Amount(u64),
    Percent(f64),
}

impl Size {
    pub(crate) const fn bytes(bytes: u64) -> Self {
        Self::Amount(bytes)
    }

    pub(crate) fn percent(percent: u8) -> Self {
        Self::Percent(percent.into())
    }

    /// What it is of so much.
    pub(crate) fn of(self, capacity: u64) -> u64 {
        match self {
            Self::Amount(amount) => amount,
            // A float holds any capacity near enough.
            Self::Percent(percent) => (capacity as f64 * percent / 100.0) as u64,
        }
    }
}

impl TryFrom<String> for Size {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        let size = match text.strip_suffix('%') {
            Some(number) => {
                let percent = number.parse().ok();
                percent
                    .filter(|percent| (0.0..=100.0).contains(percent))
                    .map(Self::Percent)
            }
            None => units(&Quantity(text.clone())).map(Self::Amount),
        };
        size.ok_or_else(|| ValueError::new(text, "neither a quantity nor a percentage to 100%"))
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.to_string()
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Amount(amount) => f.write_str(&quantity(*amount)),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// A number of bytes in upstream's canonical form (BinarySI).
pub(crate) fn quantity(bytes: u64) -> String {
    scaled(bytes, 1024, &["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"])
}

/// A number of things in upstream's canonical form (DecimalSI).
pub(crate) fn count(number: u64) -> String {
    scaled(number, 1000, &["", "k", "M", "G", "T", "P", "E"])
}

fn scaled(mut number: u64, step: u64, suffixes: &[&str]) -> String {
    let mut at = 0;
    while number > 0 && number.is_multiple_of(step) && at + 1 < suffixes.len() {
        number /= step;
        at += 1;
    }
    format!("{number}{}", suffixes.get(at).copied().unwrap_or_default())
}

/// A span of time as Go writes it: `5m0s`, `300ms`, `1.5h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Span(pub(crate) Duration);

impl TryFrom<String> for Span {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        match parse_span(&text) {
            Some(span) => Ok(Self(span)),
            None => Err(ValueError::new(text, "not a duration such as 5m0s")),
        }
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        go_duration(span.0.try_into().unwrap_or(jiff::SignedDuration::MAX))
    }
}

fn parse_span(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let split = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(split);
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.');
        let (unit, tail) = tail.split_at(end.unwrap_or(tail.len()));
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return None,
        };
        let number: f64 = number.parse().ok()?;
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_gos() {
        for (text, millis) in [
            ("5m0s", Some(300_000)),
            ("1h2m3s", Some(3_723_000)),
            ("300ms", Some(300)),
            ("1.5h", Some(5_400_000)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("5", None),
            ("", None),
            ("-5s", None),
            ("5d", None),
            ("99999999999999999999h", None),
        ] {
            let parsed = Span::try_from(text.to_owned()).ok();
            assert_eq!(
                parsed,
                millis.map(|ms| Span(Duration::from_millis(ms))),
                "{text}"
            );
        }
        assert_eq!(String::from(Span(Duration::from_secs(300))), "5m0s");
    }

    #[test]
    fn quantities_are_written_as_upstream_does() {
        for (bytes, text) in [
            (0, "0"),
            (52_428_800, "50Mi"),
            (52_428_801, "52428801"),
            (1536 << 20, "1536Mi"),
            (100, "100"),
        ] {
            assert_eq!(quantity(bytes), text);
        }
        assert_eq!(
            (count(1_200_000), count(1024)),
            ("1200k".into(), "1024".into())
        );
        assert_eq!(Size::percent(15).of(1000), 150);
    }
}
