//! Every system call that a safe crate does not offer, and every raw handle:
//! the one home of `unsafe`. Decides nothing and keeps no policy.
#![expect(
    unsafe_code,
    reason = "this crate wraps what needs it, one operation a block"
)]

mod child;
pub mod clock;
pub mod event;
pub mod handover;
pub mod heap;
pub mod inherit;
pub mod jail;
pub mod kvm;
pub mod machine;
pub mod memory;
pub mod message;
pub mod mount;
pub mod namespace;
pub mod packet;
pub mod process;
pub mod seccomp;
pub mod signals;
pub mod uevent;
pub mod vectored;

pub use rustix::process::{Pid, Resource};
pub use rustix::thread::CapabilitySet;
