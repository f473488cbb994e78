//! The part of the initramfs that is not ours: modules, firmware, file-system
//! tools, certificates. It changes with the distribution's packages only, so it
//! is compressed once and kept.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::archive::Tree;
use crate::cache::{Cache, Key};
use crate::libraries;
use crate::modules;
use crate::packages;
use crate::progress::say;
use crate::setup;

const RECIPE: &str = "system 2";
const LEVEL: i32 = 19;
const TOOLS: &[&str] = &["/usr/sbin/mkfs.xfs", "/usr/sbin/xfs_repair"];
const CERTIFICATES: &str = "usr/share/ca-certificates/mozilla";
/// Where the package sources carry them (non-free-firmware): CPU microcode.
const MICROCODE: &[(&str, &str, &str)] = &[
    (
        "intel-microcode",
        "intel-ucode",
        "kernel/x86/microcode/GenuineIntel.bin",
    ),
    (
        "amd64-microcode",
        "amd-ucode",
        "kernel/x86/microcode/AuthenticAMD.bin",
    ),
];
/// And what the NIC drivers of the image load.
const FIRMWARE: &[&str] = &["firmware-bnx2", "firmware-bnx2x", "firmware-misc-nonfree"];
/// Mount points and places that `init` fills.
const EMPTY: &[&str] = &[
    "/proc", "/sys", "/dev", "/run", "/tmp", "/var", "/data", "/state",
];
const FILES: &[(&str, &str)] = &[
    (
        "/etc/passwd",
        "root:x:0:0:root:/:/nonexistent\nnobody:x:65534:65534:nobody:/:/nonexistent\n",
    ),
    ("/etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
];

/// What goes under the programs.
pub struct System {
    pub release: String,
    pub kernel: PathBuf,
    /// Early cpio and compressed cpio, in this order.
    pub initramfs: Vec<u8>,
    pub modules: usize,
    /// Lines for the builder: what was left out and why.
    pub notes: Vec<String>,
}

/// Fetches the packages and makes the archive, or takes it from the cache.
pub fn build(cache: &Cache) -> Result<System> {
    let meta = setup::kernel_package(setup::supported()?);
    let package = packages::dependency(meta, "linux-image-6.12.")?;
    let contents = packages::unpacked(cache, &package)?;
    let release = modules::release(&contents)?;
    let optional = Optional::look(cache)?;
    let mut key = Key::new(RECIPE)
        .with(contents.as_os_str().as_encoded_bytes())
        .with(modules::recipe().as_bytes());
    for (name, version) in packages::installed(&["xfsprogs", "libc6", "ca-certificates"])? {
        key = key.with(name.as_bytes()).with(version.as_bytes());
    }
    for (_, path) in optional.found.iter() {
        key = key.with(path.as_os_str().as_encoded_bytes());
    }
    let entry = cache.entry("system", key, |draft| {
        make(cache, &contents, &release, &optional, draft)
    })?;
    let count = fs::read_to_string(entry.join("modules"))?;
    Ok(System {
        kernel: contents.join(format!("boot/vmlinuz-{release}")),
        initramfs: fs::read(entry.join("initramfs"))?,
        modules: count.trim().parse().context("cached module count")?,
        notes: optional.absent,
        release,
    })
}

fn make(
    cache: &Cache,
    contents: &Path,
    release: &str,
    optional: &Optional,
    draft: &Path,
) -> Result<()> {
    say(format!("packing modules and tools of {release}"));
    let mut tree = Tree::new();
    let shipped = modules::add(cache, &mut tree, contents, release)?;
    libraries::add(&mut tree, TOOLS)?;
    tree.file(
        "/etc/ssl/certs/ca-certificates.crt",
        0o644,
        certificates(Path::new("/"))?,
    )?;
    for directory in EMPTY {
        tree.directory(directory)?;
    }
    for (path, text) in FILES {
        tree.file(path, 0o644, text.as_bytes().to_vec())?;
    }
    tree.link("/etc/resolv.conf", "/run/atoll/resolv.conf")?;
    tree.device("/dev/console", 5, 1)?;
    tree.device("/dev/null", 1, 3)?;
    optional.add_firmware(&mut tree, &shipped.firmware)?;
    let mut initramfs = optional.early_archive()?;
    initramfs.extend(compress(&tree.to_cpio(), LEVEL)?);
    fs::write(draft.join("initramfs"), initramfs)?;
    Ok(fs::write(draft.join("modules"), shipped.count.to_string())?)
}

/// zstd, padded to 4 bytes as the kernel wants between archives.
pub fn compress(cpio: &[u8], level: i32) -> Result<Vec<u8>> {
    let mut bytes = zstd::bulk::compress(cpio, level)?;
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    Ok(bytes)
}

/// The package's certificates, not this machine's bundle, which may hold more.
fn certificates(root: &Path) -> Result<Vec<u8>> {
    let mut bundle = Vec::new();
    for path in sorted_files(&root.join(CERTIFICATES))? {
        bundle.extend(fs::read(&path)?);
        if bundle.last() != Some(&b'\n') {
            bundle.push(b'\n');
        }
    }
    Ok(bundle)
}

/// The packages that only some package sources carry.
struct Optional {
    found: Vec<(&'static str, PathBuf)>,
    absent: Vec<String>,
}

impl Optional {
    fn look(cache: &Cache) -> Result<Self> {
        let mut all = Self {
            found: Vec::new(),
            absent: Vec::new(),
        };
        let microcode = MICROCODE.iter().map(|(package, _, _)| package);
        let names: Vec<&'static str> = microcode.chain(FIRMWARE).copied().collect();
        let versions = packages::candidates(&names)?;
        for package in names {
            if let Some(version) = versions.get(package) {
                let contents = packages::unpacked_version(cache, package, version)?;
                all.found.push((package, contents));
            } else {
                all.absent
                    .push(format!("{package}: not in the package sources, left out"));
            }
        }
        Ok(all)
    }

    /// Microcode goes first and uncompressed (Documentation/arch/x86/microcode.rst).
    fn early_archive(&self) -> Result<Vec<u8>> {
        let mut tree = Tree::new();
        let mut any = false;
        for (package, directory, place) in MICROCODE {
            let Some((_, contents)) = self.found.iter().find(|(name, _)| name == package) else {
                continue;
            };
            let mut blob = Vec::new();
            for base in ["lib/firmware", "usr/lib/firmware"] {
                let directory = contents.join(base).join(directory);
                if directory.is_dir() {
                    for path in sorted_files(&directory)? {
                        blob.extend(fs::read(path)?);
                    }
                }
            }
            any |= !blob.is_empty();
            tree.file(place, 0o644, blob)?;
        }
        Ok(if any { tree.to_cpio() } else { Vec::new() })
    }

    fn add_firmware(&self, tree: &mut Tree, wanted: &BTreeSet<String>) -> Result<()> {
        for (_, contents) in self
            .found
            .iter()
            .filter(|(name, _)| FIRMWARE.contains(name))
        {
            for (base, name) in ["lib/firmware", "usr/lib/firmware"]
                .iter()
                .flat_map(|base| wanted.iter().map(move |name| (base, name)))
            {
                let path = contents.join(base).join(name);
                if path.is_file() {
                    tree.file(&format!("/lib/firmware/{name}"), 0o644, fs::read(path)?)?;
                }
            }
        }
        Ok(())
    }
}

fn sorted_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let listing = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    let mut paths = listing
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.is_file());
    paths.sort();
    Ok(paths)
}
