//! What a process gives up for good before it reads a foreign byte.

use rustix::process::DumpableBehavior;
use rustix::thread::{CapabilitySet, CapabilitySets};
use std::io;

/// Sets `no_new_privs`, makes the process undumpable (so that no other process
/// of its uid can trace it) and drops every capability.
///
/// # Errors
/// The call that failed; EPERM if a capability is left after all.
pub fn confine() -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    drop_capabilities()?;
    // Last, because a change of credentials may set it again.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

fn drop_capabilities() -> io::Result<()> {
    let held = rustix::thread::capabilities(None)?;
    if held.effective.contains(CapabilitySet::SETPCAP) {
        for capability in CapabilitySet::all().iter() {
            match rustix::thread::remove_capability_from_bounding_set(capability) {
                // A capability that this kernel doesn't know can't be held.
                Ok(()) | Err(rustix::io::Errno::INVAL) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    if held != none {
        rustix::thread::clear_ambient_capability_set()?;
        rustix::thread::set_capabilities(None, none)?;
    }
    if rustix::thread::capabilities(None)? == none {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(nix::libc::EPERM))
    }
}
