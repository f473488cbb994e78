//! The log session of one attempt: output is handed on in order, and what is
//! safe is acknowledged, so that a session that breaks goes on where it was.

use super::frames::{GuestError, connect};
use crate::machine::Control;
use guest_protocol::{Channel, Log, Open};
use std::time::Duration;

const RETRY: Duration = Duration::from_millis(200);
/// How often a session is opened again without a byte in between.
const ATTEMPTS: u32 = 50;

/// Which output.
#[derive(Clone, Debug)]
pub(crate) struct LogSource {
    pub(crate) control: Control,
    pub(crate) container: String,
    pub(crate) attempt: u32,
}

/// A piece of output, as the guest read it.
#[derive(Debug)]
pub(crate) struct LogPiece<'a> {
    pub(crate) stderr: bool,
    pub(crate) realtime_ns: u64,
    pub(crate) bytes: &'a [u8],
}

/// Feeds `sink` from byte `offset` on, until both streams are at their end.
/// `sink` has made a piece safe when it returns.
///
/// # Errors
/// That the guest can't be reached, or `sink`'s error.
pub(crate) async fn follow(
    source: &LogSource,
    mut offset: u64,
    mut sink: impl FnMut(LogPiece<'_>) -> std::io::Result<()>,
) -> Result<(), GuestError> {
    let mut failures = 0;
    loop {
        let before = offset;
        match session(source, &mut offset, &mut sink).await {
            Ok(()) => return Ok(()),
            Err(error @ GuestError::Refused(_)) => return Err(error),
            Err(error) => {
                failures = if offset > before { 1 } else { failures + 1 };
                if failures >= ATTEMPTS {
                    return Err(error);
                }
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn session(
    source: &LogSource,
    offset: &mut u64,
    sink: &mut impl FnMut(LogPiece<'_>) -> std::io::Result<()>,
) -> Result<(), GuestError> {
    let open = Open::Logs {
        container: source.container.clone(),
        attempt: source.attempt,
        from: *offset,
    };
    let mut stream = connect(&source.control, &open).await?;
    let mut realtime_ns = 0;
    loop {
        let (channel, payload) = stream.read().await?.ok_or(GuestError::Closed)?;
        let stderr = match channel {
            Channel::Json => match serde_json::from_slice(&payload)? {
                Log::From { offset: from } => {
                    if from > *offset {
                        let lost = from - *offset;
                        log::warn!("log of {}: {lost} bytes are gone", source.container);
                        *offset = from;
                    }
                    continue;
                }
                Log::At { realtime_ns: at } => {
                    realtime_ns = at;
                    continue;
                }
                Log::End { .. } => {
                    let offset = *offset;
                    // The guest may have hung up already: everything is here.
                    drop(stream.write_json(&Log::Ack { offset }).await);
                    return Ok(());
                }
                Log::Ack { .. } => return Err(GuestError::Channel(Channel::Json)),
            },
            Channel::Stdout => false,
            Channel::Stderr => true,
            Channel::Stdin => return Err(GuestError::Channel(channel)),
        };
        let piece = LogPiece {
            stderr,
            realtime_ns,
            bytes: &payload,
        };
        sink(piece)?;
        *offset = offset.saturating_add(payload.len() as u64);
        stream.write_json(&Log::Ack { offset: *offset }).await?;
    }
}
