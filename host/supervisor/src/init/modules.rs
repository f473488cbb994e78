//! Kernel modules by alias, from the index files that the image carries.
//!
//! `modules.alias` has `alias PATTERN MODULE`, `modules.dep` has
//! `PATH: DEPENDENCY...` (depmod(8)); both are our own image's and trusted, as
//! are the modules, each compressed by zstd. What the kernel itself misses it
//! asks for by `/proc/sys/kernel/modprobe`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Wanted on every machine, device or not.
const FIXED: [&str; 16] = [
    "virtio_blk",
    "virtio_net",
    "virtio_scsi",
    "sd_mod",
    "crc32c_generic",
    "crc32c_intel",
    "xfs",
    "erofs",
    "overlay",
    "loop",
    "button",
    "evdev",
    "af_packet",
    "nls_cp437",
    "nls_ascii",
    "qemu_fw_cfg",
];

/// The modules of the running kernel.
pub(super) struct Modules {
    root: PathBuf,
    aliases: Vec<(String, String)>,
    /// Path by name, as `modules.dep` has it.
    paths: BTreeMap<String, Entry>,
}

struct Entry {
    path: String,
    needs: Vec<String>,
}

impl Modules {
    /// Reads the index; an image without modules has an empty one.
    pub(super) fn open() -> io::Result<Self> {
        let root = Path::new("/lib/modules").join(sys::machine::kernel_release());
        let read = |name: &str| std::fs::read_to_string(root.join(name));
        Ok(Self::parse(
            &read("modules.alias")?,
            &read("modules.dep")?,
            root.clone(),
        ))
    }

    fn parse(aliases: &str, dependencies: &str, root: PathBuf) -> Self {
        let aliases = aliases
            .lines()
            .filter_map(|line| line.strip_prefix("alias ")?.rsplit_once(' '))
            .map(|(pattern, module)| (pattern.replace('-', "_"), normal(module)))
            .collect();
        let paths = dependencies
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(path, needs)| {
                let needs = needs.split_ascii_whitespace().map(name_of).collect();
                let path = path.to_owned();
                (name_of(&path), Entry { path, needs })
            })
            .collect();
        Self {
            root,
            aliases,
            paths,
        }
    }

    /// Loads the fixed ones and those for each device that is there.
    pub(super) fn load_for_present(&self) {
        for module in FIXED.into_iter().chain(virtualization()) {
            if self.paths.contains_key(module) {
                self.report(module, self.load(module));
            }
        }
        // New buses appear when their controllers' modules are in.
        let mut known = BTreeSet::new();
        loop {
            let fresh: Vec<String> = present_aliases()
                .into_iter()
                .filter(|alias| known.insert(alias.clone()))
                .collect();
            if fresh.is_empty() {
                return;
            }
            for alias in fresh {
                self.load_for_device(&alias);
            }
        }
    }

    /// Loads every module that says it drives such a device.
    pub(super) fn load_for_device(&self, alias: &str) {
        for module in self.matching(alias) {
            self.report(&module, self.load(&module));
        }
    }

    /// Loads by module name or alias.
    pub(super) fn load_alias(&self, name: &str) -> io::Result<()> {
        let plain = normal(name);
        if self.paths.contains_key(&plain) {
            return self.load(&plain);
        }
        let mut result = Err(io::ErrorKind::NotFound.into());
        for module in self.matching(name) {
            result = self.load(&module);
        }
        result
    }

    fn report(&self, module: &str, result: io::Result<()>) {
        match result {
            Ok(()) => {}
            // ENODEV, ENOENT: the module found none of its devices.
            Err(error) if matches!(error.raw_os_error(), Some(2 | 19)) => {}
            Err(error) => log::warn!("module {module}: {error}"),
        }
    }

    fn matching(&self, alias: &str) -> Vec<String> {
        let alias = alias.replace('-', "_");
        let hits = self
            .aliases
            .iter()
            .filter(|(pattern, _)| glob(pattern.as_bytes(), alias.as_bytes()));
        let mut modules: Vec<String> = hits.map(|(_, module)| module.clone()).collect();
        modules.dedup();
        modules
    }

    fn load(&self, module: &str) -> io::Result<()> {
        if is_loaded(module) {
            return Ok(());
        }
        for step in self.order(module) {
            if !is_loaded(&step.name) {
                let image = zstd::decode_all(File::open(self.root.join(step.path))?)?;
                sys::machine::load_module(&image, c"")?;
            }
        }
        Ok(())
    }

    /// What to load, in order; the module itself is last.
    fn order(&self, module: &str) -> Vec<Step<'_>> {
        let Some(entry) = self.paths.get(module) else {
            return Vec::new();
        };
        // depmod lists all dependencies, those of dependencies further right.
        let needs = entry.needs.iter().rev().filter_map(|need| {
            let path = &self.paths.get(need)?.path;
            let name = need.clone();
            Some(Step { name, path })
        });
        let name = module.to_owned();
        let path = &entry.path;
        needs.chain([Step { name, path }]).collect()
    }
}

struct Step<'a> {
    name: String,
    path: &'a str,
}

fn is_loaded(module: &str) -> bool {
    // A built-in module has a directory too, if it has parameters.
    Path::new("/sys/module").join(module).exists()
}

fn normal(name: &str) -> String {
    name.replace('-', "_")
}

/// `kernel/fs/xfs/xfs.ko.zst` is `xfs`.
fn name_of(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    normal(file.split('.').next().unwrap_or(file))
}

/// KVM's module by what the processor says.
fn virtualization() -> Option<&'static str> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let flags = info.lines().find(|line| line.starts_with("flags"))?;
    flags.split_ascii_whitespace().find_map(|flag| match flag {
        "svm" => Some("kvm_amd"),
        "vmx" => Some("kvm_intel"),
        _ => None,
    })
}

fn present_aliases() -> BTreeSet<String> {
    let mut aliases = BTreeSet::new();
    for bus in list("/sys/bus") {
        for device in list(bus.join("devices")) {
            if let Ok(alias) = std::fs::read_to_string(device.join("modalias")) {
                aliases.insert(alias.trim_end().to_owned());
            }
        }
    }
    // The processor's own features have an alias as well.
    aliases
}

fn list(directory: impl AsRef<Path>) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// fnmatch(3) with `*`, `?` and `[...]`, without backtracking over more than
/// the last star.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while t < text.len() {
        match step(pattern.get(p..).unwrap_or_default(), text.get(t).copied()) {
            Some(length) => {
                p += length;
                t += 1;
            }
            None if pattern.get(p) == Some(&b'*') => {
                star = Some((p, t));
                p += 1;
            }
            None => {
                let Some((at, begin)) = star else {
                    return false;
                };
                star = Some((at, begin + 1));
                p = at + 1;
                t = begin + 1;
            }
        }
    }
    pattern
        .get(p..)
        .unwrap_or_default()
        .iter()
        .all(|b| *b == b'*')
}

/// How long the pattern's first element is, if it takes the byte.
fn step(pattern: &[u8], byte: Option<u8>) -> Option<usize> {
    let byte = byte?;
    match pattern {
        [b'?', ..] => Some(1),
        [b'[', rest @ ..] => {
            let end = rest.iter().position(|b| *b == b']')?;
            let class = rest.get(..end)?;
            in_class(class, byte).then_some(end + 2)
        }
        [b'*', ..] | [] => None,
        [first, ..] => (*first == byte).then_some(1),
    }
}

fn in_class(class: &[u8], byte: u8) -> bool {
    match class {
        [low, b'-', high, rest @ ..] => (*low..=*high).contains(&byte) || in_class(rest, byte),
        [one, rest @ ..] => *one == byte || in_class(rest, byte),
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_match_as_fnmatch_does() {
        for (pattern, text, wanted) in [
            ("virtio:d00000002v*", "virtio:d00000002v00001AF4", true),
            ("virtio:d00000002v*", "virtio:d00000001v00001AF4", false),
            ("acpi*:PNP0C0C:*", "acpi:PNP0C0C:", true),
            (
                "pci:v*d*sv*sd*bc01sc06i01*",
                "pci:v00008086d00002922sv0sd0bc01sc06i01",
                true,
            ),
            (
                "pci:v*d*sv*sd*bc01sc06i01*",
                "pci:v00008086d00002922sv0sd0bc01sc08i01",
                false,
            ),
            ("usb:v[0-9]x", "usb:v5x", true),
            ("usb:v[0-9]x", "usb:vax", false),
            ("a?c", "abc", true),
            ("a*b*c", "aXbYbZc", true),
            ("", "", true),
            ("*", "", true),
            ("a", "", false),
            ("[", "x", false),
        ] {
            assert_eq!(
                glob(pattern.as_bytes(), text.as_bytes()),
                wanted,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn dependencies_come_first() {
        let modules = Modules::parse(
            "# comment\nalias fs-xfs xfs\nalias virtio:d00000001v* virtio_net\n",
            "kernel/fs/xfs/xfs.ko.zst: kernel/lib/libcrc32c.ko.zst\nkernel/lib/libcrc32c.ko.zst:\n\
             net/virtio_net.ko: net/net_failover.ko net/failover.ko\nnet/net_failover.ko: net/failover.ko\nnet/failover.ko:\n",
            PathBuf::new(),
        );
        for (module, wanted) in [
            ("xfs", "libcrc32c xfs"),
            ("virtio_net", "failover net_failover virtio_net"),
            ("absent", ""),
        ] {
            let order: Vec<String> = modules.order(module).into_iter().map(|s| s.name).collect();
            assert_eq!(order.join(" "), wanted);
        }
        assert_eq!(modules.matching("fs-xfs"), ["xfs"]);
        assert_eq!(modules.matching("virtio:d00000001v1"), ["virtio_net"]);
    }
}
