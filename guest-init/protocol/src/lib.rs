//! What `node` and `guest-init` say to each other over vsock.
//!
//! `guest-init` listens on [`PORT`]; the host opens every connection. The first
//! frame says what the connection is for, the guest answers with one
//! [`Opened`], and from then on the connection is of that kind:
//!
//! ```text
//!   host: Open::Control        guest: Opened::Ok, Event::Snapshot, then
//!         Command ... ------>         <------ Event ... (answers and news)
//!   host: Open::Logs           guest: Opened::Ok, Stdout|Stderr frames, End
//!         Ack ... ---------->         (keeps at most LOG_BUFFER unacknowledged)
//!   host: Open::Exec           guest: Opened::Ok, streams both ways, Exit
//!   host: Open::PortForward    guest: Opened::Ok, then raw bytes, no frames
//!   host: Open::Project        guest: Opened::Ok
//!         Stdin frames -->            Opened again, when all is in place
//! ```
//!
//! Any connection may break at any moment and be opened again: commands are
//! idempotent, `Snapshot` says everything, log streams resume at an offset.
//! Both sides treat the other's bytes as hostile: every length is bounded here.
//!
//! Not here: restart policy, back-off, probes, image names. `node` decides,
//! the guest carries out.

mod capability;
pub mod figures;
mod frame;
mod pod;
mod stats;
#[cfg(test)]
mod tests;

pub use capability::CAPABILITIES;
pub use frame::{Channel, FrameError, HEADER_LEN, Header};
pub use pod::{
    Container, Exec, FileEntry, Identity, Limits, Mount, Pod, ProjectedFile, Projection, Rlimit,
    SecurityContext, Slice, User, Volume, VolumeKind,
};

pub use stats::{
    ContainerStats, Filesystem, InterfaceStats, IoStats, MemoryStats, Stats, Throttling,
    VolumeStats,
};

use serde::{Deserialize, Serialize};

/// The vsock port of the agent; the same number as `machine_spec`'s.
pub const PORT: u32 = 1024;
/// Raised whenever an older peer could misunderstand.
pub const VERSION: u16 = 1;
/// The largest payload of a JSON frame, in bytes.
pub const JSON_MAX: usize = 4 << 20;
/// The largest payload of a data frame, in bytes.
pub const DATA_MAX: usize = 64 << 10;
/// What the guest keeps of one container's output until it is acknowledged;
/// when it is full, the container's writes block, as with a full pipe.
pub const LOG_BUFFER: usize = 256 << 10;

/// The serial of the disk whose slices hold volumes and writable layers.
pub const SCRATCH_DISK: &str = "scratch";
/// How many slices it may have: partitions of one disk, to Linux.
pub const SLICES_MAX: u16 = 255;

/// How many groups a process may have; the kernel takes 65536, and nobody needs
/// so many.
pub const GROUPS_MAX: usize = 2048;

/// How many volumes a pod may have.
pub const VOLUMES_MAX: usize = 256;
/// How many files, and how many bytes of them, a volume of files may have.
pub const PROJECTED_FILES_MAX: usize = 4096;
pub const PROJECTED_BYTES_MAX: u64 = 16 << 20;

/// The first frame of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Open {
    Control {
        version: u16,
        /// Fresh entropy for the guest's random generator, mixed in before
        /// anything else, and credited (32 bytes).
        entropy: Vec<u8>,
        /// Nanoseconds since the epoch; the guest's clock is set to it.
        realtime_ns: u64,
    },
    /// The output of one attempt of a container, from a byte offset of both
    /// streams together in the order in which the guest read them.
    Logs {
        container: String,
        attempt: u32,
        from: u64,
    },
    Exec(Box<Exec>),
    /// The container's own streams, live, from now on.
    Attach {
        container: String,
        stdin: bool,
    },
    /// New content of a volume of files. The files' bytes follow one after the
    /// other in `Stdin` frames; a connection that breaks before changes nothing.
    Project(Box<Projection>),
    /// A TCP port on the pod's loopback address.
    PortForward {
        port: u16,
    },
}

/// The guest's answer to [`Open`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Opened {
    Ok,
    Refused(Refusal),
}

/// Why the guest did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{kind:?}: {message}")]
pub struct Refusal {
    pub kind: RefusalKind,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    Version,
    /// No such container, attempt, port listener or executable.
    NotFound,
    /// The request contradicts the state (not running, already started).
    Conflict,
    /// What it would take away is used.
    InUse,
    /// The request itself is wrong; the message names the field.
    Invalid,
    /// A system call failed in the guest.
    Failed,
}

/// Host to guest on a control connection, each answered by `Event::Answer`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    pub id: u32,
    pub action: Action,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Host name, hosts file and so on; once, before the first container.
    /// Repeated with the same content it is `Ok`.
    SetUp(Box<Pod>),
    /// Starts one attempt. `Ok` if this very attempt was started before.
    Start(Box<Container>),
    /// SIGTERM (or the image's stop signal), SIGKILL after the grace period;
    /// carried out by the guest even if the host goes away.
    Stop {
        container: String,
        grace_ms: u64,
    },
    /// Other limits for an attempt that runs; 0 lifts one, and that of processes
    /// stays. Refused with [`RefusalKind::InUse`] where it uses more memory.
    Resize {
        container: String,
        attempt: u32,
        limits: Limits,
    },
    /// Forgets an ended attempt, its output and its overlay.
    Remove {
        container: String,
        attempt: u32,
    },
    Stats,
    /// Stops all that runs, syncs, and powers the guest off.
    PowerOff {
        grace_ms: u64,
    },
}

/// Guest to host on a control connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// First on each control connection: all that the guest knows.
    Snapshot {
        set_up: bool,
        containers: Vec<ContainerState>,
    },
    Answer {
        id: u32,
        result: Result<Answer, Refusal>,
    },
    Changed(ContainerState),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Done,
    Stats(Stats),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerState {
    pub name: String,
    pub attempt: u32,
    /// Nanoseconds since the epoch.
    pub started_at_ns: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    pub phase: Phase,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Running {
        pid: u32,
    },
    Ended {
        at_ns: u64,
        end: End,
        /// What stands in the termination message file, cut at 4096 bytes.
        message: String,
    },
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    Code(u8),
    Signal(u8),
    /// Killed by the kernel for want of memory.
    OomKilled,
}

impl End {
    /// The exit code as Kubernetes reports it: 128 + signal for a signal.
    #[must_use]
    pub fn exit_code(self) -> i32 {
        match self {
            Self::Code(code) => i32::from(code),
            Self::Signal(signal) => 128 + i32::from(signal),
            Self::OomKilled => 137,
        }
    }
}

/// JSON frames of exec and attach connections, both ways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Stream {
    /// Host to guest: the size of the terminal.
    Resize { columns: u16, rows: u16 },
    /// Host to guest: no more input.
    CloseStdin,
    /// Guest to host, last: how the process ended.
    Exit(End),
}

/// JSON frames of log connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Log {
    /// Guest to host, first: the offset of the first byte that follows; more
    /// than what was asked for if that part is acknowledged and gone.
    From { offset: u64 },
    /// Guest to host, before data frames: when the next frame was read.
    At { realtime_ns: u64 },
    /// Host to guest: everything below this offset is safe.
    Ack { offset: u64 },
    /// Guest to host, last: both streams are at their end.
    End { offset: u64 },
}
