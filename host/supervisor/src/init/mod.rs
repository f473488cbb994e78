//! `atoll init`: PID 1.
//!
//! Single-threaded, no async runtime, and no parser of foreign bytes: labels of
//! disks are compared at fixed offsets, the machine config is parsed by a child.
//!
//! ```text
//!   mounts -> cgroups -> empty namespaces -> modules -> watchdog
//!     -> config (child) -> STATE, DATA -> roles -> loop -> stop -> reboot(2)
//! ```
//!
//! No panic ends it: a panic of PID 1 would panic the kernel. After one, the
//! message stays on the console, children are still reaped, and the watchdog
//! is no longer petted, so that hardware with one restarts.

mod boot;
mod buttons;
mod cgroup;
mod configure;
mod descriptor;
mod disks;
mod emergency;
mod jail;
mod journal;
mod launch;
mod looping;
mod modules;
mod mounts;
mod pipes;
mod role;
mod source;
mod stop;
mod storage;
mod sysctl;
mod text;

use std::process::ExitCode;

pub(crate) use descriptor::{Decision, Disk, Locator};

/// Never returns as PID 1.
pub(crate) fn main() -> ExitCode {
    if std::process::id() != 1 {
        eprintln!("atoll init is the first process of the appliance and runs nowhere else");
        return ExitCode::from(2);
    }
    emergency::guard(|| {
        let booted = boot::boot();
        looping::run(booted)
    })
}

/// The kernel's request for one module, in a process of its own.
pub(crate) fn load_one_module(name: &str) -> ExitCode {
    match modules::Modules::open().and_then(|modules| modules.load_alias(name)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
