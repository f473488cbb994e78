//! A frozen machine: one file of state, one of memory.
//!
//! ```text
//!   state:  magic 8 | version u32 | reserved u32 | length u64 | crc32 u32 | body (postcard)
//!   memory: the ranges of `layout::memory`, one after the other; holes are zero
//! ```
//!
//! The file may be torn, or another version's: it is refused then, whole.

pub mod freeze;
pub mod thaw;

use crate::cpu::state::VcpuState;
use crate::devices::Occupant;
use crate::ports::PortsState;
use kvm_bindings::{kvm_clock_data, kvm_irqchip};
use machine_spec::{MachineSpec, MemorySize};
use serde::{Deserialize, Serialize};
use std::io::{self, Read};
use virtio::transport::FunctionState;

const MAGIC: [u8; 8] = *b"ATOLLVM\0";
/// Changes with every change of `Frozen` or of what it contains.
pub const VERSION: u32 = 1;
const HEADER: usize = 28;
/// Far above what 64 vCPUs need.
const BODY_MAX: u64 = 4 << 20;

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("state file: {0}")]
    Io(#[from] io::Error),
    #[error("not a state file")]
    Magic,
    #[error("state of version {0}, this is {VERSION}")]
    Version(u32),
    #[error("state of {0} bytes")]
    Length(u64),
    #[error("state is damaged: its checksum is {found:#010x}, not {expected:#010x}")]
    Checksum { expected: u32, found: u32 },
    #[error("state can't be read: {0}")]
    Body(#[from] postcard::Error),
    #[error("state of a machine with {field} {frozen}, not {wanted}")]
    Mismatch {
        field: &'static str,
        frozen: u64,
        wanted: u64,
    },
}

/// Everything but memory.
#[derive(Debug, Serialize, Deserialize)]
pub struct Frozen {
    pub memory: MemorySize,
    pub cid: u32,
    pub vcpus: Vec<VcpuState>,
    pub clock: kvm_clock_data,
    /// Two PICs and the I/O APIC.
    pub irqchips: Vec<kvm_irqchip>,
    pub ports: PortsState,
    /// By slot, those that had a device.
    pub slots: Vec<Option<(Occupant, FunctionState)>>,
}

impl Frozen {
    /// # Errors
    /// `Body` if the allocator fails.
    pub fn encode(&self) -> Result<Vec<u8>, StateError> {
        let body = postcard::to_allocvec(self)?;
        let mut bytes = Vec::with_capacity(HEADER + body.len());
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(0_u32.to_le_bytes());
        bytes.extend((body.len() as u64).to_le_bytes());
        bytes.extend(crc32(&body).to_le_bytes());
        bytes.extend(body);
        Ok(bytes)
    }

    /// # Errors
    /// Any of `StateError`.
    pub fn read(source: &mut impl Read) -> Result<Self, StateError> {
        let mut header = [0; HEADER];
        source.read_exact(&mut header)?;
        let (magic, rest) = header.split_at(8);
        if magic != MAGIC {
            return Err(StateError::Magic);
        }
        let word = |at: usize| {
            let bytes = rest.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u32::from_le_bytes)
        };
        if word(0) != VERSION {
            return Err(StateError::Version(word(0)));
        }
        let length = u64::from(word(8)) | u64::from(word(12)) << 32;
        if length > BODY_MAX {
            return Err(StateError::Length(length));
        }
        let mut body = Vec::new();
        source.take(length).read_to_end(&mut body)?;
        if body.len() as u64 != length {
            return Err(StateError::Length(body.len() as u64));
        }
        let (expected, found) = (word(16), crc32(&body));
        if expected != found {
            return Err(StateError::Checksum { expected, found });
        }
        Ok(postcard::from_bytes(&body)?)
    }

    /// Whether a machine of this specification can continue it.
    ///
    /// # Errors
    /// `Mismatch`.
    pub fn fits(&self, spec: &MachineSpec) -> Result<(), StateError> {
        let pairs = [
            (
                "memory (MiB)",
                u64::from(self.memory.mib()),
                u64::from(spec.memory.mib()),
            ),
            (
                "vCPUs",
                self.vcpus.len() as u64,
                u64::from(spec.vcpus.get()),
            ),
            ("vsock context", u64::from(self.cid), u64::from(spec.cid)),
        ];
        for (field, frozen, wanted) in pairs {
            if frozen != wanted {
                return Err(StateError::Mismatch {
                    field,
                    frozen,
                    wanted,
                });
            }
        }
        Ok(())
    }
}

/// CRC-32 as IEEE 802.3 has it; some tens of kilobytes need no table.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let mask = (crc & 1).wrapping_neg();
            crc = crc >> 1 ^ (0xEDB8_8320 & mask);
        }
    }
    !crc
}
