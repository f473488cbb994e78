//! Descriptors that a process got by inheritance, taken over once.

use rustix::fd::{FromRawFd, OwnedFd, RawFd};
use std::io;
use std::sync::Mutex;

/// Numbers that were taken; an `OwnedFd` must be the only owner of its number.
static TAKEN: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

/// Takes ownership of an inherited descriptor. Call it at the start of `main`,
/// before anything opens descriptors of its own.
///
/// # Errors
/// EBADF if there is no such descriptor, EBUSY if it was taken before; the
/// standard ones can't be taken.
pub fn take(number: RawFd) -> io::Result<OwnedFd> {
    let mut taken = TAKEN.lock().map_err(|_| busy())?;
    if number <= 2 || taken.contains(&number) {
        return Err(busy());
    }
    // SAFETY: fcntl with F_GETFD touches no memory, whatever the number.
    if unsafe { nix::libc::fcntl(number, nix::libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    taken.push(number);
    // SAFETY: it is open, and TAKEN shows that nobody took it here before; the
    // caller takes inherited descriptors before it opens others.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Closes every descriptor from `first` on.
///
/// # Errors
/// As `close_range(2)`.
pub fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: closes descriptors that no Rust owner exists for, because this is
    // called before the process opens any (see `take`).
    let result = unsafe { nix::libc::syscall(nix::libc::SYS_close_range, first, u32::MAX, 0_u32) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn busy() -> io::Error {
    io::Error::from_raw_os_error(nix::libc::EBUSY)
}
