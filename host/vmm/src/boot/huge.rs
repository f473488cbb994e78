//! Where huge pages pay: zeroing one costs as much as copying 2 MiB, so that a
//! block of which the kernel fills little, and the guest uses nothing else, is
//! left to small pages. The first block is, too: it is written piecemeal before
//! the guest runs.

use std::ops::Range;

const BLOCK: u64 = 2 << 20;
/// The least that a kernel fills of a block with a huge page.
const FILLED: u64 = BLOCK / 4;

/// The parts of a range of memory that want huge pages, ascending, with the
/// extents of the kernel's segments.
pub(super) fn parts(region: Range<u64>, segments: &[Range<u64>]) -> Vec<Range<u64>> {
    let kernel = segments.iter().fold(None, |all: Option<Range<u64>>, one| {
        let all = all.unwrap_or_else(|| one.clone());
        Some(all.start.min(one.start)..all.end.max(one.end))
    });
    let kernel = kernel.unwrap_or(0..0);
    let first = kernel.start / BLOCK * BLOCK;
    let last = kernel.end.checked_next_multiple_of(BLOCK);
    let blocks = (first..last.unwrap_or(first).min(region.end)).step_by(BLOCK as usize);
    let sparse = blocks.filter(|start| {
        let end = start + BLOCK;
        // Behind the kernel is memory that the guest uses.
        let behind = end.saturating_sub(kernel.end.max(*start));
        let filled = segments.iter().map(|one| overlap(one, &(*start..end)));
        filled.fold(behind, u64::saturating_add) < FILLED
    });
    let least = region.start.max(BLOCK);
    let mut parts = Vec::new();
    let mut from = least;
    for block in sparse {
        parts.push(from..block.max(least));
        from = (block + BLOCK).max(from);
    }
    parts.push(from..region.end);
    parts.retain(|part| part.start < part.end);
    parts
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> u64 {
    a.end.min(b.end).saturating_sub(a.start.max(b.start))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    type Extent = (u64, u64);

    fn check(region: Extent, segments: &[Extent], expected: &[Extent]) {
        let scaled = |extent: &Extent| extent.0 * MIB / 4..extent.1 * MIB / 4;
        let segments: Vec<_> = segments.iter().map(scaled).collect();
        let expected: Vec<_> = expected.iter().map(scaled).collect();
        assert_eq!(parts(scaled(&region), &segments), expected);
    }

    #[test]
    fn only_what_is_filled_gets_huge_pages() {
        // In quarters of a MiB; a block is eight.
        check((0, 512), &[], &[(8, 512)]);
        check((0, 512), &[(64, 88)], &[(8, 512)]);
        // A little of one block, and nothing of the next.
        check((0, 512), &[(64, 81), (96, 104)], &[(8, 80), (96, 512)]);
        check(
            (0, 512),
            &[(64, 81), (88, 89), (96, 104)],
            &[(8, 80), (96, 512)],
        );
        // Enough of the block; the kernel's end is followed by free memory.
        check((0, 512), &[(64, 82), (96, 97)], &[(8, 88), (96, 512)]);
        // Another range than the kernel's, and a kernel that is not in memory.
        check((16384, 20000), &[(64, 81), (96, 104)], &[(16384, 20000)]);
        check((0, 70), &[(64, 65), (96, 104)], &[(8, 64)]);
    }

    #[test]
    fn no_numbers_are_too_large() {
        for end in [u64::MAX, u64::MAX - 1, 0] {
            let parts = parts(0..64 * MIB, &[(16 * MIB)..end, end..end]);
            assert!(parts.iter().all(|part| part.end <= 64 * MIB), "{parts:?}");
        }
    }
}
