//! A layer's bytes, unpacked: plain, gzip or zstd, told by the first bytes
//! (as container runtimes do, whatever the media type says). Counts, bounds
//! and hashes what it gives.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileExt as _;

use sha2::{Digest as _, Sha256};

use crate::digest::Digest;

const BUFFER: usize = 256 << 10;
/// 128 MiB, what zstd itself allows by default; the converter's memory
/// limit has room for it.
const ZSTD_WINDOW_LOG: u32 = 27;
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// Frames to skip may come first: `0x184D2A5?`, little-endian.
const ZSTD_SKIP: &[u8] = &[0x2a, 0x4d, 0x18];

/// Starts at the first byte, whatever was read of the file before.
pub(super) fn open(file: &File) -> io::Result<Box<dyn Read + '_>> {
    let mut magic = [0; 4];
    let n = file.read_at(&mut magic, 0)?;
    let magic = &magic[..n];
    let raw = BufReader::with_capacity(BUFFER, FromStart { file, at: 0 });
    if magic.starts_with(GZIP) {
        return Ok(Box::new(flate2::bufread::MultiGzDecoder::new(raw)));
    }
    let skippable = magic.len() == 4 && magic[0] & 0xf0 == 0x50 && &magic[1..] == ZSTD_SKIP;
    if magic.starts_with(ZSTD) || skippable {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(raw)?;
        decoder.window_log_max(ZSTD_WINDOW_LOG)?;
        return Ok(Box::new(decoder));
    }
    Ok(Box::new(raw))
}

/// Doesn't use the descriptor's own position, which is shared with whoever
/// else has it.
struct FromStart<'a> {
    file: &'a File,
    at: u64,
}

impl Read for FromStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(buffer, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// Hashes and counts; refuses more than `left` bytes.
pub(super) struct Metered<R> {
    inner: BufReader<R>,
    hash: Sha256,
    left: u64,
    limit: u64,
}

impl<R: Read> Metered<R> {
    pub(super) fn new(inner: R, left: u64, limit: u64) -> Metered<R> {
        Metered {
            inner: BufReader::with_capacity(BUFFER, inner),
            hash: Sha256::new(),
            left,
            limit,
        }
    }

    /// Reads to the end, so that checksums at the end are checked; gives
    /// the digest of everything and what is left of the bound.
    pub(super) fn finish(mut self) -> io::Result<(Digest, u64)> {
        let mut buffer = vec![0; BUFFER];
        while self.read(&mut buffer)? > 0 {}
        Ok((Digest::from_bytes(self.hash.finalize().into()), self.left))
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.inner.fill_buf()?;
        let n = available.len().min(buffer.len());
        buffer[..n].copy_from_slice(&available[..n]);
        self.hash.update(&buffer[..n]);
        self.inner.consume(n);
        self.left = self.left.checked_sub(n as u64).ok_or_else(|| {
            let limit = self.limit;
            io::Error::other(format!(
                "the layers unpack to more than {limit} bytes (limits.maxUnpackedBytes)"
            ))
        })?;
        Ok(n)
    }
}
