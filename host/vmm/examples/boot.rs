//! Acts as `node` towards one `atoll-vmm`: boots a kernel, shows its serial
//! port, relays standard input and output to a vsock port. For development and
//! measurements; not part of the image.
//!
//! ```text
//! boot VMM KERNEL [--initramfs F] [--disk ID=F[:ro]]... [--memory MIB]
//!      [--cpus N] [--cmdline TEXT] [--pci] [--vsock PORT] [--status SECONDS]
//!      [--mark TEXT]
//! ```
//!
//! With `--mark` it says how long after the first `KVM_RUN` the serial port
//! showed that text.

use machine_spec::control::{
    Answer, Event, FDS_MAX, FromVmm, MESSAGE_MAX, Request, ToVmm, VERSION,
};
use machine_spec::exit::Exit;
use machine_spec::{
    DiskAccess, DiskId, DiskSpec, FdIndex, MachineId, MachineSpec, MemorySize, Start, Transport,
};
use rustix::fd::{AsFd, OwnedFd};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::num::NonZeroU8;
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitCode};
use std::thread;
use sys::message::{self, Received};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

struct Options {
    vmm: String,
    fds: Vec<OwnedFd>,
    spec: MachineSpec,
    vsock: Option<u32>,
    status: Option<u64>,
    marked: Option<(String, OwnedFd)>,
}

fn disk(text: &str) -> Result<(DiskId, File, DiskAccess)> {
    let (id, path) = text.split_once('=').ok_or("a disk is ID=FILE")?;
    let access = match (path.ends_with(":ro"), id) {
        (true, _) => DiskAccess::Read,
        (false, "scratch") => DiskAccess::Scratch,
        (false, _) => DiskAccess::Write,
    };
    let file = OpenOptions::new()
        .read(true)
        .write(access != DiskAccess::Read)
        .open(path.trim_end_matches(":ro"))?;
    Ok((DiskId::new(id)?, file, access))
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options> {
    let mut need = |what: &str| arguments.next().ok_or(format!("{what} is missing"));
    let vmm = need("VMM")?;
    let mut fds: Vec<OwnedFd> = vec![File::open(need("KERNEL")?)?.into()];
    let mut hand = |file: File| {
        fds.push(file.into());
        FdIndex(fds.len() as u8 - 1)
    };
    let (mut initramfs, mut disks, mut cmdline) = (None, Vec::new(), "console=ttyS0".to_owned());
    let (mut memory, mut vcpus, mut vsock, mut status) = (128, 1, None, None);
    let mut mark = None;
    let mut transport = Transport::Mmio;
    while let Ok(name) = need("option") {
        match name.as_str() {
            "--initramfs" => initramfs = Some(hand(File::open(need(&name)?)?)),
            "--disk" => {
                let (id, file, access) = disk(&need(&name)?)?;
                let file = hand(file);
                disks.push(DiskSpec { id, file, access });
            }
            "--memory" => memory = need(&name)?.parse()?,
            "--cpus" => vcpus = need(&name)?.parse()?,
            "--cmdline" => cmdline = need(&name)?,
            "--pci" => transport = Transport::Pci,
            "--vsock" => vsock = Some(need(&name)?.parse()?),
            "--mark" => mark = Some(need(&name)?),
            "--status" => status = Some(need(&name)?.parse()?),
            _ => return Err(format!("unknown option {name}").into()),
        }
    }
    let (serial, marked) = serial(vsock.is_some(), mark)?;
    let serial = Some(hand(serial));
    let spec = MachineSpec {
        id: MachineId([0; 16]),
        vcpus: NonZeroU8::new(vcpus).ok_or("no vCPU")?,
        memory: MemorySize::from_mib(memory)?,
        transport,
        disks,
        cid: 3,
        serial,
        start: Start::Boot {
            kernel: FdIndex(0),
            initramfs,
            cmdline,
        },
    };
    Ok(Options {
        vmm,
        fds,
        spec,
        vsock,
        status,
        marked,
    })
}

/// Where the guest's serial port goes, and what is to be watched for there.
fn serial(vsock: bool, mark: Option<String>) -> Result<(File, Option<(String, OwnedFd)>)> {
    if let Some(text) = mark {
        let (reader, writer) = std::io::pipe()?;
        return Ok((
            File::from(OwnedFd::from(writer)),
            Some((text, reader.into())),
        ));
    }
    // Standard output is the guest's: its serial port, or its vsock port.
    let own = if vsock {
        std::io::stderr().as_fd().try_clone_to_owned()?
    } else {
        std::io::stdout().as_fd().try_clone_to_owned()?
    };
    Ok((File::from(own), None))
}

fn request(control: &OwnedFd, id: u32, request: Request, fds: &[OwnedFd]) -> Result<()> {
    assert!(fds.len() <= FDS_MAX);
    let message = ToVmm {
        version: VERSION,
        id,
        request,
    };
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    Ok(message::send(
        control,
        &serde_json::to_vec(&message)?,
        &fds,
    )?)
}

fn relay(stream: UnixStream) -> Result<()> {
    let mut to_guest = stream.try_clone()?;
    thread::spawn(move || {
        let copied = std::io::copy(&mut std::io::stdin(), &mut to_guest);
        if copied.is_ok() {
            let _ = to_guest.shutdown(std::net::Shutdown::Write);
        }
    });
    let mut from_guest = stream;
    thread::spawn(move || {
        let mut buffer = [0; 65536];
        while let Ok(count @ 1..) = from_guest.read(&mut buffer) {
            let mut out = std::io::stdout();
            if out.write_all(&buffer[..count]).is_err() || out.flush().is_err() {
                return;
            }
        }
        eprintln!("boot: the guest closed the connection");
    });
    Ok(())
}

/// Shows the serial port; gives when the text was there.
fn watch(text: &str, serial: OwnedFd) -> Option<u64> {
    let mut serial = File::from(serial);
    let (mut seen, mut found) = (Vec::new(), None);
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = serial.read(&mut buffer) {
        seen.extend(&buffer[..count]);
        if found.is_none() && seen.windows(text.len()).any(|part| part == text.as_bytes()) {
            found = Some(sys::event::monotonic_ns());
        }
    }
    let _ = std::io::stderr().write_all(&seen);
    found
}

fn run() -> Result<u8> {
    let options = options(std::env::args().skip(1))?;
    let (control, theirs) = message::pair()?;
    let kvm = OpenOptions::new().read(true).write(true).open("/dev/kvm")?;
    let spawned = sys::event::monotonic_ns();
    let mut child = sys::handover::spawn(Command::new(&options.vmm), vec![theirs, kvm.into()])?;
    request(
        &control,
        1,
        Request::Start(Box::new(options.spec)),
        &options.fds,
    )?;
    if let Some(port) = options.vsock {
        connect(&control, port)?;
    }
    if let Some(seconds) = options.status {
        ask_status(control.try_clone()?, seconds);
    }
    drop(options.fds);
    let watcher = options
        .marked
        .map(|(text, serial)| thread::spawn(move || watch(&text, serial)));
    let told = listen(&control, child.id())?;
    let status = child.wait()?;
    let marked = watcher.and_then(|watcher| watcher.join().ok()).flatten();
    told.show(spawned, marked);
    eprintln!("boot: {status}");
    Ok(u8::try_from(status.code().unwrap_or(255)).unwrap_or(255))
}

/// Joins standard input and output to a port of the guest.
fn connect(control: &OwnedFd, port: u32) -> Result<()> {
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let connect = Request::ConnectVsock {
        port,
        stream: FdIndex(0),
    };
    request(control, 2, connect, &[theirs])?;
    relay(ours.into())
}

fn ask_status(control: OwnedFd, seconds: u64) {
    thread::spawn(move || {
        loop {
            thread::sleep(std::time::Duration::from_secs(seconds));
            if request(&control, 3, Request::Status, &[]).is_err() {
                return;
            }
        }
    });
}

/// What the vmm told until its socket closed; nanoseconds of CLOCK_MONOTONIC.
#[derive(Default)]
struct Told {
    /// Its exec and its first `KVM_RUN`.
    started: Option<(u64, u64)>,
    exited: Option<(u64, Exit)>,
}

fn listen(control: &OwnedFd, pid: u32) -> Result<Told> {
    let mut told = Told::default();
    let mut buffer = vec![0; MESSAGE_MAX];
    loop {
        let length = match message::receive(control, &mut buffer, true)? {
            Received::Closed => return Ok(told),
            Received::Message { length, .. } => length,
        };
        let message: FromVmm = serde_json::from_slice(&buffer[..length])?;
        match message {
            FromVmm::Event(Event::Started {
                exec_ns,
                first_run_ns,
            }) => told.started = Some((exec_ns, first_run_ns)),
            FromVmm::Reply {
                result: Ok(Answer::Done),
                ..
            } => {}
            FromVmm::Event(Event::Exited(exit)) => {
                told.exited = Some((sys::event::monotonic_ns(), exit));
            }
            other => eprintln!("boot: {other:?} {}", rss(pid)),
        }
    }
}

impl Told {
    fn show(self, spawned: u64, marked: Option<u64>) {
        let Some((exec_ns, first_run_ns)) = self.started else {
            return;
        };
        eprintln!(
            "boot: spawn to main {} us, main to first KVM_RUN {} us",
            (exec_ns - spawned) / 1000,
            (first_run_ns - exec_ns) / 1000
        );
        if let Some((time, exit)) = self.exited {
            let run = time.saturating_sub(first_run_ns) / 1000;
            eprintln!("boot: {exit:?} {run} us after the first KVM_RUN");
        }
        if let Some(marked) = marked {
            let after = |from: u64| marked.saturating_sub(from) / 1000;
            eprintln!(
                "boot: mark {} us after spawn, {} us after the first KVM_RUN",
                after(spawned),
                after(first_run_ns)
            );
        }
    }
}

fn rss(pid: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let wanted = ["VmRSS", "RssAnon", "RssFile"];
    let lines = status
        .lines()
        .filter(|line| wanted.iter().any(|name| line.starts_with(name)));
    lines.collect::<Vec<_>>().join(" ")
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("boot: {error}");
            ExitCode::from(2)
        }
    }
}
