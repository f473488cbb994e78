//! The second archive: what the bench runs inside the appliance, beside the
//! unchanged image.
//!
//! ```text
//! /bench/busybox            sh, sleep, mount
//! /bench/pod_start          creates a pod and watches it
//! /bench/boot               starts one atoll-vmm as node does
//! /bench/kernel, initramfs  what micro-VMs boot, for boot and for the peer
//! /usr/bin/qemu-system-x86_64, its libraries and firmware: the peer
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use image_build::archive::Tree;
use image_build::libraries;

pub(crate) const QEMU: &str = "/usr/bin/qemu-system-x86_64";
/// What `-M microvm` loads, and the ROM by which a kernel gets in.
const FIRMWARE: &[&str] = &[
    "bios-microvm.bin",
    "qboot.rom",
    "linuxboot_dma.bin",
    "pvh.bin",
];

/// Writes the archive into `directory`; `programs` holds boot and pod_start.
pub(crate) fn write(image: &Path, programs: &Path, directory: &Path) -> Result<PathBuf> {
    let mut tree = Tree::new();
    libraries::add(&mut tree, &[QEMU])?;
    for name in FIRMWARE {
        let path = format!("/usr/share/qemu/{name}");
        tree.file(&path, 0o644, read(Path::new(&path))?)?;
    }
    for (name, source) in [
        ("busybox", PathBuf::from("/bin/busybox")),
        ("boot", programs.join("boot")),
        ("pod_start", programs.join("pod_start")),
        ("kernel", image.join("guest-kernel")),
        ("initramfs", image.join("guest-initramfs")),
    ] {
        tree.file(&format!("/bench/{name}"), 0o755, read(&source)?)?;
    }
    let place = directory.join("bench.cpio");
    fs::write(&place, tree.to_cpio())?;
    Ok(place)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}
