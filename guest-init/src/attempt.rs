//! One attempt to run a container, from its start until it is forgotten.

use crate::cgroup::Group;
use crate::output::Output;
use guest_protocol::{Container, ContainerState, Identity, Phase};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Where attached clients write, and what they resize.
#[derive(Debug)]
pub(crate) enum Input {
    None,
    Pipe(Arc<File>),
    /// The terminal's master.
    Terminal(Arc<File>),
}

#[derive(Debug)]
struct Changing {
    phase: Phase,
    input: Input,
    /// When what still runs is killed; set by the first `Stop`.
    deadline: Option<Instant>,
}

#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) container: Container,
    identity: Option<Identity>,
    pub(crate) group: Group,
    pub(crate) pidfd: OwnedFd,
    /// Own files of this attempt, a small tmpfs.
    pub(crate) directory: PathBuf,
    pub(crate) output: Output,
    started_at_ns: u64,
    changing: Mutex<Changing>,
    /// The phase or the deadline changed.
    changed: Condvar,
}

/// What [`Attempt::stop`] found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stopping {
    Begun,
    /// Another stop is on its way; the nearer deadline counts.
    Already,
    Ended,
}

impl Attempt {
    pub(crate) fn new(
        (container, identity): (Container, Option<Identity>),
        group: Group,
        (pid, pidfd): (u32, OwnedFd),
        directory: PathBuf,
        input: Input,
    ) -> Self {
        Self {
            container,
            identity,
            group,
            pidfd,
            directory,
            output: Output::default(),
            started_at_ns: crate::guest::now_ns(),
            changing: Mutex::new(Changing {
                phase: Phase::Running { pid },
                input,
                deadline: None,
            }),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Changing> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn name(&self) -> &str {
        &self.container.name
    }

    pub(crate) fn number(&self) -> u32 {
        self.container.attempt
    }

    pub(crate) fn state(&self) -> ContainerState {
        ContainerState {
            name: self.container.name.clone(),
            attempt: self.container.attempt,
            started_at_ns: self.started_at_ns,
            identity: self.identity.clone(),
            phase: self.lock().phase.clone(),
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        matches!(self.lock().phase, Phase::Running { .. })
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        let mut changing = self.lock();
        changing.phase = phase;
        changing.input = Input::None;
        self.changed.notify_all();
    }

    /// The container's input, to write to without a lock held.
    fn writer(&self) -> Option<Arc<File>> {
        match &self.lock().input {
            Input::None => None,
            Input::Pipe(file) | Input::Terminal(file) => Some(Arc::clone(file)),
        }
    }

    /// # Errors
    /// The container has closed its input, or has none.
    pub(crate) fn write_input(&self, data: &[u8]) -> io::Result<()> {
        let writer = self.writer().ok_or(io::ErrorKind::BrokenPipe)?;
        (&*writer).write_all(data)
    }

    /// Who was attached to the input has closed it, or is gone: the end of the
    /// input for good, if it is for one only. A terminal stays open, as with
    /// containerd.
    pub(crate) fn close_input(&self) {
        if !self.container.stdin_once {
            return;
        }
        let mut changing = self.lock();
        match &changing.input {
            Input::Pipe(_) => changing.input = Input::None,
            Input::None | Input::Terminal(_) => {}
        }
    }

    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        if let Input::Terminal(master) = &self.lock().input {
            resize(master, columns, rows);
        }
    }

    /// Sets the deadline; the first caller carries the stop out.
    pub(crate) fn stop(&self, deadline: Instant) -> Stopping {
        let mut changing = self.lock();
        if matches!(changing.phase, Phase::Ended { .. }) {
            return Stopping::Ended;
        }
        let before = changing.deadline;
        changing.deadline = Some(before.map_or(deadline, |other| other.min(deadline)));
        self.changed.notify_all();
        match before {
            None => Stopping::Begun,
            Some(_) => Stopping::Already,
        }
    }

    /// True when it has ended, false when the deadline of its stop has passed.
    pub(crate) fn wait_end(&self) -> bool {
        let mut changing = self.lock();
        loop {
            if matches!(changing.phase, Phase::Ended { .. }) {
                return true;
            }
            let now = Instant::now();
            let left = changing
                .deadline
                .map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
            if left.is_zero() {
                return false;
            }
            let waited = self.changed.wait_timeout(changing, left);
            changing = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(crate) fn wait_ended(&self) {
        let mut changing = self.lock();
        while !matches!(changing.phase, Phase::Ended { .. }) {
            let waited = self.changed.wait(changing);
            changing = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets go of what an ended attempt keeps.
    pub(crate) fn forget(&self) {
        self.output.end();
        let acknowledged = u64::MAX;
        self.output.acknowledge(acknowledged);
        crate::launch::remove_directory(&self.directory);
    }
}

/// A terminal that is gone has no size.
pub(crate) fn resize(master: impl AsFd, columns: u16, rows: u16) {
    let size = rustix::termios::Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let _ = rustix::termios::tcsetwinsize(master, size);
}
