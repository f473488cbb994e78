//! The conversation of `node` and one `vmm`, over the vmm's control socket.
//!
//! ```text
//!   node: Start(spec) + descriptors -> vmm: Reply, later Event::Started
//!   node: ConnectVsock + stream socket -> vmm: Reply
//!   node: AttachDisk + file -> vmm: Reply; the guest finds it when it probes
//!   vmm: Event::Exited, then the process ends with the same `exit::Code`
//! ```
//!
//! The vmm answers each request in order. It keeps running when `node` is gone:
//! `init` holds a duplicate of `node`'s end and hands it to the next `node`, so
//! events may wait in the socket; a full socket drops events, never the guest
//! (whoever re-adopts asks `Status`).

use crate::exit::Exit;
use crate::{DiskSpec, FdIndex, MachineSpec};
use serde::{Deserialize, Serialize};

/// The version of this protocol; a vmm refuses another one.
pub const VERSION: u16 = 1;

/// The largest message in bytes, descriptors apart.
pub const MESSAGE_MAX: usize = 64 << 10;

/// The most descriptors that one message carries (`SCM_MAX_FD` is 253).
pub const FDS_MAX: usize = 64;

/// `node` to vmm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToVmm {
    pub version: u16,
    /// Chosen by the sender, repeated in the reply.
    pub id: u32,
    pub request: Request,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// The first request, once; descriptors as the specification's indices say.
    Start(Box<MachineSpec>),
    /// Opens a connection to a listening port of the guest; the descriptor is
    /// a stream socket whose bytes are relayed. Refusal closes the socket.
    ConnectVsock {
        port: u32,
        stream: FdIndex,
    },
    /// Puts a disk into the first slot that is free; it stays until the end. The
    /// guest looks there when its driver is bound to the slot. `Done`, too, if
    /// there is one of that name: whoever asks may have asked before.
    AttachDisk(DiskSpec),
    /// Stops all vCPUs and devices between two instructions.
    Pause,
    Resume,
    /// Writes device state and memory of a paused guest into two files.
    Freeze {
        state: FdIndex,
        memory: FdIndex,
    },
    Status,
    /// Ends the vmm at once, as if the power were cut.
    Kill,
}

/// vmm to `node`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromVmm {
    Reply {
        id: u32,
        result: Result<Answer, Failure>,
    },
    Event(Event),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Done,
    Status(Status),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The first `KVM_RUN` is about to happen; nanoseconds of CLOCK_MONOTONIC.
    Started {
        exec_ns: u64,
        first_run_ns: u64,
    },
    Exited(Exit),
}

/// Why a request failed, by whose fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{family:?} error: {message}")]
pub struct Failure {
    pub family: Family,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    Guest,
    User,
    Host,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub state: State,
    /// Exits to user space since the start, all vCPUs together.
    pub exits: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Waiting,
    Running,
    Paused,
}
