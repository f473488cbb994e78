//! Tiny guests: an ELF file around some bytes of 32-bit code, which runs at
//! 1 MiB in protected mode with `ebx` at the PVH start info; and a vmm process
//! to run them. They need `/dev/kvm`, which is what the vmm is about.

use machine_spec::control::{
    Answer, Event, Failure, FromVmm, MESSAGE_MAX, Request, ToVmm, VERSION,
};
use machine_spec::exit::Exit;
use machine_spec::{DiskSpec, FdIndex, MachineId, MachineSpec, MemorySize, Start, Transport};
use rustix::fd::{AsFd, OwnedFd};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::num::NonZeroU8;
use std::process::{Child, Command, Stdio};
use sys::message::{self, Received};

/// Where the code is, and its first byte runs.
const CODE: u32 = 0x10_0000;

/// `out 0x3F8, byte`.
pub(crate) fn print(text: &str) -> Vec<u8> {
    let mut code = vec![0x66, 0xBA, 0xF8, 0x03]; // mov dx, 0x3F8
    for byte in text.bytes() {
        code.extend([0xB0, byte, 0xEE]); // mov al, byte; out dx, al
    }
    code
}

/// Resets by the keyboard controller: `mov al, 0xFE; out 0x64, al`.
pub(crate) const RESET: &[u8] = &[0xB0, 0xFE, 0xE6, 0x64];
/// `mov word [0x472], 0x1234`.
pub(crate) const MARK_PANIC: &[u8] = &[0x66, 0xC7, 0x05, 0x72, 0x04, 0, 0, 0x34, 0x12];
/// `mov dx, 0x3FC; mov al, 4; out dx, al`.
pub(crate) const MARK_POWER_OFF: &[u8] = &[0x66, 0xBA, 0xFC, 0x03, 0xB0, 4, 0xEE];
/// `jmp $`.
pub(crate) const SPIN: &[u8] = &[0xEB, 0xFE];

/// An ELF file with a PVH note for this code.
pub(crate) fn kernel(code: &[u8]) -> File {
    let mut elf = vec![0; 64 + 2 * 56];
    elf[..7].copy_from_slice(&[0x7F, b'E', b'L', b'F', 2, 1, 1]);
    elf[16..18].copy_from_slice(&2_u16.to_le_bytes());
    elf[18..20].copy_from_slice(&62_u16.to_le_bytes());
    elf[32..40].copy_from_slice(&64_u64.to_le_bytes());
    elf[54..56].copy_from_slice(&56_u16.to_le_bytes());
    elf[56..58].copy_from_slice(&2_u16.to_le_bytes());
    let note_at = elf.len();
    for word in [4_u32, 4, 18] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(b"Xen\0");
    elf.extend(CODE.to_le_bytes());
    let code_at = elf.len();
    elf.extend(code);
    let mut header = |at: usize, kind: u32, offset: usize, address: u32, size: usize| {
        elf[at..at + 4].copy_from_slice(&kind.to_le_bytes());
        elf[at + 8..at + 16].copy_from_slice(&(offset as u64).to_le_bytes());
        elf[at + 24..at + 32].copy_from_slice(&u64::from(address).to_le_bytes());
        elf[at + 32..at + 40].copy_from_slice(&(size as u64).to_le_bytes());
        elf[at + 40..at + 48].copy_from_slice(&(size as u64).to_le_bytes());
    };
    header(64, 1, code_at, CODE, code.len());
    header(120, 4, note_at, 0, 20);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&elf).unwrap();
    file
}

/// A running vmm.
pub(crate) struct Vmm {
    pub(crate) child: Child,
    pub(crate) control: OwnedFd,
    transport: Transport,
    /// Of the machine that `start` makes.
    pub(crate) disks: Vec<DiskSpec>,
    serial: File,
    next: u32,
    events: Vec<Event>,
}

impl Vmm {
    /// Starts the executable; nothing is sent yet.
    pub(crate) fn spawn() -> Self {
        let (control, theirs) = message::pair().unwrap();
        let kvm = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/kvm")
            .unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_atoll-vmm"));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = sys::handover::spawn(command, vec![theirs, kvm.into()]).unwrap();
        Self {
            child,
            control,
            transport: Transport::Mmio,
            disks: Vec::new(),
            serial: tempfile::tempfile().unwrap(),
            next: 0,
            events: Vec::new(),
        }
    }

    /// Boots code, on one vCPU with 16 MiB.
    pub(crate) fn boot(code: &[u8]) -> Self {
        Self::boot_with(Transport::Mmio, code)
    }

    pub(crate) fn boot_with(transport: Transport, code: &[u8]) -> Self {
        let mut vmm = Self::spawn();
        vmm.transport = transport;
        vmm.start(
            vec![kernel(code).into()],
            Start::Boot {
                kernel: FdIndex(0),
                initramfs: None,
                cmdline: String::new(),
            },
        );
        vmm
    }

    /// Sends `Start` and expects it to be done.
    pub(crate) fn start(&mut self, mut fds: Vec<OwnedFd>, start: Start) {
        fds.push(self.serial.try_clone().unwrap().into());
        let spec = MachineSpec {
            id: MachineId([1; 16]),
            vcpus: NonZeroU8::MIN,
            memory: MemorySize::from_mib(16).unwrap(),
            transport: self.transport,
            disks: std::mem::take(&mut self.disks),
            cid: 3,
            serial: Some(FdIndex(fds.len() as u8 - 1)),
            start,
        };
        let answer = self.ask(Request::Start(Box::new(spec)), fds);
        assert_eq!(answer, Answer::Done);
    }

    /// Sends a request and waits for its answer.
    pub(crate) fn ask(&mut self, request: Request, fds: Vec<OwnedFd>) -> Answer {
        self.try_ask(request, fds).unwrap()
    }

    pub(crate) fn try_ask(
        &mut self,
        request: Request,
        fds: Vec<OwnedFd>,
    ) -> Result<Answer, Failure> {
        self.next += 1;
        let message = ToVmm {
            version: VERSION,
            id: self.next,
            request,
        };
        let bytes = serde_json::to_vec(&message).unwrap();
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        message::send(&self.control, &bytes, &fds).unwrap();
        loop {
            match self.receive() {
                Some(FromVmm::Reply { id, result }) => {
                    assert_eq!(id, self.next);
                    return result;
                }
                Some(FromVmm::Event(event)) => self.events.push(event),
                None => panic!("the vmm ended: {:?}", self.child.wait()),
            }
        }
    }

    fn receive(&self) -> Option<FromVmm> {
        let mut buffer = vec![0; MESSAGE_MAX];
        match message::receive(&self.control, &mut buffer, true).unwrap() {
            Received::Closed => None,
            Received::Message { length, .. } => {
                Some(serde_json::from_slice(&buffer[..length]).unwrap())
            }
        }
    }

    /// Waits for the end; gives the event, the exit status and serial output.
    pub(crate) fn end(mut self) -> (Option<Exit>, Option<i32>, String) {
        let mut exit = None;
        while let Some(message) = self.receive() {
            if let FromVmm::Event(event) = message {
                self.events.push(event);
            }
        }
        for event in &self.events {
            if let Event::Exited(reason) = event {
                exit = Some(reason.clone());
            }
        }
        let code = self.child.wait().unwrap().code();
        (exit, code, self.output())
    }

    /// What the guest has sent so far.
    pub(crate) fn output(&mut self) -> String {
        let mut bytes = Vec::new();
        self.serial.rewind().unwrap();
        self.serial.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
