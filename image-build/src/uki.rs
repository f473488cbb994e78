//! One EFI program from systemd's stub, kernel, initramfs and command line.
//!
//! The parts become PE sections behind the stub's own (UAPI specification 5,
//! Unified Kernel Image). Written here instead of by objcopy, so that equal
//! inputs give equal bytes: nothing but the section table and three fields of
//! the headers changes.
//!
//! ```text
//! MZ … PE\0\0 | COFF header 20 | optional header | sections 40 each | … | data
//! ```

use anyhow::{Context, Result, bail};

const SECTION: usize = 40;
/// IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ.
const READ_ONLY_DATA: u32 = 0x4000_0040;
/// Sections start on a page, whatever smaller alignment the stub has.
const PAGE: usize = 4096;

/// Appends `sections` (name of at most 8 bytes, content) to a PE32+ image.
pub fn assemble(stub: &[u8], sections: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    let mut image = stub.to_vec();
    let layout = Layout::read(stub)?;
    let mut table = layout.table_end;
    let mut address = layout.memory_end;
    for (name, content) in sections {
        if table + SECTION > layout.headers_size {
            bail!("the stub's header has no room for section {name}");
        }
        if name.len() > 8 {
            bail!("section name {name} is longer than 8 bytes");
        }
        address = address.next_multiple_of(PAGE.max(layout.section_alignment));
        let start = image.len().next_multiple_of(layout.file_alignment);
        let stored = content.len().next_multiple_of(layout.file_alignment);
        image.resize(start, 0);
        image.extend_from_slice(content);
        image.resize(start + stored, 0);
        image[table..table + SECTION].fill(0);
        image[table..table + name.len()].copy_from_slice(name.as_bytes());
        put(&mut image, table + 8, content.len())?;
        put(&mut image, table + 12, address)?;
        put(&mut image, table + 16, stored)?;
        put(&mut image, table + 20, start)?;
        image[table + 36..table + 40].copy_from_slice(&READ_ONLY_DATA.to_le_bytes());
        table += SECTION;
        address += content.len();
    }
    let count = u16::try_from(layout.sections + sections.len())?;
    image[layout.coff + 2..layout.coff + 4].copy_from_slice(&count.to_le_bytes());
    let size = address.next_multiple_of(PAGE.max(layout.section_alignment));
    put(&mut image, layout.optional + 56, size)?;
    // No checksum: firmware ignores it, and signing writes its own.
    put(&mut image, layout.optional + 64, 0)?;
    Ok(image)
}

struct Layout {
    coff: usize,
    optional: usize,
    sections: usize,
    table_end: usize,
    headers_size: usize,
    section_alignment: usize,
    file_alignment: usize,
    /// Where the last section of the stub ends in memory.
    memory_end: usize,
}

impl Layout {
    fn read(stub: &[u8]) -> Result<Self> {
        let signature = get(stub, 0x3c)?;
        if stub.get(..2) != Some(b"MZ") || stub.get(signature..signature + 4) != Some(b"PE\0\0") {
            bail!("the stub is no PE image");
        }
        let coff = signature + 4;
        let optional = coff + 20;
        let short = |at: usize| -> Result<usize> {
            let bytes = stub.get(at..at + 2).context("truncated PE header")?;
            Ok(usize::from(u16::from_le_bytes([bytes[0], bytes[1]])))
        };
        if short(optional)? != 0x20b {
            bail!("the stub is not PE32+");
        }
        let sections = short(coff + 2)?;
        let table = optional + short(coff + 16)?;
        let mut memory_end = 0;
        for index in 0..sections {
            let entry = table + index * SECTION;
            memory_end = memory_end.max(get(stub, entry + 8)? + get(stub, entry + 12)?);
        }
        Ok(Self {
            coff,
            optional,
            sections,
            table_end: table + sections * SECTION,
            headers_size: get(stub, optional + 60)?,
            section_alignment: get(stub, optional + 32)?.max(1),
            file_alignment: get(stub, optional + 36)?.max(1),
            memory_end,
        })
    }
}

fn get(bytes: &[u8], at: usize) -> Result<usize> {
    let field = bytes.get(at..at + 4).context("truncated PE header")?;
    let field: [u8; 4] = field.try_into()?;
    Ok(usize::try_from(u32::from_le_bytes(field))?)
}

fn put(bytes: &mut [u8], at: usize, value: usize) -> Result<()> {
    let value = u32::try_from(value).context("the image passes 4 GiB")?;
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// A PE32+ header with one section and room for two more.
    fn stub() -> Vec<u8> {
        let mut bytes = vec![0; 0x600];
        bytes[..2].copy_from_slice(b"MZ");
        bytes[0x3c] = 0x80;
        bytes[0x80..0x84].copy_from_slice(b"PE\0\0");
        bytes[0x86] = 1;
        bytes[0x94] = 0xf0;
        bytes[0x98..0x9a].copy_from_slice(&[0x0b, 0x02]);
        put(&mut bytes, 0x98 + 32, 0x200).unwrap();
        put(&mut bytes, 0x98 + 36, 0x200).unwrap();
        let table = 0x98 + 0xf0;
        put(&mut bytes, 0x98 + 60, table + 3 * SECTION).unwrap();
        put(&mut bytes, table + 8, 0x234).unwrap();
        put(&mut bytes, table + 12, 0x1000).unwrap();
        bytes
    }

    #[test]
    fn sections_land_behind_the_stub() {
        let image = assemble(&stub(), &[(".linux", b"kernel"), (".initrd", b"archive")]).unwrap();
        let layout = Layout::read(&image).unwrap();
        assert_eq!(layout.sections, 3);
        let entry = 0x98 + 0xf0 + SECTION;
        assert_eq!(&image[entry..entry + 6], b".linux");
        assert_eq!(get(&image, entry + 12).unwrap(), 0x2000);
        let start = get(&image, entry + 20).unwrap();
        assert_eq!(&image[start..start + 6], b"kernel");
        assert_eq!(get(&image, entry + SECTION + 12).unwrap(), 0x3000);
        assert_eq!(get(&image, 0x98 + 56).unwrap(), 0x4000);
    }

    #[test]
    fn a_full_header_and_a_foreign_file_are_refused() {
        let three: [(&str, &[u8]); 3] = [(".a", b""), (".b", b""), (".c", b"")];
        assert!(assemble(&stub(), &three).is_err());
        assert!(assemble(b"#!/bin/sh", &[]).is_err());
        for length in 0..0x1c0 {
            assert!(assemble(&stub()[..length], &three).is_err());
        }
    }
}
