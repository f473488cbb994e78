//! A running attempt's two threads: one moves its output, one awaits its end.

use crate::attempt::Attempt;
use crate::guest::{Guest, now_ns};
use crate::launch::Streams;
use crate::output::Record;
use crate::process::Child;
use crate::relay::{Flow, Source, Until};
use guest_protocol::{End, Phase};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

const MESSAGE_MAX: u64 = 4096;

/// Starts both threads.
pub(crate) fn supervise(guest: &Arc<Guest>, attempt: Arc<Attempt>, child: Child, streams: Streams) {
    let pump = Arc::clone(&attempt);
    crate::serve::thread("output", move || {
        let source = Source::new(streams);
        source.run(Until::Ended(&pump.pidfd), |channel, data| {
            pump.output.push(Record {
                at_ns: now_ns(),
                channel,
                data: data.to_vec(),
            });
            Flow::Go
        });
        pump.output.end();
    });
    let guest = Arc::clone(guest);
    crate::serve::thread("container", move || await_end(&guest, &attempt, &child));
}

fn await_end(guest: &Guest, attempt: &Attempt, child: &Child) {
    // The sender is only dropped when PID 1 itself ends.
    let end = child.end.recv().unwrap_or(End::Code(u8::MAX));
    // In a shared process namespace others of the container may live on.
    attempt.group.kill();
    let at_ns = now_ns();
    let killed = matches!(end, End::Signal(9) | End::Code(137));
    let end = if killed && attempt.group.out_of_memory() {
        End::OomKilled
    } else {
        end
    };
    let phase = Phase::Ended {
        at_ns,
        end,
        message: message(&attempt.directory.join("message")),
    };
    guest.note_end(attempt, phase);
    remove_group(attempt);
}

/// Hostile bytes: bounded, and made valid.
fn message(path: &Path) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(path) {
        // What could be read counts.
        let _ = file.take(MESSAGE_MAX).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A killed process may take a while to leave its group.
fn remove_group(attempt: &Attempt) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while attempt.group.populated() && std::time::Instant::now() < deadline {
        // cgroup.events wakes pollers when it changes.
        let Ok(events) = File::open(attempt.group.0.join("cgroup.events")) else {
            break;
        };
        if !attempt.group.populated() {
            break;
        }
        let second = Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        };
        let _ = poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&second));
    }
    if let Err(error) = attempt.group.remove() {
        crate::console::say(format_args!("{}: cgroup stays: {error}", attempt.name()));
    }
}
