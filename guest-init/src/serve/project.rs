//! Project: new content of a volume of files.
//!
//! ```text
//!   check -> the volume's turn -> Opened -> bytes, all of them -> write -> Opened
//! ```
//!
//! The bytes are kept in memory, as they come, until the last is there: a
//! connection that breaks has changed nothing. Whoever has the turn and stops
//! to send loses it after [`QUIET_TIMEOUT`], and whoever takes longer than
//! [`TIMEOUT`] in all, because the next waits for it.

use super::{opened, refused};
use crate::errors::{invalid, refuse};
use crate::guest::Guest;
use crate::volume::Plan;
use crate::wire::{self, WireError};
use guest_protocol::{Channel, Projection, RefusalKind};
use std::io;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant, SystemTime};

const QUIET_TIMEOUT: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(120);

pub(super) fn serve(
    guest: &Guest,
    mut stream: UnixStream,
    projection: &Projection,
) -> Result<(), WireError> {
    let Some(files) = guest.files(&projection.volume) else {
        let message = "volume: no volume of files has this name";
        return refused(&mut stream, refuse(RefusalKind::NotFound, message));
    };
    let plan = match Plan::new(projection) {
        Ok(plan) => plan,
        Err(refusal) => return refused(&mut stream, refusal),
    };
    let turn = files.turn();
    opened(&mut stream)?;
    let Some(bytes) = receive(&mut stream, plan.length())? else {
        let message = "files: more bytes than their lengths say";
        return refused(&mut stream, invalid(message));
    };
    match turn.write(&plan, &bytes, SystemTime::now()) {
        Ok(()) => opened(&mut stream),
        Err(refusal) => refused(&mut stream, refusal),
    }
}

/// So many bytes in frames of stdin; `None` if there are more.
fn receive(stream: &mut UnixStream, length: usize) -> Result<Option<Vec<u8>>, WireError> {
    stream.set_read_timeout(Some(QUIET_TIMEOUT))?;
    let begun = Instant::now();
    let mut bytes = Vec::new();
    while bytes.len() < length {
        let Some(frame) = wire::read(stream)? else {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        };
        if frame.channel != Channel::Stdin {
            return Err(WireError::Unexpected(frame.channel));
        }
        if begun.elapsed() > TIMEOUT {
            return Err(io::Error::from(io::ErrorKind::TimedOut).into());
        }
        if frame.payload.len() > length - bytes.len() {
            return Ok(None);
        }
        bytes.extend_from_slice(&frame.payload);
    }
    Ok(Some(bytes))
}
