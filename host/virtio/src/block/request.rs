//! A block request out of a chain (virtio 1.3, 5.2.6).
//!
//! ```text
//!   readable: type u32 | reserved u32 | sector u64 | data or segment
//!   writable: data or serial | status u8
//! ```

use super::ZERO_SECTORS_MAX;
use crate::chain::Chain;
use sys::memory::GuestMemory;
use vm_memory::VolatileSlice;
use volume::{Volume, VolumeError};

const HEADER: u64 = 16;
/// The most data of one request; a driver that asks for more gets an error.
const DATA_MAX: u64 = 32 << 20;

/// The serial of a disk, padded with zeroes (5.2.6.1).
pub(super) type Serial = [u8; 20];

/// Why a request gets an error; all of them are the driver's doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the header is not whole")]
    Header,
    #[error("request type {0} is unknown")]
    Unsupported(u32),
    #[error("{0} bytes of data")]
    Length(u64),
    #[error("flags {0:#x}")]
    Flags(u32),
}

/// A request that means something; whether the disk can do it, `volume` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    Read {
        sector: u64,
        length: u64,
    },
    Write {
        sector: u64,
        length: u64,
    },
    Flush,
    Serial,
    Discard {
        sector: u64,
        count: u32,
    },
    WriteZeroes {
        sector: u64,
        count: u32,
        unmap: bool,
    },
}

/// What the driver reads (5.2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    Ok = 0,
    Error = 1,
    Unsupported = 2,
}

impl Request {
    /// # Errors
    /// What is wrong with it.
    pub fn parse(chain: &Chain, memory: &GuestMemory) -> Result<Self, Refusal> {
        let readable = chain.readable(memory);
        let header: [u8; 16] = readable.array(0).ok_or(Refusal::Header)?;
        let [a, b, c, d, _, _, _, _, sector @ ..] = header;
        let kind = u32::from_le_bytes([a, b, c, d]);
        let sector = u64::from_le_bytes(sector);
        let given = readable.length() - HEADER;
        let room = chain.writable(memory).length().saturating_sub(1);
        let bounded = |length: u64| match length {
            0..=DATA_MAX => Ok(length),
            _ => Err(Refusal::Length(length)),
        };
        match kind {
            0 => Ok(Self::Read {
                sector,
                length: bounded(room)?,
            }),
            1 => Ok(Self::Write {
                sector,
                length: bounded(given)?,
            }),
            4 => Ok(Self::Flush),
            8 if room < 20 => Err(Refusal::Length(room)),
            8 => Ok(Self::Serial),
            11 | 13 => {
                let segment: [u8; 16] = readable.array(HEADER).ok_or(Refusal::Length(given))?;
                if given != 16 {
                    return Err(Refusal::Length(given));
                }
                zero_range(kind, segment)
            }
            _ => Err(Refusal::Unsupported(kind)),
        }
    }

    /// Carries it out; gives the status and the bytes written to the guest.
    pub fn execute(
        self,
        chain: &Chain,
        memory: &GuestMemory,
        volume: &Volume,
        serial: &Serial,
    ) -> (Status, u32) {
        let result = match self {
            Self::Read { sector, length } => {
                let slices = chain.writable(memory).slices(0, length);
                transfer(slices, |slices| volume.read(sector, slices)).map(|()| length)
            }
            Self::Write { sector, length } => {
                let slices = chain.readable(memory).slices(HEADER, length);
                transfer(slices, |slices| volume.write(sector, slices)).map(|()| 0)
            }
            Self::Flush => volume.flush().map(|()| 0),
            Self::Serial => {
                let written = chain.writable(memory).put(0, serial);
                Ok(if written { serial.len() as u64 } else { 0 })
            }
            Self::Discard { sector, count } => volume.discard(sector, u64::from(count)).map(|()| 0),
            Self::WriteZeroes {
                sector,
                count,
                unmap: true,
            } => volume.discard(sector, u64::from(count)).map(|()| 0),
            Self::WriteZeroes { sector, count, .. } => {
                volume.write_zeroes(sector, u64::from(count)).map(|()| 0)
            }
        };
        match result {
            // At most DATA_MAX.
            Ok(written) => (Status::Ok, u32::try_from(written).unwrap_or(0)),
            Err(error) => {
                report(&error);
                (Status::Error, 0)
            }
        }
    }
}

fn zero_range(kind: u32, segment: [u8; 16]) -> Result<Request, Refusal> {
    let (sector, rest) = segment.split_at(8);
    let word = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_le_bytes);
    let (count, flags) = rest.split_at(4);
    let (count, flags) = (word(count), word(flags));
    let sector = sector.try_into().map_or(0, u64::from_le_bytes);
    if count > ZERO_SECTORS_MAX {
        return Err(Refusal::Length(u64::from(count) * 512));
    }
    match (kind, flags) {
        (11, 0) => Ok(Request::Discard { sector, count }),
        (13, 0 | 1) => Ok(Request::WriteZeroes {
            sector,
            count,
            unmap: flags == 1,
        }),
        _ => Err(Refusal::Flags(flags)),
    }
}

fn transfer(
    slices: Option<Vec<VolatileSlice<'_>>>,
    call: impl FnOnce(&[VolatileSlice<'_>]) -> Result<(), VolumeError>,
) -> Result<(), VolumeError> {
    // Lengths came from the same chain, so the slices are there; an empty
    // transfer of nothing is what a chain that lied would get.
    call(&slices.unwrap_or_default())
}

/// The guest's own mistakes are not worth a line each, the host's are.
fn report(error: &VolumeError) {
    match error {
        VolumeError::Io { operation, source } => log::error!("disk: {operation}: {source}"),
        VolumeError::OutOfRange { .. } | VolumeError::Fraction(_) | VolumeError::ReadOnly => {
            log::debug!("disk: {error}");
        }
    }
}
