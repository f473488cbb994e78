//! Exec and attach: a process's streams on a connection, both ways.
//!
//! ```text
//!   connection's thread:  host -> stdin, size      second thread: output -> host
//! ```
//!
//! The host half-closes by `CloseStdin`; the end of the connection means that
//! nobody is there: what was executed is killed, what was attached runs on.
//! Who left a process behind that holds the output gets no `Exit` until that is
//! closed too, or goes away.

use super::{opened, refused, shut};
use crate::attempt::{Attempt, resize};
use crate::guest::Guest;
use crate::launch::{self, Streams};
use crate::output::Next;
use crate::relay::{Flow, Source, Until};
use crate::wire::{self, WireError};
use guest_protocol::{Channel, End, Exec, Phase, Stream};
use std::fs::File;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(super) fn exec(
    guest: &Guest,
    attempt: &Attempt,
    mut stream: UnixStream,
    exec: &Exec,
) -> Result<(), WireError> {
    let (child, mut streams) = match launch::enter(guest, attempt, exec) {
        Ok(started) => started,
        Err(refusal) => return refused(&mut stream, refusal),
    };
    let input = ExecInput::new(&mut streams)?;
    let pidfd = child.pidfd.try_clone()?;
    let started = opened(&mut stream).and_then(|()| {
        let mut writer = stream.try_clone()?;
        let watched = stream.try_clone()?;
        super::thread("exec", move || {
            Source::new(streams).run(Until::Shut(&watched), |channel, data| {
                match wire::write(&mut writer, channel, data) {
                    Ok(()) => Flow::Go,
                    Err(_) => Flow::Stop,
                }
            });
            let end = child.end.recv().unwrap_or(End::Code(u8::MAX));
            finish(&mut writer, end);
        });
        host_to_process(&mut stream, input)
    });
    // After its end this does nothing.
    launch::kill(&pidfd);
    shut(&stream);
    started
}

/// A host that is gone misses it.
fn finish(writer: &mut UnixStream, end: End) {
    let _ = wire::write_json(writer, &Stream::Exit(end));
    let _ = writer.shutdown(std::net::Shutdown::Write);
}

/// Where the host's input goes.
struct ExecInput {
    stdin: Option<File>,
    terminal: Option<File>,
}

impl ExecInput {
    fn new(streams: &mut Streams) -> Result<Self, WireError> {
        let terminal = streams.terminal.as_ref().map(File::try_clone);
        Ok(Self {
            stdin: streams.stdin.take(),
            terminal: terminal.transpose()?,
        })
    }

    fn write(&mut self, data: &[u8]) {
        let target = self.stdin.as_mut().or(self.terminal.as_mut());
        // A process that has closed its input takes no more.
        if target.is_some_and(|target| target.write_all(data).is_err()) {
            self.stdin = None;
        }
    }
}

fn host_to_process(stream: &mut UnixStream, mut input: ExecInput) -> Result<(), WireError> {
    while let Some(frame) = wire::read(stream)? {
        match frame.channel {
            Channel::Stdin => input.write(&frame.payload),
            Channel::Json => match frame.json()? {
                Stream::Resize { columns, rows } => {
                    if let Some(terminal) = &input.terminal {
                        resize(terminal, columns, rows);
                    }
                }
                Stream::CloseStdin => {
                    input.stdin = None;
                    if let Some(terminal) = &mut input.terminal {
                        end_of_file(terminal);
                    }
                }
                Stream::Exit(_) => return Err(WireError::Unexpected(Channel::Json)),
            },
            other => return Err(WireError::Unexpected(other)),
        }
    }
    Ok(())
}

/// A terminal has no half-close: its user types ^D.
fn end_of_file(terminal: &mut File) {
    let _ = terminal.write_all(&[4]);
}

pub(super) fn attach(
    attempt: &Arc<Attempt>,
    mut stream: UnixStream,
    stdin: bool,
) -> Result<(), WireError> {
    let (cursor, offset) = attempt.output.attach();
    let over = Arc::new(AtomicBool::new(false));
    let result = opened(&mut stream).and_then(|()| {
        let mut writer = stream.try_clone()?;
        let (source, stopped) = (Arc::clone(attempt), Arc::clone(&over));
        super::thread("attach", move || {
            send_output(&source, &mut writer, cursor, offset, &stopped);
        });
        host_to_container(attempt, &mut stream, stdin)
    });
    if stdin {
        attempt.close_input();
    }
    over.store(true, Ordering::Release);
    attempt.output.detach(cursor);
    attempt.output.wake();
    shut(&stream);
    result
}

fn send_output(
    attempt: &Attempt,
    writer: &mut UnixStream,
    cursor: u64,
    mut offset: u64,
    over: &AtomicBool,
) {
    let stopped = || over.load(Ordering::Acquire);
    loop {
        match attempt.output.next(offset, stopped) {
            Next::Record(record) => {
                if wire::write(writer, record.channel, &record.data).is_err() {
                    shut(writer);
                    return;
                }
                offset += record.data.len() as u64;
                if !stopped() {
                    attempt.output.pass(cursor, offset);
                }
            }
            Next::End(_) => break,
            Next::Stopped => return,
        }
    }
    // Output may end a moment before the process does.
    attempt.wait_ended();
    if let Phase::Ended { end, .. } = attempt.state().phase {
        finish(writer, end);
    }
}

fn host_to_container(
    attempt: &Attempt,
    stream: &mut UnixStream,
    stdin: bool,
) -> Result<(), WireError> {
    while let Some(frame) = wire::read(stream)? {
        match frame.channel {
            // A container that has closed its input takes no more.
            Channel::Stdin if stdin => drop(attempt.write_input(&frame.payload)),
            Channel::Json => match frame.json()? {
                Stream::Resize { columns, rows } => attempt.resize(columns, rows),
                Stream::CloseStdin if stdin => attempt.close_input(),
                Stream::CloseStdin => {}
                Stream::Exit(_) => return Err(WireError::Unexpected(Channel::Json)),
            },
            other => return Err(WireError::Unexpected(other)),
        }
    }
    Ok(())
}
