//! STATE and DATA: found, formatted if the config says so and the disk is empty,
//! mounted; in memory if there is no disk for them.

use super::descriptor::{Decision, Disk, Locator};
use super::disks::{self, BlockDevice, FileSystem};
use super::role;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, chown};
use sys::mount::{Access, Mount};
use sys::process::{Program, Spawn};

pub(super) const STATE: &str = "/var/lib/atoll/state";
pub(super) const DATA: &str = "/var/lib/atoll/data";
const MKFS: &std::ffi::CStr = c"/usr/sbin/mkfs.xfs";

/// What became of one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Disk(String),
    Memory,
}

/// The wanted disk's state, as far as formatting is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Mount,
    FormatThenMount,
    Refuse(&'static str),
}

/// Pure: never format what isn't empty, or what nobody allowed.
fn decide(file_system: Option<FileSystem>, empty: bool, format: bool) -> Step {
    match (file_system, empty, format) {
        (Some(FileSystem::Xfs), _, _) => Step::Mount,
        (Some(_), _, _) => Step::Refuse("it holds another file system than XFS"),
        (None, true, true) => Step::FormatThenMount,
        (None, true, false) => Step::Refuse("it is empty, and `format: true` is not set"),
        (None, false, _) => Step::Refuse("it holds something else, and is not touched"),
    }
}

/// Mounts STATE and DATA and makes their directories.
pub(super) fn mount_all(decision: &Decision, log: &super::pipes::Pipe) -> (Place, Place) {
    let state = mount_one("STATE", STATE, &decision.state, log);
    let data = mount_one("DATA", DATA, &decision.data, log);
    let directories = [
        (format!("{STATE}/config"), 0),
        (format!("{STATE}/control"), role::CONTROL.uid),
        (format!("{STATE}/node"), role::NODE.uid),
        (format!("{STATE}/fabric"), role::FABRIC.uid),
        (format!("{DATA}/node"), role::NODE.uid),
    ];
    for (path, uid) in directories {
        if let Err(error) = private_directory(&path, uid) {
            log::error!("{path}: {error}");
        }
    }
    (state, data)
}

/// Mounts a labelled STATE before the config is known, to look for its copy.
pub(super) fn mount_labelled_state() -> bool {
    let wanted = Decision::default().state;
    find(&wanted.locator).is_some_and(|device| {
        device.any_file_system() == Some(FileSystem::Xfs) && mount_xfs(&device, STATE).is_ok()
    })
}

fn mount_one(name: &str, target: &str, disk: &Disk, log: &super::pipes::Pipe) -> Place {
    if let Some(device) = mounted_device(target) {
        return Place::Disk(device);
    }
    let Some(device) = find(&disk.locator) else {
        if disk.locator != Locator::Memory && disk.locator != default_locator(name) {
            log::error!("{name}: no disk is {:?}", disk.locator);
        }
        return in_memory(name, target);
    };
    match use_device(name, target, &device, disk.format, log) {
        Ok(()) => {
            log::info!("{name} is {}", device.path());
            Place::Disk(device.path())
        }
        Err(error) => {
            log::error!("{name}: {}: {error}", device.path());
            in_memory(name, target)
        }
    }
}

fn default_locator(name: &str) -> Locator {
    Locator::Label(format!("ATOLL-{name}"))
}

fn use_device(
    name: &str,
    target: &str,
    device: &BlockDevice,
    format: bool,
    log: &super::pipes::Pipe,
) -> io::Result<()> {
    let step = decide(device.any_file_system(), device.is_empty()?, format);
    match step {
        Step::Mount => {}
        Step::FormatThenMount => make_file_system(name, device, log)?,
        Step::Refuse(why) => return Err(io::Error::other(why)),
    }
    mount_xfs(device, target)
}

fn mount_xfs(device: &BlockDevice, target: &str) -> io::Result<()> {
    std::fs::create_dir_all(target)?;
    let mount = Mount {
        source: &device.path(),
        target,
        kind: "xfs",
        options: "",
        access: Access::Data,
    };
    mount.mount().map_err(io::Error::other)
}

fn in_memory(name: &str, target: &str) -> Place {
    log::warn!("{name} is in memory: what it holds ends with this boot");
    drop(std::fs::create_dir_all(target));
    let mount = Mount {
        source: "tmpfs",
        target,
        kind: "tmpfs",
        options: "mode=0755,size=40%",
        access: Access::Data,
    };
    if let Err(error) = mount.mount() {
        log::error!("{error}");
    }
    Place::Memory
}

fn find(locator: &Locator) -> Option<BlockDevice> {
    disks::scan().into_iter().find(|device| device.is(locator))
}

fn make_file_system(name: &str, device: &BlockDevice, log: &super::pipes::Pipe) -> io::Result<()> {
    log::info!("{name}: formatting the empty disk {}", device.path());
    let null = std::fs::File::open("/dev/null")?;
    let label = format!("ATOLL-{name}");
    let path = device.path();
    let arguments = role::strings(&["mkfs.xfs", "-q", "-m", "reflink=1", "-L", &label, &path])?;
    let child = Spawn {
        program: Program::Path(MKFS),
        arguments: &arguments,
        environment: &[],
        descriptors: &[null.as_fd(), log.writer(), log.writer()],
        namespaces: &[],
        cgroup: None,
        oom_score_adj: None,
        rlimits: &[],
        credentials: None,
        no_new_privs: true,
    };
    let child = child.spawn().map_err(io::Error::other)?;
    match sys::process::wait(child.pid)? {
        0 => Ok(()),
        status => Err(io::Error::other(format!(
            "mkfs.xfs: {}",
            sys::process::describe_status(status)
        ))),
    }
}

fn mounted_device(target: &str) -> Option<String> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let device = fields.next()?;
        (fields.next()? == target).then(|| device.to_owned())
    })
}

fn private_directory(path: &str, uid: u32) -> io::Result<()> {
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    chown(path, Some(uid), Some(uid))
}

/// Unmounts both, or makes them read-only where that fails.
pub(super) fn unmount_all() {
    for target in [DATA, STATE] {
        if sys::mount::unmount(target).is_ok() {
            continue;
        }
        if let Err(error) = sys::mount::remount_read_only(target) {
            log::warn!("{target} stays mounted: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_empty_disk_is_formatted_and_only_when_told() {
        for (file_system, empty, format, formats) in [
            (None, true, true, true),
            (None, true, false, false),
            (None, false, true, false),
            (Some(FileSystem::Xfs), false, true, false),
            (Some(FileSystem::Ext4), false, true, false),
        ] {
            let step = decide(file_system, empty, format);
            assert_eq!(step == Step::FormatThenMount, formats);
        }
        assert_eq!(decide(Some(FileSystem::Xfs), false, false), Step::Mount);
    }
}
