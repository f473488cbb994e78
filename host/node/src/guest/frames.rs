//! Frames on an async stream, and the opening of a connection.

use crate::machine::Control;
use guest_protocol::{Channel, FrameError, HEADER_LEN, Header, Open, Opened, Refusal};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;

#[derive(Debug, thiserror::Error)]
pub(crate) enum GuestError {
    #[error("connection to the guest: {0}")]
    Io(#[from] io::Error),
    #[error("the guest broke the protocol: {0}")]
    Frame(#[from] FrameError),
    #[error("the guest broke the protocol: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the guest broke the protocol: a {0:?} frame out of place")]
    Channel(Channel),
    #[error("the guest refused: {0}")]
    Refused(Refusal),
    #[error("the guest closed the connection")]
    Closed,
    #[error("the machine can't be reached: {0}")]
    Machine(#[from] crate::machine::ControlError),
}

impl GuestError {
    /// A guest's refusal in its own words.
    pub(crate) fn told(self) -> String {
        match self {
            Self::Refused(refusal) => refusal.message,
            error => error.to_string(),
        }
    }
}

/// A new connection to the agent of a guest that has taken `open`.
///
/// # Errors
/// The guest's refusal, or that it is not there.
pub(crate) async fn connect(
    control: &Control,
    open: &Open,
) -> Result<GuestStream<UnixStream>, GuestError> {
    let mut stream = GuestStream(control.connect(guest_protocol::PORT).await?);
    stream.open(open).await?;
    Ok(stream)
}

/// One half or both of a connection, in frames.
pub(crate) struct GuestStream<S>(pub(crate) S);

impl<S: AsyncRead + Unpin> GuestStream<S> {
    /// The next frame; `None` at a clean end. Not to be cancelled halfway.
    ///
    /// # Errors
    /// A length or channel out of bounds, or a connection that broke.
    pub(crate) async fn read(&mut self) -> Result<Option<(Channel, Vec<u8>)>, GuestError> {
        let mut header = [0; HEADER_LEN];
        let mut filled = 0;
        while let Some(rest) = header.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.0.read(rest).await? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(GuestError::Closed),
                count => filled += count,
            }
        }
        let header = Header::decode(header)?;
        // Grows with what arrives, not with what is claimed.
        let mut payload = Vec::new();
        let limit = header.length as u64;
        (&mut self.0).take(limit).read_to_end(&mut payload).await?;
        if payload.len() != header.length {
            return Err(GuestError::Closed);
        }
        Ok(Some((header.channel, payload)))
    }

    /// The next frame, which must be JSON of type `T`.
    ///
    /// # Errors
    /// As `read`, and for anything else.
    pub(crate) async fn read_json<T: DeserializeOwned>(&mut self) -> Result<Option<T>, GuestError> {
        match self.read().await? {
            None => Ok(None),
            Some((Channel::Json, payload)) => Ok(Some(serde_json::from_slice(&payload)?)),
            Some((channel, _)) => Err(GuestError::Channel(channel)),
        }
    }
}

impl<S: AsyncWrite + Unpin> GuestStream<S> {
    /// # Errors
    /// A payload too long for the channel, or a connection that broke.
    pub(crate) async fn write(&mut self, channel: Channel, bytes: &[u8]) -> Result<(), GuestError> {
        let header = Header::new(channel, bytes.len())?.encode();
        let mut frame = Vec::with_capacity(HEADER_LEN + bytes.len());
        frame.extend_from_slice(&header);
        frame.extend_from_slice(bytes);
        self.0.write_all(&frame).await?;
        Ok(())
    }

    /// # Errors
    /// As `write`.
    pub(crate) async fn write_json<T: Serialize>(&mut self, value: &T) -> Result<(), GuestError> {
        let bytes = serde_json::to_vec(value)?;
        self.write(Channel::Json, &bytes).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> GuestStream<S> {
    /// Says what the connection is for.
    ///
    /// # Errors
    /// The guest's refusal, or that it is not there.
    pub(crate) async fn open(&mut self, open: &Open) -> Result<(), GuestError> {
        self.write_json(open).await?;
        self.opened().await
    }

    /// Takes the guest's verdict.
    ///
    /// # Errors
    /// Its refusal, or that it is not there.
    pub(crate) async fn opened(&mut self) -> Result<(), GuestError> {
        match self.read_json::<Opened>().await? {
            Some(Opened::Ok) => Ok(()),
            Some(Opened::Refused(refusal)) => Err(GuestError::Refused(refusal)),
            None => Err(GuestError::Closed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guest_protocol::Event;

    /// A small generator; the seed is printed when a case fails.
    fn next(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    #[tokio::test]
    async fn hostile_bytes_end_the_connection_and_nothing_else() {
        for seed in 1..fuzzing::rounds(4000) {
            let mut state = seed;
            let length = usize::try_from(next(&mut state) % 64).expect("small");
            let mut bytes: Vec<u8> = (0..length)
                .map(|_| next(&mut state).to_le_bytes()[0])
                .collect();
            if seed % 2 == 0 {
                // A plausible frame with a mutated byte.
                let json = br#"{"snapshot":{"set_up":true,"containers":[]}}"#;
                let header = Header::new(Channel::Json, json.len())
                    .expect("fits")
                    .encode();
                bytes = [&header[..], json].concat();
                let at = usize::try_from(next(&mut state)).unwrap_or(0) % bytes.len();
                bytes[at] ^= next(&mut state).to_le_bytes()[0];
            }
            let mut stream = GuestStream(&bytes[..]);
            let mut frames = 0;
            while let Ok(Some(_)) = stream.read_json::<Event>().await {
                frames += 1;
                assert!(frames <= bytes.len(), "seed {seed}: frames out of nothing");
            }
        }
    }

    #[tokio::test]
    async fn a_claimed_length_costs_nothing_until_it_arrives() {
        let header = Header::new(Channel::Json, guest_protocol::JSON_MAX).expect("fits");
        let mut stream = GuestStream(&header.encode()[..]);
        assert!(matches!(stream.read().await, Err(GuestError::Closed)));
    }
}
