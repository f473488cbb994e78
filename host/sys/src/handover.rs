//! Starts a program with exactly the descriptors that it is told, for as long as
//! the thread that starts it lives.

use rustix::fd::{AsRawFd, OwnedFd, RawFd};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

/// Starts `command` with `fds` as its descriptors 3, 4 and so on; those of this
/// process that are close-on-exec stay here. The child is killed when the calling
/// thread ends, by whatever cause, so that a killed test leaves no guest behind.
///
/// # Errors
/// As `Command::spawn`.
pub fn spawn(mut command: Command, fds: Vec<OwnedFd>) -> io::Result<Child> {
    // Out of the way of the numbers that they are to get.
    let mut high = Vec::with_capacity(fds.len());
    for fd in &fds {
        high.push(rustix::io::fcntl_dupfd_cloexec(fd, 64)?);
    }
    let sources: Vec<RawFd> = high.iter().map(AsRawFd::as_raw_fd).collect();
    let parent = rustix::process::getpid();
    let place = move || {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        // The parent may have ended before the call.
        if rustix::process::getppid() != Some(parent) {
            return Err(rustix::io::Errno::SRCH.into());
        }
        for (target, source) in (3..).zip(&sources) {
            // SAFETY: dup2 is async-signal-safe; the target numbers belong to
            // nothing that the child still uses before it executes.
            if unsafe { nix::libc::dup2(*source, target) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec, `place` makes system calls alone and
    // allocates nothing.
    unsafe { command.pre_exec(place) };
    let child = command.spawn();
    drop(high);
    child
}
