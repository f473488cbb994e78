//! Starting a process from a plan, and reaping it.
//!
//! Owns the way from `clone3` to `execveat`: everything that allocates happens
//! before the clone, so that a caller with threads is safe, too; the child makes
//! plain system calls only. A failed step is reported through a close-on-exec
//! pipe, so `spawn` returns when the program runs, or says why it doesn't.
//!
//! ```text
//!   parent: plan -> clone3(PIDFD | INTO_CGROUP) -> read pipe -> Child
//!   child:  descriptors 0..n -> oom score -> namespaces -> limits
//!           -> bounding set, ids, capabilities -> NoNewPrivs -> execveat
//! ```
//!
//! Refuses to inherit: descriptors beyond the plan's are closed by exec, the
//! environment is the plan's, signals are unblocked.

use crate::child::{self, Fault, Prepared};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions};
use rustix::thread::CapabilitySet;
use std::ffi::{CStr, CString};
use std::io;

/// Descriptors of the plan are moved above this number first.
const HIGH: i32 = 64;

/// What to execute.
#[derive(Clone, Copy, Debug)]
pub enum Program<'a> {
    Path(&'a CStr),
    /// An open executable, so that the child needs no path to it.
    Fd(BorrowedFd<'a>),
}

/// Who the process is. Without it, it keeps the caller's identity.
#[derive(Clone, Copy, Debug)]
pub struct Credentials {
    pub uid: u32,
    pub gid: u32,
    /// Kept as permitted, effective, inheritable and ambient; the bounding set
    /// shrinks to it.
    pub capabilities: CapabilitySet,
}

/// One resource limit, soft and hard alike.
#[derive(Clone, Copy, Debug)]
pub struct Rlimit {
    pub resource: rustix::process::Resource,
    pub value: u64,
}

/// The whole plan of a process.
#[derive(Clone, Copy, Debug)]
pub struct Spawn<'a> {
    pub program: Program<'a>,
    pub arguments: &'a [CString],
    pub environment: &'a [CString],
    /// Become descriptors 0, 1, 2 and so on.
    pub descriptors: &'a [BorrowedFd<'a>],
    /// Entered in this order; a mount namespace last, its root becomes ours.
    pub namespaces: &'a [BorrowedFd<'a>],
    /// A cgroup v2 directory.
    pub cgroup: Option<BorrowedFd<'a>>,
    pub oom_score_adj: Option<i16>,
    pub rlimits: &'a [Rlimit],
    pub credentials: Option<Credentials>,
    pub no_new_privs: bool,
}

/// A running child.
#[derive(Debug)]
pub struct Child {
    pub pid: Pid,
    pub pidfd: OwnedFd,
}

/// Why no process runs.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {errno}")]
pub struct SpawnError {
    pub step: &'static str,
    pub errno: Errno,
}

impl SpawnError {
    const fn new(step: &'static str, errno: Errno) -> Self {
        Self { step, errno }
    }
}

impl Spawn<'_> {
    /// Starts the process.
    ///
    /// # Errors
    /// The step that failed, in the parent or in the child.
    pub fn spawn(&self) -> Result<Child, SpawnError> {
        let high = |fd: BorrowedFd<'_>| {
            rustix::io::fcntl_dupfd_cloexec(fd, HIGH)
                .map_err(|errno| SpawnError::new("fcntl(F_DUPFD_CLOEXEC)", errno))
        };
        let descriptors = self.descriptors.iter().map(|fd| high(*fd));
        let descriptors: Vec<OwnedFd> = descriptors.collect::<Result<_, _>>()?;
        let (program_fd, path) = match self.program {
            Program::Path(path) => (None, path),
            Program::Fd(fd) => (Some(high(fd)?), c""),
        };
        let flags = rustix::pipe::PipeFlags::CLOEXEC;
        let (reader, low_writer) =
            rustix::pipe::pipe_with(flags).map_err(|errno| SpawnError::new("pipe2", errno))?;
        let writer = high(low_writer.as_fd())?;
        drop(low_writer);
        let arguments = pointers(self.arguments);
        let environment = pointers(self.environment);
        let prepared = Prepared {
            plan: self,
            descriptors: &descriptors,
            program: program_fd.as_ref().map(AsFd::as_fd),
            path,
            arguments: &arguments,
            environment: &environment,
            report: writer.as_fd(),
        };
        let cloned = clone_process(self.cgroup, || child::run(&prepared))
            .map_err(|errno| SpawnError::new("clone3", errno))?;
        drop(writer);
        match read_fault(&reader) {
            None => Ok(cloned),
            Some(fault) => {
                let options = WaitOptions::empty();
                // The child is ours and on its way to exit; nothing else to learn.
                let _ended = rustix::process::waitpid(Some(cloned.pid), options);
                Err(SpawnError::new(fault.step(), fault.errno()))
            }
        }
    }
}

/// Clones the calling process; the child runs `body` and exits with it.
pub(crate) fn clone_process(
    cgroup: Option<BorrowedFd<'_>>,
    body: impl FnOnce() -> i32,
) -> Result<Child, Errno> {
    use nix::libc;
    let mut pidfd: i32 = -1;
    let mut flags = libc::CLONE_PIDFD as u64;
    if cgroup.is_some() {
        flags |= CLONE_INTO_CGROUP;
    }
    let arguments = libc::clone_args {
        flags,
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: libc::SIGCHLD as u64,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    // SAFETY: the structure is complete, of the size given, and points to live
    // memory only; without CLONE_VM and without a stack the child gets a copy
    // of this one and returns here, as after fork.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            std::ptr::from_ref(&arguments),
            size_of::<libc::clone_args>(),
        )
    };
    match pid {
        0 => child::exit(body()),
        1.. => {
            // SAFETY: the kernel stored a new descriptor that nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            Ok(Child {
                pid: pid.ok_or(Errno::OVERFLOW)?,
                pidfd,
            })
        }
        _ => Err(last_errno()),
    }
}

/// `linux/sched.h`; beyond what `i32` constants of libc hold.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

fn pointers(strings: &[CString]) -> Vec<*const std::ffi::c_char> {
    let strings = strings.iter().map(|string| string.as_ptr());
    strings.chain([std::ptr::null()]).collect()
}

fn read_fault(reader: &OwnedFd) -> Option<Fault> {
    let mut bytes = [0; Fault::LEN];
    loop {
        match rustix::io::read(reader, &mut bytes) {
            Ok(Fault::LEN) => return Some(Fault::decode(bytes)),
            Err(Errno::INTR) => {}
            Ok(_) | Err(_) => return None,
        }
    }
}

/// A child that ended, with the status as waitpid gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reaped {
    pub pid: Pid,
    pub status: i32,
}

/// Reaps one ended child of any kind, adopted orphans included.
///
/// # Errors
/// What waitpid says, but not `ECHILD`, which is `None`.
pub fn reap() -> io::Result<Option<Reaped>> {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(ended) => {
                return Ok(ended.map(|(pid, status)| Reaped {
                    pid,
                    status: status.as_raw(),
                }));
            }
            Err(Errno::CHILD) => return Ok(None),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Waits for one child.
///
/// # Errors
/// What waitpid says.
pub fn wait(pid: Pid) -> io::Result<i32> {
    loop {
        match rustix::process::waitpid(Some(pid), WaitOptions::empty()) {
            Ok(Some((_, status))) => return Ok(status.as_raw()),
            Ok(None) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Makes reads and writes of a descriptor return at once.
///
/// # Errors
/// What ioctl(2) says.
pub fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(fd, true)?)
}

/// Describes a status of waitpid: `exit status 3`, `signal 9`.
#[must_use]
pub fn describe_status(status: i32) -> String {
    match status & 0x7f {
        0 => format!("exit status {}", (status >> 8) & 0xff),
        signal => format!("signal {signal}"),
    }
}

#[cfg(test)]
#[path = "process_tests.rs"]
mod tests;
