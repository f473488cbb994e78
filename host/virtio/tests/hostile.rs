//! Rings, requests, packets and registers as a hostile guest would write them:
//! whatever it does, each device answers or asks for a reset, in bounded time.
//!
//! Seeds are printed when a case fails; they are fixed, so that it fails again.
#![expect(clippy::unwrap_used, reason = "tests")]

mod dice;

use dice::{Dice, MEMORY, Seed};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use sys::event::{EFD_NONBLOCK, EventFd, Poll, monotonic_ns};
use sys::memory::{GuestMemory, Range, Source, map};
use virtio::link::{Inbox, link};
use virtio::rng::Rng;
use virtio::transport::Function;
use virtio::transport::mmio::Slot;
use virtio::vsock::Vsock;
use virtio::{Model, block, rng, vsock};
use vm_memory::{Bytes, GuestAddress};
use volume::{Access, Volume};

fn memory() -> GuestMemory {
    let range = Range {
        start: 0,
        length: MEMORY,
    };
    map(&[range], Source::Anonymous).unwrap()
}

fn slot(model: Model, memory: &GuestMemory, waiting: bool) -> (Slot, Inbox) {
    let (link, inbox) = link(waiting).unwrap();
    let mut slot = Slot::default();
    let line = Arc::new(EventFd::new(EFD_NONBLOCK).unwrap());
    slot.plug(Function::new(model, link, memory.clone()), line);
    (slot, inbox)
}

fn write(slot: &mut Slot, offset: u64, value: u32) {
    slot.write(offset, &value.to_le_bytes());
}

fn read(slot: &Slot, offset: u64) -> u32 {
    let mut bytes = [0; 4];
    slot.read(offset, &mut bytes);
    u32::from_le_bytes(bytes)
}

const NEEDS_RESET: u32 = 64;

/// The ring of queue `index`: descriptors, then available, then used.
const fn ring(index: u64) -> [u64; 3] {
    let base = 0x1_0000 + index * 0x4000;
    [base, base + 0x1000, base + 0x2000]
}

/// Brings a device up as a driver does, with rings of 16 entries.
fn activate(slot: &mut Slot, queues: u32) {
    write(slot, 0x70, 0);
    write(slot, 0x70, 3);
    write(slot, 0x24, 1);
    write(slot, 0x20, 1);
    write(slot, 0x24, 0);
    write(slot, 0x20, 1 << 28);
    write(slot, 0x70, 11);
    assert_eq!(read(slot, 0x70), 11);
    for index in 0..queues {
        write(slot, 0x30, index);
        let size = read(slot, 0x34).min(16);
        write(slot, 0x38, size);
        let [descriptors, available, used] = ring(u64::from(index));
        for (offset, address) in [(0x80, descriptors), (0x90, available), (0xA0, used)] {
            write(slot, offset, address as u32);
            write(slot, offset + 4, 0);
        }
        write(slot, 0x44, 1);
    }
    write(slot, 0x70, 15);
}

/// Fills a ring with chains that may mean something and often do not.
fn scribble(
    dice: &mut Dice,
    memory: &GuestMemory,
    index: u64,
    headers: &dyn Fn(&mut Dice) -> Vec<u8>,
) {
    let [descriptors, available, _] = ring(index);
    let sane = dice.below(4) != 0;
    for entry in 0..16_u64 {
        let at = GuestAddress(descriptors + entry * 16);
        let buffer = 0x4_0000 + entry * 0x1000;
        let (start, length) = if sane {
            (buffer, dice.below(0x1000))
        } else {
            (dice.odd(), dice.odd())
        };
        let flags = if sane {
            u16::from(entry % 3 != 2) | (u16::from(entry % 3 != 0) << 1)
        } else {
            dice.below(8) as u16
        };
        let next = if sane {
            (entry + 1) as u16
        } else {
            dice.below(20) as u16
        };
        memory.write_obj(start, at).unwrap();
        memory
            .write_obj(length as u32, GuestAddress(at.0 + 8))
            .unwrap();
        memory.write_obj(flags, GuestAddress(at.0 + 12)).unwrap();
        memory.write_obj(next, GuestAddress(at.0 + 14)).unwrap();
        let header = headers(dice);
        memory.write_slice(&header, GuestAddress(buffer)).unwrap();
        if sane && entry % 3 == 0 {
            memory
                .write_obj(header.len() as u32, GuestAddress(at.0 + 8))
                .unwrap();
        }
        let head = if sane { entry / 3 * 3 } else { dice.below(18) };
        let slot = GuestAddress(available + 4 + entry * 2);
        memory.write_obj(head as u16, slot).unwrap();
    }
    let count = if sane { 5 } else { dice.odd() as u16 };
    let position: u16 = memory.read_obj(GuestAddress(available + 2)).unwrap();
    let position = position.wrapping_add(count);
    memory
        .write_obj(position, GuestAddress(available + 2))
        .unwrap();
}

fn block_header(dice: &mut Dice) -> Vec<u8> {
    let kinds = [0_u32, 1, 4, 8, 11, 13, 2, 99];
    let kind = kinds[dice.below(8) as usize];
    let sector = if dice.below(2) == 0 {
        dice.below(40)
    } else {
        dice.odd()
    };
    let mut header = kind.to_le_bytes().to_vec();
    header.extend([0; 4]);
    header.extend(sector.to_le_bytes());
    if dice.below(2) == 0 {
        header.extend(dice.below(50).to_le_bytes());
        header.extend((dice.odd() as u32).to_le_bytes());
        header.extend((dice.below(3) as u32).to_le_bytes());
    }
    header
}

fn disk(access: Access, memory: &GuestMemory) -> (Slot, JoinHandle<()>) {
    let file = tempfile::tempfile().unwrap();
    file.set_len(16 << 10).unwrap();
    let volume = Volume::new(file.into(), access).unwrap();
    let (slot, inbox) = slot(block::model(&volume), memory, true);
    let (group, _) = block::Group::new(inbox, memory.clone(), volume, "test");
    (slot, std::thread::spawn(move || group.run()))
}

#[test]
fn disks_survive_their_guests() {
    let mut broken = 0;
    for access in [Access::ReadOnly, Access::ReadWrite, Access::Volatile] {
        let memory = memory();
        let (mut slot, thread) = disk(access, &memory);
        for seed in 1..fuzzing::rounds(400) {
            let _seed = Seed(seed);
            let mut dice = Dice(seed);
            for _ in 0..2 {
                let [_, available, used] = ring(0);
                memory
                    .write_slice(&[0; 64], GuestAddress(available))
                    .unwrap();
                memory.write_slice(&[0; 64], GuestAddress(used)).unwrap();
                activate(&mut slot, 1);
                scribble(&mut dice, &memory, 0, &block_header);
                write(&mut slot, 0x50, 0);
                let broke = quiesce(&mut slot);
                broken += u32::from(broke);
            }
        }
        drop(slot);
        thread.join().unwrap();
    }
    assert!(broken > 10, "only {broken} rings were refused");
}

/// Resets once the device had its turn; whether it asked for that.
fn quiesce(slot: &mut Slot) -> bool {
    let function = slot.function().unwrap();
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    let link = function.link();
    // The notification comes before the pause, so its work does, too.
    link.order(virtio::link::Order::Pause(sender)).unwrap();
    receiver.recv().unwrap();
    link.order(virtio::link::Order::Resume).unwrap();
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    link.order(virtio::link::Order::Pause(sender)).unwrap();
    receiver.recv().unwrap();
    link.order(virtio::link::Order::Resume).unwrap();
    let broke = read(slot, 0x70) & NEEDS_RESET != 0;
    write(slot, 0x70, 0);
    assert_eq!(read(slot, 0x70), 0);
    broke
}

#[test]
fn a_good_request_is_answered() {
    let memory = memory();
    let (mut slot, thread) = disk(Access::ReadWrite, &memory);
    activate(&mut slot, 1);
    let [descriptors, available, used] = ring(0);
    let mut header = 8_u32.to_le_bytes().to_vec();
    header.resize(16, 0);
    memory.write_slice(&header, GuestAddress(0x4_0000)).unwrap();
    for (entry, (start, length, flags)) in [(0x4_0000_u64, 16_u32, 1_u16), (0x4_1000, 21, 2)]
        .into_iter()
        .enumerate()
    {
        let at = descriptors + entry as u64 * 16;
        memory.write_obj(start, GuestAddress(at)).unwrap();
        memory.write_obj(length, GuestAddress(at + 8)).unwrap();
        memory.write_obj(flags, GuestAddress(at + 12)).unwrap();
        memory.write_obj(1_u16, GuestAddress(at + 14)).unwrap();
    }
    memory
        .write_obj(0_u16, GuestAddress(available + 4))
        .unwrap();
    memory
        .write_obj(1_u16, GuestAddress(available + 2))
        .unwrap();
    write(&mut slot, 0x50, 0);
    let deadline = monotonic_ns() + 10_000_000_000;
    while memory.read_obj::<u16>(GuestAddress(used + 2)).unwrap() != 1 {
        assert!(monotonic_ns() < deadline, "no answer");
        std::thread::yield_now();
    }
    let mut answer = [0; 21];
    memory
        .read_slice(&mut answer, GuestAddress(0x4_1000))
        .unwrap();
    assert_eq!(&answer, b"test\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(memory.read_obj::<u32>(GuestAddress(used + 8)).unwrap(), 21);
    drop(slot);
    thread.join().unwrap();
}

fn vsock_header(dice: &mut Dice) -> Vec<u8> {
    let mut header = Vec::new();
    let sane = dice.below(8) != 0;
    let (from, to) = if sane {
        (3, 2)
    } else {
        (dice.odd(), dice.odd())
    };
    header.extend(from.to_le_bytes());
    header.extend(to.to_le_bytes());
    header.extend(1024_u32.to_le_bytes());
    header.extend((0x4000_0000 + dice.below(4) as u32).to_le_bytes());
    let length = if dice.below(4) == 0 {
        dice.odd() as u32
    } else {
        dice.below(0x1000) as u32
    };
    header.extend(length.to_le_bytes());
    header.extend(1_u16.to_le_bytes());
    header.extend((dice.below(9) as u16).to_le_bytes());
    header.extend((dice.below(5) as u32).to_le_bytes());
    header.extend((dice.odd() as u32).to_le_bytes());
    header.extend((dice.odd() as u32).to_le_bytes());
    header.extend([0x55; 64]);
    header
}

#[test]
fn vsock_survives_its_guests() {
    for seed in 1..fuzzing::rounds(600) {
        let _seed = Seed(seed);
        let mut dice = Dice(seed);
        let memory = memory();
        let mut poll = Poll::new(16).unwrap();
        let mut device = Vsock::new(memory.clone(), 3, 1 << 32);
        let (mut slot, inbox) = slot(vsock::model(3), &memory, false);
        let mut ends: Vec<std::os::unix::net::UnixStream> = Vec::new();
        poll.add_event(inbox.wake(), 0).unwrap();
        activate(&mut slot, 3);
        for _ in 0..8 {
            if dice.below(2) == 0 {
                let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
                let theirs = OwnedFd::from(theirs);
                device.connect(&poll, theirs, 1024).unwrap();
                std::io::Write::write_all(&mut &ours, b"from the host").unwrap();
                ends.push(ours);
            }
            if dice.below(4) == 0 {
                ends.pop();
            }
            while let Ok(Some(order)) = inbox.take() {
                device.order(order);
            }
            scribble(&mut dice, &memory, 0, &vsock_header);
            scribble(&mut dice, &memory, 1, &vsock_header);
            // The first order left it readable, and nobody clears it here.
            for event in poll.wait().unwrap() {
                if event.token != 0 {
                    device.stream_ready(event);
                }
            }
            let mut turns = 0;
            while device.serve() {
                turns += 1;
                assert!(turns < 100_000, "endless work");
            }
            device.tick(monotonic_ns() + dice.below(100) * 1_000_000_000);
        }
    }
}

#[test]
fn rng_survives_its_guests() {
    let memory = memory();
    for seed in 1..fuzzing::rounds(600) {
        let _seed = Seed(seed);
        let mut dice = Dice(seed);
        let mut device = Rng::new(memory.clone());
        let (mut slot, inbox) = slot(rng::model(), &memory, false);
        let [_, available, used] = ring(0);
        memory
            .write_slice(&[0; 64], GuestAddress(available))
            .unwrap();
        memory.write_slice(&[0; 64], GuestAddress(used)).unwrap();
        activate(&mut slot, 1);
        while let Ok(Some(order)) = inbox.take() {
            device.order(order);
        }
        scribble(&mut dice, &memory, 0, &|dice| {
            dice.roll().to_le_bytes().to_vec()
        });
        let mut turns = 0;
        while device.serve() {
            turns += 1;
            assert!(turns < 10_000, "endless work");
        }
    }
}

#[test]
fn registers_take_any_access() {
    for seed in 1..fuzzing::rounds(200) {
        let _seed = Seed(seed);
        let mut dice = Dice(seed);
        let memory = memory();
        let (mut slot, thread) = disk(Access::ReadWrite, &memory);
        for _ in 0..300 {
            let offset = match dice.below(3) {
                0 => dice.below(0x100) & !3,
                1 => dice.below(0x1000),
                _ => 0x70,
            };
            let length = [1, 2, 4, 8][dice.below(4) as usize];
            let mut data = dice.odd().to_le_bytes();
            if dice.below(3) == 0 {
                slot.read(offset, &mut data[..length]);
            } else {
                slot.write(offset, &data[..length]);
            }
        }
        write(&mut slot, 0x70, 0);
        assert_eq!(read(&slot, 0x70), 0);
        drop(slot);
        thread.join().unwrap();
    }
}
