//! Logs: the output of one attempt from an offset, and acknowledgements back.

use super::{opened, shut};
use crate::attempt::Attempt;
use crate::output::Next;
use crate::wire::{self, WireError};
use guest_protocol::Log;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(super) fn serve(
    attempt: &Arc<Attempt>,
    mut stream: UnixStream,
    from: u64,
) -> Result<(), WireError> {
    opened(&mut stream)?;
    let over = Arc::new(AtomicBool::new(false));
    let mut writer = stream.try_clone()?;
    let (source, stopped) = (Arc::clone(attempt), Arc::clone(&over));
    super::thread("logs", move || {
        // The reader learns from the shutdown.
        let _ = send(&source, &mut writer, from, &stopped);
        // The end is read before the host closes; only then is nothing lost.
        let _ = writer.shutdown(std::net::Shutdown::Write);
    });
    let result = acknowledgements(attempt, &mut stream);
    over.store(true, Ordering::Release);
    attempt.output.wake();
    shut(&stream);
    result
}

fn send(
    attempt: &Attempt,
    stream: &mut UnixStream,
    from: u64,
    over: &AtomicBool,
) -> Result<(), WireError> {
    let output = &attempt.output;
    let mut offset = output.clamp(from);
    wire::write_json(stream, &Log::From { offset })?;
    let mut last = None;
    loop {
        match output.next(offset, || over.load(Ordering::Acquire)) {
            Next::Record(record) => {
                let at = Log::At {
                    realtime_ns: record.at_ns,
                };
                if last.replace(record.at_ns) != Some(record.at_ns) {
                    wire::write_json(stream, &at)?;
                }
                wire::write(stream, record.channel, &record.data)?;
                offset += record.data.len() as u64;
            }
            Next::End(offset) => return wire::write_json(stream, &Log::End { offset }),
            Next::Stopped => return Ok(()),
        }
    }
}

fn acknowledgements(attempt: &Attempt, stream: &mut UnixStream) -> Result<(), WireError> {
    while let Some(frame) = wire::read(stream)? {
        match frame.json()? {
            Log::Ack { offset } => attempt.output.acknowledge(offset),
            Log::From { .. } | Log::At { .. } | Log::End { .. } => {
                return Err(WireError::Unexpected(frame.channel));
            }
        }
    }
    Ok(())
}
