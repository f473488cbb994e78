//! How a vmm is started: with nothing but what it needs.
//!
//! | number | descriptor |
//! | --- | --- |
//! | 0, 1 | `/dev/null` |
//! | 2 | a pipe to the log |
//! | 3 | the control socket |
//! | 4 | `/dev/kvm` |
//!
//! It is executed by descriptor in the shared empty namespaces, with an uid of
//! its own, no capability, NoNewPrivs, and in its own cgroup from its first
//! instruction.

use super::cgroup::MachineGroup;
use super::role;
use machine_spec::MachineId;
use machine_spec::launch::Limits;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use sys::namespace::EmptyNamespaces;
use sys::process::{Child, Credentials, Program, Rlimit, Spawn};
use sys::{CapabilitySet, Resource};

/// The uid of slot 0.
const UID_BASE: u32 = 200_000;
/// When memory is short, guests go before roles.
const OOM_SCORE: i16 = 500;

const LIMITS: [Rlimit; 3] = [
    Rlimit {
        resource: Resource::Nofile,
        value: 1024,
    },
    Rlimit {
        resource: Resource::Core,
        value: 0,
    },
    Rlimit {
        resource: Resource::Memlock,
        value: 8 << 20,
    },
];

/// What all vmms have in common.
pub(super) struct Jail {
    pub(super) namespaces: EmptyNamespaces,
    pub(super) program: File,
    /// `/dev/kvm`.
    pub(super) kvm: PathBuf,
    /// The directory of the vmms' cgroups.
    pub(super) cgroups: PathBuf,
}

/// A vmm that runs.
pub(super) struct Launched {
    pub(super) child: Child,
    /// The end for `node`.
    pub(super) control: OwnedFd,
    pub(super) group: MachineGroup,
}

impl Jail {
    /// Starts a vmm for the machine; `slot` makes its uid.
    pub(super) fn start(
        &self,
        id: MachineId,
        limits: Limits,
        slot: u32,
        log: BorrowedFd<'_>,
    ) -> io::Result<Launched> {
        let kvm = File::options().read(true).write(true).open(&self.kvm)?;
        let group = MachineGroup::create_below(&self.cgroups, id, limits)?;
        match self.start_in(&group, slot, &kvm, log) {
            Ok((child, control)) => Ok(Launched {
                child,
                control,
                group,
            }),
            Err(error) => {
                drop(group.remove());
                Err(error)
            }
        }
    }

    fn start_in(
        &self,
        group: &MachineGroup,
        slot: u32,
        kvm: &File,
        log: BorrowedFd<'_>,
    ) -> io::Result<(Child, OwnedFd)> {
        let null = File::options().read(true).write(true).open("/dev/null")?;
        let (ours, theirs) = sys::message::pair()?;
        let cgroup = group.open()?;
        let arguments = role::strings(&["atoll-vmm"])?;
        let environment = role::environment(&[])?;
        let uid = UID_BASE + slot;
        let spawn = Spawn {
            program: Program::Fd(self.program.as_fd()),
            arguments: &arguments,
            environment: &environment,
            descriptors: &[null.as_fd(), null.as_fd(), log, theirs.as_fd(), kvm.as_fd()],
            namespaces: &self.namespaces.handles(),
            cgroup: Some(cgroup.as_fd()),
            oom_score_adj: Some(OOM_SCORE),
            rlimits: &LIMITS,
            credentials: Some(Credentials {
                uid,
                gid: uid,
                capabilities: CapabilitySet::empty(),
            }),
            no_new_privs: true,
        };
        let child = spawn.spawn().map_err(|error| {
            log::error!("vmm: {error}");
            io::Error::from(error.errno)
        })?;
        Ok((child, ours))
    }
}
