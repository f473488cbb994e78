//! What each thread may ask of the kernel, call by call, and why.
//!
//! A list is installed by its own thread before that sees the first byte of the
//! guest; anything else kills the process (exit by SIGSYS). `main` installs its
//! own last, because building a machine needs more than running one.

use std::io;
use sys::seccomp::numbers as n;
use sys::seccomp::{Arg, Call, call, call_when, confine};

const EXECUTABLE: u32 = n::PROT_EXEC as u32;
const RUN: u32 = 0xAE80;

/// Every thread.
const COMMON: &[Call] = &[
    call(n::SYS_read, "eventfds, pipes"),
    call(n::SYS_write, "eventfds, the log, serial output"),
    call(n::SYS_futex, "locks and channels between threads"),
    call(n::SYS_sched_yield, "channels, before they sleep"),
    call(n::SYS_exit_group, "the end of the process"),
    call(n::SYS_exit, "the end of a thread"),
    call(n::SYS_rt_sigreturn, "return from a kick's handler"),
    call(n::SYS_rt_sigprocmask, "abort, thread exit"),
    call(n::SYS_sigaltstack, "thread exit"),
    call(n::SYS_restart_syscall, "after a stop and continue"),
    call(n::SYS_clock_gettime, "time, where the vDSO can't tell it"),
    call(n::SYS_getrandom, "keys of hash tables; virtio-rng"),
    call(n::SYS_brk, "the allocator"),
    call_when(
        n::SYS_mmap,
        &[Arg::Without(2, EXECUTABLE)],
        "the allocator; never executable",
    ),
    call_when(
        n::SYS_mprotect,
        &[Arg::Without(2, EXECUTABLE)],
        "the allocator's arenas; never executable",
    ),
    call(n::SYS_munmap, "the allocator"),
    call(n::SYS_mremap, "the allocator"),
    call(n::SYS_madvise, "the allocator, stacks of ended threads"),
    call(n::SYS_close, "descriptors that were handed in"),
    call_when(
        n::SYS_fcntl,
        &[Arg::Is(1, n::F_GETFD as u32)],
        "std looks before it closes, in builds with debug assertions",
    ),
    call(n::SYS_getpid, "abort"),
    call(n::SYS_gettid, "abort"),
    call_when(
        n::SYS_tgkill,
        &[Arg::Is(2, n::SIGABRT as u32)],
        "abort after a broken invariant",
    ),
];

/// The event loop.
const MAIN: &[Call] = &[
    call(n::SYS_epoll_wait, "the loop"),
    call(n::SYS_epoll_pwait, "the loop"),
    call(n::SYS_epoll_ctl, "vsock streams come and go"),
    call(n::SYS_recvmsg, "the control socket"),
    call(n::SYS_sendmsg, "the control socket"),
    call(n::SYS_timerfd_settime, "deadlines of vsock connections"),
    call_when(
        n::SYS_ioctl,
        &[Arg::Is(1, n::FIONBIO as u32)],
        "streams that were handed in must not block",
    ),
    call(n::SYS_readv, "vsock streams to guest memory"),
    call(n::SYS_writev, "guest memory to vsock streams; the log"),
    call(n::SYS_sendto, "backlogs of vsock streams"),
    call(n::SYS_shutdown, "half-closed vsock streams"),
    call_when(
        n::SYS_tgkill,
        &[Arg::Is(2, n::SIGUSR1 as u32)],
        "kicks of vCPUs",
    ),
    call(n::SYS_pwrite64, "freezing to a file"),
    call(n::SYS_ftruncate, "freezing to a file"),
    call(n::SYS_lseek, "freezing to a file"),
    call_when(
        n::SYS_ioctl,
        &[Arg::Is(1, GET_CLOCK)],
        "freezing: the guest's clock",
    ),
    call_when(
        n::SYS_ioctl,
        &[Arg::Is(1, GET_IRQCHIP)],
        "freezing: interrupt controllers",
    ),
];

const GET_CLOCK: u32 = 0x8030_AE7C;
const GET_IRQCHIP: u32 = 0xC208_AE62;

const fn vcpu_ioctl(number: &'static [Arg], reason: &'static str) -> Call {
    call_when(n::SYS_ioctl, number, reason)
}

/// A vCPU: runs the guest, and reads its own state when it is to be frozen.
const VCPU: &[Call] = &[
    vcpu_ioctl(&[Arg::Is(1, RUN)], "KVM_RUN"),
    vcpu_ioctl(&[Arg::Is(1, 0x8004_AE98)], "KVM_GET_MP_STATE"),
    vcpu_ioctl(&[Arg::Is(1, 0xC008_AE91)], "KVM_GET_CPUID2"),
    vcpu_ioctl(&[Arg::Is(1, 0x8090_AE81)], "KVM_GET_REGS"),
    vcpu_ioctl(&[Arg::Is(1, 0x8138_AE83)], "KVM_GET_SREGS"),
    vcpu_ioctl(&[Arg::Is(1, 0x9000_AEA4)], "KVM_GET_XSAVE"),
    vcpu_ioctl(&[Arg::Is(1, 0x8188_AEA6)], "KVM_GET_XCRS"),
    vcpu_ioctl(&[Arg::Is(1, 0x8080_AEA1)], "KVM_GET_DEBUGREGS"),
    vcpu_ioctl(&[Arg::Is(1, 0x8400_AE8E)], "KVM_GET_LAPIC"),
    vcpu_ioctl(&[Arg::Is(1, 0xC008_AE88)], "KVM_GET_MSRS"),
    vcpu_ioctl(&[Arg::Is(1, 0x8040_AE9F)], "KVM_GET_VCPU_EVENTS"),
    vcpu_ioctl(&[Arg::Is(1, 0x4008_AE6A)], "KVM_SET_GSI_ROUTING: MSI-X"),
];

/// A disk: moves bytes between its file and guest memory.
const DISK: &[Call] = &[
    call(n::SYS_preadv2, "reads"),
    call(n::SYS_pwritev2, "writes"),
    call(n::SYS_fdatasync, "flushes"),
    call(n::SYS_fallocate, "discards, writing of zeroes"),
];

/// # Errors
/// As `sys::seccomp::confine`.
pub fn confine_main() -> io::Result<()> {
    confine(&[COMMON, MAIN])
}

/// # Errors
/// As `sys::seccomp::confine`.
pub fn confine_vcpu() -> io::Result<()> {
    confine(&[COMMON, VCPU])
}

/// # Errors
/// As `sys::seccomp::confine`.
pub fn confine_disk() -> io::Result<()> {
    confine(&[COMMON, DISK])
}

/// Reads the log of what `confine_*` allows, for documentation and tests.
#[must_use]
pub fn lists() -> [(&'static str, Vec<Call>); 3] {
    [
        ("main", [COMMON, MAIN].concat()),
        ("vcpu", [COMMON, VCPU].concat()),
        ("disk", [COMMON, DISK].concat()),
    ]
}
