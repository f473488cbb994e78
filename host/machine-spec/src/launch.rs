//! The conversation of `node` and `init`: start a vmm, list those that run.
//!
//! Fixed little-endian layouts, so that PID 1 needs no parser: a request is
//! exactly `REQUEST_LEN` bytes, a reply exactly `REPLY_LEN`. `init` makes the
//! control socket pair, keeps a duplicate of `node`'s end and the pidfd, and
//! chooses the uid; a reply about a machine that runs carries both, pidfd first.
//!
//! ```text
//!   request: kind u32 | flags u32 (0) | id 16 bytes | memory u64 | cpu_weight u64 | pids u64
//!   reply:   kind u32 | value i32     | id 16 bytes
//! ```

use crate::MachineId;

/// Where the cgroups of vmms are, each named by its [`MachineId`]: `init` makes
/// them, `node` reads what they count.
pub const GROUPS: &str = "/sys/fs/cgroup/vmm";

pub const REQUEST_LEN: usize = 48;
pub const REPLY_LEN: usize = 24;

/// cgroup v2 limits of one vmm, everything that it uses included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `memory.max`, in bytes.
    pub memory: u64,
    /// `cpu.weight`, 1 to 10000.
    pub cpu_weight: u64,
    /// `pids.max`.
    pub pids: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Starts `atoll-vmm`. Answered by `Running`, or `Failed` with an errno.
    Launch { id: MachineId, limits: Limits },
    /// Answered by a `Running` or `Ended` for each machine known, then `Done`.
    List,
    /// Other limits for a machine that runs. Answered by `Done`.
    Limit { id: MachineId, limits: Limits },
    /// Sends SIGKILL. Answered by `Done`; `Ended` follows unasked.
    Kill { id: MachineId },
    /// Forgets an ended machine and removes its cgroup. Answered by `Done`.
    Forget { id: MachineId },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Two descriptors come along: pidfd, control socket.
    Running {
        id: MachineId,
    },
    /// `status` as waitpid gives it. Sent unasked, too, when a vmm ends.
    Ended {
        id: MachineId,
        status: i32,
    },
    Done {
        id: MachineId,
    },
    /// An errno: EEXIST, ENOENT, EAGAIN (too many machines), EINVAL and so on.
    Failed {
        id: MachineId,
        errno: i32,
    },
}

const NO_ID: MachineId = MachineId([0; 16]);

impl Request {
    #[must_use]
    pub fn encode(&self) -> [u8; REQUEST_LEN] {
        let none = Limits {
            memory: 0,
            cpu_weight: 0,
            pids: 0,
        };
        let (kind, id, limits) = match *self {
            Self::Launch { id, limits } => (1_u32, id, limits),
            Self::List => (2, NO_ID, none),
            Self::Kill { id } => (3, id, none),
            Self::Forget { id } => (4, id, none),
            Self::Limit { id, limits } => (5, id, limits),
        };
        let mut bytes = [0; REQUEST_LEN];
        bytes[..4].copy_from_slice(&kind.to_le_bytes());
        bytes[8..24].copy_from_slice(&id.0);
        bytes[24..32].copy_from_slice(&limits.memory.to_le_bytes());
        bytes[32..40].copy_from_slice(&limits.cpu_weight.to_le_bytes());
        bytes[40..48].copy_from_slice(&limits.pids.to_le_bytes());
        bytes
    }

    /// `None` for anything that `encode` does not make.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; REQUEST_LEN] = bytes.try_into().ok()?;
        let id = MachineId(take(bytes, 8)?);
        let limits = Limits {
            memory: u64::from_le_bytes(take(bytes, 24)?),
            cpu_weight: u64::from_le_bytes(take(bytes, 32)?),
            pids: u64::from_le_bytes(take(bytes, 40)?),
        };
        let request = match u32::from_le_bytes(take(bytes, 0)?) {
            1 => Self::Launch { id, limits },
            2 => Self::List,
            3 => Self::Kill { id },
            4 => Self::Forget { id },
            5 => Self::Limit { id, limits },
            _ => return None,
        };
        (request.encode() == *bytes).then_some(request)
    }
}

impl Reply {
    #[must_use]
    pub fn encode(&self) -> [u8; REPLY_LEN] {
        let (kind, value, id) = match *self {
            Self::Running { id } => (1_u32, 0, id),
            Self::Ended { id, status } => (2, status, id),
            Self::Done { id } => (3, 0, id),
            Self::Failed { id, errno } => (4, errno, id),
        };
        let mut bytes = [0; REPLY_LEN];
        bytes[..4].copy_from_slice(&kind.to_le_bytes());
        bytes[4..8].copy_from_slice(&value.to_le_bytes());
        bytes[8..24].copy_from_slice(&id.0);
        bytes
    }

    /// `None` for anything that `encode` does not make.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; REPLY_LEN] = bytes.try_into().ok()?;
        let value = i32::from_le_bytes(take(bytes, 4)?);
        let id = MachineId(take(bytes, 8)?);
        let reply = match u32::from_le_bytes(take(bytes, 0)?) {
            1 => Self::Running { id },
            2 => Self::Ended { id, status: value },
            3 => Self::Done { id },
            4 => Self::Failed { id, errno: value },
            _ => return None,
        };
        (reply.encode() == *bytes).then_some(reply)
    }
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_replies_survive_a_round_trip() {
        let id = MachineId([7; 16]);
        let limits = Limits {
            memory: 1 << 40,
            cpu_weight: 100,
            pids: 16,
        };
        for request in [
            Request::Launch { id, limits },
            Request::List,
            Request::Kill { id },
            Request::Forget { id },
            Request::Limit { id, limits },
        ] {
            assert_eq!(Request::decode(&request.encode()), Some(request));
        }
        for reply in [
            Reply::Running { id },
            Reply::Ended { id, status: -9 },
            Reply::Done { id },
            Reply::Failed { id, errno: 17 },
        ] {
            assert_eq!(Reply::decode(&reply.encode()), Some(reply));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let mut stray = Request::List.encode();
        stray[5] = 1;
        for bytes in [&stray[..], &[0; REQUEST_LEN], &[1; 7], &[]] {
            assert_eq!(Request::decode(bytes), None);
        }
        assert_eq!(Reply::decode(&[9; REPLY_LEN]), None);
    }
}
