//! A reader for layer tars: one bounded pass, no seeking, no file touched.
//!
//! Reads ustar, PAX (`x`), GNU long names (`L`, `K`) and GNU's sparse files
//! in all four encodings (old header, PAX 0.0, 0.1, 1.0). It reports where in
//! the stream a file's data lies and never holds it. Global PAX headers,
//! volume labels and user names are skipped, as container runtimes do;
//! multi-volume archives are refused.
//!
//! Every length from the stream is checked before memory is taken for it:
//! extension headers have at most [`MAX_EXTENSION`] bytes, a sparse map at
//! most [`MAX_EXTENTS`] entries.

mod header;
mod pax;
mod sparse;
#[cfg(test)]
pub(crate) mod tests;

use std::io::{self, Read};

use header::{BLOCK, Header};
use pax::Pax;

/// Of one `x`, `L` or `K` header; Linux limits the xattrs in it to 64 KiB.
pub(crate) const MAX_EXTENSION: u64 = 1 << 20;
/// Of one sparse file.
pub(crate) const MAX_EXTENTS: usize = 1 << 16;

/// Why a stream is no tar, and where.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TarError {
    #[error("reading at byte {at}: {error}")]
    Read { at: u64, error: io::Error },
    #[error("truncated at byte {at}: unexpected EOF")]
    Truncated { at: u64 },
    #[error("invalid tar header at byte {at}: {what}")]
    Header { at: u64, what: &'static str },
}

/// What an entry makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File(Data),
    Directory,
    /// The target as it is.
    Symlink(Vec<u8>),
    /// A path from the archive's root.
    HardLink(Vec<u8>),
    Char(Device),
    Block(Device),
    Fifo,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

/// Where a file's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Data {
    /// As `stat` gives it.
    pub(crate) size: u64,
    /// Ordered, disjoint, within `size`; what they leave out reads as zeros.
    pub(crate) extents: Vec<Extent>,
}

/// `length` bytes of a file at `file`, from the stream's byte `stream` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) file: u64,
    pub(crate) stream: u64,
    pub(crate) length: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Neither checked nor cleaned: may be absolute, may hold `..`.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) attributes: Attributes,
}

/// What every kind of file has.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Attributes {
    /// The twelve low bits.
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: i64,
    pub(crate) mtime_nsec: u32,
    /// Full names, unique, in the order of the archive.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Gives the entries of a stream.
pub(crate) struct Reader<R> {
    input: R,
    position: u64,
    /// The first byte of the next header.
    next: u64,
}

impl<R: Read> Reader<R> {
    pub(crate) fn new(input: R) -> Reader<R> {
        Reader {
            input,
            position: 0,
            next: 0,
        }
    }

    /// `None` after the last entry; what follows it in the stream is left.
    pub(crate) fn entry(&mut self) -> Result<Option<Entry>, TarError> {
        let mut pax = Pax::default();
        loop {
            let Some(header) = self.header()? else {
                return match pax.is_empty() {
                    true => Ok(None),
                    false => Err(TarError::Truncated { at: self.position }),
                };
            };
            match header.kind() {
                b'x' => {
                    let bytes = self.extension(&header)?;
                    pax.read(&bytes).map_err(|what| self.bad(what))?;
                }
                b'L' => pax.path = Some(text(self.extension(&header)?)),
                b'K' => pax.link = Some(text(self.extension(&header)?)),
                b'g' | b'V' | b'D' => {}
                b'M' => return Err(self.bad("multi-volume archives are not supported")),
                _ => return self.build(&header, pax).map(Some),
            }
        }
    }

    /// Gives back the stream, to read what follows the archive.
    pub(crate) fn into_inner(self) -> R {
        self.input
    }

    fn bad(&self, what: &'static str) -> TarError {
        let at = self.position;
        TarError::Header { at, what }
    }

    /// The next header; `None` at the end mark or at the end of the stream.
    fn header(&mut self) -> Result<Option<Header>, TarError> {
        self.skip_to(self.next)?;
        let mut block = [0; BLOCK];
        if !self.fill_or_end(&mut block)? {
            return Ok(None);
        }
        if block.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        let header = Header::new(block).map_err(|what| self.bad(what))?;
        let stored = match header.has_data() {
            true => header.size().map_err(|what| self.bad(what))?,
            false => 0,
        };
        self.end_data_at(stored)?;
        Ok(Some(header))
    }

    /// Data of `stored` bytes begins here; the next header follows it.
    fn end_data_at(&mut self, stored: u64) -> Result<(), TarError> {
        self.next = stored
            .checked_next_multiple_of(BLOCK as u64)
            .and_then(|padded| padded.checked_add(self.position))
            .filter(|next| *next < i64::MAX as u64)
            .ok_or_else(|| self.bad("the size is too large"))?;
        Ok(())
    }

    fn extension(&mut self, header: &Header) -> Result<Vec<u8>, TarError> {
        let size = header.size().map_err(|what| self.bad(what))?;
        if size > MAX_EXTENSION {
            return Err(self.bad("an extension header has more than 1 MiB"));
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn build(&mut self, header: &Header, mut pax: Pax) -> Result<Entry, TarError> {
        let mut entry = header.entry().map_err(|what| self.bad(what))?;
        pax.attributes(&mut entry.attributes);
        if let Some(path) = pax.path.take() {
            entry.path = path;
        }
        if let Some(link) = pax.link.take() {
            match &mut entry.kind {
                Kind::Symlink(target) | Kind::HardLink(target) => *target = link,
                _ => {}
            }
        }
        // Directories of old archives are files with a slash at the end.
        if matches!(entry.kind, Kind::File(_)) && entry.path.ends_with(b"/") {
            entry.kind = Kind::Directory;
        }
        if header.has_data() {
            let stored = match pax.size {
                Some(size) => size,
                None => header.size().map_err(|what| self.bad(what))?,
            };
            self.end_data_at(stored)?;
            if matches!(entry.kind, Kind::File(_)) {
                let data = self.data(header, &mut pax, stored)?;
                entry.kind = Kind::File(data);
                if let Some(name) = pax.sparse.name.take() {
                    entry.path = name;
                }
            }
        }
        if entry.path.is_empty() {
            return Err(self.bad("the name is empty"));
        }
        Ok(entry)
    }

    fn data(&mut self, header: &Header, pax: &mut Pax, stored: u64) -> Result<Data, TarError> {
        let (size, map) = if header.kind() == b'S' {
            let map = self.old_sparse_map(header)?;
            // The map's further blocks come before the data and aren't
            // counted in its size.
            self.end_data_at(stored)?;
            map
        } else if pax.sparse.is_version_1() {
            let size = pax
                .sparse
                .size
                .ok_or_else(|| self.bad("sparse file without size"))?;
            (size, self.data_sparse_map()?)
        } else if let Some(map) = pax.sparse.map().map_err(|what| self.bad(what))? {
            let size = pax
                .sparse
                .size
                .ok_or_else(|| self.bad("sparse file without size"))?;
            (size, map)
        } else {
            let length = stored;
            let extent = Extent {
                file: 0,
                stream: self.position,
                length,
            };
            let extents = if length == 0 {
                Vec::new()
            } else {
                vec![extent]
            };
            return Ok(Data {
                size: length,
                extents,
            });
        };
        let padded_end = self.next;
        let end = match pax.sparse.is_version_1() {
            // The map is part of the stored bytes.
            true => padded_end,
            false => self.position + stored,
        };
        sparse::place(size, &map, self.position, end).map_err(|what| self.bad(what))
    }

    fn old_sparse_map(&mut self, header: &Header) -> Result<(u64, Vec<sparse::Span>), TarError> {
        let bad = |at, what| TarError::Header { at, what };
        let (size, mut map, mut more) =
            sparse::old_header(header.bytes()).map_err(|what| bad(self.position, what))?;
        while more {
            let mut block = [0; BLOCK];
            self.fill(&mut block)?;
            more =
                sparse::old_extension(&block, &mut map).map_err(|what| bad(self.position, what))?;
        }
        Ok((size, map))
    }

    /// PAX 1.0: decimal lines at the start of the data, padded to a block.
    fn data_sparse_map(&mut self) -> Result<Vec<sparse::Span>, TarError> {
        let mut parser = sparse::Lines::default();
        loop {
            if self.position + BLOCK as u64 > self.next {
                return Err(self.bad("the sparse map is longer than the data"));
            }
            let mut block = [0; BLOCK];
            self.fill(&mut block)?;
            if let Some(map) = parser.block(&block).map_err(|what| self.bad(what))? {
                return Ok(map);
            }
        }
    }

    fn skip_to(&mut self, target: u64) -> Result<(), TarError> {
        let mut buffer = [0; 16 << 10];
        while self.position < target {
            let left = target - self.position;
            let n = usize::try_from(left).map_or(buffer.len(), |l| l.min(buffer.len()));
            self.fill(&mut buffer[..n])?;
        }
        Ok(())
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), TarError> {
        match buffer.is_empty() || self.fill_or_end(buffer)? {
            true => Ok(()),
            false => Err(TarError::Truncated { at: self.position }),
        }
    }

    /// False if the stream ends right here.
    fn fill_or_end(&mut self, buffer: &mut [u8]) -> Result<bool, TarError> {
        let mut have = 0;
        while have < buffer.len() {
            match self.input.read(&mut buffer[have..]) {
                Ok(0) if have == 0 => return Ok(false),
                Ok(0) => return Err(TarError::Truncated { at: self.position }),
                Ok(n) => {
                    have += n;
                    self.position += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let at = self.position;
                    return Err(match error.kind() {
                        io::ErrorKind::UnexpectedEof => TarError::Truncated { at },
                        _ => TarError::Read { at, error },
                    });
                }
            }
        }
        Ok(true)
    }
}

/// Up to the first NUL.
fn text(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|b| *b == 0) {
        bytes.truncate(end);
    }
    bytes
}
