//! The thread of one vCPU.
//!
//! ```text
//!   parked --Run--> running --Park (and a kick)--> parked
//!                      |
//!                      +--the guest ended--> waits for the process to end
//! ```
//!
//! Orders are looked at only where `KVM_RUN` gives EINTR, after which KVM has
//! finished whatever access the last exit was about: the registers are whole
//! (Documentation/virt/kvm/api.rst, 5: `KVM_EXIT_IO`).

use crate::bus::Bus;
use crate::cpu::state::VcpuState;
use crate::jail;
use kvm_ioctls::VcpuExit;
use machine_spec::exit::Exit;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel};
use std::thread;
use sys::event::{EventFd, monotonic_ns};
use sys::kvm::{Kick, Vcpu};

const STACK: usize = 128 << 10;

/// What a vCPU tells the event loop.
#[derive(Debug)]
pub enum Report {
    /// The first `KVM_RUN` is next, at this time.
    FirstRun(u64),
    Parked,
    Ended(Exit),
}

enum Order {
    Run,
    Park,
    Save(SyncSender<io::Result<VcpuState>>),
}

/// The event loop's end of a vCPU.
pub struct Handle {
    orders: Sender<Order>,
    kick: Arc<Kick>,
}

/// What all vCPU threads share.
#[derive(Clone)]
pub struct Shared {
    pub bus: Arc<Bus>,
    pub exits: Arc<AtomicU64>,
    pub reports: Sender<Report>,
    pub wake: Arc<EventFd>,
}

/// The thread's own part.
struct Thread {
    index: u8,
    vcpu: Vcpu,
    orders: Receiver<Order>,
    shared: Shared,
}

/// Starts the thread, parked.
///
/// # Errors
/// As `pthread_create(3)`.
pub fn spawn(index: u8, vcpu: Vcpu, shared: Shared) -> io::Result<Handle> {
    let (sender, receiver) = channel();
    let kick = vcpu.kick();
    let thread = Thread {
        index,
        vcpu,
        orders: receiver,
        shared,
    };
    thread::Builder::new()
        .name(format!("vcpu{index}"))
        .stack_size(STACK)
        .spawn(move || thread.run())?;
    Ok(Handle {
        orders: sender,
        kick,
    })
}

impl Handle {
    /// Lets the vCPU run.
    pub fn run(&self) {
        self.order(Order::Run);
    }

    /// Stops it; `Report::Parked` follows.
    pub fn park(&self) {
        self.order(Order::Park);
        self.kick.kick();
    }

    /// The state of a parked vCPU.
    ///
    /// # Errors
    /// As the ioctls that read it.
    pub fn save(&self) -> io::Result<VcpuState> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        self.order(Order::Save(sender));
        receiver
            .recv()
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?
    }

    fn order(&self, order: Order) {
        // A vCPU thread ends only with the process.
        let _ = self.orders.send(order);
    }
}

impl Thread {
    fn run(mut self) {
        if let Err(error) = jail::confine_vcpu() {
            self.report(Report::Ended(Exit::HostFault(format!("seccomp: {error}"))));
            return;
        }
        self.vcpu.bind();
        self.parked();
        if self.index == 0 {
            self.report(Report::FirstRun(monotonic_ns()));
        }
        let exit = self.guest();
        self.report(Report::Ended(exit));
        // Others may still be in the guest; the event loop ends the process.
        while self.orders.recv().is_ok() {}
    }

    fn guest(&mut self) -> Exit {
        let bus = Arc::clone(&self.shared.bus);
        loop {
            let result = self.vcpu.fd_mut().run();
            self.shared.exits.fetch_add(1, Ordering::Relaxed);
            match result {
                Ok(VcpuExit::IoIn(port, data)) => bus.read_port(port, data),
                Ok(VcpuExit::IoOut(port, data)) => {
                    if let Some(exit) = bus.write_port(port, data) {
                        return exit;
                    }
                }
                Ok(VcpuExit::MmioRead(address, data)) => bus.read(address, data),
                Ok(VcpuExit::MmioWrite(address, data)) => bus.write(address, data),
                Ok(VcpuExit::Shutdown) => return Exit::TripleFault,
                Ok(VcpuExit::Hlt | VcpuExit::Intr | VcpuExit::IrqWindowOpen) => {}
                Ok(VcpuExit::FailEntry(reason, _)) => {
                    return Exit::GuestFault(format!("entry failed: {reason:#x}"));
                }
                Ok(VcpuExit::InternalError) => {
                    return Exit::GuestFault("an instruction that KVM can't emulate".into());
                }
                Ok(other) => return Exit::GuestFault(format!("unknown exit: {other:?}")),
                Err(error) if error.errno() == rustix::io::Errno::INTR.raw_os_error() => {
                    self.vcpu.unkick();
                    self.interrupted();
                }
                Err(error) if error.errno() == rustix::io::Errno::AGAIN.raw_os_error() => {}
                Err(error) => return Exit::HostFault(format!("KVM_RUN: {error}")),
            }
        }
    }

    /// Looks for orders while running.
    fn interrupted(&mut self) {
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Run => {}
                Order::Park => {
                    self.report(Report::Parked);
                    self.parked();
                }
                Order::Save(reply) => {
                    let _ = reply.send(VcpuState::save(&self.vcpu));
                }
            }
        }
    }

    /// Waits until it may run.
    fn parked(&self) {
        while let Ok(order) = self.orders.recv() {
            match order {
                Order::Run => return,
                Order::Park => self.report(Report::Parked),
                Order::Save(reply) => {
                    let _ = reply.send(VcpuState::save(&self.vcpu));
                }
            }
        }
    }

    fn report(&self, report: Report) {
        // Nobody left to tell means that the process is ending.
        let _ = self.shared.reports.send(report);
        let _ = self.shared.wake.write(1);
    }
}
