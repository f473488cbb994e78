//! Frames on a connection to the host, read and written by blocking calls.
//!
//! A length is a claim: memory grows with the bytes that arrive, never with
//! the number in the header.

use guest_protocol::{Channel, DATA_MAX, FrameError, HEADER_LEN, Header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, Read, Write};

/// Why a connection is given up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("connection: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("JSON frame: {0}")]
    Json(#[from] serde_json::Error),
    #[error("frame on channel {0:?}, not expected here")]
    Unexpected(Channel),
}

/// One whole frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) channel: Channel,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, WireError> {
        match self.channel {
            Channel::Json => Ok(serde_json::from_slice(&self.payload)?),
            other => Err(WireError::Unexpected(other)),
        }
    }
}

/// The next frame, or `None` at the end between two frames.
pub(crate) fn read(from: &mut impl Read) -> Result<Option<Frame>, WireError> {
    let mut header = [0; HEADER_LEN];
    let mut filled = 0;
    while filled < HEADER_LEN {
        match from.read(header.get_mut(filled..).unwrap_or_default()) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    let header = Header::decode(header)?;
    let mut payload = Vec::with_capacity(header.length.min(DATA_MAX));
    from.take(header.length as u64).read_to_end(&mut payload)?;
    if payload.len() < header.length {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(Some(Frame {
        channel: header.channel,
        payload,
    }))
}

/// Writes header and payload with one call where the socket takes it.
pub(crate) fn write(
    to: &mut impl Write,
    channel: Channel,
    payload: &[u8],
) -> Result<(), WireError> {
    let header = Header::new(channel, payload.len())?;
    let mut bytes = Vec::with_capacity(HEADER_LEN + payload.len());
    bytes.extend_from_slice(&header.encode());
    bytes.extend_from_slice(payload);
    Ok(to.write_all(&bytes)?)
}

pub(crate) fn write_json(to: &mut impl Write, value: &impl Serialize) -> Result<(), WireError> {
    write(to, Channel::Json, &serde_json::to_vec(value)?)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use guest_protocol::JSON_MAX;

    #[test]
    fn frames_survive_a_round_trip() {
        let mut bytes = Vec::new();
        write(&mut bytes, Channel::Stderr, b"text").unwrap();
        write_json(&mut bytes, &7).unwrap();
        let mut bytes = bytes.as_slice();
        let first = read(&mut bytes).unwrap().unwrap();
        assert_eq!(
            (first.channel, first.payload.as_slice()),
            (Channel::Stderr, &b"text"[..])
        );
        assert!(first.json::<u8>().is_err());
        assert_eq!(read(&mut bytes).unwrap().unwrap().json::<u8>().unwrap(), 7);
        assert_eq!(read(&mut bytes).unwrap(), None);
    }

    #[test]
    fn a_cut_frame_is_an_error_and_a_length_is_only_a_claim() {
        let mut bytes = Vec::new();
        write(&mut bytes, Channel::Stdin, &[0; 100]).unwrap();
        for cut in 1..bytes.len() {
            assert!(
                read(&mut bytes.get(..cut).unwrap()).is_err(),
                "cut at {cut}"
            );
        }
        let claim = Header::new(Channel::Json, JSON_MAX).unwrap().encode();
        assert!(read(&mut claim.as_slice()).is_err());
    }

    #[test]
    fn any_bytes_are_survived() {
        let mut seed = 0x1234_5678_9abc_def1_u64;
        for _ in 0..fuzzing::rounds(20_000) {
            let bytes: Vec<u8> = (0..48)
                .map(|_| {
                    seed ^= seed << 13;
                    seed ^= seed >> 7;
                    seed ^= seed << 17;
                    // Mostly small numbers, so that headers are often right.
                    if seed.is_multiple_of(3) {
                        (seed >> 40) as u8
                    } else {
                        (seed >> 40) as u8 % 4
                    }
                })
                .collect();
            let mut rest = bytes.as_slice();
            while let Ok(Some(frame)) = read(&mut rest) {
                assert!(frame.payload.len() <= frame.channel.max());
            }
        }
    }
}
