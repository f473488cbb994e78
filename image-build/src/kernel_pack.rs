//! The guest kernel's file, reduced to what is loaded and means something.
//!
//! A kernel aligns parts of itself to 2 MiB, for the sake of its page tables, and
//! fills the gaps: with 0xCC in its text, else with zeroes. None of it is ever
//! read, but loading it costs each micro-VM as much as real content. So the
//! file that is shipped has a segment for each run of pages that aren't filler,
//! and neither sections nor gaps.

use anyhow::{Context, Result, bail};

const HEADER: usize = 64;
const SEGMENT: usize = 56;
const PAGE: usize = 4096;
/// Gaps below this many bytes don't split a run.
const GAP: usize = 64 << 10;
const LOAD: u32 = 1;
const NOTE: u32 = 4;
const EXECUTABLE: u32 = 1;
/// `int3`.
const TEXT_FILLER: u8 = 0xCC;

/// The words of an `Elf64_Phdr`.
#[derive(Clone, Copy)]
struct Segment {
    kind: u32,
    flags: u32,
    offset: usize,
    virtual_address: u64,
    physical_address: u64,
    file_size: usize,
    memory_size: usize,
    align: u64,
}

/// The same kernel without filler, byte for byte where it is loaded.
///
/// # Errors
/// For what is no ELF file for 64 bits whose segments lie within it.
pub fn pack(elf: &[u8]) -> Result<Vec<u8>> {
    let mut out = elf.get(..HEADER).context("ELF header")?.to_vec();
    if !out.starts_with(&[0x7F, b'E', b'L', b'F', 2, 1]) {
        bail!("not an ELF file for 64 bits");
    }
    let mut runs: Vec<(Segment, &[u8])> = Vec::new();
    for segment in segments(elf)? {
        let end = segment.offset.checked_add(segment.file_size);
        let content = end.and_then(|end| elf.get(segment.offset..end));
        let content = content.context("a segment lies outside of the file")?;
        match segment.kind {
            LOAD => runs.extend(split(segment, content)),
            NOTE => runs.push((segment, content)),
            _ => {}
        }
    }
    // Section headers are gone; 32: e_phoff, 40: e_shoff, 56: e_phnum, 58: the
    // three of sections.
    put(&mut out, 32, &(HEADER as u64).to_le_bytes());
    put(&mut out, 40, &[0; 8]);
    put(&mut out, 56, &u16::try_from(runs.len())?.to_le_bytes());
    put(&mut out, 58, &[0; 6]);
    let mut offset = (HEADER + runs.len() * SEGMENT).next_multiple_of(PAGE);
    for (segment, content) in &runs {
        out.extend(segment.encode(offset));
        offset = (offset + content.len()).next_multiple_of(PAGE);
    }
    for (_, content) in &runs {
        out.resize(out.len().next_multiple_of(PAGE), 0);
        out.extend_from_slice(content);
    }
    Ok(out)
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

fn segments(elf: &[u8]) -> Result<Vec<Segment>> {
    let table = usize::try_from(word64(elf, 32)?)?;
    let count = usize::from(u16::from_le_bytes(array(elf, 56)?));
    let at = |index: usize| Segment::decode(elf, table.saturating_add(index * SEGMENT));
    (0..count).map(at).collect()
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    let end = at.checked_add(N).context("offset")?;
    Ok(bytes.get(at..end).context("ELF headers")?.try_into()?)
}

fn word64(bytes: &[u8], at: usize) -> Result<u64> {
    Ok(u64::from_le_bytes(array(bytes, at)?))
}

impl Segment {
    fn decode(elf: &[u8], at: usize) -> Result<Self> {
        let word = |field: usize| word64(elf, at.saturating_add(field));
        Ok(Self {
            kind: u32::from_le_bytes(array(elf, at)?),
            flags: u32::from_le_bytes(array(elf, at.saturating_add(4))?),
            offset: usize::try_from(word(8)?)?,
            virtual_address: word(16)?,
            physical_address: word(24)?,
            file_size: usize::try_from(word(32)?)?,
            memory_size: usize::try_from(word(40)?)?,
            align: word(48)?,
        })
    }

    fn encode(&self, offset: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SEGMENT);
        bytes.extend(self.kind.to_le_bytes());
        bytes.extend(self.flags.to_le_bytes());
        for word in [
            offset as u64,
            self.virtual_address,
            self.physical_address,
            self.file_size as u64,
            self.memory_size as u64,
            self.align.min(PAGE as u64),
        ] {
            bytes.extend(word.to_le_bytes());
        }
        bytes
    }

    /// The part from `from` on, of which the file has as much as `length`.
    fn part(&self, from: usize, length: usize, memory: usize) -> Self {
        Self {
            virtual_address: self.virtual_address.wrapping_add(from as u64),
            physical_address: self.physical_address.wrapping_add(from as u64),
            file_size: length,
            memory_size: memory,
            ..*self
        }
    }
}

/// The runs of a segment; the last one reaches to its end in memory.
fn split(segment: Segment, content: &[u8]) -> Vec<(Segment, &[u8])> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (start, page) in (0..).step_by(PAGE).zip(content.chunks(PAGE)) {
        let all = |filler: u8| page.iter().all(|byte| *byte == filler);
        if all(0) || segment.flags & EXECUTABLE != 0 && all(TEXT_FILLER) {
            continue;
        }
        let end = start + page.len();
        match runs.last_mut() {
            Some(run) if start - run.1 < GAP => run.1 = end,
            _ => runs.push((start, end)),
        }
    }
    if runs.is_empty() {
        runs.push((0, 0));
    }
    let last = runs.len() - 1;
    let parts = runs.into_iter().enumerate().map(|(index, (start, end))| {
        let memory = if index == last {
            segment.memory_size.max(content.len()) - start
        } else {
            end - start
        };
        let bytes = content.get(start..end).unwrap_or_default();
        (segment.part(start, end - start, memory), bytes)
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// An ELF file with these segments: kind, flags, address, content, memory.
    fn elf(segments: &[(u32, u32, u64, &[u8], usize)]) -> Vec<u8> {
        let mut out = vec![0; HEADER];
        out[..6].copy_from_slice(&[0x7F, b'E', b'L', b'F', 2, 1]);
        put(&mut out, 32, &(HEADER as u64).to_le_bytes());
        put(&mut out, 56, &(segments.len() as u16).to_le_bytes());
        let mut offset = HEADER + segments.len() * SEGMENT;
        for (kind, flags, address, content, memory_size) in segments {
            let segment = Segment {
                kind: *kind,
                flags: *flags,
                offset,
                virtual_address: *address,
                physical_address: *address,
                file_size: content.len(),
                memory_size: *memory_size,
                align: 2 << 20,
            };
            out.extend(segment.encode(offset));
            offset += content.len();
        }
        for (_, _, _, content, _) in segments {
            out.extend_from_slice(content);
        }
        out
    }

    /// What is in memory after loading, and where the last segment ends.
    fn loaded(elf: &[u8]) -> (Vec<u8>, u64) {
        let (mut memory, mut end) = (vec![0; 1 << 20], 0);
        for segment in segments(elf).unwrap() {
            if segment.kind == LOAD {
                let at = segment.physical_address as usize;
                let content = &elf[segment.offset..segment.offset + segment.file_size];
                memory[at..at + content.len()].copy_from_slice(content);
                end = end.max(segment.physical_address + segment.memory_size as u64);
            }
        }
        (memory, end)
    }

    #[test]
    fn filler_goes_and_all_else_stays_where_it_was() {
        let mut text = vec![TEXT_FILLER; 300_000];
        text[..5000].fill(1);
        text[200_000..200_010].fill(2);
        let mut data = vec![0; 200_000];
        data[100_000..].fill(TEXT_FILLER);
        let whole = elf(&[
            (LOAD, 5, 0x1000, &text, text.len()),
            (LOAD, 6, 0x80000, &data, 250_000),
            (LOAD, 6, 0xC0000, &[0; 9000], 9000),
            (NOTE, 4, 0x1100, b"note", 4),
        ]);
        let packed = pack(&whole).unwrap();
        assert!(packed.len() < 150_000, "{}", packed.len());
        let ((before, end), (after, end_after)) = (loaded(&whole), loaded(&packed));
        assert_eq!(end, end_after);
        for (at, (old, new)) in before.iter().zip(&after).enumerate() {
            let filler = at < 0x80000 && (*old, *new) == (TEXT_FILLER, 0);
            assert!(old == new || filler, "{at:#x}: {old:#x} {new:#x}");
        }
        let note = segments(&packed).unwrap().pop().unwrap();
        assert_eq!(note.kind, NOTE);
        assert_eq!(&packed[note.offset..note.offset + 4], b"note");
        // Nothing is left to take away.
        assert_eq!(loaded(&pack(&packed).unwrap()), loaded(&packed));
    }

    #[test]
    fn what_is_no_kernel_is_refused() {
        let good = elf(&[(LOAD, 5, 0, &[1; 100], 100)]);
        assert!(pack(&good).is_ok());
        for length in 0..good.len() {
            assert!(pack(&good[..length]).is_err(), "{length}");
        }
        let mut seed = 1_u32;
        for _ in 0..2000 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let mut bad = good.clone();
            let at = (seed >> 8) as usize % (HEADER + SEGMENT);
            bad[at] ^= 1 << (seed % 8);
            // No panic, whatever it says.
            let _ = pack(&bad);
        }
    }
}
