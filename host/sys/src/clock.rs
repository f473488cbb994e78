//! Setting the wall clock: at once, or gently.

use nix::libc;
use std::io;
use std::time::Duration;

/// Sets the clock to a time since the epoch.
///
/// # Errors
/// `EPERM` without `CAP_SYS_TIME`.
pub fn set(since_epoch: Duration) -> io::Result<()> {
    let time = rustix::time::Timespec {
        tv_sec: i64::try_from(since_epoch.as_secs()).map_err(io::Error::other)?,
        tv_nsec: since_epoch.subsec_nanos().into(),
    };
    Ok(rustix::time::clock_settime(
        rustix::time::ClockId::Realtime,
        time,
    )?)
}

/// Moves the clock by microseconds, slowly, as adjtime(3) does: at most 500 ppm
/// (`ADJ_OFFSET_SINGLESHOT`, adjtimex(2)).
///
/// # Errors
/// `EPERM` without `CAP_SYS_TIME`.
pub fn slew(microseconds: i64) -> io::Result<()> {
    // SAFETY: all bytes zero is a valid `timex` that asks for nothing.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    timex.modes = libc::ADJ_OFFSET_SINGLESHOT;
    timex.offset = microseconds;
    adjust(&mut timex)
}

/// Tells the kernel that the clock is (not) synchronized, with its estimated
/// error; it then keeps the hardware clock right (11-minute mode).
///
/// # Errors
/// `EPERM` without `CAP_SYS_TIME`.
pub fn mark_synchronized(error_microseconds: i64) -> io::Result<()> {
    // SAFETY: all bytes zero is a valid `timex` that asks for nothing.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    timex.modes = libc::ADJ_STATUS | libc::ADJ_MAXERROR | libc::ADJ_ESTERROR;
    timex.maxerror = error_microseconds;
    timex.esterror = error_microseconds;
    adjust(&mut timex)
}

fn adjust(timex: &mut libc::timex) -> io::Result<()> {
    // SAFETY: the structure is valid and ours for the call.
    match unsafe { libc::adjtimex(timex) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
