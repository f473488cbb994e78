//! Makes a thread do what it would never do: tests that its filter kills it.
//!
//! A tracer may change the number of a system call at its entry, and the
//! kernel applies the seccomp filter to what it finds then (seccomp(2)).

use anyhow::{Result, bail};
use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Stops on the way to the next entry: signals and ends of calls.
const STOPS_MAX: usize = 64;

/// Attaches, waits for the thread's next system call, replaces it by `call`
/// and lets go.
pub(crate) fn divert(thread: Pid, call: u64) -> Result<()> {
    ptrace::attach(thread)?;
    let mut stopped = wait(thread)?;
    ptrace::setoptions(thread, Options::PTRACE_O_TRACESYSGOOD)?;
    for _ in 0..STOPS_MAX {
        let signal = match stopped {
            WaitStatus::PtraceSyscall(_) => {
                let mut registers = ptrace::getregs(thread)?;
                // At an entry, the answer is not there yet (entry_64.S).
                if registers.rax == (-i64::from(Errno::ENOSYS as i32)).cast_unsigned() {
                    registers.orig_rax = call;
                    ptrace::setregs(thread, registers)?;
                    ptrace::detach(thread, None)?;
                    return Ok(());
                }
                None
            }
            // Our own stop is not passed on.
            WaitStatus::Stopped(_, nix::sys::signal::Signal::SIGSTOP) => None,
            WaitStatus::Stopped(_, signal) => Some(signal),
            other => bail!("thread {thread}: {other:?}"),
        };
        ptrace::syscall(thread, signal)?;
        stopped = wait(thread)?;
    }
    ptrace::detach(thread, None)?;
    bail!("thread {thread} entered no system call in {STOPS_MAX} stops");
}

fn wait(thread: Pid) -> Result<WaitStatus> {
    Ok(waitpid(thread, Some(WaitPidFlag::__WALL))?)
}
