//! The header of a vsock packet (virtio 1.3, 5.10.6).
//!
//! ```text
//!   src_cid u64 | dst_cid u64 | src_port u32 | dst_port u32 | len u32
//!   type u16 | op u16 | flags u32 | buf_alloc u32 | fwd_cnt u32
//! ```

/// The length of a header in bytes.
pub const HEADER: usize = 44;
/// The context id of the host.
pub(super) const HOST_CID: u64 = 2;
/// The most data that one packet carries.
pub(super) const DATA_MAX: u32 = 64 << 10;

const TYPE_STREAM: u16 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Operation {
    Request = 1,
    Response = 2,
    Reset = 3,
    Shutdown = 4,
    Data = 5,
    CreditUpdate = 6,
    CreditRequest = 7,
}

/// Directions that a shutdown closes, from its sender's view.
pub(super) const SHUTDOWN_RECEIVE: u32 = 1;
pub(super) const SHUTDOWN_SEND: u32 = 2;
pub(super) const SHUTDOWN_BOTH: u32 = 3;

/// A header of a stream packet between the host and the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub guest_port: u32,
    pub host_port: u32,
    pub length: u32,
    pub operation: Operation,
    pub flags: u32,
    pub buffer: u32,
    pub forwarded: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    #[error("from context {from} to {to}")]
    Context { from: u64, to: u64 },
    #[error("type {0}")]
    Type(u16),
    #[error("operation {0}")]
    Operation(u16),
    #[error("length {0}")]
    Length(u32),
}

impl Header {
    /// Parses what guest `cid` sent.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8; HEADER], cid: u64) -> Result<Self, PacketError> {
        let long = |at: usize| u64::from_le_bytes(field(bytes, at));
        let word = |at: usize| u32::from_le_bytes(field(bytes, at));
        let half = |at: usize| u16::from_le_bytes(field(bytes, at));
        let (from, to) = (long(0), long(8));
        if from != cid || to != HOST_CID {
            return Err(PacketError::Context { from, to });
        }
        if half(28) != TYPE_STREAM {
            return Err(PacketError::Type(half(28)));
        }
        let length = word(24);
        if length > DATA_MAX {
            return Err(PacketError::Length(length));
        }
        let operation = match half(30) {
            1 => Operation::Request,
            2 => Operation::Response,
            3 => Operation::Reset,
            4 => Operation::Shutdown,
            5 => Operation::Data,
            6 => Operation::CreditUpdate,
            7 => Operation::CreditRequest,
            other => return Err(PacketError::Operation(other)),
        };
        Ok(Self {
            guest_port: word(16),
            host_port: word(20),
            length,
            operation,
            flags: word(32),
            buffer: word(36),
            forwarded: word(40),
        })
    }

    /// The bytes of a packet from the host to guest `cid`.
    #[must_use]
    pub fn encode(&self, cid: u64) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &HOST_CID.to_le_bytes());
        put(8, &cid.to_le_bytes());
        put(16, &self.host_port.to_le_bytes());
        put(20, &self.guest_port.to_le_bytes());
        put(24, &self.length.to_le_bytes());
        put(28, &TYPE_STREAM.to_le_bytes());
        put(30, &(self.operation as u16).to_le_bytes());
        put(32, &self.flags.to_le_bytes());
        put(36, &self.buffer.to_le_bytes());
        put(40, &self.forwarded.to_le_bytes());
        bytes
    }
}

/// The bytes at a constant offset within the header.
fn field<const N: usize>(bytes: &[u8; HEADER], at: usize) -> [u8; N] {
    let mut field = [0; N];
    for (to, from) in field.iter_mut().zip(bytes.iter().skip(at)) {
        *to = *from;
    }
    field
}
