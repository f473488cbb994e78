//! Name/value blocks (SPDY 3.1, 2.6.10): one zlib stream in each direction for
//! all frames of a connection, begun with a dictionary that both sides know.
//!
//! A block is bounded after decompression, so that a small frame can't become
//! a large one; every block must pass through here, also one of a stream that
//! is refused, because the next one refers to it.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use std::sync::OnceLock;

/// The largest block, decompressed.
const BLOCK_MAX: usize = 16 << 10;

/// SPDY 3.1, 2.6.10.1: these words with their lengths before them, then the
/// rest as one text. Its Adler-32 is 0xe3c6a7c2.
const WORDS: &str = "options head post put delete trace accept accept-charset \
accept-encoding accept-language accept-ranges age allow authorization cache-control connection \
content-base content-encoding content-language content-length content-location content-md5 \
content-range content-type date etag expect expires from host if-match if-modified-since \
if-none-match if-range if-unmodified-since last-modified location max-forwards pragma \
proxy-authenticate proxy-authorization range referer retry-after server te trailer \
transfer-encoding upgrade user-agent vary via warning www-authenticate method get status 200_OK \
version HTTP/1.1 url public set-cookie keep-alive origin";
const REST: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416\
417502504505203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad \
Request401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not \
Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 \
Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,\
application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,\
deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

fn dictionary() -> &'static [u8] {
    static DICTIONARY: OnceLock<Vec<u8>> = OnceLock::new();
    DICTIONARY.get_or_init(|| {
        let mut bytes = Vec::with_capacity(1423);
        for word in WORDS.split(' ').map(|word| word.replace('_', " ")) {
            put_text(&mut bytes, &word);
        }
        bytes.extend_from_slice(REST.as_bytes());
        bytes
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BlockError {
    #[error("a header block does not decompress")]
    Zlib,
    #[error("a header block is too large")]
    TooLarge,
    #[error("a header block is malformed")]
    Malformed,
}

/// Names and values in the order in which they stand.
pub(crate) type Headers = Vec<(String, String)>;

pub(crate) struct Reader(Decompress);

impl Reader {
    pub(crate) fn new() -> Self {
        Self(Decompress::new(true))
    }

    pub(crate) fn read(&mut self, block: &[u8]) -> Result<Headers, BlockError> {
        parse(&self.decompress(block)?)
    }

    fn decompress(&mut self, block: &[u8]) -> Result<Vec<u8>, BlockError> {
        let mut plain = vec![0; BLOCK_MAX];
        let (first_in, first_out) = (self.0.total_in(), self.0.total_out());
        loop {
            let taken = distance(first_in, self.0.total_in());
            let made = distance(first_out, self.0.total_out());
            let input = block.get(taken..).unwrap_or_default();
            let output = plain.get_mut(made..).unwrap_or_default();
            if output.is_empty() {
                return Err(BlockError::TooLarge);
            }
            let room = output.len();
            match self.0.decompress(input, output, FlushDecompress::Sync) {
                Ok(Status::StreamEnd) => return Err(BlockError::Zlib),
                Ok(Status::Ok | Status::BufError) => {
                    let now = distance(first_out, self.0.total_out());
                    let all_taken = distance(first_in, self.0.total_in()) == block.len();
                    if all_taken && now - made < room {
                        plain.truncate(now);
                        return Ok(plain);
                    }
                    if !all_taken && now == made && distance(first_in, self.0.total_in()) == taken {
                        return Err(BlockError::Zlib);
                    }
                }
                Err(error) if error.needs_dictionary().is_some() => {
                    let set = self.0.set_dictionary(dictionary());
                    set.map_err(|_| BlockError::Zlib)?;
                }
                Err(_) => return Err(BlockError::Zlib),
            }
        }
    }
}

fn distance(from: u64, to: u64) -> usize {
    usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX)
}

fn parse(plain: &[u8]) -> Result<Headers, BlockError> {
    let mut rest = plain;
    let count = take_u32(&mut rest)?;
    let mut headers = Headers::new();
    // Each pair takes 8 bytes at least, so the block bounds the count.
    for _ in 0..count {
        let name = take_text(&mut rest)?;
        let value = take_text(&mut rest)?;
        headers.push((name, value));
    }
    Ok(headers)
}

fn take_u32(rest: &mut &[u8]) -> Result<u32, BlockError> {
    let (number, after) = rest.split_first_chunk::<4>().ok_or(BlockError::Malformed)?;
    *rest = after;
    Ok(u32::from_be_bytes(*number))
}

fn take_text(rest: &mut &[u8]) -> Result<String, BlockError> {
    let length = take_u32(rest)? as usize;
    let (text, after) = rest.split_at_checked(length).ok_or(BlockError::Malformed)?;
    *rest = after;
    String::from_utf8(text.to_vec()).map_err(|_| BlockError::Malformed)
}

pub(crate) struct Writer(Compress);

impl Writer {
    pub(crate) fn new() -> Result<Self, BlockError> {
        let mut compress = Compress::new(Compression::fast(), true);
        let set = compress.set_dictionary(dictionary());
        set.map_err(|_| BlockError::Zlib)?;
        Ok(Self(compress))
    }

    pub(crate) fn write(&mut self, headers: &Headers) -> Result<Vec<u8>, BlockError> {
        let mut plain = Vec::new();
        put_u32(&mut plain, headers.len());
        for (name, value) in headers {
            put_text(&mut plain, name);
            put_text(&mut plain, value);
        }
        let mut block = Vec::with_capacity(plain.len() + 64);
        let before = self.0.total_in();
        loop {
            let taken = distance(before, self.0.total_in());
            let input = plain.get(taken..).unwrap_or_default();
            let space = block.capacity() - block.len();
            let status = self.0.compress_vec(input, &mut block, FlushCompress::Sync);
            status.map_err(|_| BlockError::Zlib)?;
            // A flush is complete when it left space (zlib.h, deflate).
            if space > 0 && block.len() < block.capacity() {
                return Ok(block);
            }
            block.reserve(256);
        }
    }
}

fn put_u32(to: &mut Vec<u8>, number: usize) {
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    to.extend_from_slice(&number.to_be_bytes());
}

fn put_text(to: &mut Vec<u8>, text: &str) {
    put_u32(to, text.len());
    to.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn adler32(bytes: &[u8]) -> u32 {
        let (a, b) = bytes.iter().fold((1_u32, 0_u32), |(a, b), byte| {
            let a = (a + u32::from(*byte)) % 65_521;
            (a, (b + a) % 65_521)
        });
        b << 16 | a
    }

    #[test]
    fn the_dictionary_is_the_one_of_spdy_3() {
        assert_eq!(adler32(dictionary()), 0xe3c6_a7c2);
        let block = Writer::new().unwrap().write(&Vec::new()).unwrap();
        assert_eq!(block.get(2..6), Some(&[0xe3, 0xc6, 0xa7, 0xc2][..]));
    }

    #[test]
    fn blocks_of_one_connection_survive_a_round_trip() {
        let (mut writer, mut reader) = (Writer::new().unwrap(), Reader::new());
        for round in 0..200 {
            let headers: Headers = (0..round % 5)
                .map(|number| (format!("name{number}"), "v".repeat(round)))
                .collect();
            let block = writer.write(&headers).unwrap();
            assert_eq!(reader.read(&block).unwrap(), headers, "round {round}");
        }
    }

    #[test]
    fn a_small_block_can_not_become_a_large_one() {
        let headers = vec![("x".to_owned(), "y".repeat(BLOCK_MAX))];
        let block = Writer::new().unwrap().write(&headers).unwrap();
        assert!(block.len() < 1000);
        assert_eq!(Reader::new().read(&block), Err(BlockError::TooLarge));
    }

    #[test]
    fn any_bytes_are_parsed_or_refused() {
        let headers = vec![("streamtype".to_owned(), "stdin".to_owned())];
        let block = Writer::new().unwrap().write(&headers).unwrap();
        let mut seed = 0x0bad_cafe_dead_beef_u64;
        for _ in 0..fuzzing::rounds(3000) {
            let mut bytes = block.clone();
            for _ in 0..=seed % 4 {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                let at = usize::try_from(seed >> 32).unwrap() % bytes.len();
                bytes[at] ^= 1 << (seed % 8);
            }
            let mut reader = Reader::new();
            // Refused or not, and also the next one, without a panic.
            let _ = reader.read(&bytes);
            let _ = reader.read(&block);
            let _ = parse(&bytes);
        }
    }
}
