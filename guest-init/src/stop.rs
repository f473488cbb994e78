//! Stopping: the signal, the grace period, then SIGKILL for all.
//!
//! A second Stop can only bring the deadline nearer. It goes on when the host
//! is gone.

use crate::attempt::{Attempt, Stopping};
use crate::launch;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// More than a year is a mistake, and overflows.
const GRACE_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
const SIGTERM: u8 = 15;

/// Begins to stop an attempt; returns at once.
pub(crate) fn stop(attempt: Arc<Attempt>, grace: Duration) {
    let deadline = Instant::now() + grace.min(GRACE_MAX);
    if attempt.stop(deadline) != Stopping::Begun {
        return;
    }
    crate::serve::thread("stop", move || carry_out(&attempt, grace));
}

fn carry_out(attempt: &Attempt, grace: Duration) {
    if !grace.is_zero() {
        signal(attempt);
        if attempt.wait_end() {
            return;
        }
    }
    attempt.group.kill();
    launch::kill(&attempt.pidfd);
}

fn signal(attempt: &Attempt) {
    let wanted = attempt.container.stop_signal;
    let named = rustix::process::Signal::from_named_raw(i32::from(wanted));
    let signal = named.unwrap_or(rustix::process::Signal::TERM);
    debug_assert!(named.is_some() || wanted != SIGTERM);
    // A process that has ended needs no signal.
    let _ = rustix::process::pidfd_send_signal(&attempt.pidfd, signal);
}
