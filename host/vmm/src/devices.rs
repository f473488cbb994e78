//! The devices of a machine, and the slots in which the driver finds them.
//!
//! ```text
//!   slot 0 vsock | 1 rng | 2... disks as specified, then as attached | placeholders
//! ```

use crate::assemble::Parts;
use crate::bus::locked;
use crate::control::{host, user};
use crate::handed::Handed;
use crate::pci::{Pci, Routes, Vectors};
use crate::{jail, layout};
use kvm_ioctls::{IoEventAddress, NoDatamatch};
use machine_spec::control::Failure;
use machine_spec::{DiskAccess, DiskId, DiskSpec, MachineSpec, Transport};
use std::sync::Arc;
use std::thread;
use sys::event::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};
use sys::kvm::{Vm, error};
use virtio::block::{Group, Join};
use virtio::link::{Inbox, Link, link};
use virtio::transport::Function;
use virtio::transport::mmio::{QUEUE_NOTIFY, Slot};
use virtio::transport::pci::{Endpoint, NOTIFY, WINDOW};
use virtio::{Model, block, rng, vsock};
use volume::{Access, Volume};

const STACK: usize = 128 << 10;
const FIRST_DISK: u8 = 2;
/// The most disks of a machine: what the slots leave.
pub const DISKS_MAX: usize = (layout::MMIO_SLOT_COUNT - FIRST_DISK) as usize;

/// What a slot holds, by name; part of the frozen state.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Occupant {
    Vsock,
    Rng,
    Disk(DiskId),
}

/// Devices whose inboxes the event loop serves.
pub struct LoopDevices {
    pub vsock: Inbox,
    pub rng: Inbox,
}

/// The thread that serves disks which come while the guest runs; none in a
/// machine without any at its start.
pub type Late = Option<Join>;

pub struct Devices {
    pub slots: Vec<Slot>,
    pub pci: Option<Pci>,
    pub occupants: Vec<Option<Occupant>>,
    pub in_loop: LoopDevices,
    pub late: Late,
}

/// Makes the devices of a specification and starts the threads of its disks.
///
/// # Errors
/// Of the user's family for disks that can't be, else of the host's.
pub fn build(vm: &Arc<Vm>, spec: &MachineSpec, handed: &mut Handed) -> Result<Devices, Failure> {
    if spec.disks.len() > DISKS_MAX {
        return Err(user(format!("disks: at most {DISKS_MAX} are allowed")));
    }
    let mut slots: Vec<Slot> = Vec::new();
    let mut occupants = Vec::new();
    let (vsock_link, vsock) = link(false).map_err(host)?;
    let (rng_link, rng) = link(false).map_err(host)?;
    let mut fixed = vec![
        (Occupant::Vsock, vsock::model(spec.cid), vsock_link),
        (Occupant::Rng, rng::model(), rng_link),
    ];
    let mut late = None;
    for disk in &spec.disks {
        let volume = open("disks.file", disk, handed)?;
        let model = block::model(&volume);
        let (link, join) = start_disk(vm, volume, &disk.id)?;
        late.get_or_insert(join);
        fixed.push((Occupant::Disk(disk.id.clone()), model, link));
    }
    let in_loop = LoopDevices { vsock, rng };
    if spec.transport == Transport::Pci {
        let pci = Some(endpoints(vm, fixed)?);
        return Ok(Devices {
            slots,
            pci,
            occupants,
            in_loop,
            late,
        });
    }
    slots.resize_with(usize::from(layout::MMIO_SLOT_COUNT), Slot::default);
    occupants.resize(slots.len(), None);
    for (index, (occupant, model, link)) in (0..).zip(fixed) {
        let position = usize::from(index);
        if let (Some(slot), Some(name)) = (slots.get_mut(position), occupants.get_mut(position)) {
            plug(vm, index, slot, model, link)?;
            *name = Some(occupant);
        }
    }
    Ok(Devices {
        slots,
        pci: None,
        occupants,
        in_loop,
        late,
    })
}

fn open(what: &str, disk: &DiskSpec, handed: &mut Handed) -> Result<Volume, Failure> {
    let file = handed.take(what, disk.file)?;
    let access = match disk.access {
        DiskAccess::Read => Access::ReadOnly,
        DiskAccess::Write => Access::ReadWrite,
        DiskAccess::Scratch => Access::Volatile,
    };
    Volume::new(file, access).map_err(host)
}

/// Puts a disk into the first free slot of a machine that runs and has none of
/// that name.
///
/// # Errors
/// Of the user's family if there is none, else of the host's.
pub fn attach(parts: &mut Parts, disk: &DiskSpec, handed: &mut Handed) -> Result<(), Failure> {
    let free = parts.occupants.iter().position(Option::is_none);
    let free = free.and_then(|at| Some((u8::try_from(at).ok()?, parts.bus.slots().get(at)?)));
    let Some((index, slot)) = free else {
        let message = "all slots are taken, or the transport has none";
        return Err(user(format!("disk {}: {message}", disk.id)));
    };
    let join = parts.late.as_ref();
    let join = join.ok_or_else(|| user("a machine without disks takes none later"))?;
    let volume = open("file", disk, handed)?;
    let model = block::model(&volume);
    let link = join.join(parts.vm.memory().clone(), volume, disk.id.as_str());
    plug(&parts.vm, index, &mut locked(slot), model, link)?;
    if let Some(name) = parts.occupants.get_mut(usize::from(index)) {
        *name = Some(Occupant::Disk(disk.id.clone()));
    }
    Ok(())
}

/// One endpoint for each device, with all of its vectors.
fn endpoints(vm: &Arc<Vm>, devices: Vec<(Occupant, Model, Link)>) -> Result<Pci, Failure> {
    let routes = Routes::new();
    let mut next = layout::LINES;
    let mut endpoints = Vec::with_capacity(devices.len());
    for (index, (_, model, link)) in (0..).zip(devices) {
        let address = layout::PCI_WINDOWS + index * WINDOW;
        let notify = IoEventAddress::Mmio(u64::from(address) + NOTIFY);
        vm.fd()
            .register_ioevent(link.wake(), &notify, NoDatamatch)
            .map_err(|e| host(format!("KVM_IOEVENTFD: {}", error(e))))?;
        let vectors = Vectors {
            vm: Arc::clone(vm),
            routes: Arc::clone(&routes),
            first: next,
        };
        let mut wires = Vec::with_capacity(model.queue_sizes.len() + 1);
        for _ in 0..=model.queue_sizes.len() {
            let wire = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(host)?;
            vm.fd()
                .register_irqfd(&wire, next)
                .map_err(|e| host(format!("KVM_IRQFD: {}", error(e))))?;
            wires.push(wire);
            next += 1;
        }
        let function = Function::new(model, link, vm.memory().clone());
        endpoints.push(Endpoint::new(function, address, wires, Box::new(vectors)));
    }
    Ok(Pci::new(endpoints))
}

fn start_disk(vm: &Vm, volume: Volume, id: &DiskId) -> Result<(Link, Join), Failure> {
    let (link, inbox) = link(true).map_err(host)?;
    let (group, join) = Group::new(inbox, vm.memory().clone(), volume, id.as_str());
    let body = move || match jail::confine_disk() {
        Ok(()) => group.run(),
        Err(error) => {
            // A disk without its confinement must not run, nor the guest.
            log::error!("seccomp: {error}");
            std::process::exit(i32::from(machine_spec::exit::Code::HostFault as u8));
        }
    };
    thread::Builder::new()
        .name(id.as_str().chars().take(15).collect())
        .stack_size(STACK)
        .spawn(body)
        .map_err(host)?;
    Ok((link, join))
}

fn plug(vm: &Vm, index: u8, slot: &mut Slot, model: Model, link: Link) -> Result<(), Failure> {
    let line = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(host)?;
    vm.fd()
        .register_irqfd(&line, layout::mmio_line(index))
        .map_err(|e| host(format!("KVM_IRQFD: {}", error(e))))?;
    let notify = IoEventAddress::Mmio(layout::mmio_slot(index) + QUEUE_NOTIFY);
    vm.fd()
        .register_ioevent(link.wake(), &notify, NoDatamatch)
        .map_err(|e| host(format!("KVM_IOEVENTFD: {}", error(e))))?;
    let function = Function::new(model, link, vm.memory().clone());
    slot.plug(function, Arc::new(line));
    Ok(())
}

/// What the kernel's command line says of the slots: the same for every guest.
#[must_use]
pub fn cmdline(transport: Transport) -> String {
    if transport == Transport::Pci {
        return String::new();
    }
    (0..layout::MMIO_SLOT_COUNT)
        .map(|index| {
            format!(
                " virtio_mmio.device=4K@{:#x}:{}",
                layout::mmio_slot(index),
                layout::mmio_line(index)
            )
        })
        .collect()
}
