//! The table: each figure by both clocks, against a peer or a limit.

/// One figure by the two clocks, or by one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Pair {
    /// Guest instructions at 1 ns each, in milliseconds; or a plain number.
    pub(crate) counted: Option<f64>,
    /// Milliseconds.
    pub(crate) timed: Option<f64>,
}

/// What a figure is held against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Against {
    Nothing,
    /// No more than this, of the first number.
    Limit(f64),
    /// Measured in the same run.
    Peer(&'static str, Pair),
}

pub(crate) struct Row {
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) value: Pair,
    pub(crate) against: Against,
}

impl Row {
    fn line(&self) -> String {
        let (against, counted, timed) = match self.against {
            Against::Nothing => (String::new(), None, None),
            Against::Limit(limit) => (format!("at most {limit}"), Some(limit), None),
            Against::Peer(name, pair) => (
                format!("{name} {} / {}", number(pair.counted), number(pair.timed)),
                pair.counted,
                pair.timed,
            ),
        };
        format!(
            "| {:<44} | {:>3} | {:>9} | {:>6} | {:>9} | {:>6} | {:<30} |",
            self.what,
            self.unit,
            number(self.value.counted),
            ratio(self.value.counted, counted),
            number(self.value.timed),
            ratio(self.value.timed, timed),
            against
        )
    }
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"))
}

fn ratio(value: Option<f64>, other: Option<f64>) -> String {
    match (value, other) {
        (Some(value), Some(other)) if other > 0.0 => format!("{:.2}", value / other),
        _ => String::new(),
    }
}

/// A title and its rows, as Markdown.
pub(crate) fn section(title: &str, heads: [&str; 2], rows: &[Row]) -> String {
    let [counted, timed] = heads;
    let mut text = format!(
        "\n| {title:<44} |     | {counted:>9} | {:>6} | {timed:>9} | {:>6} | {:<30} |\n",
        "ratio", "ratio", "against"
    );
    text.push_str(&format!(
        "| {:-<44} | --- | {:->8}: | {:->5}: | {:->8}: | {:->5}: | {:-<30} |\n",
        "", "", "", "", "", ""
    ));
    for row in rows {
        text.push_str(&row.line());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_value_peer_and_ratio() {
        let row = |against| Row {
            what: "boot",
            unit: "ms",
            value: Pair {
                counted: Some(50.0),
                timed: Some(100.0),
            },
            against,
        };
        let peer = Pair {
            counted: Some(200.0),
            timed: None,
        };
        for (against, wanted) in [
            (Against::Nothing, "ms |      50.0 |        |     100.0 |"),
            (Against::Limit(40.0), "50.0 |   1.25 |"),
            (
                Against::Peer("QEMU", peer),
                "0.25 |     100.0 |        | QEMU 200.0 / -",
            ),
        ] {
            let line = row(against).line();
            assert!(line.contains(wanted), "{line}");
        }
    }
}
