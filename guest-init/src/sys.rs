//! The system calls that neither std, rustix nor nix offer safely.
#![expect(
    unsafe_code,
    reason = "six calls without a safe wrapper; the only such module of this crate"
)]

use rustix::io::Errno;
use rustix::ioctl::{self, NoArg, Opcode, Setter, opcode};
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// `struct rand_pool_info` of linux/random.h with a buffer of 32 bytes.
#[repr(C)]
struct PoolInfo {
    entropy_count: i32,
    buf_size: i32,
    buf: [u8; 32],
}

const RNDADDENTROPY: Opcode = opcode::write::<[i32; 2]>(b'R', 3);
const RNDRESEEDCRNG: Opcode = opcode::none(b'R', 7);

/// Mixes 32 secret random bytes into the pool and credits them.
pub(crate) fn add_entropy(random: impl AsFd, seed: [u8; 32]) -> Result<(), Errno> {
    let info = PoolInfo {
        entropy_count: 256,
        buf_size: 32,
        buf: seed,
    };
    // SAFETY: RNDADDENTROPY reads a rand_pool_info whose buffer is as long as
    // buf_size says, which is PoolInfo's layout.
    let request = unsafe { Setter::<RNDADDENTROPY, PoolInfo>::new(info) };
    // SAFETY: the kernel only reads the request, see above.
    unsafe { ioctl::ioctl(random, request) }
}

/// Makes the generator use what was mixed in, now.
pub(crate) fn reseed(random: impl AsFd) -> Result<(), Errno> {
    // SAFETY: RNDRESEEDCRNG takes no argument.
    let request = unsafe { NoArg::<RNDRESEEDCRNG>::new() };
    // SAFETY: as above; nothing is passed.
    unsafe { ioctl::ioctl(random, request) }
}

/// Sets OUT1 in a serial port's modem control (ioctl_tty(2), TIOCMBIS).
pub(crate) fn set_out1(port: impl AsFd) -> Result<(), Errno> {
    const TIOCMBIS: Opcode = 0x5416;
    const TIOCM_OUT1: i32 = 0x2000;
    // SAFETY: TIOCMBIS reads one int.
    let request = unsafe { Setter::<TIOCMBIS, i32>::new(TIOCM_OUT1) };
    // SAFETY: the kernel only reads the request, see above.
    unsafe { ioctl::ioctl(port, request) }
}

/// `struct blkpg_ioctl_arg` and `struct blkpg_partition` of linux/blkpg.h.
#[repr(C)]
struct PartitionRequest {
    operation: i32,
    flags: i32,
    length: i32,
    partition: *mut Partition,
}

#[repr(C)]
struct Partition {
    start: i64,
    length: i64,
    number: i32,
    names: [u8; 128],
}

/// Makes a part of a disk, in bytes, a block device of its own (ioctl BLKPG).
///
/// # Errors
/// EBUSY if there is one of that number, or one in the way.
pub(crate) fn add_partition(
    disk: impl AsFd,
    number: u16,
    start: i64,
    length: i64,
) -> Result<(), Errno> {
    const BLKPG: Opcode = 0x1269;
    const ADD_PARTITION: i32 = 1;
    let mut partition = Partition {
        start,
        length,
        number: i32::from(number),
        names: [0; 128],
    };
    let request = PartitionRequest {
        operation: ADD_PARTITION,
        flags: 0,
        length: size_of::<Partition>() as i32,
        partition: &raw mut partition,
    };
    // SAFETY: BLKPG reads a blkpg_ioctl_arg, which is the request's layout, and
    // the blkpg_partition that it points to, which lives until the end of this
    // function.
    let request = unsafe { Setter::<BLKPG, PartitionRequest>::new(request) };
    // SAFETY: the kernel only reads both, see above.
    unsafe { ioctl::ioctl(disk, request) }
}

/// `struct mount_attr` of linux/mount.h.
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

const MOUNT_ATTR_RDONLY: u64 = 1;
const MOUNT_ATTR_NOSUID: u64 = 2;
const MOUNT_ATTR_NODEV: u64 = 4;
const MOUNT_ATTR_NOEXEC: u64 = 8;

/// Takes writing away from a mount and all below it.
pub(crate) fn set_read_only(tree: impl AsFd) -> io::Result<()> {
    set_attributes(tree, MOUNT_ATTR_RDONLY)
}

/// Leaves nothing but reading: no writing, programs, devices.
pub(crate) fn set_data_only(tree: impl AsFd) -> io::Result<()> {
    let data = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    set_attributes(tree, MOUNT_ATTR_RDONLY | data)
}

/// mount_setattr(2), of a mount and all below it.
fn set_attributes(tree: impl AsFd, set: u64) -> io::Result<()> {
    use nix::libc::{AT_EMPTY_PATH, AT_RECURSIVE, SYS_mount_setattr, syscall};
    let tree = tree.as_fd();
    let attributes = MountAttributes {
        set,
        clear: 0,
        propagation: 0,
        user_namespace: 0,
    };
    // SAFETY: the kernel reads an empty path that ends with a zero byte, and as
    // many bytes of the attributes as it is told there are.
    let result = unsafe {
        syscall(
            SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            AT_EMPTY_PATH | AT_RECURSIVE,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Gives every signal its default action back: Rust's runtime ignores SIGPIPE,
/// and what whoever started this program ignored, its children would ignore too.
pub(crate) fn default_signals() {
    use nix::libc::{SIG_DFL, SIGRTMAX, signal};
    for number in 1..=SIGRTMAX() {
        // SAFETY: SIG_DFL runs no code of ours; a number that can't be changed
        // is refused.
        unsafe { signal(number, SIG_DFL) };
    }
}
