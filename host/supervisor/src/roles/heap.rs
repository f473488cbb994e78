//! Memory goes back to the kernel after large work: the C library keeps what
//! lists and watches took for ever, which many guests on the machine could use.

use std::convert::Infallible;
use std::fs;
use std::time::Duration;

/// Of x86-64, the one architecture there is.
const PAGE: usize = 4096;
const LOOK: Duration = Duration::from_secs(5);
/// Less isn't worth a walk through the arenas.
const WORTH: usize = 4 << 20;

/// Looks at the process's memory for ever; ends by being dropped.
pub(super) async fn keep_small() -> Infallible {
    let mut keeper = Keeper::default();
    let mut look = tokio::time::interval(LOOK);
    loop {
        look.tick().await;
        let Some(anonymous) = anonymous() else {
            log::warn!("/proc/self/statm: not readable, freed memory is kept");
            return std::future::pending().await;
        };
        if keeper.wants(anonymous, sys::heap::unused())
            && tokio::task::spawn_blocking(sys::heap::trim).await.is_ok()
        {
            keeper.trimmed(self::anonymous().unwrap_or(anonymous));
        }
    }
}

/// Decides when it is worth while.
#[derive(Default)]
struct Keeper {
    /// The least that the process had since it was trimmed last, in bytes.
    least: usize,
}

impl Keeper {
    /// What the allocator calls unused was given back already, for a part: only
    /// what came since then counts, and while memory grows by being used, no
    /// more than an eighth of it is worth a look.
    fn wants(&mut self, anonymous: usize, unused: usize) -> bool {
        self.least = self.least.min(anonymous);
        let came = anonymous - self.least;
        came.min(unused) >= WORTH.max(anonymous / 8)
    }

    fn trimmed(&mut self, anonymous: usize) {
        self.least = anonymous;
    }
}

/// Bytes of resident memory that no file stands behind.
fn anonymous() -> Option<usize> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    anonymous_of(&statm).map(|pages| pages * PAGE)
}

/// In pages: resident less shared (proc_pid_statm(5)).
fn anonymous_of(statm: &str) -> Option<usize> {
    let mut numbers = statm.split_whitespace().map(str::parse::<usize>);
    let resident = numbers.nth(1)?.ok()?;
    let shared = numbers.next()?.ok()?;
    Some(resident.saturating_sub(shared))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn statm_is_read() {
        assert_eq!(anonymous_of("900 500 120 60 0 300 0\n"), Some(380));
        assert_eq!(anonymous_of("900 500"), None);
        assert!(anonymous().is_some_and(|bytes| bytes > 0));
    }

    #[test]
    fn trims_what_large_work_left_and_once() {
        let mut keeper = Keeper::default();
        // At the start all is new.
        assert!(keeper.wants(6 * MIB, 5 * MIB));
        keeper.trimmed(5 * MIB);
        assert!(!keeper.wants(6 * MIB, 5 * MIB));
        // It grows by objects that stay.
        assert!(!keeper.wants(40 * MIB, MIB));
        // A list came and went.
        assert!(keeper.wants(60 * MIB, 20 * MIB));
        keeper.trimmed(41 * MIB);
        assert!(!keeper.wants(41 * MIB, 20 * MIB));
        // Objects go, and others come.
        assert!(!keeper.wants(10 * MIB, 50 * MIB));
        assert!(keeper.wants(20 * MIB, 40 * MIB));
    }
}
