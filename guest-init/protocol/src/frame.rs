//! Frames: `length u32 LE | channel u8 | payload`, length of the payload only.

use crate::{DATA_MAX, JSON_MAX};

pub const HEADER_LEN: usize = 5;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Channel {
    /// One JSON value of the type that the connection's kind says.
    Json = 0,
    Stdin = 1,
    Stdout = 2,
    Stderr = 3,
}

/// A checked frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub channel: Channel,
    pub length: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("frame channel {0} does not exist")]
    Channel(u8),
    #[error("frame of {length} bytes on channel {channel:?}, at most {max} are allowed")]
    Length {
        channel: Channel,
        length: usize,
        max: usize,
    },
}

impl Channel {
    #[must_use]
    pub const fn max(self) -> usize {
        match self {
            Self::Json => JSON_MAX,
            Self::Stdin | Self::Stdout | Self::Stderr => DATA_MAX,
        }
    }
}

impl TryFrom<u8> for Channel {
    type Error = FrameError;

    fn try_from(byte: u8) -> Result<Self, FrameError> {
        match byte {
            0 => Ok(Self::Json),
            1 => Ok(Self::Stdin),
            2 => Ok(Self::Stdout),
            3 => Ok(Self::Stderr),
            other => Err(FrameError::Channel(other)),
        }
    }
}

impl Header {
    /// # Errors
    /// A payload longer than the channel allows.
    pub fn new(channel: Channel, length: usize) -> Result<Self, FrameError> {
        let max = channel.max();
        if length > max {
            return Err(FrameError::Length {
                channel,
                length,
                max,
            });
        }
        Ok(Self { channel, length })
    }

    /// # Errors
    /// An unknown channel, or a length over the channel's bound.
    pub fn decode(bytes: [u8; HEADER_LEN]) -> Result<Self, FrameError> {
        let [a, b, c, d, channel] = bytes;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        Self::new(Channel::try_from(channel)?, length)
    }

    #[must_use]
    pub fn encode(self) -> [u8; HEADER_LEN] {
        let length = u32::try_from(self.length).unwrap_or(u32::MAX);
        let [a, b, c, d] = length.to_le_bytes();
        [a, b, c, d, self.channel as u8]
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_a_round_trip() {
        for channel in [
            Channel::Json,
            Channel::Stdin,
            Channel::Stdout,
            Channel::Stderr,
        ] {
            for length in [0, 1, channel.max()] {
                let header = Header::new(channel, length).unwrap();
                assert_eq!(Header::decode(header.encode()), Ok(header));
            }
        }
    }

    #[test]
    fn what_is_out_of_bounds_is_refused() {
        assert_eq!(Header::decode([0, 0, 0, 0, 9]), Err(FrameError::Channel(9)));
        for channel in [0, 1, 2, 3] {
            assert!(Header::decode([255, 255, 255, 255, channel]).is_err());
        }
    }
}
