//! Stopping: the hook, the signal, the grace period, then SIGKILL for all.
//!
//! ```text
//!   Stop -> preStop hook --(done or deadline)--> stop signal
//!        -> wait for the end --(deadline, at least 2 s)--> cgroup.kill
//! ```
//!
//! The period counts from the command, hook included, as the kubelet counts;
//! a second Stop can only bring the deadline nearer. It goes on when the host
//! is gone.

use crate::attempt::{Attempt, Stopping};
use crate::guest::Guest;
use crate::launch;
use guest_protocol::{Exec, Hook};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is left to a process after its hook used the whole period up.
const LEAST: Duration = Duration::from_secs(2);
/// More than a year is a mistake, and overflows.
const GRACE_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
const SIGTERM: u8 = 15;

/// Begins to stop an attempt; returns at once.
pub(crate) fn stop(guest: &Arc<Guest>, attempt: Arc<Attempt>, grace: Duration) {
    let deadline = Instant::now() + grace.min(GRACE_MAX);
    if attempt.stop(deadline) != Stopping::Begun {
        return;
    }
    let guest = Arc::clone(guest);
    crate::serve::thread("stop", move || carry_out(&guest, &attempt, grace));
}

fn carry_out(guest: &Guest, attempt: &Attempt, grace: Duration) {
    let mut least = Instant::now();
    if let (Some(hook), false) = (&attempt.container.pre_stop, grace.is_zero()) {
        run_hook(guest, attempt, hook);
        least = Instant::now() + LEAST;
    }
    if !grace.is_zero() {
        signal(attempt);
        if attempt.wait_end(least) {
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

/// Until it ends, the container does, or the deadline passes.
fn run_hook(guest: &Guest, attempt: &Attempt, hook: &Hook) {
    let exec = Exec {
        container: attempt.name().to_owned(),
        args: hook.args.clone(),
        stdin: false,
        stdout: false,
        stderr: false,
        tty: false,
    };
    let child = match launch::enter(guest, attempt, &exec) {
        Ok((child, _)) => child,
        Err(refusal) => {
            let name = attempt.name();
            crate::console::say(format_args!("{name}: preStop: {refusal}"));
            return;
        }
    };
    loop {
        let deadline = attempt.deadline().unwrap_or_else(Instant::now);
        let left = deadline.saturating_duration_since(Instant::now());
        // In steps, because a later Stop may bring the deadline nearer.
        let step = left.min(Duration::from_millis(500));
        if child.end.recv_timeout(step).is_ok() || !attempt.is_running() {
            return;
        }
        if left.is_zero() {
            launch::kill(&child.pidfd);
            return;
        }
    }
}
