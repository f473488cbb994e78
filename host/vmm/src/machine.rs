//! The event loop of a machine that was assembled.
//!
//! ```text
//!   Running --Pause--> Pausing --all vCPUs parked--> Paused --Resume--> Running
//!      |                  |                            |
//!      +------------------+------ exit or Kill --------+--> Exit
//! ```
//!
//! The loop never waits for a vCPU that may be in the guest, because a vCPU may
//! be waiting for a device that this loop serves: `Pause` is answered when the
//! last one reported. Requests that need the pause to be complete are refused
//! while it is not.

use crate::assemble::Parts;
use crate::bus::locked;
use crate::control::{Control, Incoming, host, user};
use crate::devices;
use crate::handed::Handed;
use crate::start::reply;
use crate::state::freeze::{self, Positions};
use crate::vcpu::Report;
use machine_spec::control::{Answer, Event, Failure, Request, State, Status};
use machine_spec::exit::Exit;
use machine_spec::{DiskSpec, MachineSpec, Transport};
use rustix::fd::OwnedFd;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;
use sys::event::{EventFd, Interest, Poll, Ready, Timer, monotonic_ns};
use virtio::link::Order;
use virtio::ring::Progress;
use virtio::rng::Rng;
use virtio::vsock::Vsock;

const CONTROL: u64 = 1;
const REPORTS: u64 = 2;
const VSOCK: u64 = 3;
const RNG: u64 = 4;
const TIMER: u64 = 5;
const SERIAL: u64 = 6;
const SERIAL_SINK: u64 = 7;
/// Tokens from here on are vsock streams.
const STREAMS: u64 = 1 << 32;

const EVENTS: usize = 32;

enum Run {
    Running,
    /// The request to answer, and the vCPUs not yet parked.
    Pausing {
        request: u32,
        missing: usize,
    },
    Paused,
}

pub struct Machine {
    parts: Parts,
    spec: MachineSpec,
    exec_ns: u64,
    poll: Poll,
    timer: Timer,
    vsock: Vsock,
    rng: Rng,
    run: Run,
    /// The log can be waited for (a pipe), not only written (a file).
    serial_polled: bool,
    serial_full: bool,
    timer_set: bool,
}

impl Machine {
    /// # Errors
    /// Of the host's family.
    pub fn new(
        parts: Parts,
        spec: MachineSpec,
        exec_ns: u64,
        control: &Control,
    ) -> Result<Self, Failure> {
        let poll = Poll::new(EVENTS).map_err(host)?;
        let timer = Timer::new().map_err(host)?;
        poll.add(control, CONTROL, Interest::Read).map_err(host)?;
        for (source, token) in [
            (&*parts.wake, REPORTS),
            (parts.in_loop.vsock.wake(), VSOCK),
            (parts.in_loop.rng.wake(), RNG),
            (&parts.output.wake, SERIAL),
        ] {
            poll.add_event(source, token).map_err(host)?;
        }
        poll.add(&timer, TIMER, Interest::Read).map_err(host)?;
        let mut serial_polled = false;
        if let Some(sink) = &parts.serial {
            rustix::io::ioctl_fionbio(sink, true).map_err(host)?;
            serial_polled = match poll.add(sink, SERIAL_SINK, Interest::Nothing) {
                Ok(()) => true,
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => false,
                Err(error) => return Err(host(error)),
            };
        }
        let memory = parts.vm.memory().clone();
        Ok(Self {
            vsock: Vsock::new(memory.clone(), spec.cid, STREAMS),
            rng: Rng::new(memory),
            parts,
            spec,
            exec_ns,
            poll,
            timer,
            run: Run::Running,
            serial_polled,
            serial_full: false,
            timer_set: false,
        })
    }

    /// Runs the guest to its end.
    pub fn run(mut self, control: &mut Control) -> Exit {
        for vcpu in &self.parts.vcpus {
            vcpu.run();
        }
        let exit = loop {
            let events = match self.poll.wait() {
                Ok(events) => events,
                Err(error) => break Exit::HostFault(format!("epoll: {error}")),
            };
            let exit = events
                .into_iter()
                .find_map(|event| self.handle(event, control));
            if let Some(exit) = exit {
                break exit;
            }
            self.pump();
        };
        self.write_serial();
        exit
    }

    fn handle(&mut self, event: Ready, control: &mut Control) -> Option<Exit> {
        match event.token {
            CONTROL => return self.control(control),
            REPORTS => return self.reports(control),
            VSOCK => clear(self.parts.in_loop.vsock.wake()),
            RNG => clear(self.parts.in_loop.rng.wake()),
            TIMER => {
                self.timer.clear();
                self.vsock.tick(monotonic_ns());
            }
            SERIAL => {
                clear(&self.parts.output.wake);
                self.write_serial();
            }
            SERIAL_SINK if event.closed => self.drop_serial(),
            SERIAL_SINK => self.write_serial(),
            _ => self.vsock.stream_ready(event),
        }
        None
    }

    /// Carries out orders and moves data of the devices of this loop.
    fn pump(&mut self) {
        let inbox = &self.parts.in_loop.vsock;
        while let Ok(Some(order)) = inbox.take() {
            self.vsock.order(order);
        }
        if self.vsock.serve() {
            inbox.again();
        }
        let inbox = &self.parts.in_loop.rng;
        while let Ok(Some(order)) = inbox.take() {
            self.rng.order(order);
        }
        if self.rng.serve() {
            inbox.again();
        }
        let delay = self
            .vsock
            .deadline()
            .map(|deadline| Duration::from_nanos(deadline.saturating_sub(monotonic_ns())));
        if delay.is_some() != self.timer_set || delay.is_some() {
            self.timer_set = delay.is_some();
            if let Err(error) = self.timer.set(delay) {
                log::error!("timer: {error}");
            }
        }
    }

    fn reports(&mut self, control: &Control) -> Option<Exit> {
        clear(&self.parts.wake);
        while let Ok(report) = self.parts.reports.try_recv() {
            match report {
                Report::FirstRun(first_run_ns) => control.event(Event::Started {
                    exec_ns: self.exec_ns,
                    first_run_ns,
                }),
                Report::Ended(exit) => return Some(exit),
                Report::Parked => self.parked(control),
            }
        }
        None
    }

    /// Takes every request that is there.
    fn control(&mut self, control: &mut Control) -> Option<Exit> {
        loop {
            match control.receive(false) {
                Incoming::Request(message, fds) => {
                    let id = message.id;
                    match self.request(id, message.request, fds) {
                        Reaction::Answer(result) => reply(control, id, result),
                        Reaction::Later => {}
                        Reaction::Exit => {
                            reply(control, id, Ok(Answer::Done));
                            return Some(Exit::Killed);
                        }
                    }
                }
                Incoming::Nonsense(what) => log::warn!("control: {what}"),
                Incoming::Nothing => return None,
                Incoming::Closed => {
                    log::warn!("control: nobody is left at the other end");
                    if let Err(error) = self.poll.remove(&*control) {
                        log::error!("control: {error}");
                    }
                    return None;
                }
            }
        }
    }

    fn request(&mut self, id: u32, request: Request, fds: Vec<OwnedFd>) -> Reaction {
        let mut handed = Handed::new(fds);
        let result = match request {
            Request::Start(_) => Err(user("the machine was started before")),
            Request::Kill => return Reaction::Exit,
            Request::Pause => match self.pause(id) {
                Ok(()) => return Reaction::Later,
                Err(failure) => Err(failure),
            },
            Request::Resume => self.resume(),
            Request::Status => Ok(Answer::Status(Status {
                state: match self.run {
                    Run::Running | Run::Pausing { .. } => State::Running,
                    Run::Paused => State::Paused,
                },
                exits: self.parts.exits.load(Ordering::Relaxed),
            })),
            Request::ConnectVsock { port, stream } => {
                handed.take("stream", stream).and_then(|stream| {
                    self.vsock
                        .connect(&self.poll, stream, port)
                        .map_err(user)
                        .map(|()| Answer::Done)
                })
            }
            Request::AttachDisk(disk) => self.attach(disk, &mut handed),
            Request::Freeze { state, memory } => handed
                .take("state", state)
                .and_then(|state| Ok((state, handed.take("memory", memory)?)))
                .and_then(|(state, memory)| self.freeze(state, memory)),
        };
        Reaction::Answer(result)
    }

    fn pause(&mut self, request: u32) -> Result<(), Failure> {
        match self.run {
            Run::Running => {
                let missing = self.parts.vcpus.len();
                self.run = Run::Pausing { request, missing };
                for vcpu in &self.parts.vcpus {
                    vcpu.park();
                }
                Ok(())
            }
            Run::Pausing { .. } | Run::Paused => Err(user("the machine is paused already")),
        }
    }

    /// One more vCPU is parked; devices stop after the last.
    fn parked(&mut self, control: &Control) {
        let Run::Pausing { request, missing } = &mut self.run else {
            return;
        };
        *missing -= 1;
        if *missing == 0 {
            let request = *request;
            self.run = Run::Paused;
            reply(control, request, Ok(Answer::Done));
        }
    }

    fn resume(&mut self) -> Result<Answer, Failure> {
        match self.run {
            Run::Paused => {
                for vcpu in &self.parts.vcpus {
                    vcpu.run();
                }
                self.run = Run::Running;
                Ok(Answer::Done)
            }
            Run::Running | Run::Pausing { .. } => Err(user("the machine is not paused")),
        }
    }

    fn attach(&mut self, disk: DiskSpec, handed: &mut Handed) -> Result<Answer, Failure> {
        if self.spec.disks.iter().all(|own| own.id != disk.id) {
            devices::attach(&mut self.parts, &disk, handed)?;
            self.spec.disks.push(disk);
        }
        Ok(Answer::Done)
    }

    fn freeze(&mut self, state: OwnedFd, memory: OwnedFd) -> Result<Answer, Failure> {
        if !matches!(self.run, Run::Paused) {
            return Err(user("the machine is not paused"));
        }
        if self.spec.transport != Transport::Mmio {
            return Err(user("a machine can be frozen with transport mmio alone"));
        }
        let positions = self.stop_devices()?;
        let result = freeze::write(&self.parts, &self.spec, positions, state, memory);
        self.order_all(|| Order::Resume);
        self.pump();
        result.map(|()| Answer::Done)
    }

    /// Lets every device finish what it has in work, and stop.
    fn stop_devices(&mut self) -> Result<Positions, Failure> {
        let mut waiting: Vec<Option<Receiver<Vec<Option<Progress>>>>> = Vec::new();
        for slot in self.parts.bus.slots() {
            let slot = locked(slot);
            let receiver = slot.function().map(|function| {
                let (sender, receiver) = sync_channel(1);
                // A thread that is gone shows when nothing comes.
                let _ = function.link().order(Order::Pause(sender));
                receiver
            });
            waiting.push(receiver);
        }
        self.pump();
        waiting
            .into_iter()
            .map(|receiver| match receiver {
                None => Ok(None),
                Some(receiver) => receiver
                    .recv()
                    .map(Some)
                    .map_err(|_| host("a device's thread ended")),
            })
            .collect()
    }

    fn order_all(&self, order: impl Fn() -> Order) {
        for slot in self.parts.bus.slots() {
            if let Some(function) = locked(slot).function()
                && let Err(gone) = function.link().order(order())
            {
                log::error!("{gone}");
            }
        }
    }

    /// Writes serial output as far as the log takes it.
    fn write_serial(&mut self) {
        let Some(sink) = &self.parts.serial else {
            self.parts.output.drain(<[u8]>::len);
            return;
        };
        let mut full = false;
        let mut broken = false;
        self.parts
            .output
            .drain(|bytes| match rustix::io::write(sink, bytes) {
                Ok(count) => count,
                Err(rustix::io::Errno::AGAIN) => {
                    full = true;
                    0
                }
                Err(rustix::io::Errno::INTR) => 0,
                Err(_) => {
                    broken = true;
                    bytes.len()
                }
            });
        if broken {
            self.drop_serial();
        } else if self.serial_polled && full != self.serial_full {
            self.serial_full = full;
            let interest = if full {
                Interest::Write
            } else {
                Interest::Nothing
            };
            if let Err(error) = self.poll.change(sink, SERIAL_SINK, interest) {
                log::error!("serial log: {error}");
            }
        }
    }

    /// The log is gone: from now on output is thrown away.
    fn drop_serial(&mut self) {
        if let Some(sink) = self.parts.serial.take()
            && self.serial_polled
            && let Err(error) = self.poll.remove(&sink)
        {
            log::error!("serial log: {error}");
        }
    }
}

enum Reaction {
    Answer(Result<Answer, Failure>),
    Later,
    Exit,
}

fn clear(event: &EventFd) {
    // Nothing to read: somebody else did.
    let _ = event.read();
}
