//! From a specification and descriptors to a machine that could run.
//!
//! In this order, because KVM wants it: memory, interrupt controllers, vCPUs,
//! lines. Calls that make KVM wait for RCU are few on purpose: one irqfd and one
//! ioeventfd for each device, none for a placeholder.

use crate::boot::Boot;
use crate::bus::Bus;
use crate::control::{host, user};
use crate::devices::{self, Devices, Late, LoopDevices, Occupant};
use crate::handed::Handed;
use crate::ports::{Output, Ports};
use crate::state::{Frozen, thaw};
use crate::vcpu::{self, Handle, Report, Shared};
use crate::{cpu, layout};
use kvm_bindings::KVM_MAX_CPUID_ENTRIES;
use kvm_ioctls::{Cap, Kvm};
use machine_spec::control::Failure;
use machine_spec::{MachineSpec, Start, Transport};
use rustix::fd::OwnedFd;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, channel};
use sys::event::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};
use sys::kvm::{Vcpu, Vm, error};
use sys::memory::{self, Source};

/// How a guest's end is told: see `ports`.
const EXIT_CMDLINE: &str = "reboot=k,panic_warm panic=-1";

/// All parts, vCPUs parked.
pub struct Parts {
    pub vm: Arc<Vm>,
    pub bus: Arc<Bus>,
    pub occupants: Vec<Option<Occupant>>,
    pub in_loop: LoopDevices,
    pub late: Late,
    pub vcpus: Vec<Handle>,
    pub reports: Receiver<Report>,
    pub wake: Arc<EventFd>,
    pub exits: Arc<AtomicU64>,
    pub output: Arc<Output>,
    pub serial: Option<OwnedFd>,
}

/// # Errors
/// Of the user's family if the specification can't be, else of the host's.
pub fn assemble(kvm: &Kvm, spec: &MachineSpec, fds: Vec<OwnedFd>) -> Result<Parts, Failure> {
    spec.check(fds.len()).map_err(user)?;
    let mut handed = Handed::new(fds);
    let serial = spec
        .serial
        .map(|fd| handed.take("serial", fd))
        .transpose()?;
    let ranges = layout::memory(spec.memory);
    match &spec.start {
        Start::Boot {
            kernel,
            initramfs,
            cmdline,
        } => {
            let source = Source::Anonymous;
            let memory = memory::map(&ranges, source).map_err(host)?;
            let boot = Boot {
                kernel: handed.file("start.boot.kernel", *kernel)?,
                initramfs: initramfs
                    .map(|fd| handed.file("start.boot.initramfs", fd))
                    .transpose()?,
                cmdline: format!(
                    "{cmdline} {EXIT_CMDLINE}{}",
                    devices::cmdline(spec.transport)
                ),
                vcpus: spec.vcpus,
            };
            let entry = boot.load(&memory).map_err(host)?;
            let vm = new_vm(kvm, memory)?;
            let vcpus = cold_vcpus(kvm, &vm, spec, entry)?;
            finish(vm, spec, vcpus, serial, &mut handed, None)
        }
        Start::Thaw { .. } if spec.transport == Transport::Pci => {
            Err(user("transport: a state has none but mmio"))
        }
        Start::Thaw { state, memory } => {
            let mut state = handed.file("start.thaw.state", *state)?;
            let frozen = Frozen::read(&mut state).map_err(user)?;
            frozen.fits(spec).map_err(user)?;
            let file: File = handed.file("start.thaw.memory", *memory)?;
            let memory = memory::map(&ranges, Source::PrivateFile(file)).map_err(host)?;
            let vm = new_vm(kvm, memory)?;
            let vcpus = thaw::vcpus(&vm, &frozen)?;
            finish(vm, spec, vcpus, serial, &mut handed, Some(&frozen))
        }
    }
}

fn new_vm(kvm: &Kvm, memory: memory::GuestMemory) -> Result<Arc<Vm>, Failure> {
    let failed = |what: &'static str| move |e| host(format!("{what}: {}", error(e)));
    let vm = Vm::new(kvm, memory).map_err(|e| host(format!("KVM_CREATE_VM: {e}")))?;
    vm.fd()
        .set_identity_map_address(layout::KVM_IDENTITY_MAP)
        .map_err(failed("KVM_SET_IDENTITY_MAP_ADDR"))?;
    vm.fd()
        .set_tss_address(layout::KVM_TSS)
        .map_err(failed("KVM_SET_TSS_ADDR"))?;
    vm.fd()
        .create_irq_chip()
        .map_err(failed("KVM_CREATE_IRQCHIP"))?;
    Ok(Arc::new(vm))
}

fn cold_vcpus(
    kvm: &Kvm,
    vm: &Vm,
    spec: &MachineSpec,
    entry: vm_memory::GuestAddress,
) -> Result<Vec<Vcpu>, Failure> {
    let supported = kvm
        .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .map_err(|e| host(format!("KVM_GET_SUPPORTED_CPUID: {}", error(e))))?;
    let deadline = kvm.check_extension(Cap::TscDeadlineTimer);
    let mut vcpus = Vec::with_capacity(usize::from(spec.vcpus.get()));
    for index in 0..spec.vcpus.get() {
        let vcpu = vm
            .vcpu(index)
            .map_err(|e| host(format!("KVM_CREATE_VCPU: {e}")))?;
        let leaves = cpu::cpuid::leaves(&supported, index, spec.vcpus, deadline)
            .ok_or_else(|| host("CPUID: too many leaves"))?;
        vcpu.fd()
            .set_cpuid2(&leaves)
            .map_err(|e| host(format!("KVM_SET_CPUID2: {}", error(e))))?;
        cpu::set_msrs(&vcpu).map_err(|e| host(format!("KVM_SET_MSRS: {e}")))?;
        if index == 0 {
            cpu::set_entry(&vcpu, entry).map_err(|e| host(format!("KVM_SET_SREGS: {e}")))?;
        }
        vcpus.push(vcpu);
    }
    Ok(vcpus)
}

fn finish(
    vm: Arc<Vm>,
    spec: &MachineSpec,
    vcpus: Vec<Vcpu>,
    serial: Option<OwnedFd>,
    handed: &mut Handed,
    frozen: Option<&Frozen>,
) -> Result<Parts, Failure> {
    let Devices {
        slots,
        pci,
        occupants,
        in_loop,
        late,
    } = devices::build(&vm, spec, handed)?;
    let line = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(host)?;
    vm.fd()
        .register_irqfd(&line, layout::SERIAL_LINE)
        .map_err(|e| host(format!("KVM_IRQFD: {}", error(e))))?;
    let output = Arc::new(Output::new().map_err(host)?);
    let ports = Ports::new(vm.memory().clone(), line, Arc::clone(&output)).map_err(host)?;
    let bus = Arc::new(Bus::new(ports, slots, pci));
    if let Some(frozen) = frozen {
        thaw::machine(&vm, &bus, &occupants, frozen)?;
    }
    sys::kvm::prepare_kicks().map_err(host)?;
    let (sender, reports) = channel();
    let wake = Arc::new(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(host)?);
    let exits = Arc::new(AtomicU64::new(0));
    let shared = Shared {
        bus: Arc::clone(&bus),
        exits: Arc::clone(&exits),
        reports: sender,
        wake: Arc::clone(&wake),
    };
    let vcpus = (0..)
        .zip(vcpus)
        .map(|(index, vcpu)| vcpu::spawn(index, vcpu, shared.clone()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(host)?;
    Ok(Parts {
        vm,
        bus,
        occupants,
        in_loop,
        late,
        vcpus,
        reports,
        wake,
        exits,
        output,
        serial,
    })
}
