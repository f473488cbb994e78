//! The table: what each operation took, its goal, and a peer of the same run.

use crate::load::Figures;

/// What a row is held against, measured in the same run.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    /// Operations a second, or milliseconds each, as the row's.
    pub(crate) value: f64,
    pub(crate) cpu: f64,
}

#[derive(Default)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) rate: Option<f64>,
    pub(crate) p50: Option<f64>,
    pub(crate) p99: Option<f64>,
    /// Milliseconds of the server's processor for one.
    pub(crate) cpu: Option<f64>,
    pub(crate) mib: Option<f64>,
    pub(crate) goal: String,
    pub(crate) peer: Option<Peer>,
}

impl Row {
    /// Operations as fast as they go; `goal` of them a second.
    pub(crate) fn rated(what: &str, figures: &Figures, goal: &str) -> Row {
        Row {
            rate: Some(figures.rate()),
            ..Row::timed(what, figures, goal)
        }
    }

    /// Operations one after the other.
    pub(crate) fn timed(what: &str, figures: &Figures, goal: &str) -> Row {
        Row {
            what: what.to_owned(),
            p50: Some(figures.percentile(50)),
            p99: Some(figures.percentile(99)),
            cpu: Some(figures.cpu_each()),
            goal: goal.to_owned(),
            ..Row::default()
        }
    }

    pub(crate) fn memory(what: &str, mib: f64, goal: &str) -> Row {
        Row {
            what: what.to_owned(),
            mib: Some(mib),
            goal: goal.to_owned(),
            ..Row::default()
        }
    }

    /// The peer is compared by operations a second where the row has them,
    /// else by the time that is mostly taken.
    pub(crate) fn against(mut self, name: &'static str, figures: &Figures) -> Row {
        self.peer = Some(Peer {
            name,
            value: match self.rate {
                Some(_) => figures.rate(),
                None => figures.percentile(50),
            },
            cpu: figures.cpu_each(),
        });
        self
    }

    fn line(&self) -> String {
        let mine = self.rate.or(self.p50);
        let (peer, ratio, cpu_ratio) = match &self.peer {
            Some(peer) => (
                format!("{} {}", peer.name, shown(peer.value)),
                quotient(mine, peer.value),
                quotient(self.cpu, peer.cpu),
            ),
            None => Default::default(),
        };
        format!(
            "| {:<34} | {:>7} | {:>7} | {:>7} | {:>7} | {:>6} | {:<13} | {:<16} | {:>6} | {:>6} |",
            self.what,
            optional(self.rate),
            optional(self.p50),
            optional(self.p99),
            optional(self.cpu),
            optional(self.mib),
            self.goal,
            peer,
            ratio,
            cpu_ratio
        )
    }
}

fn quotient(mine: Option<f64>, peer: f64) -> String {
    match mine {
        Some(mine) if peer > 0.0 => format!("{:.2}", mine / peer),
        _ => String::new(),
    }
}

fn optional(value: Option<f64>) -> String {
    value.map_or_else(String::new, shown)
}

/// Three digits that count.
fn shown(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v if v >= 1.0 => format!("{v:.2}"),
        v => format!("{v:.3}"),
    }
}

/// As Markdown.
pub(crate) fn table(title: &str, rows: &[Row]) -> String {
    let mut text = format!(
        "\n| {title:<34} |      /s |  p50 ms |  p99 ms |  CPU ms |    MiB | {:<13} | {:<16} |  ratio |    CPU |\n",
        "goal", "peer"
    );
    text.push_str(&format!(
        "| {:-<34} | ------: | ------: | ------: | ------: | -----: | {:-<13} | {:-<16} | -----: | -----: |\n",
        "", "", ""
    ));
    for row in rows {
        text.push_str(&row.line());
        text.push('\n');
    }
    text
}
