//! Node-pressure eviction, as upstream's eviction manager has it
//! (`pkg/kubelet/eviction`).
//!
//! ```text
//!   every 10 s: /proc, statvfs --Observations--> Decision --Verdict-+
//!                                                                   |
//!     Pressure: the Node's conditions, who is admitted <------------+
//!     a threshold that is met (for its grace period): <-------------+
//!       unused images, logs of ended pods --enough?--> done
//!       figures of pods --rank--> one pod ends: Update::End
//! ```
//!
//! `decision`, `rank`, `local` and `words` are pure; `task` does what they say,
//! and garbage collects images. DATA holds images, scratch disks and logs, so
//! nodefs and imagefs are one here.
//!
//! A pod's memory and logs are the host's figures; what its disks hold is its
//! guest's claim, at most what the disk may hold.

mod decision;
mod local;
mod rank;
mod signals;
mod task;
mod words;

pub(crate) use decision::Threshold;
pub(crate) use rank::{is_critical, priority};
pub(crate) use task::Evictor;

use crate::kubelet::Signal;

/// `status.reason` of an evicted pod, and of its Event.
pub(crate) const REASON: &str = "Evicted";
/// From here on a priority is critical (upstream's `SystemCriticalPriority`).
pub(crate) const CRITICAL: i32 = 2_000_000_000;

/// What the node lacks at the moment: its conditions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pressure {
    pub(crate) memory: bool,
    pub(crate) disk: bool,
    pub(crate) pids: bool,
}

impl Pressure {
    /// The conditions that hold.
    pub(crate) fn conditions(self) -> Vec<&'static str> {
        let all = [
            ("MemoryPressure", self.memory),
            ("DiskPressure", self.disk),
            ("PIDPressure", self.pids),
        ];
        let held = all.into_iter().filter(|(_, holds)| *holds);
        held.map(|(name, _)| name).collect()
    }
}

/// What is reclaimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    Memory,
    Storage,
    Inodes,
    Pids,
}

impl Resource {
    const fn of(signal: Signal) -> Self {
        match signal {
            Signal::MemoryAvailable => Self::Memory,
            Signal::NodeFsAvailable | Signal::ImageFsAvailable => Self::Storage,
            Signal::NodeFsInodesFree | Signal::ImageFsInodesFree => Self::Inodes,
            Signal::PidAvailable => Self::Pids,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Storage => "ephemeral-storage",
            Self::Inodes => "inodes",
            Self::Pids => "pids",
        }
    }
}
