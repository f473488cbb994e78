//! A stage: the child that turns itself into a container's process.
//!
//! ```text
//!   Start: cgroup, namespaces, root, devices, mounts \
//!   Exec:  cgroup, namespaces of the container        > terminal, identity,
//!                                                        privileges, execve
//! ```
//!
//! It is single-threaded and trusted until it has pivoted; from then on each
//! path that it opens is the image's, so nothing outside can be reached by it.
//! An error goes back over the order's socket; success closes that.

mod device;
mod files;
mod identity;
mod privilege;
mod program;
mod root;
mod target;
mod volumes;

use crate::errors::{failed, invalid};
use crate::order::{self, Enter, Order, Start};
use guest_protocol::{Container, Refusal};
use nix::sched::{CloneFlags, setns, unshare};
use rustix::process::WaitOptions;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Runs as what the order on descriptor 0 says; never returns to the caller's
/// world.
pub(crate) fn main() -> std::process::ExitCode {
    let Ok(socket) = std::io::stdin().as_fd().try_clone_to_owned() else {
        return std::process::ExitCode::FAILURE;
    };
    let socket = UnixStream::from(socket);
    let refusal = match order::receive(&socket) {
        Ok((Order::Start(start), fds)) => run_start(&socket, &start, fds),
        Ok((Order::Exec(enter), fds)) => run_exec(&socket, &enter, fds),
        Ok((Order::Pause, _)) => return pause(socket),
        Err(error) => failed("order")(error),
    };
    // Whoever waits sees the end of the socket otherwise.
    let _ = order::send_refusal(&socket, &refusal);
    std::process::ExitCode::FAILURE
}

fn run_start(socket: &UnixStream, order: &Start, fds: Vec<OwnedFd>) -> Refusal {
    start(socket, order, fds).err().unwrap_or_else(gone)
}

fn run_exec(socket: &UnixStream, order: &Enter, fds: Vec<OwnedFd>) -> Refusal {
    enter(socket, order, fds).err().unwrap_or_else(gone)
}

/// `execve` does not return but with an error.
fn gone() -> Refusal {
    invalid("the process did not start")
}

fn start(socket: &UnixStream, order: &Start, fds: Vec<OwnedFd>) -> Result<(), Refusal> {
    let container = &order.container;
    join(&order.cgroup)?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let spaces = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWCGROUP;
    unshare(spaces).map_err(failed("unshare"))?;
    let trees = root::enter(order)?;
    device::make(container.security.privileged)?;
    root::attach(order, trees)?;
    stdio(socket, container.tty, true, fds)?;
    root::protect(&container.security)?;
    become_program(
        container,
        &container.args,
        &order.pod.hostname,
        Some(socket),
    )
}

fn enter(socket: &UnixStream, order: &Enter, mut fds: Vec<OwnedFd>) -> Result<(), Refusal> {
    let init = fds.pop().ok_or_else(|| invalid("no pidfd"))?;
    join(&order.cgroup)?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let spaces = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWCGROUP;
    setns(&init, spaces).map_err(failed("setns"))?;
    drop(init);
    stdio(socket, order.exec.tty, false, fds)?;
    let container = Container {
        tty: order.exec.tty,
        ..order.container.clone()
    };
    become_program(&container, &order.exec.args, &order.hostname, None)
}

/// Enters the group and gives up the agent's protection from the OOM killer.
fn join(cgroup: &Path) -> Result<(), Refusal> {
    fs::write(cgroup.join("cgroup.procs"), "0").map_err(failed("cgroup.procs"))?;
    fs::write("/proc/self/oom_score_adj", "0").map_err(failed("oom_score_adj"))
}

/// A terminal of the container's own, or the descriptors that came.
fn stdio(socket: &UnixStream, tty: bool, console: bool, fds: Vec<OwnedFd>) -> Result<(), Refusal> {
    rustix::process::setsid().map_err(failed("setsid"))?;
    let fds = if tty {
        let slave = device::open_terminal(socket, console)?;
        rustix::process::ioctl_tiocsctty(&slave).map_err(failed("TIOCSCTTY"))?;
        let again = || slave.try_clone().map_err(failed("terminal"));
        [again()?, again()?, slave]
    } else {
        <[OwnedFd; 3]>::try_from(fds).map_err(|_| invalid("not three descriptors"))?
    };
    let [stdin, stdout, stderr] = fds;
    nix::unistd::dup2_stdin(stdin).map_err(failed("dup2"))?;
    nix::unistd::dup2_stdout(stdout).map_err(failed("dup2"))?;
    nix::unistd::dup2_stderr(stderr).map_err(failed("dup2"))
}

/// `told`: who learns as whom it runs.
fn become_program(
    container: &Container,
    args: &[String],
    host: &str,
    told: Option<&UnixStream>,
) -> Result<(), Refusal> {
    let person = identity::find(&container.user)?;
    if let Some(socket) = told {
        order::send_identity(socket, &person.identity()).map_err(failed("identity"))?;
    }
    if !container.working_dir.is_empty() {
        program::make_working_dir(&container.working_dir)?;
    }
    privilege::limit(&container.rlimits)?;
    privilege::take_identity(&person, &container.security)?;
    program::enter_working_dir(&container.working_dir)?;
    program::exec(container, args, &person.home, host)
}

/// Holds the shared process namespace and reaps its orphans.
fn pause(socket: UnixStream) -> std::process::ExitCode {
    drop(socket);
    // Failing, it has a less telling name, or its starter waits in vain.
    let _ = rustix::thread::set_name(c"pause");
    let _ = fs::File::open("/dev/null").map(nix::unistd::dup2_stdin);
    let _ = crate::process::block_sigchld();
    let mut signals = nix::sys::signal::SigSet::empty();
    signals.add(nix::sys::signal::Signal::SIGCHLD);
    loop {
        while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
        let _ = signals.wait();
    }
}
