//! The first serial port: a 16550 that only sends, and where its bytes go.
//!
//! Bounded: `Output` keeps `LIMIT` bytes until the event loop writes them to the
//! log; what the guest sends beyond that is lost, and the guest never waits.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use sys::event::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};
use vm_superio::serial::NoEvents;
use vm_superio::{Serial, Trigger};

const LIMIT: usize = 64 << 10;
const MODEM_CONTROL: u8 = 4;
const OUT1: u8 = 4;

/// What the guest sent and nobody has written yet.
pub struct Output {
    bytes: Mutex<VecDeque<u8>>,
    /// Readable when there is something.
    pub wake: EventFd,
}

impl Output {
    /// # Errors
    /// As `eventfd(2)`.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            bytes: Mutex::default(),
            wake: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?,
        })
    }

    /// Gives what there is to `write`, until that takes no more.
    pub fn drain(&self, mut write: impl FnMut(&[u8]) -> usize) {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let (front, _) = bytes.as_slices();
            if front.is_empty() {
                return;
            }
            let taken = write(front).min(front.len());
            if taken == 0 {
                return;
            }
            bytes.drain(..taken);
        }
    }

    fn put(&self, new: &[u8]) {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = bytes.is_empty();
        let room = LIMIT - bytes.len().min(LIMIT);
        bytes.extend(new.iter().take(room));
        if idle {
            // Fails only when it is readable already.
            let _ = self.wake.write(1);
        }
    }
}

struct Line(EventFd);

impl Trigger for Line {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

struct Sink(Arc<Output>);

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.put(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub struct SerialPort {
    device: Serial<Line, NoEvents, Sink>,
    line: EventFd,
    pub(super) output: Arc<Output>,
    modem_control: u8,
}

/// The registers, as a frozen guest left them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SerialState {
    divisor: [u8; 2],
    interrupt_enable: u8,
    interrupt_identification: u8,
    line_control: u8,
    line_status: u8,
    modem_control: u8,
    modem_status: u8,
    scratch: u8,
    written_modem_control: u8,
}

impl SerialPort {
    pub(super) fn new(line: EventFd, output: Arc<Output>) -> io::Result<Self> {
        let device = Serial::new(Line(line.try_clone()?), Sink(Arc::clone(&output)));
        Ok(Self {
            device,
            line,
            output,
            modem_control: 0,
        })
    }

    pub(super) fn read(&mut self, register: u8) -> u8 {
        self.device.read(register)
    }

    pub(super) fn write(&mut self, register: u8, value: u8) {
        if register == MODEM_CONTROL {
            self.modem_control = value;
        }
        if let Err(error) = self.device.write(register, value) {
            log::debug!("serial port: {error:?}");
        }
    }

    /// Whether the guest holds the line by which it says "power off".
    pub(super) const fn out1(&self) -> bool {
        self.modem_control & OUT1 != 0
    }

    pub(super) fn freeze(&self) -> SerialState {
        let state = self.device.state();
        SerialState {
            divisor: [state.baud_divisor_low, state.baud_divisor_high],
            interrupt_enable: state.interrupt_enable,
            interrupt_identification: state.interrupt_identification,
            line_control: state.line_control,
            line_status: state.line_status,
            modem_control: state.modem_control,
            modem_status: state.modem_status,
            scratch: state.scratch,
            written_modem_control: self.modem_control,
        }
    }

    pub(super) fn thaw(&mut self, state: &SerialState) -> io::Result<()> {
        let [low, high] = state.divisor;
        let registers = vm_superio::SerialState {
            baud_divisor_low: low,
            baud_divisor_high: high,
            interrupt_enable: state.interrupt_enable,
            interrupt_identification: state.interrupt_identification,
            line_control: state.line_control,
            line_status: state.line_status,
            modem_control: state.modem_control,
            modem_status: state.modem_status,
            scratch: state.scratch,
            in_buffer: Vec::new(),
        };
        let line = Line(self.line.try_clone()?);
        let sink = Sink(Arc::clone(&self.output));
        self.device = Serial::from_state(&registers, line, NoEvents, sink)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        self.modem_control = state.written_modem_control;
        Ok(())
    }
}
