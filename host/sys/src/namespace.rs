//! The one set of empty namespaces that all vmms share.
//!
//! A network without interfaces, no IPC objects, a neutral host name, and a
//! mount namespace whose root is an empty read-only tmpfs. Made by a child that
//! ends at once; the descriptors keep the namespaces alive.

use crate::process::{Child, clone_process, wait};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use std::ffi::CStr;
use std::io;

/// Open handles of the namespaces.
#[derive(Debug)]
pub struct EmptyNamespaces {
    net: OwnedFd,
    ipc: OwnedFd,
    uts: OwnedFd,
    mnt: OwnedFd,
}

impl EmptyNamespaces {
    /// Makes the namespaces. `scratch` is a directory that the new root may
    /// hide for a moment, outside of the mounts in `hidden`; those are let go,
    /// so that they can be unmounted for good later.
    ///
    /// # Errors
    /// The first call that failed; it needs `CAP_SYS_ADMIN`.
    pub fn create(scratch: &CStr, hidden: &[&CStr]) -> io::Result<Self> {
        let flags = rustix::pipe::PipeFlags::CLOEXEC;
        let (result_reader, result_writer) = rustix::pipe::pipe_with(flags)?;
        let child = clone_process(None, || {
            let errno = match empty_everything(scratch, hidden) {
                Ok(()) => 0,
                Err(errno) => errno.raw_os_error(),
            };
            let _told = rustix::io::write(&result_writer, &errno.to_le_bytes());
            // Until the parent has the handles and kills this process.
            nix::unistd::pause();
            0
        })?;
        drop(result_writer);
        let namespaces = Self::open(&child, &result_reader);
        rustix::process::pidfd_send_signal(&child.pidfd, rustix::process::Signal::KILL)?;
        wait(child.pid)?;
        namespaces
    }

    fn open(child: &Child, result: &OwnedFd) -> io::Result<Self> {
        let mut errno = [0; 4];
        match rustix::io::read(result, &mut errno)? {
            4 => {}
            _ => return Err(Errno::CHILD.into()),
        }
        match i32::from_le_bytes(errno) {
            0 => {}
            errno => return Err(io::Error::from_raw_os_error(errno)),
        }
        let pid = child.pid.as_raw_nonzero();
        let open = |kind: &str| {
            let path = format!("/proc/{pid}/ns/{kind}");
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::empty())
        };
        Ok(Self {
            net: open("net")?,
            ipc: open("ipc")?,
            uts: open("uts")?,
            mnt: open("mnt")?,
        })
    }

    /// In the order in which a child enters them.
    #[must_use]
    pub fn handles(&self) -> [BorrowedFd<'_>; 4] {
        [&self.net, &self.ipc, &self.uts, &self.mnt].map(AsFd::as_fd)
    }
}

fn empty_everything(scratch: &CStr, hidden: &[&CStr]) -> Result<(), Errno> {
    use rustix::thread::UnshareFlags;
    let flags = UnshareFlags::NEWNET
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWNS
        | UnshareFlags::FS;
    // SAFETY: neither FILES nor a thread of this process is concerned; the
    // process is a copy with one thread.
    unsafe { rustix::thread::unshare_unsafe(flags) }?;
    rustix::system::sethostname(b"vmm")?;
    rustix::system::setdomainname(b"(none)")?;
    rustix::mount::mount_change(
        c"/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let options = c"size=4k,nr_inodes=1,mode=0555";
    rustix::mount::mount(c"atoll-empty", scratch, c"tmpfs", flags, Some(options))?;
    for path in hidden {
        // Not all of them need to be mounted.
        let _unmounted = rustix::mount::unmount(*path, UnmountFlags::DETACH);
    }
    rustix::process::chdir(scratch)?;
    replace_root()?;
    rustix::mount::mount_remount(c"/", flags | MountFlags::RDONLY, c"")
}

/// The working directory becomes the root. The kernel's first root file system
/// can't be pivoted away (pivot_root(2), NOTES); there the new root covers it.
fn replace_root() -> Result<(), Errno> {
    if rustix::process::pivot_root(c".", c".") == Ok(()) {
        rustix::mount::unmount(c".", UnmountFlags::DETACH)?;
        return rustix::process::chdir(c"/");
    }
    rustix::mount::mount_move(c".", c"/")?;
    rustix::process::chroot(c".")?;
    rustix::process::chdir(c"/")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::process::{Program, Spawn};
    use std::ffi::CString;
    use std::io::Read;

    #[test]
    fn a_child_in_them_sees_nothing() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let scratch = tempfile_dir();
        let namespaces = EmptyNamespaces::create(&scratch, &[]).unwrap();
        let busybox = std::fs::File::open("/bin/busybox").unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let script = "echo /*; hostname; cat /proc/net/dev; : > /file";
        let arguments = ["sh", "-c", script].map(|text| CString::new(text).unwrap());
        let child = Spawn {
            program: Program::Fd(busybox.as_fd()),
            arguments: &arguments,
            environment: &[],
            descriptors: &[null.as_fd(), writer.as_fd(), writer.as_fd()],
            namespaces: &namespaces.handles(),
            cgroup: None,
            oom_score_adj: None,
            rlimits: &[],
            credentials: None,
            no_new_privs: true,
        };
        let child = child.spawn().unwrap();
        drop(writer);
        let mut output = String::new();
        reader.read_to_string(&mut output).unwrap();
        wait(child.pid).unwrap();
        assert!(output.starts_with("/*\n"), "{output}");
        assert!(output.contains("Read-only file system"), "{output}");
    }

    fn tempfile_dir() -> CString {
        let path = format!("/tmp/atoll-empty-{}", std::process::id());
        std::fs::create_dir_all(&path).unwrap();
        CString::new(path).unwrap()
    }
}
