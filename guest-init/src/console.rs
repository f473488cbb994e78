//! The console of the guest: a few lines of text, never about a pod's content.

use std::fmt::{Arguments, Write as _};
use std::io::Write as _;

/// Writes one line; a console that does not take it loses it.
pub(crate) fn say(line: Arguments<'_>) {
    let mut text = String::with_capacity(128);
    if writeln!(text, "guest-init: {line}").is_ok() {
        // One call, so that lines of threads do not mix.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}
