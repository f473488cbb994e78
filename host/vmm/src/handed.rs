//! The descriptors of one message, each taken at most once by its index.

use crate::control::user;
use machine_spec::FdIndex;
use machine_spec::control::Failure;
use rustix::fd::OwnedFd;
use std::fs::File;

pub struct Handed {
    fds: Vec<Option<OwnedFd>>,
}

impl Handed {
    #[must_use]
    pub fn new(fds: Vec<OwnedFd>) -> Self {
        Self {
            fds: fds.into_iter().map(Some).collect(),
        }
    }

    #[must_use]
    pub fn count(&self) -> usize {
        self.fds.len()
    }

    /// # Errors
    /// Of the user's family, if it is not there or was used before.
    pub fn take(&mut self, what: &str, index: FdIndex) -> Result<OwnedFd, Failure> {
        self.fds
            .get_mut(usize::from(index.0))
            .and_then(Option::take)
            .ok_or_else(|| {
                user(format!(
                    "{what}: descriptor {} is missing or used twice",
                    index.0
                ))
            })
    }

    /// # Errors
    /// As `take`.
    pub fn file(&mut self, what: &str, index: FdIndex) -> Result<File, Failure> {
        self.take(what, index).map(File::from)
    }
}
