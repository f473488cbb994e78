//! Progress lines: each with the seconds since the program began.
//!
//! Everything goes to stderr, so that stdout is free for results.

use std::fmt::Display;
use std::sync::OnceLock;
use std::time::Instant;

static BEGAN: OnceLock<Instant> = OnceLock::new();

/// Starts the clock; later calls change nothing.
pub fn begin() {
    BEGAN.get_or_init(Instant::now);
}

/// Prints one line.
pub fn say(what: impl Display) {
    let seconds = BEGAN.get_or_init(Instant::now).elapsed().as_secs_f32();
    eprintln!("[{seconds:7.1}s] {what}");
}
