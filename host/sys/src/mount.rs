//! Mounting and unmounting, with errors that name both ends.

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use std::ffi::CString;
use std::io;

/// One mount, as fstab has it.
#[derive(Clone, Copy, Debug)]
pub struct Mount<'a> {
    pub source: &'a str,
    pub target: &'a str,
    pub kind: &'a str,
    pub options: &'a str,
    pub access: Access,
}

/// What may be done in a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Data only: no devices, no set-uid, no programs.
    Data,
    ReadOnlyData,
    /// Data with device nodes, for devtmpfs and devpts.
    Devices,
}

/// Why a mount failed.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {source_name} on {target}: {source}")]
pub struct MountError {
    pub operation: &'static str,
    pub source_name: String,
    pub target: String,
    pub source: io::Error,
}

impl Mount<'_> {
    /// # Errors
    /// What mount(2) says.
    pub fn mount(&self) -> Result<(), MountError> {
        let data = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        let flags = match self.access {
            Access::Data => data,
            Access::ReadOnlyData => data | MountFlags::RDONLY,
            Access::Devices => MountFlags::NOSUID | MountFlags::NOEXEC,
        };
        let options = CString::new(self.options).map_err(|e| self.error("mount", e.into()))?;
        rustix::mount::mount(
            self.source,
            self.target,
            self.kind,
            flags,
            Some(options.as_c_str()),
        )
        .map_err(|errno| self.error("mount", errno.into()))
    }

    fn error(&self, operation: &'static str, source: io::Error) -> MountError {
        MountError {
            operation,
            source_name: self.source.into(),
            target: self.target.into(),
            source,
        }
    }
}

/// Makes the root read-only.
///
/// # Errors
/// What mount(2) says.
pub fn remount_root_read_only() -> io::Result<()> {
    Ok(rustix::mount::mount_remount(c"/", MountFlags::RDONLY, c"")?)
}

/// Keeps mounts of this namespace out of others and the other way round.
///
/// # Errors
/// What mount(2) says.
pub fn make_root_private() -> io::Result<()> {
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    Ok(rustix::mount::mount_change(c"/", flags)?)
}

/// Makes a file system read-only, so that what stays open can't dirty it.
///
/// # Errors
/// `EBUSY` while a file is open for writing.
pub fn remount_read_only(target: &str) -> io::Result<()> {
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    Ok(rustix::mount::mount_remount(target, flags, c"")?)
}

/// # Errors
/// `EBUSY` while it is used.
pub fn unmount(target: &str) -> io::Result<()> {
    Ok(rustix::mount::unmount(target, UnmountFlags::NOFOLLOW)?)
}

/// Takes it out of sight now, and away when nobody uses it any more.
///
/// # Errors
/// What umount2(2) says.
pub fn detach(target: &str) -> io::Result<()> {
    let flags = UnmountFlags::NOFOLLOW | UnmountFlags::DETACH;
    Ok(rustix::mount::unmount(target, flags)?)
}
