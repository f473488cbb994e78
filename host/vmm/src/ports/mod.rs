//! The few I/O ports of a PC that a kernel asks for, and how a guest ends.
//!
//! ```text
//!   0x40-0x43, 0x61  timer chip     nothing counts: the guest has kvm-clock
//!   0x60, 0x64       keyboard       0xFE to 0x64 resets (reboot=k)
//!   0x70, 0x71       clock          the host's UTC, read only
//!   0x3F8-0x3FF      serial port    output alone
//!   others           all ones, writes have no effect
//! ```
//!
//! A kernel without ACPI can't power off, and resets in one way only, so what a
//! reset means is told apart by what the guest left behind:
//!
//! | at the reset | means |
//! | --- | --- |
//! | 0x1234 in the word at 0x472 | panic: the command line has `reboot=k,panic_warm panic=-1` |
//! | else OUT1 set in the serial port's modem control | power off: `TIOCMBIS` of `TIOCM_OUT1`, then `reboot` |
//! | else | reset |

mod clock;
mod serial;

#[cfg(test)]
mod tests;

pub use clock::{Clock, Utc};
pub use serial::{Output, SerialPort, SerialState};

use crate::layout;
use machine_spec::exit::Exit;
use serde::{Deserialize, Serialize};
use std::io;
use std::sync::Arc;
use sys::event::EventFd;
use sys::memory::GuestMemory;
use vm_memory::{Bytes, GuestAddress};

const SERIAL: u16 = 0x3F8;
const SERIAL_END: u16 = 0x3FF;
const KEYBOARD_COMMAND: u16 = 0x64;
const KEYBOARD_RESET: u8 = 0xFE;
const SYSTEM_CONTROL: u16 = 0x61;
/// The timer's output is high: whoever waits for it need not.
const TIMER_OUTPUT: u8 = 0x20;
const WARM: u16 = 0x1234;

pub struct Ports {
    memory: GuestMemory,
    clock: Clock,
    serial: SerialPort,
}

/// What of the ports is state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortsState {
    clock_register: u8,
    serial: SerialState,
}

impl Ports {
    /// `line` is the serial port's interrupt.
    ///
    /// # Errors
    /// As `dup(2)`.
    pub fn new(memory: GuestMemory, line: EventFd, output: Arc<Output>) -> io::Result<Self> {
        Ok(Self {
            memory,
            clock: Clock::default(),
            serial: SerialPort::new(line, output)?,
        })
    }

    /// Reads; `now` gives the time of day.
    pub fn read(&mut self, port: u16, data: &mut [u8], now: impl FnOnce() -> Utc) {
        data.fill(0xFF);
        let [byte] = data else {
            return;
        };
        *byte = match port {
            SERIAL..=SERIAL_END => self.serial.read((port - SERIAL) as u8),
            0x40..=0x43 | 0x60 | KEYBOARD_COMMAND => 0,
            SYSTEM_CONTROL => TIMER_OUTPUT,
            0x71 => self.clock.read(now),
            _ => 0xFF,
        };
    }

    /// Writes; gives an exit if the guest ends itself by it.
    #[must_use]
    pub fn write(&mut self, port: u16, data: &[u8]) -> Option<Exit> {
        let [byte] = data else {
            return None;
        };
        match port {
            SERIAL..=SERIAL_END => self.serial.write((port - SERIAL) as u8, *byte),
            0x70 => self.clock.select(*byte),
            KEYBOARD_COMMAND if *byte == KEYBOARD_RESET => return Some(self.reset()),
            _ => {}
        }
        None
    }

    fn reset(&self) -> Exit {
        let flag: Result<u16, _> = self.memory.read_obj(GuestAddress(layout::RESET_FLAG));
        if flag.is_ok_and(|flag| flag == WARM) {
            Exit::Panic
        } else if self.serial.out1() {
            Exit::PowerOff
        } else {
            Exit::Reset
        }
    }

    #[must_use]
    pub fn freeze(&self) -> PortsState {
        PortsState {
            clock_register: self.clock.register(),
            serial: self.serial.freeze(),
        }
    }

    /// # Errors
    /// As `dup(2)`, or EINVAL for a state that no serial port has.
    pub fn thaw(&mut self, state: &PortsState) -> io::Result<()> {
        self.clock.select(state.clock_register);
        self.serial.thaw(&state.serial)
    }
}
