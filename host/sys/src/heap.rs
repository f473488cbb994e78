//! The C library's allocator: what it keeps, and giving it back.

use nix::libc;

/// Bytes that the allocator holds without use, given back to the kernel or not
/// (`fordblks` of mallinfo(3)).
#[must_use]
pub fn unused() -> usize {
    // SAFETY: reads the allocator's counters under its own locks.
    unsafe { libc::mallinfo2() }.fordblks
}

/// Gives the kernel back all whole pages without use, of each arena
/// (malloc_trim(3)). Others who allocate wait meanwhile: milliseconds for
/// tens of megabytes.
pub fn trim() {
    // SAFETY: takes the allocator's own locks; no allocation moves.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_freed_is_unused_and_goes() {
        const PIECE: usize = 1 << 10;
        // Small pieces come from an arena, and the last one keeps its top.
        let mut pieces: Vec<Box<[u8; PIECE]>> = (0..8192).map(|_| Box::new([1; PIECE])).collect();
        let last = pieces.pop();
        let before = unused();
        drop(pieces);
        let freed = unused();
        assert!(freed >= before + 8000 * PIECE, "{before} {freed}");
        let held = anonymous();
        trim();
        let left = anonymous();
        assert!(left + 4000 * PIECE < held, "{held} {left}");
        drop(last);
    }

    fn anonymous() -> usize {
        let statm = std::fs::read_to_string("/proc/self/statm").expect("procfs is mounted");
        let pages: Vec<usize> = statm
            .split(' ')
            .filter_map(|n| n.trim().parse().ok())
            .collect();
        (pages[1] - pages[2]) * 4096
    }
}
