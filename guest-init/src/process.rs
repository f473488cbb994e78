//! Children: how they are made, and who learns how they ended.
//!
//! Every child is reaped in one place. A child that [`Processes::spawn`] made
//! has a receiver that gets its end; everybody else's orphans are only reaped.
//! The table's lock is held from before a child exists until it is entered, so
//! that no end is lost, and a pid is not used again while its pidfd is opened.

use guest_protocol::End;
use nix::sys::signal::{SigSet, Signal};
use rustix::process::{Pid, PidfdFlags, WaitOptions, WaitStatus, pidfd_open, wait};
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A child that is not reaped by anybody else.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) pid: u32,
    /// Readable when the child has ended.
    pub(crate) pidfd: OwnedFd,
    pub(crate) end: Receiver<End>,
}

#[derive(Debug, Default)]
pub(crate) struct Processes {
    waiting: Mutex<HashMap<u32, SyncSender<End>>>,
}

impl Processes {
    fn lock(&self) -> MutexGuard<'_, HashMap<u32, SyncSender<End>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        let mut waiting = self.lock();
        let pid = command.spawn()?.id();
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let pidfd = pidfd_open(raw.ok_or(io::ErrorKind::InvalidData)?, PidfdFlags::empty())?;
        let (sender, end) = sync_channel(1);
        waiting.insert(pid, sender);
        Ok(Child { pid, pidfd, end })
    }

    /// Reaps for ever. SIGCHLD must be blocked in every thread.
    pub(crate) fn reap(&self) -> ! {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGCHLD);
        loop {
            self.reap_all();
            // An error here means a wrong set, which this one is not.
            let _ = signals.wait();
        }
    }

    fn reap_all(&self) {
        let mut waiting = self.lock();
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let pid = pid.as_raw_nonzero().get().unsigned_abs();
            if let Some(sender) = waiting.remove(&pid) {
                // Room for the one message; the receiver may be gone.
                let _ = sender.try_send(end_of(status));
            }
        }
    }
}

fn end_of(status: WaitStatus) -> End {
    let byte = |number: i32| u8::try_from(number).unwrap_or(u8::MAX);
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => End::Code(byte(code)),
        (None, Some(signal)) => End::Signal(byte(signal)),
        (None, None) => End::Code(u8::MAX),
    }
}

/// Blocks SIGCHLD in this thread and those that it will start.
pub(crate) fn block_sigchld() -> nix::Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGCHLD);
    signals.thread_block()
}
