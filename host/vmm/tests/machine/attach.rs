//! A disk comes while the guest runs, in a slot that was empty.

use crate::guest::{MARK_POWER_OFF, RESET, Vmm, print};
use machine_spec::control::{Answer, Request};
use machine_spec::exit::Exit;
use machine_spec::{DiskAccess, DiskId, DiskSpec, FdIndex, Start, Transport};
use rustix::fd::OwnedFd;
use std::io::Write;

/// The slot after vsock, rng and the first disk.
const SLOT: u32 = 0xD000_3000;
// Where the guest has its parts of a queue.
const DESCRIPTORS: u32 = 0x30_0000;
const HEADER: u32 = 0x31_0000;
const DATA: u32 = 0x32_0000;
const STATUS: u32 = 0x33_0000;
const AVAILABLE: u32 = 0x34_0000;
const USED: u32 = 0x35_0000;

/// `mov dword [address], value`.
fn store(address: u32, value: u32) -> Vec<u8> {
    let mut code = vec![0xC7, 0x05];
    code.extend(address.to_le_bytes());
    code.extend(value.to_le_bytes());
    code
}

/// `again: mov eax, [address]; cmp eax, value; jne again`.
fn until(address: u32, value: u32) -> Vec<u8> {
    let mut code = vec![0xA1];
    code.extend(address.to_le_bytes());
    code.push(0x3D);
    code.extend(value.to_le_bytes());
    code.extend([0x75, 0xF4]);
    code
}

/// `mov al, [address]; out 0x3F8, al`.
fn print_at(address: u32) -> Vec<u8> {
    let mut code = vec![0xA0];
    code.extend(address.to_le_bytes());
    code.extend([0x66, 0xBA, 0xF8, 0x03, 0xEE]);
    code
}

/// Waits for a disk in the slot, reads its first sector as a driver does
/// (virtio 1.3, 3.1.1 and 5.2.6), prints its first byte, and powers off.
fn driver() -> Vec<u8> {
    let mut code = print("a");
    code.extend(until(SLOT + 0x08, 2));
    // Status, selected features (VERSION_1), status; then the queue.
    for (register, value) in [
        (0x70, 1),
        (0x70, 3),
        (0x24, 1),
        (0x20, 1),
        (0x24, 0),
        (0x20, 0),
        (0x70, 11),
        (0x30, 0),
        (0x38, 8),
        (0x80, DESCRIPTORS),
        (0x90, AVAILABLE),
        (0xA0, USED),
        (0x44, 1),
        (0x70, 15),
    ] {
        code.extend(store(SLOT + register, value));
    }
    // Flags: 1 another follows, 2 the device writes.
    let chain = [(HEADER, 16, 1, 1), (DATA, 512, 3, 2), (STATUS, 1, 2, 0)];
    for (at, (address, length, flags, next)) in (DESCRIPTORS..).step_by(16).zip(chain) {
        code.extend(store(at, address));
        code.extend(store(at + 8, length));
        code.extend(store(at + 12, flags | next << 16));
    }
    code.extend(store(AVAILABLE, 1 << 16));
    code.extend(store(SLOT + 0x50, 0));
    code.extend(until(USED, 1 << 16));
    code.extend(print_at(DATA));
    code.extend(MARK_POWER_OFF);
    code.extend(RESET);
    code
}

fn disk(id: &str, content: &[u8]) -> (DiskSpec, OwnedFd) {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    file.set_len(1024).unwrap();
    let spec = DiskSpec {
        id: DiskId::new(id).unwrap(),
        file: FdIndex(0),
        access: DiskAccess::Read,
    };
    (spec, file.into())
}

fn boot(code: &[u8], disks: &[&str]) -> Vmm {
    let mut vmm = Vmm::spawn();
    let mut fds = vec![crate::guest::kernel(code).into()];
    for id in disks {
        let (mut spec, file) = disk(id, b"-");
        spec.file = FdIndex(fds.len() as u8);
        fds.push(file);
        vmm.disks.push(spec);
    }
    let start = Start::Boot {
        kernel: FdIndex(0),
        initramfs: None,
        cmdline: String::new(),
    };
    vmm.start(fds, start);
    vmm
}

#[test]
fn a_guest_reads_a_disk_that_came_late() {
    let mut vmm = boot(&driver(), &["first"]);
    let (spec, file) = disk("late", b"late");
    let answer = vmm.ask(Request::AttachDisk(spec), vec![file]);
    assert_eq!(answer, Answer::Done);
    let (exit, _, output) = vmm.end();
    assert_eq!(exit, Some(Exit::PowerOff));
    assert_eq!(output, "al");
}

#[test]
fn what_does_not_fit_is_refused_and_hurts_nobody() {
    let mut vmm = boot(crate::guest::SPIN, &["first"]);
    let refusal = |vmm: &mut Vmm, id: &str| {
        let (spec, file) = disk(id, b"x");
        let failure = vmm.try_ask(Request::AttachDisk(spec), vec![file]);
        failure.err().map(|failure| failure.message)
    };
    // It is there already: no slot is taken.
    assert_eq!(refusal(&mut vmm, "first"), None);
    let (spec, _) = disk("none", b"x");
    assert!(vmm.try_ask(Request::AttachDisk(spec), vec![]).is_err());
    // Sixteen slots, of which three were taken.
    for number in 0..13 {
        assert_eq!(refusal(&mut vmm, &format!("d{number}")), None);
    }
    let full = "disk d13: all slots are taken, or the transport has none";
    assert_eq!(refusal(&mut vmm, "d13").as_deref(), Some(full));
    assert_eq!(vmm.ask(Request::Kill, vec![]), Answer::Done);
    assert_eq!(vmm.end().0, Some(Exit::Killed));
    let mut pci = Vmm::boot_with(Transport::Pci, crate::guest::SPIN);
    assert!(refusal(&mut pci, "d").is_some());
    assert_eq!(pci.ask(Request::Kill, vec![]), Answer::Done);
    pci.end();
}
