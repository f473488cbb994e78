//! The kernel's parameters that a pod sets: all that this kernel has, since no
//! other pod shares it.

use crate::errors::{failed, invalid};
use guest_protocol::Refusal;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::os::fd::AsFd;

const MOST: usize = 1024;

/// Sets each, by its path below `/proc/sys`; the first that can't be ends it.
///
/// # Errors
/// Names the parameter.
pub(crate) fn set(sysctls: &BTreeMap<String, String>) -> Result<(), Refusal> {
    if sysctls.is_empty() {
        return Ok(());
    }
    if sysctls.len() > MOST {
        return Err(invalid(format!("sysctls: more than {MOST}")));
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, "/proc/sys", flags, Mode::empty()).map_err(failed("/proc/sys"))?;
    for (path, value) in sysctls {
        let name = || format!("sysctl {path:?}");
        write(&root, path, value).map_err(|errno| match errno {
            Errno::NOENT | Errno::XDEV | Errno::ISDIR => {
                invalid(format!("{}: this kernel has none", name()))
            }
            Errno::INVAL => invalid(format!("{}: invalid value {value:?}", name())),
            other => failed(name())(other),
        })?;
    }
    Ok(())
}

/// The kernel takes a value by one write.
fn write(root: impl AsFd, path: &str, value: &str) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let file = openat2(root, path, flags, Mode::empty(), resolve)?;
    let written = rustix::io::write(&file, value.as_bytes())?;
    match written == value.len() {
        true => Ok(()),
        false => Err(Errno::INVAL),
    }
}
