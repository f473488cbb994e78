//! What the harness asks the test agent, and what it answers.
//!
//! One JSON document on a line each way, over the virtio-serial port `PORT`.
//! The agent does what is asked and nothing else. It runs programs only for
//! the bench, which brings them along in an archive of its own.

use serde::{Deserialize, Serialize};

/// The name of the virtio-serial port.
pub const PORT: &str = "atoll.agent";

/// More than a directory of an appliance at rest ever has.
pub const TREE_MAX: usize = 20_000;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Request {
    /// Answered by `Text`; bytes that are no UTF-8 are replaced.
    Read { path: String },
    /// The names in a directory. Answered by `Names`.
    List { path: String },
    /// What is below a directory, all levels, by its path from there; at most
    /// `TREE_MAX`. Answered by `Names`.
    Tree { path: String },
    /// The targets of a process's descriptors. Answered by `Names`.
    Descriptors { pid: i32 },
    /// Answered by `Processes`.
    Processes,
    /// SIGKILL. Answered by `Done`.
    Kill { pid: i32 },
    /// Makes a thread of another process enter this system call instead of the
    /// next one that it wants. Answered by `Done`.
    Divert { thread: i32, call: u64 },
    /// Allocates a file until its file system has `left` bytes free. Answered
    /// by `Done`.
    Fill { path: String, left: u64 },
    /// Answered by `Done`.
    Remove { path: String },
    /// Sets the clock forward, or back. Answered by `Done`.
    StepClock { seconds: i64 },
    /// Runs a program to its end, or kills it when it has said `until` or
    /// `seconds` have passed. Answered by `Ran`.
    Run {
        arguments: Vec<String>,
        input: String,
        until: Option<String>,
        seconds: u64,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reply {
    Text(String),
    Names(Vec<String>),
    Processes(Vec<Process>),
    Done,
    Ran(Vec<Line>),
    Failed(String),
}

/// A line that a program wrote, to stdout or stderr.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// Since just before the program was started, by the appliance's clock.
    pub micros: u64,
    pub text: String,
}

/// One process of user space (no kernel threads).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub pid: i32,
    pub parent: i32,
    pub name: String,
    pub arguments: Vec<String>,
    pub uid: u32,
    /// Resident, in KiB.
    pub resident: u64,
}

impl Process {
    /// `init`, `control`, `node`, `fabric` or `vmm`, for what is ours.
    #[must_use]
    pub fn role(&self) -> Option<&str> {
        let program = self.arguments.first()?.rsplit('/').next()?;
        match (self.pid, program, self.arguments.get(1).map(String::as_str)) {
            (1, _, _) => Some("init"),
            (_, "atoll-vmm", _) => Some("vmm"),
            (_, "atoll" | "init" | "exe", Some(role)) => Some(role),
            (_, "atoll-control", _) => Some("control"),
            (_, "atoll-node", _) => Some("node"),
            (_, "atoll-fabric", _) => Some("fabric"),
            _ if self.name == "atoll-vmm" => Some("vmm"),
            _ => None,
        }
    }
}
