//! JSON documents on lines over a unix socket: QMP and the test agent.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::wait::{self, Seen};

pub struct LineSocket {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl LineSocket {
    /// Connects to `name` in `directory`, waiting for it to appear.
    ///
    /// Through a descriptor of the directory, since a socket's path is short.
    pub fn connect(directory: &Path, name: &str, patience: Duration) -> Result<Self> {
        let handle = File::open(directory).with_context(|| directory.display().to_string())?;
        let path = format!("/proc/self/fd/{}/{name}", handle.as_raw_fd());
        let stream = wait::until(format!("socket {name}"), patience, || {
            Ok(match UnixStream::connect(&path) {
                Ok(stream) => Seen::Done(stream),
                Err(error) => Seen::NotYet(error.to_string()),
            })
        })?;
        let writer = stream.try_clone()?;
        Ok(Self {
            reader: BufReader::new(stream),
            writer,
        })
    }

    pub fn send(&mut self, document: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(document)?;
        line.push(b'\n');
        Ok(self.writer.write_all(&line)?)
    }

    /// The next document, within `patience`.
    pub fn receive<T: DeserializeOwned>(&mut self, patience: Duration) -> Result<T> {
        self.reader.get_ref().set_read_timeout(Some(patience))?;
        let mut line = String::new();
        if self
            .reader
            .read_line(&mut line)
            .context("reading an answer")?
            == 0
        {
            bail!("the other side hung up");
        }
        serde_json::from_str(&line).with_context(|| format!("answer {line:?}"))
    }
}
