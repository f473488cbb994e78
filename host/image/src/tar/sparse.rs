//! Maps of sparse files (GNU tar manual, "Storing Sparse Files").

use super::header::{BLOCK, number};
use super::pax::decimal;
use super::{Data, Extent, MAX_EXTENTS};

const TOO_MANY: &str = "a sparse file has more than 65536 parts";
const BAD: &str = "a sparse map is malformed";

/// A part of the file that has data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// What PAX records say of a sparse file.
#[derive(Default)]
pub(super) struct PaxSparse {
    major: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    numbers: Vec<u64>,
    has_map: bool,
}

impl PaxSparse {
    pub(super) fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let one = || decimal(value).ok_or(BAD);
        match key {
            b"major" => self.major = Some(one()?),
            b"size" | b"realsize" => self.size = Some(one()?),
            b"name" if !value.is_empty() && !value.contains(&0) => {
                self.name = Some(value.to_vec());
            }
            b"numblocks" => self.has_map = true,
            b"offset" | b"numbytes" => {
                self.has_map = true;
                self.numbers.push(one()?);
            }
            b"map" => {
                self.has_map = true;
                self.numbers.clear();
                if !value.is_empty() {
                    for part in value.split(|b| *b == b',') {
                        self.numbers.push(decimal(part).ok_or(BAD)?);
                    }
                }
            }
            _ => {}
        }
        match self.numbers.len() > 2 * MAX_EXTENTS {
            true => Err(TOO_MANY),
            false => Ok(()),
        }
    }

    pub(super) fn is_version_1(&self) -> bool {
        self.major == Some(1)
    }

    /// The map of versions 0.0 and 0.1.
    pub(super) fn map(&self) -> Result<Option<Vec<Span>>, &'static str> {
        match (self.has_map, self.numbers.len() % 2) {
            (false, _) => Ok(None),
            (true, 0) => Ok(Some(pairs(&self.numbers))),
            (true, _) => Err(BAD),
        }
    }
}

fn pairs(numbers: &[u64]) -> Vec<Span> {
    let (pairs, _) = numbers.as_chunks::<2>();
    pairs
        .iter()
        .map(|[offset, length]| Span {
            offset: *offset,
            length: *length,
        })
        .collect()
}

/// The file's size, its first spans, and whether more follow.
pub(super) fn old_header(b: &[u8; BLOCK]) -> Result<(u64, Vec<Span>, bool), &'static str> {
    let mut map = Vec::new();
    old_spans(&b[386..482], &mut map)?;
    let size = u64::try_from(number(&b[483..495])?).map_err(|_| BAD)?;
    Ok((size, map, b[482] != 0))
}

/// True if more follow.
pub(super) fn old_extension(b: &[u8; BLOCK], map: &mut Vec<Span>) -> Result<bool, &'static str> {
    old_spans(&b[..504], map)?;
    Ok(b[504] != 0)
}

fn old_spans(bytes: &[u8], map: &mut Vec<Span>) -> Result<(), &'static str> {
    let (slots, _) = bytes.as_chunks::<24>();
    for slot in slots {
        if slot[0] == 0 {
            return Ok(());
        }
        if map.len() >= MAX_EXTENTS {
            return Err(TOO_MANY);
        }
        map.push(Span {
            offset: u64::try_from(number(&slot[..12])?).map_err(|_| BAD)?,
            length: u64::try_from(number(&slot[12..])?).map_err(|_| BAD)?,
        });
    }
    Ok(())
}

/// The decimal lines of version 1.0: a count, then offsets and lengths.
#[derive(Default)]
pub(super) struct Lines {
    count: Option<usize>,
    numbers: Vec<u64>,
    digits: Vec<u8>,
}

impl Lines {
    /// The map, once its last line is in.
    pub(super) fn block(&mut self, block: &[u8; BLOCK]) -> Result<Option<Vec<Span>>, &'static str> {
        for byte in block {
            match byte {
                b'\n' => {
                    let value = decimal(&self.digits).ok_or(BAD)?;
                    self.digits.clear();
                    match self.count {
                        None => {
                            let count = usize::try_from(value).map_err(|_| TOO_MANY)?;
                            if count > MAX_EXTENTS {
                                return Err(TOO_MANY);
                            }
                            self.count = Some(count);
                        }
                        Some(_) => self.numbers.push(value),
                    }
                }
                digit if self.digits.len() < 20 => self.digits.push(*digit),
                _ => return Err(BAD),
            }
            if self.count.is_some_and(|n| self.numbers.len() == 2 * n) {
                return Ok(Some(pairs(&self.numbers)));
            }
        }
        Ok(None)
    }
}

/// Gives each span its place in the stream, where data lies from `at` to
/// `end`.
pub(super) fn place(size: u64, map: &[Span], at: u64, end: u64) -> Result<Data, &'static str> {
    let (mut stream, mut file) = (at, 0);
    let mut extents = Vec::with_capacity(map.len());
    for span in map {
        let span_end = span.offset.checked_add(span.length).ok_or(BAD)?;
        if span.offset < file || span_end > size {
            return Err("a sparse map's parts overlap or exceed the file");
        }
        if span.length > 0 {
            extents.push(Extent {
                file: span.offset,
                stream,
                length: span.length,
            });
        }
        file = span_end;
        stream = stream.checked_add(span.length).ok_or(BAD)?;
    }
    match stream > end {
        true => Err("a sparse file's data is shorter than its map"),
        false => Ok(Data { size, extents }),
    }
}
