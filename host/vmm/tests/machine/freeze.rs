//! A running guest is frozen, thawed by another process, and goes on where it
//! was.

use crate::guest::{MARK_POWER_OFF, RESET, Vmm, print};
use machine_spec::control::{Answer, Request};
use machine_spec::exit::Exit;
use machine_spec::{FdIndex, Start};
use rustix::fd::OwnedFd;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, Instant};

/// Where the guest looks for its order to go on.
const FLAG: u64 = 0x20_0000;

/// Prints "a", keeps values in registers and memory, waits for the flag, prints
/// what it kept and "b", and powers off.
fn code() -> Vec<u8> {
    let mut code = print("a");
    code.extend([0xBE, b'x', 0, 0, 0]); // mov esi, 'x'
    code.extend([0xC6, 0x05, 0, 0, 0x30, 0, b'y']); // mov byte [0x300000], 'y'
    // again: cmp byte [FLAG], 1; jne again
    code.extend([0x80, 0x3D, 0, 0, 0x20, 0, 1, 0x75, 0xF7]);
    code.extend([0x89, 0xF0, 0x66, 0xBA, 0xF8, 0x03, 0xEE]); // eax = esi, out
    code.extend([0xA0, 0, 0, 0x30, 0, 0xEE]); // al = [0x300000], out
    code.extend(print("b"));
    code.extend(MARK_POWER_OFF);
    code.extend(RESET);
    code
}

fn frozen() -> (File, File) {
    let mut vmm = Vmm::boot(&code());
    let deadline = Instant::now() + Duration::from_secs(20);
    while vmm.output() != "a" {
        assert!(Instant::now() < deadline, "the guest says nothing");
        std::thread::yield_now();
    }
    assert_eq!(vmm.ask(Request::Pause, vec![]), Answer::Done);
    let state = tempfile::tempfile().unwrap();
    let memory = tempfile::tempfile().unwrap();
    let fds: Vec<OwnedFd> = vec![
        state.try_clone().unwrap().into(),
        memory.try_clone().unwrap().into(),
    ];
    let freeze = Request::Freeze {
        state: FdIndex(0),
        memory: FdIndex(1),
    };
    assert_eq!(vmm.ask(freeze, fds), Answer::Done);
    assert_eq!(vmm.ask(Request::Kill, vec![]), Answer::Done);
    assert_eq!(vmm.end().0, Some(Exit::Killed));
    (state, memory)
}

#[test]
fn a_frozen_guest_goes_on_where_it_was() {
    let (state, memory) = frozen();
    let metadata = memory.metadata().unwrap();
    assert_eq!(metadata.len(), 16 << 20);
    assert!(metadata.blocks() * 512 < 1 << 20, "{}", metadata.blocks());
    memory.write_all_at(&[1], FLAG).unwrap();
    // Twice, because a thaw must leave the files as they were.
    for _ in 0..2 {
        let mut vmm = Vmm::spawn();
        let handed = |file: &File| {
            let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file));
            OwnedFd::from(File::open(path).unwrap())
        };
        let thaw = Start::Thaw {
            state: FdIndex(0),
            memory: FdIndex(1),
        };
        vmm.start(vec![handed(&state), handed(&memory)], thaw);
        let (exit, _, output) = vmm.end();
        assert_eq!(exit, Some(Exit::PowerOff));
        assert_eq!(output, "xyb");
    }
}

#[test]
fn damaged_states_are_refused() {
    let (state, _) = frozen();
    let mut bytes = vec![0; state.metadata().unwrap().len() as usize];
    state.read_exact_at(&mut bytes, 0).unwrap();
    let read = |bytes: &[u8]| vmm::state::Frozen::read(&mut &*bytes);
    assert!(read(&bytes).is_ok());
    let mut seed = 1_u64;
    let mut roll = |limit: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as usize % limit
    };
    for round in 0..fuzzing::rounds(2000) {
        let mut damaged = bytes.clone();
        match round % 3 {
            0 => damaged.truncate(roll(bytes.len())),
            1 => {
                let at = roll(bytes.len());
                // Bytes 12 to 15 mean nothing yet.
                damaged[if (12..16).contains(&at) { 0 } else { at }] ^= 1 << roll(8);
            }
            // A checksum that fits: only the body's own shape protects now.
            _ => {
                let at = 28 + roll(bytes.len() - 28);
                damaged[at] = roll(256) as u8;
                let sum = crc32(&damaged[28..]);
                damaged[24..28].copy_from_slice(&sum.to_le_bytes());
                let _ = read(&damaged);
                continue;
            }
        }
        assert!(read(&damaged).is_err(), "round {round}");
    }
}

/// IEEE 802.3, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    })
}
