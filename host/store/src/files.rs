//! Names of the directory's files, and frames written to and read from them.

use crate::disk::Disk;
use crate::format::{FRAME_HEAD, FrameBuilder, FrameHead, Head, parse_head};
use crate::types::StoreError;
use std::io;

/// Read-ahead of a `FrameReader`.
const CHUNK: usize = 1 << 20;

pub(crate) fn log_name(sequence: u64) -> String {
    format!("log-{sequence:016x}")
}

pub(crate) fn checkpoint_name(sequence: u64) -> String {
    format!("checkpoint-{sequence:016x}")
}

/// The sequence of `name` if it is one of `prefix`'s.
pub(crate) fn sequence_of(prefix: &str, name: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?.strip_prefix('-')?;
    (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok())?
}

pub(crate) fn io_error(
    disk: &dyn Disk,
    operation: &'static str,
    name: &str,
) -> impl FnOnce(io::Error) -> StoreError + use<> {
    let path = format!("{}/{name}", disk.label());
    move |source| StoreError::Io {
        operation,
        path,
        source,
    }
}

pub(crate) fn damaged(disk: &dyn Disk, name: &str, offset: u64, what: &str) -> StoreError {
    let path = format!("{}/{name}", disk.label());
    StoreError::Damaged {
        path,
        offset,
        what: what.to_owned(),
    }
}

/// A file that frames are appended to.
#[derive(Debug)]
pub(crate) struct FrameFile {
    pub(crate) name: String,
    pub(crate) salt: u64,
    pub(crate) length: u64,
}

impl FrameFile {
    /// A new file with its head; durable, its name not yet.
    pub(crate) fn create(
        disk: &mut dyn Disk,
        name: String,
        salt: u64,
        head: &Head,
    ) -> Result<FrameFile, StoreError> {
        disk.create(&name).map_err(io_error(disk, "make", &name))?;
        let mut file = FrameFile {
            name,
            salt,
            length: 0,
        };
        let mut frame = FrameBuilder::new();
        frame.head(head);
        file.append(disk, frame)?;
        Ok(file)
    }

    /// Durable when it returns.
    pub(crate) fn append(
        &mut self,
        disk: &mut dyn Disk,
        frame: FrameBuilder,
    ) -> Result<(), StoreError> {
        let bytes = frame.finish(self.salt, self.length);
        let name = &self.name;
        disk.write(name, self.length, &bytes)
            .map_err(io_error(disk, "write", name))?;
        disk.sync(name).map_err(io_error(disk, "sync", name))?;
        self.length += bytes.len() as u64;
        Ok(())
    }
}

pub(crate) enum Found {
    /// A good frame: its offset and payload.
    Frame(u64, Vec<u8>),
    /// The file ends after a good frame.
    End,
    /// What stands at `FrameReader::offset` is no good frame.
    Bad(&'static str),
}

/// Reads a file's frames in order.
pub(crate) struct FrameReader {
    pub(crate) name: String,
    /// Of the next frame.
    pub(crate) offset: u64,
    pub(crate) length: u64,
    /// Known once the head is read.
    pub(crate) salt: Option<u64>,
    buffer: Vec<u8>,
    buffer_start: u64,
}

impl FrameReader {
    pub(crate) fn open(disk: &mut dyn Disk, name: String) -> Result<FrameReader, StoreError> {
        let length = disk.length(&name).map_err(io_error(disk, "open", &name))?;
        Ok(FrameReader {
            name,
            offset: 0,
            length,
            salt: None,
            buffer: Vec::new(),
            buffer_start: 0,
        })
    }

    /// The head frame, or why it is none.
    pub(crate) fn head(
        &mut self,
        disk: &mut dyn Disk,
    ) -> Result<Result<Head, &'static str>, StoreError> {
        Ok(match self.next(disk)? {
            Found::Frame(_, payload) => parse_head(&payload),
            Found::End => Err("empty"),
            Found::Bad(what) => Err(what),
        })
    }

    pub(crate) fn next(&mut self, disk: &mut dyn Disk) -> Result<Found, StoreError> {
        if self.offset == self.length {
            return Ok(Found::End);
        }
        let (offset, salt) = (self.offset, self.salt);
        let bytes = self.window(disk, FRAME_HEAD)?;
        let head = match FrameHead::parse(bytes, offset, salt) {
            Ok(head) => head,
            Err(what) => return Ok(Found::Bad(what)),
        };
        let frame = self.window(disk, head.size())?;
        match head.payload(frame) {
            Ok(payload) => {
                let payload = payload.to_vec();
                self.salt = Some(head.salt);
                self.offset += head.size() as u64;
                Ok(Found::Frame(offset, payload))
            }
            Err(what) => Ok(Found::Bad(what)),
        }
    }

    /// Up to `count` bytes from `offset`; fewer at the end of the file.
    fn window(&mut self, disk: &mut dyn Disk, count: usize) -> Result<&[u8], StoreError> {
        let left = self.length - self.offset;
        let count = usize::try_from(left).map_or(count, |left| left.min(count));
        let have = (self.offset - self.buffer_start) as usize;
        if have + count > self.buffer.len() {
            let size = usize::try_from(left).map_or(count, |left| left.min(CHUNK.max(count)));
            self.buffer.resize(size, 0);
            self.buffer_start = self.offset;
            let (name, buffer) = (&self.name, &mut self.buffer);
            disk.read(name, self.offset, buffer)
                .map_err(io_error(disk, "read", name))?;
        }
        let start = (self.offset - self.buffer_start) as usize;
        Ok(&self.buffer[start..start + count])
    }

    /// All from the next frame on, to look for good ones behind a bad one.
    pub(crate) fn rest(&mut self, disk: &mut dyn Disk) -> Result<Vec<u8>, StoreError> {
        let mut rest = vec![0; (self.length - self.offset) as usize];
        let name = &self.name;
        disk.read(name, self.offset, &mut rest)
            .map_err(io_error(disk, "read", name))?;
        Ok(rest)
    }
}
