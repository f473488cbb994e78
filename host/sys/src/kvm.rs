//! KVM handles whose guest memory can't go away under them, and the kick that
//! gets a vCPU out of `KVM_RUN`.
//!
//! A kick is a store to `immediate_exit` and a signal, in this order: a vCPU
//! about to enter the guest sees the store, one in the guest gets the signal
//! (Documentation/virt/kvm/api.rst, 5: `immediate_exit`).

use crate::memory::GuestMemory;
use kvm_bindings::{kvm_run, kvm_userspace_memory_region, kvm_xsave};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use nix::libc;
use rustix::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::io;
use std::mem::offset_of;
use std::os::fd::FromRawFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU8, Ordering};
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryRegion};

/// Takes over an open `/dev/kvm`.
#[must_use]
pub fn open(device: OwnedFd) -> Kvm {
    // SAFETY: `into_raw_fd` gives the only ownership of the descriptor away.
    // A descriptor of something else makes each ioctl fail.
    unsafe { Kvm::from_raw_fd(device.into_raw_fd()) }
}

/// A virtual machine that never runs, kept while others come and go.
///
/// KVM patches its code whenever the number of machines or of virtual APICs that
/// no guest has enabled yet leaves zero or gets back there (`preempt_notifier_key`,
/// `apic_sw_disabled`): with one pod that is at each start, an interrupt to every
/// processor each time. One machine whose APIC stays off keeps both above zero.
///
/// It also keeps emulators from a fault: QEMU before 8.1 may run the breakpoint
/// of a patch that is over, with several processors, and the kernel dies of it.
pub struct Keeper {
    _vcpu: VcpuFd,
    _vm: VmFd,
}

impl Keeper {
    /// # Errors
    /// As `KVM_CREATE_VM`, `KVM_CREATE_IRQCHIP`, `KVM_CREATE_VCPU`.
    pub fn new(kvm: &Kvm) -> io::Result<Self> {
        let vm = kvm.create_vm().map_err(error)?;
        vm.create_irq_chip().map_err(error)?;
        let vcpu = vm.create_vcpu(0).map_err(error)?;
        Ok(Self {
            _vcpu: vcpu,
            _vm: vm,
        })
    }
}

/// A virtual machine with its memory mapped in.
pub struct Vm {
    fd: VmFd,
    memory: GuestMemory,
}

impl Vm {
    /// # Errors
    /// As `KVM_CREATE_VM` and `KVM_SET_USER_MEMORY_REGION`.
    pub fn new(kvm: &Kvm, memory: GuestMemory) -> io::Result<Self> {
        let fd = kvm.create_vm().map_err(error)?;
        for (slot, region) in (0..).zip(memory.iter()) {
            let mapping = kvm_userspace_memory_region {
                slot,
                flags: 0,
                guest_phys_addr: region.start_addr().raw_value(),
                memory_size: region.len(),
                userspace_addr: region.as_ptr() as u64,
            };
            // SAFETY: the range is one live mapping; `Vm` and each `Vcpu` keep
            // a clone of `memory`, so it lives while the guest can run.
            unsafe { fd.set_user_memory_region(mapping) }.map_err(error)?;
        }
        Ok(Self { fd, memory })
    }

    #[must_use]
    pub const fn fd(&self) -> &VmFd {
        &self.fd
    }

    #[must_use]
    pub const fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    /// # Errors
    /// As `KVM_CREATE_VCPU`.
    pub fn vcpu(&self, index: u8) -> io::Result<Vcpu> {
        let fd = self.fd.create_vcpu(u64::from(index)).map_err(error)?;
        let kick = Kick {
            run: RunPage::map(fd.as_raw_fd(), self.fd.run_size())?,
            thread: AtomicI32::new(0),
        };
        Ok(Vcpu {
            fd,
            kick: Arc::new(kick),
            _memory: self.memory.clone(),
        })
    }
}

/// One virtual processor; runs on whichever thread owns it.
pub struct Vcpu {
    fd: VcpuFd,
    kick: Arc<Kick>,
    _memory: GuestMemory,
}

impl Vcpu {
    #[must_use]
    pub const fn fd(&self) -> &VcpuFd {
        &self.fd
    }

    pub const fn fd_mut(&mut self) -> &mut VcpuFd {
        &mut self.fd
    }

    #[must_use]
    pub fn kick(&self) -> Arc<Kick> {
        Arc::clone(&self.kick)
    }

    /// Makes this thread the one that a kick signals.
    pub fn bind(&self) {
        let thread = rustix::thread::gettid().as_raw_nonzero().get();
        self.kick.thread.store(thread, Ordering::Release);
    }

    /// Forgets kicks that were seen.
    pub fn unkick(&self) {
        self.kick.run.flag().store(0, Ordering::SeqCst);
    }

    /// The extended state, as far as 4096 bytes hold it.
    ///
    /// # Errors
    /// As `KVM_GET_XSAVE`.
    pub fn xsave(&self) -> io::Result<kvm_xsave> {
        self.fd.get_xsave().map_err(error)
    }

    /// # Errors
    /// As `KVM_SET_XSAVE`.
    pub fn set_xsave(&self, state: &kvm_xsave) -> io::Result<()> {
        // SAFETY: without ARCH_REQ_XCOMP_GUEST_PERM, which nothing here asks
        // for, KVM reads no more than the 4096 bytes of the structure.
        unsafe { self.fd.set_xsave(state) }.map_err(error)
    }
}

/// Gets one vCPU out of `KVM_RUN`, from any thread.
pub struct Kick {
    run: RunPage,
    thread: AtomicI32,
}

impl Kick {
    /// The next or present `KVM_RUN` ends with EINTR.
    pub fn kick(&self) {
        self.run.flag().store(1, Ordering::SeqCst);
        let thread = self.thread.load(Ordering::Acquire);
        if thread != 0 {
            let process = rustix::process::getpid().as_raw_nonzero().get();
            // SAFETY: sends a signal whose handler does nothing; the thread is
            // of this process, and a thread that ended gives ESRCH.
            unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal()) };
        }
    }
}

/// Installs the empty handler of the kick's signal.
///
/// # Errors
/// As `sigaction(2)`.
pub fn prepare_kicks() -> io::Result<()> {
    extern "C" fn nothing(_: libc::c_int) {}
    let action = nix::sys::signal::SigAction::new(
        nix::sys::signal::SigHandler::Handler(nothing),
        nix::sys::signal::SaFlags::empty(),
        nix::sys::signal::SigSet::empty(),
    );
    // SAFETY: the handler touches nothing, so it is safe at any instruction.
    unsafe { nix::sys::signal::sigaction(nix::sys::signal::Signal::SIGUSR1, &action) }?;
    Ok(())
}

const fn signal() -> libc::c_int {
    libc::SIGUSR1
}

/// A second view of a vCPU's `kvm_run` page, for its `immediate_exit` alone.
struct RunPage {
    start: NonNull<libc::c_void>,
    length: usize,
}

// SAFETY: the only access is to one atomic byte, and unmapping is by the owner.
unsafe impl Send for RunPage {}
// SAFETY: as above.
unsafe impl Sync for RunPage {}

impl RunPage {
    fn map(vcpu: RawFd, length: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                vcpu,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start =
            NonNull::new(start).ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
        Ok(Self { start, length })
    }

    fn flag(&self) -> &AtomicU8 {
        let offset = offset_of!(kvm_run, immediate_exit);
        // SAFETY: the offset lies within the page that `map` made.
        let byte = unsafe { self.start.as_ptr().cast::<u8>().add(offset) };
        // SAFETY: mapped for as long as `self`; here only atomically accessed,
        // and by the kernel; kvm-ioctls leaves the byte alone unless told.
        unsafe { AtomicU8::from_ptr(byte) }
    }
}

impl Drop for RunPage {
    fn drop(&mut self) {
        // SAFETY: the mapping is this object's own, and `flag` borrows it.
        unsafe { libc::munmap(self.start.as_ptr(), self.length) };
    }
}

/// The error of an ioctl as the standard library's.
#[must_use]
pub fn error(error: kvm_ioctls::Error) -> io::Error {
    io::Error::from_raw_os_error(error.errno())
}
