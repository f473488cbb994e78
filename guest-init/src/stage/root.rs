//! A container's root: EROFS below, tmpfs or a directory of the scratch disk
//! above, and the kernel's own file systems as the runtime specification for
//! Linux lists them.
//!
//! ```text
//!   enter:   trees of the outer world, overlay, pivot, /etc, kernel's
//!   attach:  /dev/shm, the volumes in their order, single files
//! ```
//!
//! What the container mounts itself takes the place of a default.

use super::target::{self, Kind};
use super::volumes::{self, Tree};
use crate::errors::{failed, invalid};
use crate::order::{Root, Start};
use guest_protocol::{Refusal, SecurityContext};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree, unmount};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// The smallest overlay: a few directories and files must fit.
const OVERLAY_MIN: u64 = 256 << 10;
const SHM: &str = "/dev/shm";
const FILES_SIZE: &str = "mode=755,size=16m";

/// runc's and containerd's defaults.
const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: &[&str] = &[
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

const NONE: Option<&str> = None;

/// What a container will see of the outer world, not yet attached.
pub(crate) struct Trees {
    shm: Option<OwnedFd>,
    volumes: Vec<Tree>,
    message: Option<OwnedFd>,
    files: Vec<(String, OwnedFd)>,
}

/// Mounts the root and makes it `/`; ends with the kernel's file systems.
pub(crate) fn enter(order: &Start) -> Result<Trees, Refusal> {
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(NONE, "/", NONE, private, NONE).map_err(failed("mount / private"))?;
    // Before the outer world is gone.
    let shm = (!order.mounts_at(SHM)).then(|| tree(&order.shm));
    let trees = Trees {
        shm: shm.transpose()?,
        volumes: volumes::trees(order)?,
        message: order.message.as_deref().map(tree).transpose()?,
        files: files(order)?,
    };
    overlay(order)?;
    pivot(&order.scratch.join("root"))?;
    // Before there is a /proc, through which a link could lead elsewhere.
    super::files::write(order)?;
    kernel_file_systems(&order.container.security)?;
    Ok(trees)
}

/// Attaches what `enter` prepared, when the devices are made.
pub(crate) fn attach(order: &Start, trees: Trees) -> Result<(), Refusal> {
    if let Some(shm) = trees.shm {
        attach_at(&shm, SHM)?;
    }
    let mounts = order.container.mounts.iter().zip(&trees.volumes);
    for (index, (mount, tree)) in mounts.enumerate() {
        volumes::attach(index, mount, tree)?;
    }
    if let Some(message) = trees.message {
        let target = &order.container.termination_message_path;
        place_file(Path::new(target), &message)?;
    }
    for (target, file) in trees.files {
        place_file(Path::new(&target), &file)?;
    }
    Ok(())
}

fn overlay(order: &Start) -> Result<(), Refusal> {
    let scratch = &order.scratch;
    let container = &order.container;
    let size = container.overlay_size.max(OVERLAY_MIN);
    let options = format!("mode=755,size={size}");
    tmpfs(scratch, MsFlags::empty(), &options)?;
    for name in ["lower", "root"] {
        fs::create_dir(scratch.join(name)).map_err(failed(name))?;
    }
    let layer = match &order.layer {
        Some(layers) => fresh_layer(layers, container.attempt)?,
        None => scratch.clone(),
    };
    for name in ["upper", "work"] {
        fs::create_dir(layer.join(name)).map_err(failed(name))?;
    }
    let lower = scratch.join("lower");
    mount_image(&container.disk, &order.root, &lower)?;
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.display(),
        layer.join("upper").display(),
        layer.join("work").display()
    );
    mount(
        Some("overlay"),
        &scratch.join("root"),
        Some("overlay"),
        MsFlags::empty(),
        Some(options.as_str()),
    )
    .map_err(failed("mount overlay"))
}

/// The file system of an image's disk.
pub(super) fn mount_image(serial: &str, image: &Root, at: &Path) -> Result<(), Refusal> {
    match image {
        Root::Disk(device) => mount(Some(device), at, Some("erofs"), MsFlags::MS_RDONLY, NONE)
            .map_err(failed(format_args!("mount disk {serial}"))),
        Root::Directory(path) => mount(Some(path), at, NONE, MsFlags::MS_BIND, NONE)
            .map_err(failed(format_args!("bind {}", path.display()))),
    }
}

/// A directory for this attempt alone. What is left of earlier ones goes, as far
/// as it can: what stays takes the container's own space.
fn fresh_layer(layers: &Path, attempt: u32) -> Result<PathBuf, Refusal> {
    for entry in fs::read_dir(layers).into_iter().flatten().flatten() {
        let _ = fs::remove_dir_all(entry.path());
    }
    let layer = layers.join(attempt.to_string());
    fs::create_dir(&layer).map_err(failed("layer"))?;
    Ok(layer)
}

/// The projected files on a read-only tmpfs of their own, not yet attached.
fn files(order: &Start) -> Result<Vec<(String, OwnedFd)>, Refusal> {
    let entries = super::files::over_root(order);
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    let base = &order.scratch;
    tmpfs(base, MsFlags::MS_NOSUID | MsFlags::MS_NODEV, FILES_SIZE)?;
    for (index, entry) in entries.iter().enumerate() {
        let path = base.join(index.to_string());
        fs::write(&path, &entry.content).map_err(failed(format_args!("file {}", entry.path)))?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(entry.mode & 0o7777);
        fs::set_permissions(&path, mode).map_err(failed(format_args!("file {}", entry.path)))?;
    }
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(NONE, base, NONE, flags, Some(FILES_SIZE)).map_err(failed("files read-only"))?;
    let trees = entries
        .iter()
        .enumerate()
        .map(|(index, entry)| Ok((entry.path.clone(), tree(&base.join(index.to_string()))?)))
        .collect();
    umount2(base, MntFlags::MNT_DETACH).map_err(failed("files"))?;
    trees
}

fn tmpfs(at: &Path, flags: MsFlags, options: &str) -> Result<(), Refusal> {
    mount(Some("tmpfs"), at, Some("tmpfs"), flags, Some(options))
        .map_err(failed(format_args!("mount tmpfs on {}", at.display())))
}

fn tree(path: &Path) -> Result<OwnedFd, Refusal> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(CWD, path, flags).map_err(failed(format_args!("open_tree {}", path.display())))
}

fn attach_at(tree: &OwnedFd, target: impl AsRef<Path>) -> Result<(), Refusal> {
    let target = target.as_ref();
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    move_mount(tree, "", CWD, target, flags)
        .map_err(failed(format_args!("mount on {}", target.display())))
}

/// Makes the target if the image lacks it, and puts a file's tree over it.
fn place_file(target: &Path, tree: &OwnedFd) -> Result<(), Refusal> {
    if !target.is_absolute() || target.components().any(|part| part.as_os_str() == "..") {
        return Err(invalid(format!("path {}: not absolute", target.display())));
    }
    let what = || format!("file {}", target.display());
    let place = target::find(target, Kind::File).map_err(failed(what()))?;
    target::mount(tree, &place).map_err(failed(what()))
}

fn pivot(root: &Path) -> Result<(), Refusal> {
    rustix::process::chdir(root).map_err(failed("chdir to the root"))?;
    rustix::process::pivot_root(".", ".").map_err(failed("pivot_root"))?;
    unmount(".", UnmountFlags::DETACH).map_err(failed("detach the old root"))?;
    rustix::process::chdir("/").map_err(failed("chdir /"))
}

fn kernel_file_systems(security: &SecurityContext) -> Result<(), Refusal> {
    let strict = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NODEV;
    let sys = if security.privileged {
        strict
    } else {
        strict | MsFlags::MS_RDONLY
    };
    let dev = MsFlags::MS_NOSUID | MsFlags::MS_STRICTATIME;
    let pts = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let pts_options = "newinstance,ptmxmode=0666,mode=0620,gid=5";
    let table = [
        ("/proc", "proc", strict, None),
        ("/dev", "tmpfs", dev, Some("mode=755,size=64k")),
        ("/dev/pts", "devpts", pts, Some(pts_options)),
        ("/dev/mqueue", "mqueue", strict, None),
        ("/dev/shm", "", MsFlags::empty(), None),
        ("/sys", "sysfs", sys, None),
        ("/sys/fs/cgroup", "cgroup2", sys, None),
    ];
    for (target, kind, flags, options) in table {
        // In sysfs nothing can be made, and what is wanted is there.
        if fs::metadata(target).is_err() {
            fs::create_dir_all(target).map_err(failed(format_args!("mkdir {target}")))?;
        }
        if !kind.is_empty() {
            mount(Some(kind), target, Some(kind), flags, options)
                .map_err(failed(format_args!("mount {kind} on {target}")))?;
        }
    }
    Ok(())
}

/// Masks what runc masks and takes writing away, as the last thing that
/// changes mounts.
pub(crate) fn protect(security: &SecurityContext) -> Result<(), Refusal> {
    if security.read_only_root {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
        mount(NONE, "/", NONE, flags, NONE).map_err(failed("read-only root"))?;
    }
    if security.privileged || security.unmasked_proc {
        return Ok(());
    }
    for path in READ_ONLY.iter().filter(|path| fs::metadata(path).is_ok()) {
        let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
        mount(Some(*path), *path, NONE, bind, NONE).map_err(failed(path))?;
        let flags = MsFlags::MS_REMOUNT
            | MsFlags::MS_BIND
            | MsFlags::MS_RDONLY
            | MsFlags::MS_NOSUID
            | MsFlags::MS_NOEXEC
            | MsFlags::MS_NODEV;
        mount(NONE, *path, NONE, flags, NONE).map_err(failed(path))?;
    }
    for path in MASKED {
        let Ok(metadata) = fs::metadata(path) else {
            continue;
        };
        if metadata.is_dir() {
            tmpfs(Path::new(path), MsFlags::MS_RDONLY, "size=0")?;
        } else {
            let null = Some("/dev/null");
            mount(null, *path, NONE, MsFlags::MS_BIND, NONE).map_err(failed(path))?;
        }
    }
    Ok(())
}
