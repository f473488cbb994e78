//! Which modules of the packaged kernel the image carries, and their index.
//!
//! `LIST` names modules; what they depend on, hard or soft, comes along.
//! The index is depmod's, cut down to what is shipped, so that the image needs
//! no tool to read it: `modules.dep` lists the full closure of each module.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::archive::Tree;
use crate::cache::{Cache, Key};
use crate::command::{self, command};
use crate::progress::say;

/// One line for each use.
const LIST: &[&str] = &[
    // Virtual machines and passthrough.
    "kvm kvm_intel kvm_amd irqbypass vfio vfio_pci vfio_iommu_type1",
    // What QEMU and hypervisors offer.
    "qemu_fw_cfg virtio_blk virtio_net virtio_scsi virtio_rng virtio_balloon virtio_mmio virtio_pmem nd_pmem nd_virtio",
    "vmw_pvscsi vmxnet3 hv_vmbus hv_netvsc hv_storvsc",
    // Buttons, watchdogs, clocks, sensors of the machine.
    "button evdev ptp_kvm iTCO_wdt i6300esb sp5100_tco wdat_wdt softdog ipmi_si ipmi_watchdog tpm_crb efivarfs",
    // Disks.
    "nvme ahci ata_piix sd_mod sr_mod usb_storage uas nbd",
    "megaraid_sas mpt3sas hpsa smartpqi aacraid",
    "dm_mod dm_crypt dm_verity xts aesni_intel",
    // File systems.
    "xfs erofs ext4 overlay vfat isofs nls_cp437 nls_iso8859_1 nls_ascii loop crc32c_generic crc32c_intel",
    // Network.
    "tun vhost_net bonding 8021q macvlan wireguard nf_tables nf_nat nf_conntrack nft_chain_nat nft_ct nft_masq af_packet_diag",
    "e1000 e1000e igb igc ixgbe i40e ice r8169 realtek tg3 bnx2 bnx2x bnxt_en mlx4_en mlx5_core ena gve atlantic qede sfc enic be2net cxgb4",
    // Keyboards and the buses that they hang on.
    "xhci_pci ehci_pci uhci_hcd ohci_pci usbhid hid_generic",
];

/// What the distribution may have built in, left out or renamed.
const OPTIONAL: &[&str] = &[
    "af_packet_diag",
    "crc32c_generic",
    "crc32c_intel",
    "virtio_balloon",
];

/// The index of every module of a kernel, from depmod.
struct Index {
    /// Name to path and the paths that it needs, in depmod's order.
    modules: BTreeMap<String, (String, Vec<String>)>,
    /// Soft dependencies to load before.
    before: BTreeMap<String, Vec<String>>,
    /// Name of what is built into the kernel.
    builtin: BTreeSet<String>,
    aliases: Vec<(String, String)>,
}

/// zstd's, for modules.
const LEVEL: i32 = 19;

/// What was shipped.
pub struct Shipped {
    pub count: usize,
    /// Firmware that the modules ask for, relative to /lib/firmware.
    pub firmware: BTreeSet<String>,
}

/// Adds the modules of `release` below `package` to `tree`.
pub fn add(cache: &Cache, tree: &mut Tree, package: &Path, release: &str) -> Result<Shipped> {
    let index = indexed(cache, package, release)?;
    let chosen = index.closure(LIST, OPTIONAL)?;
    let base = package.join("lib/modules").join(release);
    let place = format!("/lib/modules/{release}");
    let mut firmware = BTreeSet::new();
    for path in &chosen {
        let file = base.join(path);
        let bytes = command::output(command("xz", ["-dc"]).arg(&file))?;
        for name in module_info(&bytes, "firmware") {
            firmware.insert(name);
        }
        let small = zstd::bulk::compress(&bytes, LEVEL)?;
        tree.file(&format!("{place}/{}", shipped(path)), 0o644, small)?;
    }
    let builtin = fs::read(base.join("modules.builtin")).context("modules.builtin")?;
    tree.file(&format!("{place}/modules.builtin"), 0o644, builtin)?;
    for (name, text) in index.cut(&chosen) {
        tree.file(&format!("{place}/{name}"), 0o644, text.into_bytes())?;
    }
    Ok(Shipped {
        count: chosen.len(),
        firmware,
    })
}

/// The inputs of `add` beside the package.
pub fn recipe() -> String {
    format!("zstd {LEVEL}\n{}", LIST.join("\n"))
}

/// Runs depmod over a view of the package (in the cache, since it writes there).
fn indexed(cache: &Cache, package: &Path, release: &str) -> Result<Index> {
    let key = Key::new("depmod 1").with(package.as_os_str().as_encoded_bytes());
    let entry = cache.entry("depmod", key, |draft| {
        say(format!("indexing the modules of {release}"));
        let place = draft.join("lib/modules").join(release);
        fs::create_dir_all(&place)?;
        let base = package.join("lib/modules").join(release);
        std::os::unix::fs::symlink(base.join("kernel"), place.join("kernel"))?;
        for name in [
            "modules.order",
            "modules.builtin",
            "modules.builtin.modinfo",
        ] {
            fs::copy(base.join(name), place.join(name))?;
        }
        command::output(command("depmod", ["-b"]).arg(draft).arg(release))?;
        Ok(())
    })?;
    let place = entry.join("lib/modules").join(release);
    let read = |name: &str| {
        fs::read_to_string(place.join(name)).with_context(|| format!("depmod's {name}"))
    };
    Index::parse(
        &read("modules.dep")?,
        &read("modules.softdep")?,
        &read("modules.builtin")?,
        &read("modules.alias")?,
    )
}

impl Index {
    fn parse(dep: &str, softdep: &str, builtin: &str, alias: &str) -> Result<Self> {
        let mut modules = BTreeMap::new();
        for line in dep.lines() {
            let (path, needs) = line.split_once(':').context("modules.dep")?;
            let needs = needs.split_whitespace().map(str::to_owned).collect();
            modules.insert(name_of(path), (path.to_owned(), needs));
        }
        if modules.is_empty() {
            bail!("depmod found no module");
        }
        let mut before: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in softdep
            .lines()
            .filter_map(|line| line.strip_prefix("softdep "))
        {
            let mut words = line.split_whitespace();
            let name = words.next().unwrap_or_default().replace('-', "_");
            let first = words
                .skip_while(|word| *word != "pre:")
                .skip(1)
                .take_while(|word| *word != "post:");
            let list = before.entry(name).or_default();
            list.extend(first.map(|word| word.replace('-', "_")));
        }
        let aliases = alias
            .lines()
            .filter_map(|line| line.strip_prefix("alias ")?.rsplit_once(' '))
            .map(|(pattern, name)| (pattern.to_owned(), name.to_owned()))
            .collect();
        Ok(Self {
            modules,
            before,
            builtin: builtin.lines().map(name_of).collect(),
            aliases,
        })
    }

    /// The paths of the listed modules and of all that they need.
    fn closure(&self, list: &[&str], optional: &[&str]) -> Result<BTreeSet<String>> {
        let mut open: Vec<(String, bool)> = list
            .iter()
            .flat_map(|line| line.split_whitespace())
            .map(|name| (name.to_owned(), !optional.contains(&name)))
            .collect();
        let mut chosen = BTreeSet::new();
        while let Some((name, required)) = open.pop() {
            let Some((path, needs)) = self.modules.get(&name) else {
                if required && !self.builtin.contains(&name) {
                    bail!("the kernel package has no module {name}");
                }
                continue;
            };
            if !chosen.insert(path.clone()) {
                continue;
            }
            open.extend(needs.iter().map(|path| (name_of(path), true)));
            let soft = self.before.get(&name).into_iter().flatten();
            open.extend(soft.map(|name| (name.clone(), false)));
        }
        Ok(chosen)
    }

    /// The index files of the chosen modules, as they are shipped.
    fn cut(&self, chosen: &BTreeSet<String>) -> [(&'static str, String); 3] {
        let names: BTreeSet<String> = chosen.iter().map(|path| name_of(path)).collect();
        let mut dep = String::new();
        for (path, needs) in self
            .modules
            .values()
            .filter(|(path, _)| chosen.contains(path))
        {
            let needs: String = needs
                .iter()
                .map(|path| format!(" {}", shipped(path)))
                .collect();
            dep.push_str(&format!("{}:{needs}\n", shipped(path)));
        }
        let mut alias = String::new();
        for (pattern, name) in self.aliases.iter().filter(|(_, name)| names.contains(name)) {
            alias.push_str(&format!("alias {pattern} {name}\n"));
        }
        let mut softdep = String::new();
        for (name, list) in self.before.iter().filter(|(name, _)| names.contains(*name)) {
            let there: Vec<&str> = list
                .iter()
                .filter(|name| names.contains(*name))
                .map(String::as_str)
                .collect();
            if !there.is_empty() {
                softdep.push_str(&format!("softdep {name} pre: {}\n", there.join(" ")));
            }
        }
        [
            ("modules.dep", dep),
            ("modules.alias", alias),
            ("modules.softdep", softdep),
        ]
    }
}

/// The values of `key` in a module's `.modinfo`, found by its NUL-separated form.
fn module_info(module: &[u8], key: &str) -> Vec<String> {
    let wanted = format!("{key}=");
    module
        .split(|byte| *byte == 0)
        .filter_map(|field| std::str::from_utf8(field).ok()?.strip_prefix(&wanted))
        .map(str::to_owned)
        .collect()
}

/// `kernel/fs/xfs/xfs.ko.xz` is `xfs`; a dash in a file name is an underscore.
fn name_of(path: &str) -> String {
    let file = plain(path);
    let file = file.rsplit('/').next().unwrap_or(file);
    file.strip_suffix(".ko").unwrap_or(file).replace('-', "_")
}

fn plain(path: &str) -> &str {
    path.strip_suffix(".xz").unwrap_or(path)
}

/// Each on its own: most are never loaded, and what is unpacked of the initramfs
/// is memory. `init` decompresses what it loads; zstd costs it a tenth of xz.
fn shipped(path: &str) -> String {
    format!("{}.zst", plain(path))
}

/// The one kernel release in an unpacked package.
pub fn release(package: &Path) -> Result<String> {
    let modules: PathBuf = package.join("lib/modules");
    let mut names = Vec::new();
    for entry in fs::read_dir(&modules).with_context(|| modules.display().to_string())? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    match &names[..] {
        [name] => Ok(name.clone()),
        _ => bail!("{}: not one kernel release: {names:?}", modules.display()),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn index() -> Index {
        Index::parse(
            "kernel/fs/xfs/xfs.ko.xz: kernel/lib/libcrc32c.ko.xz\n\
             kernel/lib/libcrc32c.ko.xz:\n\
             kernel/crypto/crc32c-generic.ko.xz:\n\
             kernel/net/other.ko.xz:\n",
            "# comment\nsoftdep libcrc32c pre: crc32c-generic absent post: other\n",
            "kernel/fs/built-in.ko\n",
            "# comment\nalias fs-xfs xfs\nalias pci:v*d* other\n",
        )
        .unwrap()
    }

    #[test]
    fn the_closure_follows_hard_and_soft_dependencies() {
        let chosen = index()
            .closure(&["xfs built_in", "missing"], &["missing"])
            .unwrap();
        let wanted = [
            "kernel/crypto/crc32c-generic.ko.xz",
            "kernel/fs/xfs/xfs.ko.xz",
            "kernel/lib/libcrc32c.ko.xz",
        ];
        assert!(chosen.iter().eq(wanted.iter()));
    }

    #[test]
    fn a_listed_module_that_is_nowhere_is_an_error() {
        assert!(index().closure(&["nowhere"], &[]).is_err());
    }

    #[test]
    fn the_index_is_cut_to_what_is_shipped() {
        let index = index();
        let chosen = index.closure(&["xfs"], &[]).unwrap();
        let [(_, dep), (_, alias), (_, softdep)] = index.cut(&chosen);
        assert_eq!(
            dep,
            "kernel/crypto/crc32c-generic.ko.zst:\n\
             kernel/lib/libcrc32c.ko.zst:\n\
             kernel/fs/xfs/xfs.ko.zst: kernel/lib/libcrc32c.ko.zst\n"
        );
        assert_eq!(alias, "alias fs-xfs xfs\n");
        assert_eq!(softdep, "softdep libcrc32c pre: crc32c_generic\n");
    }

    #[test]
    fn firmware_names_are_read_from_modinfo() {
        let bytes = b"\x7fELF\0firmware=a/b.bin\0license=GPL\0firmware=c.fw\0";
        assert_eq!(module_info(bytes, "firmware"), ["a/b.bin", "c.fw"]);
    }
}
