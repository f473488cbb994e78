//! `/dev` of a container: the runtime specification's default devices and
//! links, and terminals of the container's own devpts.

use crate::errors::failed;
use crate::order;
use guest_protocol::Refusal;
use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use std::fs::{self, File, OpenOptions, Permissions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::os::unix::net::UnixStream;

/// Name, major and minor number (Linux, `admin-guide/devices.txt`).
const NODES: &[(&str, u64, u64)] = &[
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];
const PRIVILEGED_NODES: &[(&str, u64, u64)] = &[
    ("kmsg", 1, 11),
    ("net/tun", 10, 200),
    ("fuse", 10, 229),
    ("loop-control", 10, 237),
];
/// Nodes of the loop devices that `loop-control` makes.
const LOOPS: u64 = 8;
const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

pub(crate) fn make(privileged: bool) -> Result<(), Refusal> {
    for node in NODES {
        make_node(node, SFlag::S_IFCHR)?;
    }
    if privileged {
        fs::create_dir("/dev/net").map_err(failed("/dev/net"))?;
        for node in PRIVILEGED_NODES {
            make_node(node, SFlag::S_IFCHR)?;
        }
        for minor in 0..LOOPS {
            make_node(&(&format!("loop{minor}"), 7, minor), SFlag::S_IFBLK)?;
        }
    }
    for (name, target) in LINKS {
        symlink(target, format!("/dev/{name}")).map_err(failed(name))?;
    }
    Ok(())
}

fn make_node((name, major, minor): &(&str, u64, u64), kind: SFlag) -> Result<(), Refusal> {
    let path = format!("/dev/{name}");
    let mode = Mode::from_bits_truncate(0o666);
    mknod(path.as_str(), kind, mode, makedev(*major, *minor)).map_err(failed(&path))?;
    // The umask took bits away.
    fs::set_permissions(&path, Permissions::from_mode(0o666)).map_err(failed(&path))
}

/// Makes a terminal, sends its master away and returns the slave; for a
/// container's init it is also the console.
pub(crate) fn open_terminal(socket: &UnixStream, console: bool) -> Result<OwnedFd, Refusal> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = posix_openpt(flags).map_err(failed("open /dev/ptmx"))?;
    grantpt(&master).map_err(failed("grantpt"))?;
    unlockpt(&master).map_err(failed("unlockpt"))?;
    let name = ptsname_r(&master).map_err(failed("ptsname"))?;
    let slave = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags((OFlag::O_NOCTTY | OFlag::O_CLOEXEC).bits())
        .open(&name)
        .map_err(failed(format_args!("open {name}")))?;
    if console {
        File::create("/dev/console").map_err(failed("/dev/console"))?;
        let none: Option<&str> = None;
        mount(
            Some(name.as_str()),
            "/dev/console",
            none,
            MsFlags::MS_BIND,
            none,
        )
        .map_err(failed("/dev/console"))?;
    }
    order::send_terminal(socket, master.as_fd()).map_err(failed("terminal"))?;
    Ok(slave.into())
}
