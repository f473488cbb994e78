//! Starting processes: containers, what is executed in them, the pause.
//!
//! A thread of its own makes each child, because the namespace for children is
//! a property of the thread; the child is a stage (see `order`).

use crate::attempt::{Attempt, Input};
use crate::cgroup::Group;
use crate::errors::{failed, invalid, refuse};
use crate::guest::Guest;
use crate::order::{self, Enter, Order, Root, Start};
use crate::process::Child;
use guest_protocol::{Container, Exec, Identity, Pod, Refusal, RefusalKind};
use nix::sched::{CloneFlags, setns, unshare};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// How long a stage may take; mounting a bad disk is the longest of it.
const STAGE_TIMEOUT: Duration = Duration::from_secs(30);
/// The termination message is read up to 4096 bytes.
const DIRECTORY_OPTIONS: &str = "mode=700,size=64k,nr_inodes=16";

/// Where a child's process namespace comes from.
enum Space<'a> {
    New,
    Of(BorrowedFd<'a>),
}

/// Our ends of a process's streams.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    pub(crate) stdin: Option<File>,
    pub(crate) stdout: Option<File>,
    pub(crate) stderr: Option<File>,
    /// Instead of all three.
    pub(crate) terminal: Option<File>,
    /// Who it runs as, of a container's own process.
    pub(crate) identity: Option<Identity>,
}

/// Which streams a process gets; without one it reads and writes /dev/null.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    pub(crate) tty: bool,
}

/// Starts one attempt and enters it.
///
/// # Errors
/// What the stage says, or a contradiction to what runs.
pub(crate) fn start(guest: &Arc<Guest>, container: Container) -> Result<(), Refusal> {
    check(&container)?;
    let mut pause = guest
        .starting
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let name = container.name.as_str();
    if guest.attempt(name, container.attempt).is_some() {
        return Ok(());
    }
    let conflict = |text: &str| refuse(RefusalKind::Conflict, format!("{name}: {text}"));
    if guest.is_powering_off() {
        return Err(conflict("the guest is powering off"));
    }
    if let Some(newest) = guest.newest(name) {
        if newest.is_running() {
            return Err(conflict("another attempt is running"));
        }
        if newest.number() > container.attempt {
            return Err(conflict("a later attempt was started"));
        }
    }
    if !guest.has_room(name) {
        return Err(conflict("too many containers"));
    }
    let pod = guest
        .pod()
        .ok_or_else(|| conflict("the pod is not set up"))?;
    crate::volume::check_mounts(&pod, &container)?;
    if pod.share_process_namespace && pause.is_none() {
        *pause = Some(start_pause(guest)?);
    }
    let (attempt, child, streams) = begin(guest, &pod, container, *pause)?;
    let attempt = Arc::new(attempt);
    guest.enter(Arc::clone(&attempt));
    crate::supervise::supervise(guest, attempt, child, streams);
    Ok(())
}

fn check(container: &Container) -> Result<(), Refusal> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let name = &container.name;
    if name.is_empty() || name.len() > 63 || !name.bytes().all(plain) {
        return Err(invalid(format!("name {name:?}: not a DNS label")));
    }
    if container.args.is_empty() {
        return Err(invalid("args: empty"));
    }
    let message = &container.termination_message_path;
    if !message.is_empty() && !message.starts_with('/') {
        return Err(invalid("termination_message_path: not absolute"));
    }
    Ok(())
}

fn begin(
    guest: &Guest,
    pod: &Pod,
    container: Container,
    pause: Option<u32>,
) -> Result<(Attempt, Child, Streams), Refusal> {
    let root = find(guest, &container.disk)?;
    let images = mounted_images(guest, &container)?;
    let id = format!("{}.{}", container.name, container.attempt);
    let group = Group::create(&guest.place.cgroup, &id, container.limits);
    let group = group.map_err(failed("cgroup"))?;
    let directory = guest.place.run.join(&id);
    let undo = || {
        group.kill();
        remove_directory(&directory);
        let _ = group.remove();
    };
    let started = make_directory(&directory)
        .and_then(|()| {
            let message = directory.join("message");
            File::create(&message).map_err(failed("termination message"))?;
            let has_message = !container.termination_message_path.is_empty();
            let order = Order::Start(Box::new(Start {
                container: container.clone(),
                pod: pod.clone(),
                root,
                images,
                cgroup: group.0.clone(),
                scratch: guest.place.run.join("scratch"),
                shm: guest.place.run.join("shm"),
                volumes: crate::volume::base(&guest.place),
                layer: crate::volume::layer(&guest.place, pod, &container.name),
                message: has_message.then_some(message),
            }));
            let wanted = Wanted {
                stdin: container.stdin,
                stdout: true,
                stderr: true,
                tty: container.tty,
            };
            let other = other(guest, &container, pause)?;
            let space = match &other {
                Some(other) => Space::Of(other.as_fd()),
                None => Space::New,
            };
            launch(guest, &order, wanted, space, None)
        })
        .inspect_err(|_| undo())?;
    let (child, mut streams) = started;
    let input = match (&streams.terminal, streams.stdin.take()) {
        (Some(master), _) => {
            let writer = master.try_clone().map_err(failed("terminal"))?;
            Input::Terminal(Arc::new(writer))
        }
        (None, Some(stdin)) => Input::Pipe(Arc::new(stdin)),
        (None, None) => Input::None,
    };
    let pidfd = child.pidfd.try_clone().map_err(failed("pidfd"))?;
    let who = (container, streams.identity.take());
    let attempt = Attempt::new(who, group, (child.pid, pidfd), directory, input);
    Ok((attempt, child, streams))
}

/// What its mounts of images are, by serial.
fn mounted_images(guest: &Guest, container: &Container) -> Result<BTreeMap<String, Root>, Refusal> {
    let mounts = container.mounts.iter();
    let serials = mounts.filter_map(|mount| mount.disk.as_deref());
    serials
        .map(|serial| Ok((serial.to_owned(), find(guest, serial)?)))
        .collect()
}

fn find(guest: &Guest, serial: &str) -> Result<Root, Refusal> {
    let found = guest.place.find_disk(serial);
    let absent = || format!("disk {serial:?}: not found");
    found.ok_or_else(|| refuse(RefusalKind::NotFound, absent()))
}

/// The process whose namespace the container shares, if it shares one.
fn other(
    guest: &Guest,
    container: &Container,
    pause: Option<u32>,
) -> Result<Option<OwnedFd>, Refusal> {
    let name = match (pause, &container.target) {
        (Some(pause), _) => return open_process(pause).map(Some),
        (None, None) => return Ok(None),
        (None, Some(name)) => name,
    };
    let running = guest.newest(name).filter(|attempt| attempt.is_running());
    let absent = || format!("target: container {name} does not run");
    let attempt = running.ok_or_else(|| refuse(RefusalKind::Conflict, absent()))?;
    let pidfd = attempt.pidfd.try_clone().map_err(failed("pidfd"))?;
    Ok(Some(pidfd))
}

/// Runs one more process in a running container.
///
/// # Errors
/// What the stage says.
pub(crate) fn enter(
    guest: &Guest,
    attempt: &Attempt,
    exec: &Exec,
) -> Result<(Child, Streams), Refusal> {
    if exec.args.is_empty() {
        return Err(invalid("args: empty"));
    }
    let hostname = guest.pod().map(|pod| pod.hostname).unwrap_or_default();
    let order = Order::Exec(Box::new(Enter {
        container: Container {
            files: Vec::new(),
            ..attempt.container.clone()
        },
        hostname,
        exec: exec.clone(),
        cgroup: attempt.group.0.clone(),
    }));
    let wanted = Wanted {
        stdin: exec.stdin,
        stdout: exec.stdout,
        stderr: exec.stderr,
        tty: exec.tty,
    };
    let init = attempt.pidfd.as_fd();
    launch(guest, &order, wanted, Space::Of(init), Some(init))
}

fn start_pause(guest: &Guest) -> Result<u32, Refusal> {
    let (child, socket) = spawn(guest, Space::New)?;
    order::send(&socket, &Order::Pause, &[]).map_err(failed("pause"))?;
    order::outcome(&socket)?;
    Ok(child.pid)
}

fn open_process(pid: u32) -> Result<OwnedFd, Refusal> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| invalid("no pid"))?;
    pidfd_open(pid, PidfdFlags::empty()).map_err(failed("pidfd_open"))
}

fn launch(
    guest: &Guest,
    order: &Order,
    wanted: Wanted,
    space: Space<'_>,
    init: Option<BorrowedFd<'_>>,
) -> Result<(Child, Streams), Refusal> {
    let (mut streams, theirs) = if wanted.tty {
        (Streams::default(), Vec::new())
    } else {
        stdio(wanted)?
    };
    let (child, socket) = spawn(guest, space)?;
    let mut fds: Vec<_> = theirs.iter().map(|fd| fd.as_fd()).collect();
    fds.extend(init);
    let sent = order::send(&socket, order, &fds).map_err(failed("order"));
    drop(theirs);
    match sent.and_then(|()| order::outcome(&socket)) {
        Ok(told) => {
            streams.terminal = told.terminal.map(File::from);
            streams.identity = told.identity;
            Ok((child, streams))
        }
        Err(refusal) => {
            kill(&child.pidfd);
            Err(refusal)
        }
    }
}

fn stdio(wanted: Wanted) -> Result<(Streams, Vec<OwnedFd>), Refusal> {
    let null = || {
        let file = File::options().read(true).write(true).open("/dev/null");
        file.map(OwnedFd::from).map_err(failed("/dev/null"))
    };
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(failed("pipe"));
    let mut streams = Streams::default();
    let mut theirs = Vec::with_capacity(3);
    if wanted.stdin {
        let (read, write) = pipe()?;
        theirs.push(read);
        streams.stdin = Some(File::from(write));
    } else {
        theirs.push(null()?);
    }
    for (want, ours) in [
        (wanted.stdout, &mut streams.stdout),
        (wanted.stderr, &mut streams.stderr),
    ] {
        if want {
            let (read, write) = pipe()?;
            theirs.push(write);
            *ours = Some(File::from(read));
        } else {
            theirs.push(null()?);
        }
    }
    Ok((streams, theirs))
}

/// Makes a stage in a process namespace; returns our end of its socket.
fn spawn(guest: &Guest, space: Space<'_>) -> Result<(Child, UnixStream), Refusal> {
    let (ours, theirs) = UnixStream::pair().map_err(failed("socketpair"))?;
    ours.set_read_timeout(Some(STAGE_TIMEOUT))
        .map_err(failed("timeout"))?;
    ours.set_write_timeout(Some(STAGE_TIMEOUT))
        .map_err(failed("timeout"))?;
    let work = || {
        match space {
            Space::New => unshare(CloneFlags::CLONE_NEWPID).map_err(failed("unshare"))?,
            Space::Of(init) => setns(init, CloneFlags::CLONE_NEWPID).map_err(failed("setns"))?,
        }
        let mut command = Command::new("/proc/self/exe");
        command
            .arg("stage")
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs)));
        guest
            .processes
            .spawn(&mut command)
            .map_err(failed("start the stage"))
    };
    let child = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(crate::serve::STACK);
        let thread = thread.spawn_scoped(scope, work).map_err(failed("thread"))?;
        thread.join().unwrap_or_else(|_| Err(invalid("thread")))
    })?;
    Ok((child, ours))
}

/// A process that has ended needs no killing.
pub(crate) fn kill(pidfd: &OwnedFd) {
    let _ = rustix::process::pidfd_send_signal(pidfd, rustix::process::Signal::KILL);
}

fn make_directory(path: &Path) -> Result<(), Refusal> {
    use nix::mount::{MsFlags, mount};
    match fs::create_dir(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(failed(path.display())(error));
        }
        _ => {}
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let tmpfs = Some("tmpfs");
    mount(tmpfs, path, tmpfs, flags, Some(DIRECTORY_OPTIONS)).map_err(failed(path.display()))
}

/// It may be gone already.
pub(crate) fn remove_directory(path: &Path) {
    let _ = rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH);
    let _ = fs::remove_dir(path);
}
