//! Signals as something to read.

use nix::sys::signal::{SigSet, Signal as NixSignal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::fd::{AsFd, BorrowedFd};
use std::io;

/// The signals that a supervisor cares about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Child,
    Interrupt,
    Terminate,
}

/// Blocks those signals and makes them readable.
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
}

impl Signals {
    /// # Errors
    /// What sigprocmask(2) and signalfd(2) say.
    pub fn new() -> io::Result<Self> {
        let mut set = SigSet::empty();
        set.add(NixSignal::SIGCHLD);
        set.add(NixSignal::SIGINT);
        set.add(NixSignal::SIGTERM);
        set.thread_block()?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self { fd })
    }

    /// The next pending signal.
    ///
    /// # Errors
    /// What read(2) says.
    pub fn next(&self) -> io::Result<Option<Signal>> {
        while let Some(info) = self.fd.read_signal()? {
            match i32::try_from(info.ssi_signo).map(NixSignal::try_from) {
                Ok(Ok(NixSignal::SIGCHLD)) => return Ok(Some(Signal::Child)),
                Ok(Ok(NixSignal::SIGINT)) => return Ok(Some(Signal::Interrupt)),
                Ok(Ok(NixSignal::SIGTERM)) => return Ok(Some(Signal::Terminate)),
                _ => {}
            }
        }
        Ok(None)
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Sends SIGTERM to a process.
///
/// # Errors
/// What pidfd_send_signal(2) says.
pub fn terminate(pidfd: impl AsFd) -> io::Result<()> {
    Ok(rustix::process::pidfd_send_signal(
        pidfd,
        rustix::process::Signal::TERM,
    )?)
}

/// Sends SIGKILL to a process.
///
/// # Errors
/// What pidfd_send_signal(2) says.
pub fn kill(pidfd: impl AsFd) -> io::Result<()> {
    Ok(rustix::process::pidfd_send_signal(
        pidfd,
        rustix::process::Signal::KILL,
    )?)
}

/// Sends SIGUSR1 to a process.
///
/// # Errors
/// What pidfd_send_signal(2) says.
pub fn user1(pidfd: impl AsFd) -> io::Result<()> {
    Ok(rustix::process::pidfd_send_signal(
        pidfd,
        rustix::process::Signal::USR1,
    )?)
}
