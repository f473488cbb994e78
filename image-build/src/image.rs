//! The image: its parts put together and written to `out/PROFILE/`.
//!
//! ```text
//! vmlinuz          the packaged kernel, as signed
//! initramfs.zst    [microcode] system | guest kernel | programs
//! atoll.efi        both in one EFI program
//! test-agent.cpio  appended by tests to the unchanged initramfs
//! guest-kernel, guest-initramfs   what a micro-VM boots, for the bench
//! cmdline          the kernel command line
//! ```
//!
//! `assemble` is a function of its inputs' bytes; `verify` holds it to that.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::archive::Tree;
use crate::cache::{Cache, Key};
use crate::guest_kernel;
use crate::kernel_pack;
use crate::programs::{self, Profile};
use crate::progress::say;
use crate::system::{self, System};
use crate::uki;

const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";
/// A serial console that talks doubles boot time: quiet. Huge pages only where
/// asked for, RCU in a hurry, and memory zeroed once: all three decide how fast a
/// micro-VM starts. (With `init_on_alloc`, this kernel's default, each huge page
/// of a guest is zeroed twice: a start took 154 rather than 120 ms.)
const CMDLINE: &str = "console=tty0 console=ttyS0,115200 quiet panic=10 init_on_alloc=0 \
                       rcupdate.rcu_expedited=1 transparent_hugepage=madvise";

/// One file of `out/PROFILE/`.
pub struct Artifact {
    pub name: &'static str,
    pub bytes: Vec<u8>,
}

/// The inputs, each from its own step.
struct Parts {
    guest_kernel: Vec<u8>,
    guest_initramfs: Vec<u8>,
    system: System,
    host_kernel: Vec<u8>,
    atoll: Vec<u8>,
    vmm: Vec<u8>,
    test_agent: Vec<u8>,
}

/// Builds everything and writes what changed.
pub fn build(root: &Path, profile: Profile) -> Result<()> {
    let cache = Cache::open()?;
    let artifacts = make(&cache, root, profile)?;
    let place = place(root, profile);
    fs::create_dir_all(&place)?;
    for artifact in &artifacts {
        replace(&place.join(artifact.name), &artifact.bytes)?;
    }
    report(&artifacts);
    say(format!("image in {}", place.display()));
    Ok(())
}

/// Puts the parts together once more, with nothing cached but the packages and
/// the guest kernel, and compares bytes with what `build` left.
pub fn verify(root: &Path, profile: Profile) -> Result<()> {
    let fresh = root.join("out/verify");
    let _ = fs::remove_dir_all(&fresh);
    let cache = Cache::open()?.sharing(fresh.clone(), &["package-", "guest-kernel"])?;
    let artifacts = make(&cache, root, profile)?;
    let place = place(root, profile);
    let mut differing = Vec::new();
    for artifact in &artifacts {
        let path = place.join(artifact.name);
        let first = fs::read(&path).with_context(|| path.display().to_string())?;
        if first != artifact.bytes {
            differing.push(artifact.name);
        }
    }
    fs::remove_dir_all(&fresh)?;
    if !differing.is_empty() {
        bail!(
            "a second build of the same inputs differs in: {}",
            differing.join(", ")
        );
    }
    say(format!("two builds agree in {} files", artifacts.len()));
    Ok(())
}

/// The guest's initramfs: one program, uncompressed, since unpacking it is
/// cheaper for a guest than decompressing.
pub fn guest_initramfs(guest_init: Vec<u8>) -> Result<Vec<u8>> {
    let mut tree = Tree::new();
    tree.file("/init", 0o755, guest_init)?;
    tree.device("/dev/console", 5, 1)?;
    for directory in ["/dev", "/proc", "/sys", "/run"] {
        tree.directory(directory)?;
    }
    Ok(tree.to_cpio())
}

fn make(cache: &Cache, root: &Path, profile: Profile) -> Result<Vec<Artifact>> {
    let guest_kernel = guest_kernel::build(cache)?;
    let system = system::build(cache)?;
    for note in &system.notes {
        say(note);
    }
    say(format!(
        "host kernel {}, {} modules",
        system.release, system.modules
    ));
    let programs = programs::build(root, profile)?;
    say("packing");
    let guest_init = programs::stripped(&programs.guest_init)?;
    let parts = Parts {
        guest_kernel: kernel_pack::pack(&fs::read(guest_kernel)?)?,
        guest_initramfs: guest_initramfs(guest_init)?,
        host_kernel: fs::read(&system.kernel)?,
        system,
        atoll: programs::stripped(&programs.atoll)?,
        vmm: programs::stripped(&programs.vmm)?,
        test_agent: programs::stripped(&programs.test_agent)?,
    };
    assemble(cache, parts, profile)
}

fn assemble(cache: &Cache, parts: Parts, profile: Profile) -> Result<Vec<Artifact>> {
    let mut initramfs = parts.system.initramfs;
    initramfs.extend(guest_part(cache, &parts.guest_kernel)?);
    let mut tree = Tree::new();
    tree.file("/init", 0o755, parts.atoll)?;
    tree.file("/usr/bin/atoll-vmm", 0o755, parts.vmm)?;
    tree.file(
        "/usr/share/atoll/guest-initramfs",
        0o644,
        parts.guest_initramfs.clone(),
    )?;
    initramfs.extend(system::compress(&tree.to_cpio(), profile.compression())?);
    let stub = fs::read(STUB).with_context(|| format!("{STUB}: run `image-build setup`"))?;
    let os_release = format!(
        "ID=atoll\nNAME=Atoll\nPRETTY_NAME=\"Atoll {0}\"\nVERSION_ID={0}\n",
        env!("CARGO_PKG_VERSION")
    );
    let uki = uki::assemble(
        &stub,
        &[
            (".osrel", os_release.as_bytes()),
            (".cmdline", CMDLINE.as_bytes()),
            (".uname", parts.system.release.as_bytes()),
            (".initrd", &initramfs),
            (".linux", &parts.host_kernel),
        ],
    )?;
    let mut agent = Tree::new();
    agent.file("/test/agent", 0o755, parts.test_agent)?;
    let artifact = |name, bytes| Artifact { name, bytes };
    Ok(vec![
        artifact("vmlinuz", parts.host_kernel),
        artifact("initramfs.zst", initramfs),
        artifact("atoll.efi", uki),
        artifact("guest-kernel", parts.guest_kernel),
        artifact("guest-initramfs", parts.guest_initramfs),
        artifact("test-agent.cpio", agent.to_cpio()),
        artifact("cmdline", CMDLINE.as_bytes().to_vec()),
    ])
}

/// The guest kernel's part of the initramfs, compressed once.
fn guest_part(cache: &Cache, kernel: &[u8]) -> Result<Vec<u8>> {
    let key = Key::new("guest-part 1").with(kernel);
    let entry = cache.entry("guest-part", key, |draft| {
        let mut tree = Tree::new();
        tree.file("/usr/share/atoll/guest-kernel", 0o644, kernel.to_vec())?;
        let bytes = system::compress(&tree.to_cpio(), Profile::Image.compression())?;
        Ok(fs::write(draft.join("cpio.zst"), bytes)?)
    })?;
    Ok(fs::read(entry.join("cpio.zst"))?)
}

fn place(root: &Path, profile: Profile) -> PathBuf {
    root.join("out").join(profile.name())
}

/// Writes beside and renames, so that a reader sees the old file or the new;
/// equal content keeps its date.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let draft = path.with_extension("draft");
    fs::write(&draft, bytes).with_context(|| draft.display().to_string())?;
    Ok(fs::rename(&draft, path)?)
}

fn report(artifacts: &[Artifact]) {
    println!("{:<18} {:>12}  MiB", "file", "bytes");
    for Artifact { name, bytes } in artifacts {
        let mib = bytes.len() as f64 / f64::from(1 << 20);
        println!("{name:<18} {:>12}  {mib:.1}", bytes.len());
    }
}
