//! Waiting for a condition with a deadline, and saying what was seen last.

use std::fmt::Display;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// What one look found.
pub enum Seen<T> {
    Done(T),
    NotYet(String),
}

/// Looks until done; past the deadline, an error with what was seen last.
pub fn until<T>(
    what: impl Display,
    patience: Duration,
    mut look: impl FnMut() -> Result<Seen<T>>,
) -> Result<T> {
    let began = Instant::now();
    loop {
        match look()? {
            Seen::Done(value) => return Ok(value),
            Seen::NotYet(last) if began.elapsed() >= patience => {
                bail!("{what}: not within {patience:?}; seen last: {last}");
            }
            Seen::NotYet(_) => sleep(PAUSE),
        }
    }
}

/// `until` for a condition that explains itself by the value that it looks at.
pub fn until_equal<T: PartialEq + std::fmt::Debug>(
    what: impl Display,
    patience: Duration,
    wanted: &T,
    mut look: impl FnMut() -> Result<T>,
) -> Result<()> {
    until(what, patience, || {
        let seen = look()?;
        Ok(if seen == *wanted {
            Seen::Done(())
        } else {
            Seen::NotYet(format!("{seen:?}, wanted {wanted:?}"))
        })
    })
}
