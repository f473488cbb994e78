//! Sockets between host and guest (virtio 1.3, 5.10), in this process: each
//! connection is a stream socket that was handed in, opened by the host.
//!
//! The guest's own requests are refused with a reset. One of them is useful all
//! the same: it shows that somebody in the guest lives, so refused connections
//! are asked for again at once instead of at the next tick.
//!
//! Bounds: `CONNECTIONS_MAX` connections, each with `connection::BUFFER` bytes;
//! `RESETS_MAX` resets for what is no connection, after which no packet of the
//! guest is read until it takes some.

mod connection;
mod device;
mod packet;
mod stream;

pub use connection::{BUFFER, Connection, Phase, Verdict};
pub use device::{ConnectError, Vsock};
pub use packet::{HEADER, Header, Operation, PacketError};

use crate::{Kind, Model, feature};

/// The most connections at a time.
pub const CONNECTIONS_MAX: usize = 1024;
const RESETS_MAX: usize = 64;
const QUEUE_SIZE: u16 = 128;

/// The model of a guest with this context id.
#[must_use]
pub fn model(cid: u32) -> Model {
    Model {
        kind: Kind::Vsock,
        features: feature::COMMON,
        // Receive, transmit, events.
        queue_sizes: vec![QUEUE_SIZE, QUEUE_SIZE, 8],
        config: u64::from(cid).to_le_bytes().to_vec(),
    }
}
