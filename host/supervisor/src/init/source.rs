//! Where the machine config comes from, first found first taken:
//!
//! 1. `atoll.config=` on the kernel command line, base64 of the YAML
//! 2. QEMU's fw_cfg item `opt/atoll/config`
//! 3. `machine.yaml` on a file system labelled `ATOLL-CONFIG` (`ATOLLCONFIG` on
//!    vfat, whose labels have 11 characters), mounted read-only
//! 4. the copy that an earlier boot saved on STATE
//!
//! Opens and passes on; nothing is read here but the command line.

use super::disks;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use sys::mount::{Access, Mount};

const FW_CFG: &str = "/sys/firmware/qemu_fw_cfg/by_name/opt/atoll/config/raw";
const VOLUME: &str = "/run/atoll/config-volume";
const LABELS: [&str; 2] = ["ATOLL-CONFIG", "ATOLLCONFIG"];
/// The longest machine config.
const CONFIG_MAX: u64 = 1 << 20;
/// Relative to STATE.
const SAVED: &str = "config/machine.yaml";

/// What the child reads as its standard input.
pub(super) struct Source {
    pub(super) name: String,
    pub(super) file: File,
    pub(super) base64: bool,
    /// Not the saved copy itself.
    pub(super) fresh: bool,
    mounted: bool,
}

impl Source {
    fn of_file(name: &str, file: File) -> Self {
        Self {
            name: name.to_owned(),
            file,
            base64: false,
            fresh: true,
            mounted: false,
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if self.mounted {
            // Its file is open until the fields are dropped.
            drop(sys::mount::detach(VOLUME));
        }
    }
}

/// Looks in the first three places.
pub(super) fn find() -> Option<Source> {
    from_command_line()
        .or_else(from_fw_cfg)
        .or_else(from_volume)
}

/// Looks for the copy on STATE.
pub(super) fn saved(state: &str) -> Option<Source> {
    let file = open(&format!("{state}/{SAVED}")).ok()?;
    let mut source = Source::of_file("the copy on STATE", file);
    source.fresh = false;
    Some(source)
}

/// Keeps a copy on STATE, so that the machine remembers when the source is gone.
/// What the command line says is not kept.
pub(super) fn save(source: &Source, state: &str) -> io::Result<()> {
    if !source.fresh || source.base64 {
        return Ok(());
    }
    let path = format!("{state}/{SAVED}");
    let temporary = format!("{path}.new");
    let mut input = &source.file;
    io::Seek::rewind(&mut input)?;
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut output = options.open(&temporary)?;
    io::copy(&mut input.take(CONFIG_MAX), &mut output)?;
    output.sync_all()?;
    std::fs::rename(temporary, path)
}

/// The value of a word of the kernel command line.
pub(super) fn kernel_parameter(name: &str) -> Option<String> {
    let line = std::fs::read_to_string("/proc/cmdline").ok()?;
    let mut words = line.split_ascii_whitespace();
    let value = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.to_owned())
}

fn from_command_line() -> Option<Source> {
    let value = kernel_parameter("atoll.config")?;
    let file = in_memory(value.as_bytes())
        .inspect_err(|error| log::error!("machine config of the command line: {error}"))
        .ok()?;
    let mut source = Source::of_file("the kernel command line", file);
    source.base64 = true;
    Some(source)
}

/// An anonymous file for the child to read.
fn in_memory(bytes: &[u8]) -> io::Result<File> {
    let path = "/run/atoll/config/command-line";
    let mut options = File::options();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600);
    let mut file = options.open(path)?;
    std::fs::remove_file(path)?;
    file.write_all(bytes)?;
    io::Seek::rewind(&mut file)?;
    Ok(file)
}

fn from_fw_cfg() -> Option<Source> {
    let file = open(FW_CFG).ok()?;
    Some(Source::of_file("fw_cfg opt/atoll/config", file))
}

fn from_volume() -> Option<Source> {
    let (device, kind) = disks::scan().into_iter().find_map(|device| {
        let kind = LABELS.iter().find_map(|label| device.file_system(label))?;
        Some((device, kind))
    })?;
    let opened = open_volume(&device.path(), kind.kind());
    match opened {
        Ok(file) => {
            let mut source = Source::of_file(&format!("volume {}", device.path()), file);
            source.mounted = true;
            Some(source)
        }
        Err(error) => {
            log::error!("config volume {}: {error}", device.path());
            None
        }
    }
}

fn open_volume(device: &str, kind: &str) -> io::Result<File> {
    std::fs::create_dir_all(VOLUME)?;
    let mount = Mount {
        source: device,
        target: VOLUME,
        kind,
        options: "",
        access: Access::ReadOnlyData,
    };
    mount.mount().map_err(io::Error::other)?;
    open(&format!("{VOLUME}/machine.yaml")).inspect_err(|_| {
        drop(sys::mount::detach(VOLUME));
    })
}

fn open(path: &str) -> io::Result<File> {
    File::options().read(true).custom_flags(NOFOLLOW).open(path)
}

/// `O_NOFOLLOW` of x86-64 (`asm-generic/fcntl.h`).
const NOFOLLOW: i32 = 0o400_000;
