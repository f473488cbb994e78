//! Reads a process's streams until they end.
//!
//! A descendant may keep a stream open for ever. A container's reading ends with
//! its process, once nothing has come for [`QUIET`]; what is executed is read
//! for as long as the host is there, as containerd does it by default.

use crate::launch::Streams;
use guest_protocol::Channel;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

const QUIET: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};
const CHUNK: usize = 16 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Go,
    /// Nobody wants more.
    Stop,
}

/// What ends the reading when the streams don't.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until<'a> {
    /// The end of this process, once it is quiet.
    Ended(&'a OwnedFd),
    /// This connection was shut down.
    Shut(&'a UnixStream),
}

impl Until<'_> {
    /// Both ways of a connection that is down always show.
    fn poll(&self) -> PollFd<'_> {
        match self {
            Self::Ended(pidfd) => PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN),
            Self::Shut(stream) => PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::empty()),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Source {
    streams: Vec<(Channel, File)>,
}

impl Source {
    pub(crate) fn new(streams: Streams) -> Self {
        let terminal = streams.terminal.map(|file| (Channel::Stdout, file));
        let stdout = streams.stdout.map(|file| (Channel::Stdout, file));
        let stderr = streams.stderr.map(|file| (Channel::Stderr, file));
        let streams = [terminal, stdout, stderr].into_iter().flatten().collect();
        Self { streams }
    }

    /// Gives each piece to `take`; returns when all is read.
    pub(crate) fn run(mut self, until: Until<'_>, mut take: impl FnMut(Channel, &[u8]) -> Flow) {
        let mut chunk = vec![0; CHUNK];
        let mut ended = false;
        while !self.streams.is_empty() {
            let Some(ready) = self.wait(until, &mut ended) else {
                return;
            };
            let mut over = Vec::new();
            for index in ready {
                let Some((channel, file)) = self.streams.get_mut(index) else {
                    continue;
                };
                match file.read(&mut chunk) {
                    Ok(0) => over.push(index),
                    Ok(count) => {
                        let data = chunk.get(..count).unwrap_or_default();
                        if take(*channel, data) == Flow::Stop {
                            return;
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // EIO: the terminal's last slave is closed.
                    Err(_) => over.push(index),
                }
            }
            for index in over.into_iter().rev() {
                self.streams.remove(index);
            }
        }
    }

    /// The streams with something to read; `None` when it is over.
    fn wait(&self, until: Until<'_>, ended: &mut bool) -> Option<Vec<usize>> {
        loop {
            let streams = self.streams.iter();
            let files = streams.map(|(_, file)| PollFd::new(file, PollFlags::IN));
            let mut fds: Vec<_> = files.collect();
            if !*ended {
                fds.push(until.poll());
            }
            let count = match poll(&mut fds, ended.then_some(&QUIET)) {
                Ok(count) => count,
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => return None,
            };
            let happened = |fd: &PollFd<'_>| !fd.revents().is_empty();
            let ready: Vec<_> = (0..self.streams.len())
                .filter(|index| fds.get(*index).is_some_and(happened))
                .collect();
            if !*ended && fds.last().is_some_and(happened) {
                match until {
                    Until::Ended(_) => *ended = true,
                    Until::Shut(_) => return None,
                }
            }
            if !ready.is_empty() {
                return Some(ready);
            }
            if *ended && count == 0 {
                return None;
            }
        }
    }
}
