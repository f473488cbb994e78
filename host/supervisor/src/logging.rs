//! Log lines of a role on standard error: `level message`, one write each.
//!
//! Below `init` that is all, because `init` puts the role's name before each
//! line; alone, the name is written here. Lines are cut at `LINE_MAX` bytes.

use log::{LevelFilter, Log, Metadata, Record};
use std::io::Write;

/// Also the longest line that `init` takes from a role.
pub(crate) const LINE_MAX: usize = 2048;

/// Set by `init` for every role that it starts.
pub(crate) const SUPERVISED: &str = "ATOLL_SUPERVISED";
/// `error`, `warn`, `info`, `debug` or `trace`.
pub(crate) const LEVEL: &str = "ATOLL_LOG";

struct Stderr {
    prefix: String,
}

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = format_line(&self.prefix, record);
        // Nowhere to complain about a broken standard error.
        drop(std::io::stderr().write_all(line.as_bytes()));
    }

    fn flush(&self) {}
}

/// One line, whatever the message holds.
pub(crate) fn format_line(prefix: &str, record: &Record<'_>) -> String {
    let level = record.level().as_str().to_ascii_lowercase();
    let mut line = format!("{prefix}{level} {}", record.args()).replace('\n', " | ");
    if line.len() >= LINE_MAX {
        let end = (0..LINE_MAX).rev().find(|at| line.is_char_boundary(*at));
        line.truncate(end.unwrap_or(0));
    }
    line.push('\n');
    line
}

/// Sends the role's log to standard error.
pub(crate) fn start(role: &str) {
    let supervised = std::env::var_os(SUPERVISED).is_some();
    let prefix = if supervised {
        String::new()
    } else {
        format!("{role} ")
    };
    let level = std::env::var(LEVEL)
        .ok()
        .and_then(|level| level.parse().ok())
        .unwrap_or(LevelFilter::Info);
    log::set_max_level(level);
    // A second logger of a process would be a bug of ours, and harmless.
    drop(log::set_boxed_logger(Box::new(Stderr { prefix })));
}
