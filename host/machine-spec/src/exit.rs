//! How a vmm says why it ended: by event, and by its exit code, so that the
//! reason survives when nobody was listening.

use serde::{Deserialize, Serialize};

/// Why a micro-VM ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// The guest powered itself off.
    PowerOff,
    /// The guest asked for a reset (i8042, or a kernel without another way).
    Reset,
    /// The guest's kernel panicked, as it told the host.
    Panic,
    /// A vCPU shut down without a word (SDM vol. 3, 6.15).
    TripleFault,
    /// `Request::Kill`.
    Killed,
    /// The guest did what no guest may do: a device or KVM gave it up.
    GuestFault(String),
    /// The host failed the guest.
    HostFault(String),
}

/// The exit status of the `atoll-vmm` process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    PowerOff = 0,
    HostFault = 1,
    Usage = 2,
    Reset = 10,
    Panic = 11,
    TripleFault = 12,
    Killed = 13,
    GuestFault = 14,
}

impl Exit {
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::PowerOff => Code::PowerOff,
            Self::Reset => Code::Reset,
            Self::Panic => Code::Panic,
            Self::TripleFault => Code::TripleFault,
            Self::Killed => Code::Killed,
            Self::GuestFault(_) => Code::GuestFault,
            Self::HostFault(_) => Code::HostFault,
        }
    }
}

impl Code {
    /// The meaning of a process's exit status, if it is one of ours.
    #[must_use]
    pub fn from_status(status: u8) -> Option<Self> {
        [
            Self::PowerOff,
            Self::HostFault,
            Self::Usage,
            Self::Reset,
            Self::Panic,
            Self::TripleFault,
            Self::Killed,
            Self::GuestFault,
        ]
        .into_iter()
        .find(|code| *code as u8 == status)
    }
}
