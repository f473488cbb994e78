//! Files with holes: which chunk size, which chunks have data.

use super::BLOCK;
use crate::tar::{Data, Extent};

const BLOCK_BITS: u32 = 12;
/// `EROFS_CHUNK_FORMAT_BLKBITS_MASK`.
const MAX_BITS: u32 = 31;
/// Fewer zeros than this are written as such.
const WORTH: u64 = 64 << 10;

/// How a sparse file is stored: chunks of `BLOCK << bits`, in order, those
/// without data left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunks {
    pub(crate) bits: u32,
    /// Of the whole file.
    pub(crate) total: u64,
    /// Of the stored chunks, the last one perhaps short.
    pub(crate) blocks: u64,
}

/// `None` if the file is better stored flat.
pub(crate) fn chunks(data: &Data) -> Option<Chunks> {
    let present: u64 = data.extents.iter().map(|e| e.length).sum();
    if data.size - present < WORTH {
        return None;
    }
    (0..=MAX_BITS)
        .map(|bits| plan(data, bits))
        .min_by_key(|c| c.total * 4 + c.blocks * BLOCK)
}

fn plan(data: &Data, bits: u32) -> Chunks {
    let chunk = BLOCK << bits;
    let total = data.size.div_ceil(chunk);
    let mut stored = 0;
    let mut has_last = false;
    for (first, last) in Runs::new(data, bits) {
        stored += last - first + 1;
        has_last = last + 1 == total;
    }
    let mut blocks = stored << bits;
    if has_last {
        let rest = data.size - (total - 1) * chunk;
        blocks -= (1 << bits) - rest.div_ceil(BLOCK);
    }
    Chunks {
        bits,
        total,
        blocks,
    }
}

/// Ranges of chunks with data, ordered and disjoint.
pub(crate) struct Runs<'a> {
    extents: std::slice::Iter<'a, Extent>,
    shift: u32,
    pending: Option<(u64, u64)>,
}

impl<'a> Runs<'a> {
    pub(crate) fn new(data: &'a Data, bits: u32) -> Runs<'a> {
        Runs {
            extents: data.extents.iter(),
            shift: BLOCK_BITS + bits,
            pending: None,
        }
    }
}

impl Iterator for Runs<'_> {
    type Item = (u64, u64);

    fn next(&mut self) -> Option<(u64, u64)> {
        for extent in self.extents.by_ref() {
            let first = extent.file >> self.shift;
            let last = (extent.file + extent.length - 1) >> self.shift;
            match &mut self.pending {
                Some((_, end)) if first <= *end + 1 => *end = last,
                pending => {
                    if let Some(run) = pending.replace((first, last)) {
                        return Some(run);
                    }
                }
            }
        }
        self.pending.take()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn file(size: u64, parts: &[(u64, u64)]) -> Data {
        let extents = parts
            .iter()
            .map(|(file, length)| Extent {
                file: *file,
                stream: 0,
                length: *length,
            })
            .collect();
        Data { size, extents }
    }

    #[test]
    fn chunks_cover_what_has_data() {
        assert_eq!(chunks(&file(1 << 20, &[(0, 1 << 20)])), None);
        assert_eq!(chunks(&file(70_000, &[(0, 10_000)])), None);
        let empty = chunks(&file(1 << 40, &[])).unwrap();
        assert_eq!((empty.blocks, empty.total), (0, 1));
        let one = chunks(&file(1 << 20, &[((1 << 20) - 1, 1)])).unwrap();
        assert_eq!((one.bits, one.blocks, one.total), (0, 1, 256));
        let data = file(1 << 20, &[(0, 4096), (4096, 1), (900_000, 1)]);
        assert_eq!(
            Runs::new(&data, 0).collect::<Vec<_>>(),
            [(0, 1), (219, 219)]
        );
    }

    #[test]
    fn the_last_chunk_is_short() {
        let c = plan(&file(5 * 4096 + 1, &[(5 * 4096, 1)]), 2);
        assert_eq!((c.total, c.blocks), (2, 2));
    }
}
