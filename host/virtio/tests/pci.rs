//! An endpoint as a driver meets it, and as a hostile guest does.
#![expect(clippy::unwrap_used, reason = "tests")]

mod dice;

use dice::{Dice, MEMORY, Seed};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use sys::event::{EFD_NONBLOCK, EventFd};
use sys::memory::{GuestMemory, Range, Source, map};
use virtio::link::{Inbox, link};
use virtio::rng::{self, Rng};
use virtio::transport::Function;
use virtio::transport::pci::{Endpoint, Message, NOTIFY, Router, WINDOW};
use vm_memory::{Bytes, GuestAddress};

const BAR: u32 = 0xD100_0000;
const TABLE: u64 = 0x2000;
const PENDING: u64 = 0x2800;

/// Remembers the way of each vector.
#[derive(Clone, Debug, Default)]
struct Ways(Arc<Mutex<HashMap<usize, Message>>>);

impl Router for Ways {
    fn route(&self, vector: usize, message: Message) {
        self.0.lock().unwrap().insert(vector, message);
    }
}

struct Setup {
    memory: GuestMemory,
    endpoint: Endpoint,
    device: Rng,
    inbox: Inbox,
    wires: Vec<EventFd>,
    ways: Ways,
}

impl Setup {
    fn new() -> Self {
        let range = Range {
            start: 0,
            length: MEMORY,
        };
        let memory = map(&[range], Source::Anonymous).unwrap();
        let (link, inbox) = link(false).unwrap();
        let function = Function::new(rng::model(), link, memory.clone());
        let wires: Vec<_> = (0..2)
            .map(|_| EventFd::new(EFD_NONBLOCK).unwrap())
            .collect();
        let theirs = wires.iter().map(|wire| wire.try_clone().unwrap()).collect();
        let ways = Ways::default();
        Self {
            device: Rng::new(memory.clone()),
            memory,
            endpoint: Endpoint::new(function, BAR, theirs, Box::new(ways.clone())),
            inbox,
            wires,
            ways,
        }
    }

    fn space(&mut self, offset: usize, width: usize) -> u32 {
        let mut bytes = [0; 4];
        self.endpoint.read_space(offset, &mut bytes[..width]);
        u32::from_le_bytes(bytes)
    }

    fn read(&mut self, offset: u64, width: usize) -> u32 {
        let mut bytes = [0; 4];
        self.endpoint.read(offset, &mut bytes[..width]);
        u32::from_le_bytes(bytes)
    }

    fn write(&mut self, offset: u64, width: usize, value: u32) {
        self.endpoint.write(offset, &value.to_le_bytes()[..width]);
    }

    /// Offset and first words of each capability, by its id and, if it is one
    /// of virtio's, type.
    fn capabilities(&mut self) -> HashMap<(u32, u32), usize> {
        let mut found = HashMap::new();
        let mut at = self.space(0x34, 1) as usize;
        while at != 0 {
            let id = self.space(at, 1);
            let kind = if id == 9 { self.space(at + 3, 1) } else { 0 };
            assert!(found.insert((id, kind), at).is_none(), "{id} twice");
            at = self.space(at + 1, 1) as usize;
        }
        found
    }

    /// What a driver does until DRIVER_OK, with vector 1 for the queue.
    fn activate(&mut self) {
        for status in [0, 3] {
            self.write(0x14, 1, status);
        }
        for (page, bits) in [(1, 1), (0, 0)] {
            self.write(0x08, 4, page);
            self.write(0x0C, 4, bits);
        }
        self.write(0x14, 1, 11);
        assert_eq!(self.read(0x14, 1), 11);
        self.write(0x16, 2, 0);
        assert_eq!(self.read(0x18, 2), 8);
        self.write(0x1A, 2, 1);
        assert_eq!(self.read(0x1A, 2), 1);
        for (offset, address) in [(0x20, 0x1000), (0x28, 0x2000), (0x30, 0x3000)] {
            self.write(offset, 4, address);
            self.write(offset + 4, 4, 0);
        }
        self.write(0x1C, 2, 1);
        self.write(0x14, 1, 15);
        self.work();
    }

    fn work(&mut self) {
        while let Ok(Some(order)) = self.inbox.take() {
            self.device.order(order);
        }
        while self.device.serve() {}
    }

    /// Asks for 8 bytes of entropy, for the `count`th time.
    fn ask(&mut self, count: u16) {
        let descriptor = [&0x4000_u64.to_le_bytes()[..], &[8, 0, 0, 0, 2, 0, 0, 0]].concat();
        self.memory
            .write_slice(&descriptor, GuestAddress(0x1000))
            .unwrap();
        self.memory.write_obj(count, GuestAddress(0x2002)).unwrap();
        self.write(NOTIFY, 2, 0);
        assert!(self.inbox.wake().read().is_ok(), "the device was not rung");
        self.work();
        let used: u16 = self.memory.read_obj(GuestAddress(0x3002)).unwrap();
        assert_eq!(used, count);
    }

    fn interrupted(&self) -> [bool; 2] {
        [0, 1].map(|vector| self.wires[vector].read().is_ok())
    }
}

#[test]
fn a_driver_finds_its_device() {
    let mut setup = Setup::new();
    assert_eq!(setup.space(0, 4), 0x1044_1AF4);
    let found = setup.capabilities();
    let mut kinds: Vec<_> = found.keys().copied().collect();
    kinds.sort_unstable();
    // Without type 4, because the device has no configuration.
    assert_eq!(kinds, [(9, 1), (9, 2), (9, 3), (9, 5), (0x11, 0)]);
    let msix = found[&(0x11, 0)];
    assert_eq!(setup.space(msix + 2, 2), 1);
    // The size of the BAR, and whether it decodes.
    assert_eq!(setup.endpoint.offset(u64::from(BAR)), None);
    setup.endpoint.write_space(4, &[2, 0]);
    assert_eq!(setup.endpoint.offset(u64::from(BAR) + 8), Some(8));
    let end = u64::from(BAR + WINDOW);
    assert_eq!(setup.endpoint.offset(end), None);
    setup.endpoint.write_space(0x10, &[0xFF; 4]);
    assert_eq!(setup.space(0x10, 4), !(WINDOW - 1));
    // The window in configuration space leads to the same registers.
    let access = found[&(9, 5)];
    setup.endpoint.write_space(access + 8, &[0x12, 0, 0, 0]);
    setup.endpoint.write_space(access + 12, &[2, 0, 0, 0]);
    assert_eq!(setup.space(access + 16, 2), 1);
    setup.endpoint.write_space(access + 8, &[0x16, 0, 0, 0]);
    setup.endpoint.write_space(access + 16, &[7, 0]);
    assert_eq!(setup.read(0x16, 2), 7);
}

#[test]
fn a_vector_interrupts_unless_masked() {
    let mut setup = Setup::new();
    let msix = setup.capabilities()[&(0x11, 0)];
    setup.activate();
    for (offset, value) in [(16, 0xFEE0_0000), (20, 0), (24, 0x31), (28, 0)] {
        setup.write(TABLE + offset, 4, value);
    }
    setup.ask(1);
    assert_eq!(setup.interrupted(), [false, false], "MSI-X is off");
    assert_eq!(setup.read(PENDING, 4), 2);
    setup.endpoint.write_space(msix + 2, &[0, 0x80]);
    assert_eq!(setup.interrupted(), [false, true]);
    assert_eq!(setup.read(PENDING, 4), 0);
    let message = Message {
        address: 0xFEE0_0000,
        data: 0x31,
    };
    assert_eq!(setup.ways.0.lock().unwrap()[&1], message);
    setup.ask(2);
    assert_eq!(setup.interrupted(), [false, true]);
    setup.write(TABLE + 28, 4, 1);
    setup.ask(3);
    assert_eq!(setup.interrupted(), [false, false], "the vector is masked");
    setup.write(TABLE + 28, 4, 0);
    assert_eq!(setup.interrupted(), [false, true]);
    setup.endpoint.write_space(msix + 2, &[0, 0xC0]);
    setup.ask(4);
    assert_eq!(setup.interrupted(), [false, false], "all are masked");
    setup.endpoint.write_space(msix + 2, &[0, 0x80]);
    assert_eq!(setup.interrupted(), [false, true]);
}

/// Does the device's part until no transport is left.
fn serve(mut device: Rng, inbox: &Inbox) {
    loop {
        match inbox.take() {
            Ok(Some(order)) => device.order(order),
            Ok(None) => {
                let _ = device.serve();
                std::thread::yield_now();
            }
            Err(_) => return,
        }
    }
}

#[test]
fn an_endpoint_takes_any_access() {
    for seed in 1..fuzzing::rounds(300) {
        let _seed = Seed(seed);
        let mut dice = Dice(seed);
        let mut setup = Setup::new();
        let before = setup.capabilities();
        if dice.below(2) == 0 {
            setup.activate();
        }
        let Setup {
            mut endpoint,
            device,
            inbox,
            ..
        } = setup;
        let thread = std::thread::spawn(move || serve(device, &inbox));
        for _ in 0..400 {
            let mut data = dice.odd().to_le_bytes();
            let data = &mut data[..[1, 2, 4, 8][dice.below(4) as usize]];
            let space = dice.below(260) as usize;
            let bar = match dice.below(4) {
                0 => dice.below(0x40),
                1 => TABLE + dice.below(0x40),
                2 => 0x14,
                _ => dice.below(u64::from(WINDOW)),
            };
            match dice.below(4) {
                0 => endpoint.read_space(space, data),
                1 => endpoint.write_space(space, data),
                2 => endpoint.read(bar, data),
                _ => endpoint.write(bar, data),
            }
        }
        endpoint.write(0x14, &[0]);
        let mut status = [1];
        endpoint.read(0x14, &mut status);
        assert_eq!(status, [0]);
        let mut fixed = [0; 4];
        endpoint.read_space(0, &mut fixed);
        assert_eq!(u32::from_le_bytes(fixed), 0x1044_1AF4);
        for ((id, _), at) in before {
            endpoint.read_space(at, &mut fixed);
            assert_eq!(u32::from(fixed[0]), id);
        }
        drop(endpoint);
        thread.join().unwrap();
    }
}
