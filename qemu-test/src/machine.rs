//! One QEMU that boots the image, unchanged, directly by kernel and initramfs.
//!
//! A machine's directory holds its disks, sockets, configuration and logs; QEMU
//! runs in it, so that socket paths stay short. Console output is in `LOG`, and
//! on the socket `CONSOLE` for who attaches.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result};
use image_build::qemu;

use crate::agent::Agent;
use crate::memory;
use crate::process::{Bond, Process};
use crate::qmp::Qmp;

/// Of the package ovmf: UEFI without Secure Boot's keys.
const OVMF: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const OVMF_VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// The files that `image-build` leaves in out/PROFILE.
#[derive(Clone, Debug)]
pub struct Image(pub PathBuf);

impl Image {
    /// # Errors
    /// That there is none of this name.
    pub fn file(&self, name: &str) -> Result<PathBuf> {
        let path = self.0.join(name);
        path.canonicalize()
            .with_context(|| format!("{}: is the image built?", path.display()))
    }
}

/// A disk of the machine.
#[derive(Clone, Debug)]
pub enum Disk {
    /// A sparse raw file in the machine's directory, kept when it exists.
    File { serial: &'static str, bytes: u64 },
    /// A block device of the harness, by its unix socket.
    Nbd {
        serial: &'static str,
        socket: PathBuf,
    },
}

/// How the image is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// Kernel and initramfs by QEMU, with more words for the command line.
    Direct(String),
    /// By OVMF, from the first disk that it can boot.
    Firmware,
}

/// What to boot.
#[derive(Clone, Debug)]
pub struct Plan {
    pub image: Image,
    pub directory: PathBuf,
    pub start: Start,
    /// The machine config as the fw_cfg item, YAML.
    pub config: Option<String>,
    /// Forwarded from this machine's loopback to the API.
    pub api_port: u16,
    /// The address that is forwarded to, where DHCP doesn't decide it.
    pub address: Option<Ipv4Addr>,
    pub disks: Vec<Disk>,
    pub memory_mib: u32,
    /// Appends the test agent.
    pub agent: bool,
    pub bond: Bond,
    pub clock: Clock,
    /// An archive (cpio) that is unpacked after the image's own.
    pub beside: Option<PathBuf>,
}

/// What the machine's clock counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Time; two vCPUs.
    Time,
    /// Instructions, each a nanosecond; one vCPU. Idle sleeps are skipped.
    Instructions,
}

pub struct Machine {
    process: Process,
    directory: PathBuf,
    qmp: Qmp,
    /// Why QEMU ended, once it was asked.
    reason: Option<String>,
    /// Where this boot begins in the log of the console, in bytes.
    begins: usize,
}

impl Machine {
    pub const LOG: &str = "console.log";
    pub const CONSOLE: &str = "console.sock";
    const QEMU_LOG: &str = "qemu.log";
    /// What QEMU notes when a processor resets, and of a triple fault.
    const RESETS: &str = "resets.log";

    pub fn boot(plan: &Plan) -> Result<Self> {
        let directory = plan.directory.clone();
        fs::create_dir_all(&directory)?;
        if let Some(config) = &plan.config {
            fs::write(directory.join("config.yaml"), config)?;
        }
        for socket in [Self::CONSOLE, Qmp::SOCKET, Agent::SOCKET] {
            let _ = fs::remove_file(directory.join(socket));
        }
        let begins = fs::read(directory.join(Self::LOG)).map_or(0, |bytes| bytes.len());
        let arguments = arguments(plan)?;
        let log = directory.join(Self::QEMU_LOG);
        let program = qemu::program()?;
        let process = Process::start(&program, arguments, &directory, &log, plan.bond)?;
        let qmp = Qmp::connect(&directory)
            .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
        Ok(Self {
            process,
            directory,
            qmp,
            reason: None,
            begins,
        })
    }

    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether `init` has said anything in this boot.
    #[must_use]
    pub fn spoke(&self) -> bool {
        self.of_this_boot().contains("init info")
    }

    fn of_this_boot(&self) -> String {
        let bytes = fs::read(self.directory.join(Self::LOG)).unwrap_or_default();
        let said = bytes.get(self.begins..).unwrap_or_default();
        String::from_utf8_lossy(said).into_owned()
    }

    /// Everything that the console said, of all boots in this directory.
    #[must_use]
    pub fn console(&self) -> String {
        let bytes = fs::read(self.directory.join(Self::LOG)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\r', "")
    }

    /// How much was said in this boot, in bytes.
    #[must_use]
    pub fn said(&self) -> usize {
        self.of_this_boot().len()
    }

    /// Whether a kernel died as none on hardware can. The host's in this boot: of a
    /// breakpoint that nobody set (QEMU before 8.1, with several processors, may
    /// run a block of code as it was while the kernel patched it), or reset without
    /// a word, which is a triple fault: each other end is on the console. Or a
    /// guest's, as `GIVEN_TWICE` names it, after so many bytes were `said`.
    #[must_use]
    pub fn died_of_emulation(&mut self, said: usize) -> bool {
        if qemu::virtualizes() {
            return false;
        }
        let all = self.of_this_boot();
        let since = all.get(said..).unwrap_or(&all);
        GIVEN_TWICE.iter().any(|end| since.contains(end))
            || all.contains("Oops: int3: 0000")
            || self.reset_in_silence(&all)
    }

    fn reset_in_silence(&mut self, said: &str) -> bool {
        let reset = self.shutdown_reason().as_deref() == Some("guest-reset");
        reset && death(said).is_none() && !said.contains("reboot: ")
    }

    fn shutdown_reason(&mut self) -> Option<String> {
        if self.reason.is_none() && self.process.ended().ok().flatten().is_some() {
            self.reason = self.qmp.shutdown_reason();
        }
        self.reason.clone()
    }

    /// Presses the power button and waits for the machine to be off.
    pub fn power_off(&mut self, patience: Duration) -> Result<ExitStatus> {
        self.qmp.power_button()?;
        self.process.wait(patience)
    }

    /// Pulls the plug: QEMU is gone at once. What its disks keep is theirs to say.
    pub fn cut(&mut self) -> Result<()> {
        self.process.kill()
    }

    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.process.ended()
    }

    /// If QEMU has ended: its status, and what it or the kernel said of it.
    pub fn obituary(&mut self) -> Option<String> {
        let status = self.ended().ok().flatten()?;
        let said = self.of_this_boot().replace('\r', "");
        let why = last_words(&said).unwrap_or_default();
        let log = fs::read_to_string(self.directory.join(Self::QEMU_LOG)).unwrap_or_default();
        let reason = self.shutdown_reason().unwrap_or_default();
        let fault = if self.triple_fault() {
            ", triple fault"
        } else {
            ""
        };
        let log = log.trim_end();
        Some(format!(
            "QEMU ended: {status}; {reason}{fault}; {why} {log}"
        ))
    }

    fn triple_fault(&self) -> bool {
        let resets = fs::read(self.directory.join(Self::RESETS)).unwrap_or_default();
        String::from_utf8_lossy(&resets).contains("Triple fault")
    }
}

/// What becomes of a guest whose interrupt is given twice (docs/testing.md).
const GIVEN_TWICE: &[&str] = &[
    "a vCPU shut down (triple fault)",
    "BUG: ENTRY_TRAMPOLINE stack guard page was hit",
    "the guest has said nothing for",
];

/// The line of a console that names a kernel's death.
fn death(said: &str) -> Option<&str> {
    const DEATHS: &[&str] = &["Oops: ", "BUG: ", "Kernel panic", "general protection"];
    said.lines()
        .find(|line| DEATHS.iter().any(|death| line.contains(death)))
}

/// The line that names a kernel's death, else the console's last one.
fn last_words(said: &str) -> Option<&str> {
    let last = || said.lines().rfind(|line| !line.trim().is_empty());
    death(said).or_else(last)
}

/// Hardware virtualization if there is any.
fn accelerator() -> String {
    if qemu::virtualizes() {
        return "-accel kvm -cpu host".to_owned();
    }
    let translated = translated_mib();
    format!("-accel tcg,thread=multi,tb-size={translated} -cpu max,+svm")
}

/// How much translated code QEMU keeps before it throws away all of it, which
/// hurts guests (docs/testing.md): the most that it can, on a large machine.
fn translated_mib() -> u64 {
    const MOST: u64 = 2047;
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = memory::field(&meminfo, "MemTotal");
    kib.map_or(MOST, |kib| (kib / 1024 / 6).clamp(256, MOST))
}

fn arguments(plan: &Plan) -> Result<Vec<String>> {
    let mut all = Vec::new();
    let mut add = |words: &str| all.extend(words.split_whitespace().map(str::to_owned));
    add("-name atoll -machine q35 -nodefaults -no-user-config -display none -no-reboot");
    let processor = match plan.clock {
        Clock::Time => format!("-smp 2 {}", accelerator()),
        Clock::Instructions => {
            "-smp 1 -accel tcg -icount shift=0,sleep=off -cpu max,+svm".to_owned()
        }
    };
    add(&format!("-m {} {processor}", plan.memory_mib));
    if plan.config.is_some() {
        add("-fw_cfg name=opt/atoll/config,file=config.yaml");
    }
    add(&format!("-qmp unix:{},server=on,wait=off", Qmp::SOCKET));
    add(&format!("-d cpu_reset -D {}", Machine::RESETS));
    let (console, log) = (Machine::CONSOLE, Machine::LOG);
    add(&format!(
        "-chardev socket,id=console,path={console},server=on,wait=off,logfile={log},logappend=on"
    ));
    add("-serial chardev:console -device virtio-net-pci,netdev=net");
    let (port, address) = (plan.api_port, plan.address);
    let address = address.map(|address| address.to_string());
    let address = address.unwrap_or_default();
    add(&format!(
        "-netdev user,id=net,hostfwd=tcp:127.0.0.1:{port}-{address}:6443"
    ));
    add("-object rng-random,id=rng,filename=/dev/urandom -device virtio-rng-pci,rng=rng");
    for disk in &plan.disks {
        let (serial, drive) = drive(&plan.directory, disk)?;
        add(&format!(
            "-drive {drive} -device virtio-blk-pci,drive={serial},serial={serial}"
        ));
    }
    if plan.agent {
        let (socket, name) = (Agent::SOCKET, test_agent::PORT);
        add(&format!(
            "-chardev socket,id=agent,path={socket},server=on,wait=off"
        ));
        add("-device virtio-serial-pci");
        add(&format!("-device virtserialport,chardev=agent,name={name}"));
    }
    match &plan.start {
        Start::Direct(words) => all.extend(direct(plan, words)?),
        Start::Firmware => add(&firmware(&plan.directory)?),
    }
    Ok(all)
}

/// Kernel, initramfs and command line; these may hold spaces.
fn direct(plan: &Plan, words: &str) -> Result<Vec<String>> {
    let mut command_line = fs::read_to_string(plan.image.file("cmdline")?)?;
    if plan.agent {
        command_line.push_str(" atoll.test=1");
    }
    if !words.is_empty() {
        command_line.push(' ');
        command_line.push_str(words);
    }
    let kernel = plan.image.file("vmlinuz")?.display().to_string();
    let initramfs = initramfs(plan)?.display().to_string();
    let pairs = [
        ["-kernel".to_owned(), kernel],
        ["-initrd".to_owned(), initramfs],
        ["-append".to_owned(), command_line],
    ];
    Ok(pairs.into_iter().flatten().collect())
}

/// The firmware and a copy of its variables for this machine.
fn firmware(directory: &Path) -> Result<String> {
    let variables = directory.join("OVMF_VARS.fd");
    fs::copy(OVMF_VARIABLES, &variables).context(OVMF_VARIABLES)?;
    Ok(format!(
        "-drive if=pflash,format=raw,unit=0,readonly=on,file={OVMF} \
         -drive if=pflash,format=raw,unit=1,file=OVMF_VARS.fd"
    ))
}

/// The image's initramfs, with what is appended to it.
fn initramfs(plan: &Plan) -> Result<PathBuf> {
    let whole = plan.image.file("initramfs.zst")?;
    let agent = plan.agent.then(|| plan.image.file("test-agent.cpio"));
    let appended: Vec<PathBuf> = agent
        .into_iter()
        .chain(plan.beside.clone().map(Ok))
        .collect::<Result<_>>()?;
    if appended.is_empty() {
        return Ok(whole);
    }
    let mut bytes = fs::read(&whole)?;
    for archive in appended {
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(fs::read(archive)?);
    }
    let joined = plan.directory.join("initramfs");
    fs::write(&joined, bytes)?;
    Ok(joined)
}

fn drive(directory: &Path, disk: &Disk) -> Result<(&'static str, String)> {
    Ok(match disk {
        Disk::File { serial, bytes } => {
            let name = format!("{serial}.raw");
            let file = fs::File::options()
                .create(true)
                .append(true)
                .open(directory.join(&name))?;
            if file.metadata()?.len() < *bytes {
                file.set_len(*bytes)?;
            }
            let options = "format=raw,discard=unmap,cache=writeback";
            (serial, format!("if=none,id={serial},file={name},{options}"))
        }
        Disk::Nbd { serial, socket } => {
            let path = socket.display();
            let options = format!("file.server.type=unix,file.server.path={path},format=raw");
            let drive = format!("if=none,id={serial},file.driver=nbd,{options},cache=writeback");
            (serial, drive)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_names_the_death() {
        for (said, wanted) in [
            (
                "up\n[1.0] Oops: int3: 0000 [#1]\n[1.1] Kernel panic - not\n",
                Some("[1.0] Oops: int3: 0000 [#1]"),
            ),
            ("up\nworking\n\n", Some("working")),
            ("\n", None),
        ] {
            assert_eq!(last_words(said), wanted);
        }
    }
}
