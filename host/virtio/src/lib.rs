//! virtio 1.3: rings, transports and devices.
//!
//! ```text
//!   vCPU exit --> transport (registers) --Order--> device (rings) --Signals--> KVM
//! ```
//!
//! A transport owns the registers that the driver sees; a device owns its rings
//! while it is active; they share nothing but an interrupt's two flags. Every
//! byte of the guest is checked here: a ring that lies makes the device ask for
//! a reset (virtio 1.3, 2.1.2), a request that lies gets an error.

pub mod block;
pub mod chain;
pub mod link;
pub mod ring;
pub mod rng;
pub mod signals;
pub mod transport;
pub mod vsock;

/// Feature bits of every device (virtio 1.3, 6).
pub mod feature {
    pub const INDIRECT_DESC: u64 = 1 << 28;
    pub const EVENT_IDX: u64 = 1 << 29;
    pub const VERSION_1: u64 = 1 << 32;
    pub const COMMON: u64 = INDIRECT_DESC | EVENT_IDX | VERSION_1;
}

/// What a device is (virtio 1.3, 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Kind {
    Block,
    Rng,
    Vsock,
}

impl Kind {
    #[must_use]
    pub const fn id(self) -> u16 {
        match self {
            Self::Block => 2,
            Self::Rng => 4,
            Self::Vsock => 19,
        }
    }
}

/// What a driver may learn of a device: fixed while the device exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    pub kind: Kind,
    pub features: u64,
    /// The largest size of each queue, powers of two.
    pub queue_sizes: Vec<u16>,
    pub config: Vec<u8>,
}
