//! Prometheus' text format (its documentation, "Exposition formats", 0.0.4).

use jiff::Timestamp;
use std::fmt::{self, Write as _};

pub(crate) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Counter,
    Gauge,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Count(u64),
    /// Nanoseconds, shown as seconds.
    Seconds(u64),
}

impl Value {
    /// A time since the epoch, in seconds; none before it.
    pub(super) fn time(at: Timestamp) -> Self {
        Self::Seconds(u64::try_from(at.as_nanosecond()).unwrap_or(0))
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Seconds(ns) => {
                let text = format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000);
                f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
            }
        }
    }
}

/// Names and values of labels.
pub(super) type Labels<'a> = Vec<(&'static str, &'a str)>;

/// One line: labels, value, and when it was measured if it wasn't now.
#[derive(Clone, Debug)]
pub(super) struct Line<'a> {
    pub(super) labels: Labels<'a>,
    pub(super) value: Value,
    pub(super) at: Option<Timestamp>,
}

/// A text under way.
#[derive(Debug, Default)]
pub(super) struct Text(String);

impl Text {
    /// One metric with all of its lines; nothing where there are none.
    pub(super) fn family<'a>(
        &mut self,
        name: &str,
        kind: Kind,
        help: &str,
        lines: impl IntoIterator<Item = Line<'a>>,
    ) {
        let mut lines = lines.into_iter().peekable();
        if lines.peek().is_none() {
            return;
        }
        let kind = kind.name();
        self.0 += &format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
        for line in lines {
            self.line(name, &line);
        }
    }

    fn line(&mut self, name: &str, line: &Line<'_>) {
        self.0 += name;
        for (place, (label, value)) in line.labels.iter().enumerate() {
            self.0.push(if place == 0 { '{' } else { ',' });
            self.0 += label;
            self.0 += "=\"";
            escape(&mut self.0, value);
            self.0.push('"');
        }
        if !line.labels.is_empty() {
            self.0.push('}');
        }
        // Writing to a String can't fail.
        let _ = write!(self.0, " {}", line.value);
        if let Some(at) = line.at {
            let _ = write!(self.0, " {}", at.as_millisecond());
        }
        self.0.push('\n');
    }

    pub(super) fn done(self) -> String {
        self.0
    }
}

fn escape(out: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => *out += "\\\\",
            '"' => *out += "\\\"",
            '\n' => *out += "\\n",
            c => out.push(c),
        }
    }
}

/// What holds for every exposition; for tests of those who make one.
#[cfg(test)]
pub(super) fn check(text: &str) {
    let mut seen = std::collections::BTreeSet::new();
    let mut lines = std::collections::BTreeSet::new();
    let mut family = String::new();
    assert!(text.ends_with('\n'), "{text}");
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help");
            assert!(!help.is_empty(), "{line}");
            assert!(seen.insert(name.to_owned()), "{name} comes twice");
            family = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert_eq!(name, family);
            // Upstream's name of a gauge.
            let gauge = name == "container_fs_inodes_total";
            assert_eq!(
                kind == "counter" || gauge,
                name.ends_with("_total"),
                "{line}"
            );
        } else {
            let end = line.find(['{', ' ']).expect("a value");
            assert_eq!(&line[..end], family, "{line}");
            let after = line.rfind('}').map_or(end, |at| at + 1);
            assert!(lines.insert(line[..after].to_owned()), "{line} comes twice");
            let mut words = line[after..].split_whitespace();
            words.next().expect("a value").parse::<f64>().expect(line);
            if let Some(at) = words.next() {
                at.parse::<i64>().expect(line);
            }
            assert_eq!(words.next(), None, "{line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_upstreams_form() {
        let mut text = Text::default();
        let at = Timestamp::from_millisecond(1_700_000_000_123).ok();
        text.family("none", Kind::Gauge, "Nothing.", []);
        text.family(
            "a_total",
            Kind::Counter,
            "Something.",
            [
                Line {
                    labels: vec![("x", "a\"b\\c\nd"), ("y", "")],
                    value: Value::Seconds(1_500_000_000),
                    at,
                },
                Line {
                    labels: Vec::new(),
                    value: Value::Count(7),
                    at: None,
                },
            ],
        );
        let text = text.done();
        assert_eq!(
            text,
            "# HELP a_total Something.\n# TYPE a_total counter\n\
             a_total{x=\"a\\\"b\\\\c\\nd\",y=\"\"} 1.5 1700000000123\na_total 7\n"
        );
        check(&text);
    }

    #[test]
    fn seconds_are_exact() {
        for (ns, wanted) in [
            (0, "0"),
            (1, "0.000000001"),
            (10_000_000_000, "10"),
            (u64::MAX, "18446744073.709551615"),
        ] {
            assert_eq!(Value::Seconds(ns).to_string(), wanted);
        }
    }
}
