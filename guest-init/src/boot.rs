//! From the kernel's hand-over to the first accepted connection.
//!
//! Listening comes first, because the host waits for it; a connection waits in
//! the backlog until everything is mounted.

use crate::console::say;
use crate::guest::Place;
use nix::mount::{MsFlags, mount};
use nix::sys::socket::VsockAddr;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

const BACKLOG: i32 = 64;
/// `VMADDR_CID_ANY` and `VMADDR_CID_HOST` of linux/vm_sockets.h.
const CID_ANY: u32 = u32::MAX;
const CID_HOST: u32 = 2;

/// What the host connects to.
#[derive(Debug)]
pub(crate) enum Listener {
    Vsock(OwnedFd),
    /// In tests on a machine.
    Unix(UnixListener),
}

impl Listener {
    pub(crate) fn vsock(port: u32) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::VSOCK, SocketType::STREAM, flags, None)?;
        nix::sys::socket::bind(socket.as_raw_fd(), &VsockAddr::new(CID_ANY, port))?;
        rustix::net::listen(&socket, BACKLOG)?;
        Ok(Self::Vsock(socket))
    }

    /// The next connection; of vsock, only the host's.
    pub(crate) fn accept(&self) -> io::Result<UnixStream> {
        match self {
            Self::Vsock(socket) => loop {
                let stream = rustix::net::accept_with(socket, SocketFlags::CLOEXEC)?;
                let peer = nix::sys::socket::getpeername::<VsockAddr>(stream.as_raw_fd())?;
                if peer.cid() == CID_HOST {
                    // Any stream socket reads, writes and shuts down alike.
                    return Ok(UnixStream::from(stream));
                }
            },
            Self::Unix(listener) => Ok(listener.accept()?.0),
        }
    }
}

/// The file systems of the machine and a root that can be pivoted away.
pub(crate) fn mount_machine() {
    let strict = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NODEV;
    let dev = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    // The initramfs itself can't be pivoted away from (pivot_root(2)).
    step(
        "/root",
        &mount_at("/root", "tmpfs", strict, "mode=755,size=16m"),
    );
    step("/", &enter_root("/root"));
    for (target, kind, flags, options) in [
        ("/proc", "proc", strict, ""),
        ("/sys", "sysfs", strict, ""),
        ("/dev", "devtmpfs", dev, "mode=755"),
        ("/sys/fs/cgroup", "cgroup2", strict, ""),
    ] {
        step(target, &mount_at(target, kind, flags, options));
    }
}

fn mount_at(target: &str, kind: &str, flags: MsFlags, options: &str) -> io::Result<()> {
    if let Err(error) = fs::create_dir(target) {
        let known = [
            io::ErrorKind::AlreadyExists,
            io::ErrorKind::PermissionDenied,
        ];
        if !known.contains(&error.kind()) {
            return Err(error);
        }
    }
    Ok(mount(Some(kind), target, Some(kind), flags, Some(options))?)
}

fn enter_root(root: &str) -> io::Result<()> {
    rustix::process::chdir(root)?;
    let none: Option<&str> = None;
    mount(Some("."), "/", none, MsFlags::MS_MOVE, none)?;
    rustix::process::chroot(".")?;
    rustix::process::chdir("/")?;
    Ok(())
}

/// What every place needs before containers, in the machine also loopback.
pub(crate) fn prepare(place: &Place) {
    if place.machine {
        step("loopback", &loopback_up());
        // Memory is compacted when somebody wants a huge page; looking for work
        // twice a second only wakes a quiet guest.
        step(
            "compaction",
            &fs::write("/proc/sys/vm/compaction_proactiveness", "0"),
        );
    }
    for directory in [
        place.run.clone(),
        place.run.join("scratch"),
        place.run.join("shm"),
    ] {
        step("run", &fs::create_dir_all(directory));
    }
    step(
        "oom_score_adj",
        &fs::write("/proc/self/oom_score_adj", "-1000"),
    );
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = guest_protocol::figures::meminfo(&memory, "MemAvailable");
    step("cgroup", &crate::cgroup::set_up(&place.cgroup, available));
}

/// PID 1 goes on whatever fails; what depends on it is refused later.
fn step(what: &str, result: &io::Result<()>) {
    if let Err(error) = result {
        say(format_args!("{what}: {error}"));
    }
}

/// `RTM_NEWLINK` for interface 1 with `IFF_UP` (rtnetlink(7)).
fn loopback_up() -> io::Result<()> {
    const NEWLINK: u16 = 16;
    const REQUEST: u16 = 1;
    let mut message = [0; 32];
    let fields: [(usize, &[u8]); 6] = [
        (0, &32_u32.to_ne_bytes()),
        (4, &NEWLINK.to_ne_bytes()),
        (6, &REQUEST.to_ne_bytes()),
        (20, &1_i32.to_ne_bytes()),
        (24, &1_u32.to_ne_bytes()),
        (28, &1_u32.to_ne_bytes()),
    ];
    for (at, bytes) in fields {
        if let Some(place) = message.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    rustix::net::send(&socket, &message, rustix::net::SendFlags::empty())?;
    Ok(())
}

/// A test's place: its own arguments, in any order, all needed.
pub(crate) fn place_of_test(args: &[String]) -> Option<(PathBuf, Place)> {
    let value = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1).map(PathBuf::from)
    };
    let place = Place {
        machine: false,
        cgroup: value("--cgroup")?,
        run: value("--run")?,
        disks: Some(value("--disks")?),
    };
    Some((value("--listen")?, place))
}

pub(crate) fn place_of_machine() -> Place {
    Place {
        machine: true,
        cgroup: Path::new("/sys/fs/cgroup").to_path_buf(),
        run: Path::new("/run").to_path_buf(),
        disks: None,
    }
}
