//! Connections from the host: accepted, opened, and given to their kind.
//!
//! One thread for each connection and at most two more for its streams, all
//! with small stacks. At most [`CONNECTIONS_MAX`] connections at once; one more
//! is closed unread, and the host tries again. A connection that does not say
//! within [`OPEN_TIMEOUT`] what it is for is closed.

mod control;
mod forward;
mod logs;
mod project;
mod streams;

use crate::errors::{invalid, refuse};
use crate::guest::Guest;
use crate::wire::{self, WireError};
use guest_protocol::{Open, Opened, Refusal, RefusalKind, VERSION};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const CONNECTIONS_MAX: usize = 128;
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the host may take no byte of what is written to it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(600);
/// The stack of every thread of this program.
pub(crate) const STACK: usize = 256 << 10;

static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);

/// Counts a connection for as long as its thread runs.
struct Slot;

impl Slot {
    fn take() -> Option<Self> {
        let taken = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        // Dropped, and so given back, when there were too many.
        let slot = Self;
        (taken < CONNECTIONS_MAX).then_some(slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        CONNECTIONS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Starts a thread; without memory for it, the work is lost and said so.
pub(crate) fn thread(name: &'static str, work: impl FnOnce() + Send + 'static) {
    let builder = std::thread::Builder::new().stack_size(STACK);
    if let Err(error) = builder.spawn(work) {
        crate::console::say(format_args!("thread {name}: {error}"));
    }
}

/// Serves one connection in a thread of its own.
pub(crate) fn accept(guest: &Arc<Guest>, stream: UnixStream) {
    let Some(slot) = Slot::take() else {
        return;
    };
    let guest = Arc::clone(guest);
    thread("connection", move || {
        // How a connection ended is the host's to know.
        let _ = serve(&guest, stream);
        drop(slot);
    });
}

fn serve(guest: &Arc<Guest>, mut stream: UnixStream) -> Result<(), WireError> {
    stream.set_read_timeout(Some(OPEN_TIMEOUT))?;
    stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
    let Some(first) = wire::read(&mut stream)? else {
        return Ok(());
    };
    let open = match first.json::<Open>() {
        Ok(open) => open,
        Err(error) => return refused(&mut stream, invalid(format!("open: {error}"))),
    };
    stream.set_read_timeout(None)?;
    match open {
        Open::Control {
            version,
            entropy,
            realtime_ns,
        } => {
            let ready = check_version(version)
                .and_then(|()| crate::clock::take(&guest.place, &entropy, realtime_ns));
            match ready {
                Ok(()) => control::serve(guest, stream),
                Err(refusal) => refused(&mut stream, refusal),
            }
        }
        Open::Logs {
            container,
            attempt,
            from,
        } => match guest.attempt(&container, attempt) {
            Some(attempt) => logs::serve(&attempt, stream, from),
            None => refused(&mut stream, unknown(&container)),
        },
        Open::Exec(exec) => match guest.running(&exec.container) {
            Some(attempt) => streams::exec(guest, &attempt, stream, &exec),
            None => refused(&mut stream, not_running(&exec.container)),
        },
        Open::Attach { container, stdin } => match guest.running(&container) {
            Some(attempt) => streams::attach(&attempt, stream, stdin),
            None => refused(&mut stream, not_running(&container)),
        },
        Open::Project(projection) => project::serve(guest, stream, &projection),
        Open::PortForward { port } => forward::serve(stream, port),
    }
}

fn check_version(version: u16) -> Result<(), Refusal> {
    if version == VERSION {
        return Ok(());
    }
    let message = format!("version {version}: this guest speaks {VERSION}");
    Err(refuse(RefusalKind::Version, message))
}

fn unknown(container: &str) -> Refusal {
    let message = format!("container {container:?}: no such attempt");
    refuse(RefusalKind::NotFound, message)
}

fn not_running(container: &str) -> Refusal {
    let message = format!("container {container:?} is not running");
    refuse(RefusalKind::Conflict, message)
}

fn opened(stream: &mut UnixStream) -> Result<(), WireError> {
    wire::write_json(stream, &Opened::Ok)
}

fn refused(stream: &mut UnixStream, refusal: Refusal) -> Result<(), WireError> {
    wire::write_json(stream, &Opened::Refused(refusal))
}

/// Wakes a thread that reads or writes the connection.
fn shut(stream: &UnixStream) {
    // It may be gone already.
    let _ = stream.shutdown(Shutdown::Both);
}
