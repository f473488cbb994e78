//! The conversion itself: layers in, image out, no system call but reading
//! and writing the open files.
//!
//! Two passes: the first reads all layers for names and metadata, checks
//! their digests and fills the tree; the second copies the bytes of the files
//! that are left in it, layer by layer, both sides forward. A layer of which
//! nothing is left isn't read twice, and none is read beyond what is needed.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;

use sha2::{Digest as _, Sha256};

use super::layer::{self, Metered};
use super::{Cause, Outcome, Request};
use crate::config::Limits;
use crate::erofs::{self, Copy, Layout, LayoutError};
use crate::tar::{Reader, TarError};
use crate::tree::{Bounds, Tree, TreeError};

/// One part in so many of the converter's memory is for tree and layout;
/// decompression has a fixed need, and allocators some waste.
const TREE_SHARE: u64 = 2;
const WRITE_BUFFER: usize = 1 << 20;
/// Gaps up to this are written as zeros rather than sought over.
const SMALL_GAP: u64 = 64 << 10;

#[derive(Debug, thiserror::Error)]
pub(super) enum ConvertError {
    #[error("layer {layer}: {error}")]
    Tar { layer: u16, error: TarError },
    #[error("layer {layer}: {error}")]
    Tree { layer: u16, error: TreeError },
    #[error("layer {layer}: wrong diff id calculated on extraction: {found}, expected {wanted}")]
    DiffId {
        layer: u16,
        found: crate::Digest,
        wanted: crate::Digest,
    },
    #[error("layer {layer}: {error}")]
    Unpack { layer: u16, error: io::Error },
    #[error("{0}")]
    Layout(#[from] LayoutError),
    #[error("writing the image: {0}")]
    Write(io::Error),
}

impl ConvertError {
    fn cause(&self) -> Cause {
        match self {
            ConvertError::Write(e) if e.kind() == io::ErrorKind::StorageFull => Cause::DiskFull,
            ConvertError::Write(_) => Cause::Host,
            _ => Cause::Layers,
        }
    }
}

pub(super) fn run(request: &Request, layers: &[File], output: &File) -> Outcome {
    match convert(request, layers, output) {
        Ok((size, inodes)) => Outcome::Done { size, inodes },
        Err(e) => Outcome::Failed {
            cause: e.cause(),
            message: e.to_string(),
        },
    }
}

fn convert(request: &Request, layers: &[File], output: &File) -> Result<(u64, u32), ConvertError> {
    let limits = &request.limits;
    let tree = index(request, layers)?;
    let layout = Layout::new(&tree, limits.max_image_bytes)?;
    output.set_len(layout.size()).map_err(ConvertError::Write)?;
    let mut out = Out::new(output);
    let uuid = uuid(request);
    erofs::write_metadata(&tree, &layout, uuid, |at, bytes| out.put(at, bytes))
        .map_err(ConvertError::Write)?;
    // Names and attributes are on disk; only the plan of copies is needed.
    drop(tree);
    for (number, file) in (1..).zip(layers) {
        let copies = layout.copies();
        let first = copies.partition_point(|c| c.layer < number);
        let end = copies.partition_point(|c| c.layer <= number);
        copy_layer(number, file, &copies[first..end], &mut out)?;
    }
    out.flush().map_err(ConvertError::Write)?;
    Ok((layout.size(), layout.inodes()))
}

/// The first pass.
fn index(request: &Request, layers: &[File]) -> Result<Tree, ConvertError> {
    let limits: &Limits = &request.limits;
    let mut tree = Tree::new(Bounds {
        inodes: limits.max_inodes,
        bytes: limits.converter_memory_bytes / TREE_SHARE,
        file_bytes: limits.max_file_bytes,
    });
    let mut left = limits.max_unpacked_bytes;
    for ((layer, file), wanted) in (1..).zip(layers).zip(&request.diff_ids) {
        let unpack = |error| ConvertError::Unpack { layer, error };
        let stream = layer::open(file).map_err(unpack)?;
        let mut reader = Reader::new(Metered::new(stream, left, limits.max_unpacked_bytes));
        while let Some(entry) = reader
            .entry()
            .map_err(|error| ConvertError::Tar { layer, error })?
        {
            tree.apply(layer, entry)
                .map_err(|error| ConvertError::Tree { layer, error })?;
        }
        let (found, rest) = reader.into_inner().finish().map_err(unpack)?;
        left = rest;
        if found != *wanted {
            return Err(ConvertError::DiffId {
                layer,
                found,
                wanted: *wanted,
            });
        }
    }
    Ok(tree)
}

/// Part of the second pass. A digest proved that the bytes are the same as
/// in the first, so that an early end is the host's fault.
fn copy_layer(
    layer: u16,
    file: &File,
    copies: &[Copy],
    out: &mut Out<'_>,
) -> Result<(), ConvertError> {
    if copies.is_empty() {
        return Ok(());
    }
    let unpack = |error| ConvertError::Unpack { layer, error };
    let mut stream = layer::open(file).map_err(unpack)?;
    let mut buffer = vec![0; 256 << 10];
    let mut at = 0;
    for copy in copies {
        let mut read = |length: u64, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>| {
            let mut left = length;
            while left > 0 {
                let n = usize::try_from(left).map_or(buffer.len(), |l| l.min(buffer.len()));
                stream.read_exact(&mut buffer[..n]).map_err(unpack)?;
                sink(&buffer[..n]).map_err(ConvertError::Write)?;
                left -= n as u64;
            }
            Ok::<(), ConvertError>(())
        };
        // Files follow each other in the order of the stream.
        let gap = copy
            .stream
            .checked_sub(at)
            .ok_or_else(|| unpack(io::Error::other("layer order")))?;
        read(gap, &mut |_| Ok(()))?;
        let mut to = copy.at;
        read(copy.length, &mut |bytes| {
            let result = out.put(to, bytes);
            to += bytes.len() as u64;
            result
        })?;
        at = copy.stream + copy.length;
    }
    Ok(())
}

/// From the layers' digests, so that the same layers make the same image;
/// RFC 9562, version 8.
fn uuid(request: &Request) -> [u8; 16] {
    let mut hash = Sha256::new();
    for diff_id in &request.diff_ids {
        hash.update(diff_id.to_string());
    }
    let hash: [u8; 32] = hash.finalize().into();
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&hash[..16]);
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

/// Writes that mostly go forward, gathered.
struct Out<'a> {
    file: &'a File,
    start: u64,
    buffer: Vec<u8>,
}

impl<'a> Out<'a> {
    fn new(file: &'a File) -> Out<'a> {
        Out {
            file,
            start: 0,
            buffer: Vec::with_capacity(WRITE_BUFFER),
        }
    }

    fn put(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let end = self.start + self.buffer.len() as u64;
        let gap = at.checked_sub(end).filter(|gap| *gap <= SMALL_GAP);
        let room = (WRITE_BUFFER as u64).saturating_sub(self.buffer.len() as u64);
        match gap {
            Some(gap) if gap + bytes.len() as u64 <= room => {
                self.buffer.resize(self.buffer.len() + gap as usize, 0);
            }
            _ => {
                self.flush()?;
                self.start = at;
                if bytes.len() >= WRITE_BUFFER {
                    self.start = at + bytes.len() as u64;
                    return self.file.write_all_at(bytes, at);
                }
            }
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.start)?;
        self.start += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}
