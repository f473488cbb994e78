//! What each thread may ask of the kernel, call by call, and why.
//!
//! The process has the list of setup before it reads a byte from anybody; each
//! thread adds its own before that sees the first byte of the guest, and both
//! have to allow a call. Anything else kills the process (exit by SIGSYS). `main`
//! adds its own last, because building a machine needs more than running one.

use std::io;
use sys::seccomp::numbers as n;
use sys::seccomp::{Arg, Call, absent, call, call_when, confine};

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
    call(n::SYS_eventfd2, "the line of a disk that is attached"),
    ioctl(&[Arg::Is(1, IRQFD)], "KVM_IRQFD: the same"),
    ioctl(&[Arg::Is(1, IOEVENTFD)], "KVM_IOEVENTFD: its doorbell"),
    call(n::SYS_pwrite64, "freezing to a file"),
    call(n::SYS_ftruncate, "freezing to a file"),
    call(n::SYS_lseek, "freezing to a file, the length of a disk"),
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

const IRQFD: u32 = 0x4020_AE76;
const IOEVENTFD: u32 = 0x4040_AE79;
const GET_CLOCK: u32 = 0x8030_AE7C;
const GET_IRQCHIP: u32 = 0xC208_AE62;

const fn ioctl(number: &'static [Arg], reason: &'static str) -> Call {
    call_when(n::SYS_ioctl, number, reason)
}

/// A vCPU: runs the guest, and reads its own state when it is to be frozen.
const VCPU: &[Call] = &[
    ioctl(&[Arg::Is(1, RUN)], "KVM_RUN"),
    ioctl(&[Arg::Is(1, 0x8004_AE98)], "KVM_GET_MP_STATE"),
    ioctl(&[Arg::Is(1, 0xC008_AE91)], "KVM_GET_CPUID2"),
    ioctl(&[Arg::Is(1, 0x8090_AE81)], "KVM_GET_REGS"),
    ioctl(&[Arg::Is(1, 0x8138_AE83)], "KVM_GET_SREGS"),
    ioctl(&[Arg::Is(1, 0x9000_AEA4)], "KVM_GET_XSAVE"),
    ioctl(&[Arg::Is(1, 0x8188_AEA6)], "KVM_GET_XCRS"),
    ioctl(&[Arg::Is(1, 0x8080_AEA1)], "KVM_GET_DEBUGREGS"),
    ioctl(&[Arg::Is(1, 0x8400_AE8E)], "KVM_GET_LAPIC"),
    ioctl(&[Arg::Is(1, 0xC008_AE88)], "KVM_GET_MSRS"),
    ioctl(&[Arg::Is(1, 0x8040_AE9F)], "KVM_GET_VCPU_EVENTS"),
    ioctl(&[Arg::Is(1, 0x4008_AE6A)], "KVM_SET_GSI_ROUTING: MSI-X"),
];

/// A disk: moves bytes between its file and guest memory.
const DISK: &[Call] = &[
    call(n::SYS_preadv2, "reads"),
    call(n::SYS_pwritev2, "writes"),
    call(n::SYS_fdatasync, "flushes"),
    call(n::SYS_fallocate, "discards, writing of zeroes"),
];

/// Of pthread_create(3): memory, files, handlers shared; no namespace made.
const THREAD: u32 = (n::CLONE_VM
    | n::CLONE_FS
    | n::CLONE_FILES
    | n::CLONE_SYSVSEM
    | n::CLONE_SIGHAND
    | n::CLONE_THREAD
    | n::CLONE_SETTLS
    | n::CLONE_PARENT_SETTID
    | n::CLONE_CHILD_CLEARTID) as u32;
const SET_MODE_FILTER: u32 = 1;

/// Makes a machine of what was handed in, and starts the threads: beside what
/// these do.
const SETUP: &[Call] = &[
    call(n::SYS_pread64, "the kernel's headers"),
    call(n::SYS_statx, "sizes of kernel, initramfs, memory"),
    call(n::SYS_timerfd_create, "deadlines of the loop"),
    call(n::SYS_epoll_create1, "the loop"),
    call_when(
        n::SYS_fcntl,
        &[Arg::Is(1, n::F_DUPFD_CLOEXEC as u32)],
        "both users of a line",
    ),
    call(n::SYS_rt_sigaction, "the kick's handler, threads"),
    absent(n::SYS_clone3, "threads: its flags are out of sight"),
    call_when(n::SYS_clone, &[Arg::Is(0, THREAD)], "threads"),
    call(n::SYS_rseq, "a thread's start"),
    call(n::SYS_set_robust_list, "a thread's start"),
    call(n::SYS_sched_getaffinity, "a thread's start: its stack"),
    call_when(
        n::SYS_prctl,
        &[Arg::Is(0, n::PR_SET_NAME as u32)],
        "a thread's name",
    ),
    call_when(
        n::SYS_prctl,
        &[Arg::Is(0, n::PR_SET_NO_NEW_PRIVS as u32)],
        "a thread's own list",
    ),
    call_when(
        n::SYS_seccomp,
        &[Arg::Is(0, SET_MODE_FILTER)],
        "a thread's own list",
    ),
    ioctl(&[Arg::Is(1, 0xAE01)], "KVM_CREATE_VM"),
    ioctl(&[Arg::Is(1, 0xAE03)], "KVM_CHECK_EXTENSION"),
    ioctl(&[Arg::Is(1, 0xAE04)], "KVM_GET_VCPU_MMAP_SIZE"),
    ioctl(&[Arg::Is(1, 0xC008_AE05)], "KVM_GET_SUPPORTED_CPUID"),
    ioctl(&[Arg::Is(1, 0xAE41)], "KVM_CREATE_VCPU"),
    ioctl(&[Arg::Is(1, 0x4020_AE46)], "KVM_SET_USER_MEMORY_REGION"),
    ioctl(&[Arg::Is(1, 0xAE47)], "KVM_SET_TSS_ADDR"),
    ioctl(&[Arg::Is(1, 0x4008_AE48)], "KVM_SET_IDENTITY_MAP_ADDR"),
    ioctl(&[Arg::Is(1, 0xAE60)], "KVM_CREATE_IRQCHIP"),
    ioctl(&[Arg::Is(1, 0x4090_AE82)], "KVM_SET_REGS"),
    ioctl(&[Arg::Is(1, 0x4138_AE84)], "KVM_SET_SREGS"),
    ioctl(&[Arg::Is(1, 0x4008_AE89)], "KVM_SET_MSRS"),
    ioctl(&[Arg::Is(1, 0x4008_AE90)], "KVM_SET_CPUID2"),
    ioctl(&[Arg::Is(1, 0x8208_AE63)], "thaw: KVM_SET_IRQCHIP"),
    ioctl(&[Arg::Is(1, 0x4030_AE7B)], "thaw: KVM_SET_CLOCK"),
    ioctl(&[Arg::Is(1, 0x4400_AE8F)], "thaw: KVM_SET_LAPIC"),
    ioctl(&[Arg::Is(1, 0x4004_AE99)], "thaw: KVM_SET_MP_STATE"),
    ioctl(&[Arg::Is(1, 0x4040_AEA0)], "thaw: KVM_SET_VCPU_EVENTS"),
    ioctl(&[Arg::Is(1, 0x4080_AEA2)], "thaw: KVM_SET_DEBUGREGS"),
    ioctl(&[Arg::Is(1, 0x5000_AEA5)], "thaw: KVM_SET_XSAVE"),
    ioctl(&[Arg::Is(1, 0x4188_AEA7)], "thaw: KVM_SET_XCRS"),
];

/// # Errors
/// As `sys::seccomp::confine`.
pub fn confine_setup() -> io::Result<()> {
    confine(&[COMMON, MAIN, VCPU, DISK, SETUP])
}

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
pub fn lists() -> [(&'static str, Vec<Call>); 4] {
    [
        ("setup", [COMMON, MAIN, VCPU, DISK, SETUP].concat()),
        ("main", [COMMON, MAIN].concat()),
        ("vcpu", [COMMON, VCPU].concat()),
        ("disk", [COMMON, DISK].concat()),
    ]
}
