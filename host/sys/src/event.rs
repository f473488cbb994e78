//! Readiness and time for single-threaded loops: epoll, eventfd, timerfd.
//!
//! A `Poll` owns no source: whoever registers a descriptor keeps it open for as
//! long as its token means something, and removes it before closing it.

use rustix::event::epoll;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use std::io;
use std::time::Duration;

pub use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// What a source is watched for. Errors and hang-ups are always reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Hang-ups and errors alone.
    Nothing,
    Read,
    Write,
    ReadWrite,
    /// Changes of either, told once each (EPOLLET).
    Edges,
}

/// What happened to a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    pub token: u64,
    pub readable: bool,
    pub writable: bool,
    /// The peer is gone in both directions, or the source failed.
    pub closed: bool,
}

pub struct Poll {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Interest {
    const fn flags(self) -> epoll::EventFlags {
        match self {
            Self::Nothing => epoll::EventFlags::empty(),
            Self::Read => epoll::EventFlags::IN,
            Self::Write => epoll::EventFlags::OUT,
            Self::ReadWrite => epoll::EventFlags::IN.union(epoll::EventFlags::OUT),
            Self::Edges => epoll::EventFlags::IN
                .union(epoll::EventFlags::OUT)
                .union(epoll::EventFlags::ET),
        }
    }
}

impl Poll {
    /// At most `batch` events are given by one `wait`.
    ///
    /// # Errors
    /// As `epoll_create1(2)`.
    pub fn new(batch: usize) -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(batch),
        })
    }

    /// # Errors
    /// As `epoll_ctl(2)`; EPERM for what can't be waited for, a regular file.
    pub fn add(&self, source: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        let data = epoll::EventData::new_u64(token);
        Ok(epoll::add(&self.epoll, source, data, interest.flags())?)
    }

    /// Watches an eventfd for being readable.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`.
    pub fn add_event(&self, source: &EventFd, token: u64) -> io::Result<()> {
        // SAFETY: the number is that of an open descriptor while `source` is
        // borrowed, and the borrow ends with this call.
        let source = unsafe { BorrowedFd::borrow_raw(source.as_raw_fd()) };
        self.add(source, token, Interest::Read)
    }

    /// # Errors
    /// As `epoll_ctl(2)`.
    pub fn change(&self, source: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        let data = epoll::EventData::new_u64(token);
        Ok(epoll::modify(&self.epoll, source, data, interest.flags())?)
    }

    /// # Errors
    /// As `epoll_ctl(2)`.
    pub fn remove(&self, source: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, source)?)
    }

    /// Waits without limit and gives what is ready; nothing after a signal.
    ///
    /// # Errors
    /// As `epoll_wait(2)`, except EINTR.
    pub fn wait(&mut self) -> io::Result<Vec<Ready>> {
        self.events.clear();
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut self.events),
            None,
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let gone = epoll::EventFlags::HUP.union(epoll::EventFlags::ERR);
        let ready = self.events.iter().map(|event| {
            let (flags, data) = (event.flags, event.data);
            Ready {
                token: data.u64(),
                readable: flags.contains(epoll::EventFlags::IN),
                writable: flags.contains(epoll::EventFlags::OUT),
                closed: flags.intersects(gone),
            }
        });
        Ok(ready.collect())
    }
}

/// A timer of the monotonic clock that makes its descriptor readable.
pub struct Timer {
    fd: OwnedFd,
}

impl Timer {
    /// # Errors
    /// As `timerfd_create(2)`.
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let fd = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self { fd })
    }

    /// Fires once after `delay`, or never; what was set before is forgotten.
    ///
    /// # Errors
    /// As `timerfd_settime(2)`.
    pub fn set(&self, delay: Option<Duration>) -> io::Result<()> {
        let none = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let value = match delay {
            None => none,
            Some(delay) => Timespec::try_from(delay.max(Duration::from_nanos(1)))
                .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?,
        };
        let timer = Itimerspec {
            it_interval: none,
            it_value: value,
        };
        rustix::time::timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &timer)?;
        Ok(())
    }

    /// Takes the expiry, so that the descriptor is no longer readable.
    pub fn clear(&self) {
        let mut count = [0; 8];
        // Nothing to read means that the timer was set anew meanwhile.
        let _ = rustix::io::read(&self.fd, &mut count);
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Nanoseconds of CLOCK_MONOTONIC.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}
