//! What a cloned child does between `clone3` and `execveat`.
//!
//! Runs on a copy of a possibly multi-threaded parent: it must not allocate,
//! lock or panic, so each step is one system call on what was prepared.

use crate::process::{Credentials, Spawn};
use nix::libc;
use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets};
use std::convert::Infallible;
use std::ffi::{CStr, c_char};

/// Everything that the child uses, allocated by the parent.
pub(crate) struct Prepared<'a> {
    pub(crate) plan: &'a Spawn<'a>,
    pub(crate) descriptors: &'a [OwnedFd],
    pub(crate) program: Option<BorrowedFd<'a>>,
    pub(crate) path: &'a CStr,
    /// Ends with a null pointer, as `environment` does.
    pub(crate) arguments: &'a [*const c_char],
    pub(crate) environment: &'a [*const c_char],
    pub(crate) report: BorrowedFd<'a>,
}

const STEPS: [&str; 11] = [
    "dup2",
    "close_range",
    "setsid",
    "/proc/self/oom_score_adj",
    "setns",
    "setrlimit",
    "prctl(PR_CAPBSET_DROP)",
    "setresuid",
    "capset",
    "prctl(PR_SET_NO_NEW_PRIVS)",
    "execve",
];

/// The step that failed in the child, as it goes through the pipe.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    step: u8,
    errno: i32,
}

impl Fault {
    pub(crate) const LEN: usize = 5;

    pub(crate) const fn decode(bytes: [u8; Self::LEN]) -> Self {
        Self {
            step: bytes[0],
            errno: i32::from_le_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]),
        }
    }

    const fn encode(self) -> [u8; Self::LEN] {
        let errno = self.errno.to_le_bytes();
        [self.step, errno[0], errno[1], errno[2], errno[3]]
    }

    pub(crate) fn step(self) -> &'static str {
        STEPS.get(usize::from(self.step)).unwrap_or(&"child")
    }

    pub(crate) const fn errno(self) -> Errno {
        Errno::from_raw_os_error(self.errno)
    }
}

/// Becomes the planned program, or reports the fault and exits.
pub(crate) fn run(prepared: &Prepared<'_>) -> i32 {
    let Err(fault) = become_program(prepared);
    // Nobody to tell if the pipe is gone: the parent sees the exit.
    let _told = rustix::io::write(prepared.report, &fault.encode());
    127
}

/// Ends the process at once, without any cleanup of the copied parent.
pub(crate) fn exit(status: i32) -> ! {
    // SAFETY: `_exit` takes any status and doesn't return.
    unsafe { libc::_exit(status) }
}

fn become_program(prepared: &Prepared<'_>) -> Result<Infallible, Fault> {
    let plan = prepared.plan;
    for (number, fd) in (0..).zip(prepared.descriptors) {
        // SAFETY: duplicates a descriptor that is open; whatever `number` was
        // belongs to the parent's copy, which this child no longer uses.
        check(0, unsafe { libc::dup2(fd.as_raw_fd(), number) }.into())?;
    }
    let first = prepared.descriptors.len();
    close_rest(first).map_err(fault(1))?;
    rustix::process::setsid().map_err(fault(2))?;
    if let Some(score) = plan.oom_score_adj {
        write_oom_score(score).map_err(fault(3))?;
    }
    for namespace in plan.namespaces {
        rustix::thread::move_into_link_name_space(*namespace, None).map_err(fault(4))?;
    }
    for limit in plan.rlimits {
        let both = rustix::process::Rlimit {
            current: Some(limit.value),
            maximum: Some(limit.value),
        };
        rustix::process::setrlimit(limit.resource, both).map_err(fault(5))?;
    }
    if let Some(credentials) = plan.credentials {
        become_user(credentials)?;
    }
    if plan.no_new_privs {
        rustix::thread::set_no_new_privs(true).map_err(fault(9))?;
    }
    unblock_signals();
    execute(prepared)
}

const fn fault(step: u8) -> impl Fn(Errno) -> Fault {
    move |errno| Fault {
        step,
        errno: errno.raw_os_error(),
    }
}

fn check(step: u8, result: i64) -> Result<(), Fault> {
    if result >= 0 {
        return Ok(());
    }
    let errno = nix::errno::Errno::last_raw();
    Err(Fault { step, errno })
}

fn close_rest(first: usize) -> Result<(), Errno> {
    let first = u32::try_from(first).map_err(|_| Errno::MFILE)?;
    // SAFETY: only marks descriptors close-on-exec.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if result == 0 {
        return Ok(());
    }
    Err(Errno::from_raw_os_error(nix::errno::Errno::last_raw()))
}

fn write_oom_score(score: i16) -> Result<(), Errno> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(c"/proc/self/oom_score_adj", flags, Mode::empty())?;
    let (digits, length) = decimal(score);
    rustix::io::write(&file, digits.get(..length).unwrap_or(&digits)).map(|_written| ())
}

/// A number in decimal, without allocation.
fn decimal(number: i16) -> ([u8; 6], usize) {
    let mut digits = [0; 6];
    let mut length = 0;
    let mut push = |byte: u8| {
        if let Some(slot) = digits.get_mut(length) {
            *slot = byte;
            length += 1;
        }
    };
    if number < 0 {
        push(b'-');
    }
    let magnitude = number.unsigned_abs();
    for unit in [10_000, 1_000, 100, 10, 1] {
        if magnitude >= unit || unit == 1 {
            push(b'0' + (magnitude / unit % 10) as u8);
        }
    }
    (digits, length)
}

/// glibc's wrappers would look for the parent's threads: plain calls instead.
fn become_user(credentials: Credentials) -> Result<(), Fault> {
    let keep = credentials.capabilities;
    for bit in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        if keep.contains(capability) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // Beyond the last capability that this kernel knows.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(errno) => return Err(fault(6)(errno)),
        }
    }
    rustix::thread::set_keep_capabilities(true).map_err(fault(8))?;
    let (uid, gid) = (credentials.uid, credentials.gid);
    // SAFETY: an empty list needs no memory.
    check(7, unsafe {
        libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<u32>())
    })?;
    // SAFETY: takes three numbers.
    check(7, unsafe {
        libc::syscall(libc::SYS_setresgid, gid, gid, gid)
    })?;
    // SAFETY: takes three numbers.
    check(7, unsafe {
        libc::syscall(libc::SYS_setresuid, uid, uid, uid)
    })?;
    let sets = CapabilitySets {
        effective: keep,
        permitted: keep,
        inheritable: keep,
    };
    rustix::thread::set_capabilities(None, sets).map_err(fault(8))?;
    for bit in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        if keep.contains(capability) {
            rustix::thread::configure_capability_in_ambient_set(capability, true)
                .map_err(fault(8))?;
        }
    }
    Ok(())
}

fn unblock_signals() {
    use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
    // Can't fail with these arguments.
    let _done = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
}

fn execute(prepared: &Prepared<'_>) -> Result<Infallible, Fault> {
    let (directory, flags) = match prepared.program {
        Some(fd) => (fd.as_raw_fd(), libc::AT_EMPTY_PATH),
        None => (libc::AT_FDCWD, 0),
    };
    // SAFETY: the path is a C string, both arrays end with a null pointer, and
    // the parent's copies of all strings are alive.
    let result = unsafe {
        libc::syscall(
            libc::SYS_execveat,
            directory,
            prepared.path.as_ptr(),
            prepared.arguments.as_ptr(),
            prepared.environment.as_ptr(),
            flags,
        )
    };
    check(10, result)?;
    Err(fault(10)(Errno::NOEXEC))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_decimal_text() {
        for number in [0, 7, -7, 10, 999, -1000, i16::MAX, i16::MIN] {
            let (digits, length) = decimal(number);
            assert_eq!(&digits[..length], number.to_string().as_bytes());
        }
    }
}
