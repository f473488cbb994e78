//! The file systems of the appliance's root, before any disk.

use sys::mount::{Access, Mount, MountError};

const MOUNTS: [Mount<'_>; 8] = [
    mount("proc", "/proc", "hidepid=0", Access::Data),
    mount("sysfs", "/sys", "", Access::Data),
    mount("devtmpfs", "/dev", "mode=0755", Access::Devices),
    mount(
        "devpts",
        "/dev/pts",
        "mode=0620,ptmxmode=0666",
        Access::Devices,
    ),
    mount("tmpfs", "/dev/shm", "mode=1777,size=16m", Access::Data),
    mount("tmpfs", "/run", "mode=0755,size=10%", Access::Data),
    mount("tmpfs", "/tmp", "mode=1777,size=10%", Access::Data),
    mount(
        "cgroup2",
        "/sys/fs/cgroup",
        "nsdelegate,memory_recursiveprot",
        Access::Data,
    ),
];

/// Directories of `/run`, with modes.
const DIRECTORIES: [(&str, u32); 3] = [
    ("/run/atoll", 0o755),
    ("/run/atoll/config", 0o755),
    ("/run/atoll/log", 0o755),
];

const fn mount<'a>(kind: &'a str, target: &'a str, options: &'a str, access: Access) -> Mount<'a> {
    Mount {
        source: kind,
        target,
        kind,
        options,
        access,
    }
}

/// Mounts everything; gives what failed, because there is no console before.
pub(super) fn mount_all() -> Vec<MountError> {
    let mut failed = Vec::new();
    for mount in MOUNTS {
        drop(std::fs::create_dir_all(mount.target));
        if let Err(error) = mount.mount() {
            failed.push(error);
        }
    }
    for (path, mode) in DIRECTORIES {
        use std::os::unix::fs::DirBuilderExt;
        drop(std::fs::DirBuilder::new().mode(mode).create(path));
    }
    failed
}
