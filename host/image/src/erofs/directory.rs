//! Directory blocks: an array of 12-byte entries, then the names, which are
//! sorted by bytes within and across blocks.

use super::BLOCK;

const ENTRY: usize = 12;

/// `FT_*` of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum FileType {
    Regular = 1,
    Directory = 2,
    Char = 3,
    Block = 4,
    Fifo = 5,
    Symlink = 7,
}

/// One name of a directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named<'a, T> {
    pub(super) name: &'a [u8],
    pub(super) what: T,
}

/// How a directory's bytes divide: whole blocks, then a shorter tail (which
/// is never empty).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) full: u32,
    pub(super) tail: u32,
}

impl Shape {
    pub(super) fn size(self) -> u64 {
        u64::from(self.full) * BLOCK + u64::from(self.tail)
    }
}

/// All names in order, `.` and `..` among them.
pub(super) fn with_dots<'a, T: Copy>(
    children: impl Iterator<Item = Named<'a, T>>,
    own: T,
    parent: T,
) -> impl Iterator<Item = Named<'a, T>> {
    let mut dots = [
        Named {
            name: &b"."[..],
            what: own,
        },
        Named {
            name: b"..",
            what: parent,
        },
    ]
    .into_iter()
    .peekable();
    let mut children = children.peekable();
    std::iter::from_fn(move || match (dots.peek(), children.peek()) {
        (Some(dot), Some(child)) if child.name < dot.name => children.next(),
        (Some(_), _) => dots.next(),
        (None, _) => children.next(),
    })
}

/// Counts the blocks that names of these lengths take.
pub(super) fn shape(lengths: impl Iterator<Item = usize>) -> Shape {
    let (mut full, mut used) = (0, 0);
    for length in lengths {
        let need = ENTRY + length;
        if used + need > BLOCK as usize {
            full += 1;
            used = 0;
        }
        used += need;
    }
    let tail = u32::try_from(used).unwrap_or_default();
    Shape { full, tail }
}

/// Gives the blocks; all but the last are padded to 4096 bytes.
pub(super) fn encode<'a>(
    names: impl Iterator<Item = Named<'a, (u64, FileType)>>,
    mut block: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut pending: Vec<Named<'a, (u64, FileType)>> = Vec::new();
    let mut used = 0;
    for named in names {
        let need = ENTRY + named.name.len();
        if used + need > BLOCK as usize {
            let mut bytes = encode_block(&pending);
            bytes.resize(BLOCK as usize, 0);
            block(&bytes)?;
            pending.clear();
            used = 0;
        }
        used += need;
        pending.push(named);
    }
    block(&encode_block(&pending))
}

fn encode_block(names: &[Named<'_, (u64, FileType)>]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BLOCK as usize);
    let mut offset = names.len() * ENTRY;
    for Named {
        name,
        what: (nid, kind),
    } in names
    {
        bytes.extend_from_slice(&nid.to_le_bytes());
        // Less than a block, so less than 65536.
        bytes.extend_from_slice(&(offset as u16).to_le_bytes());
        bytes.push(*kind as u8);
        bytes.push(0);
        offset += name.len();
    }
    for named in names {
        bytes.extend_from_slice(named.name);
    }
    bytes
}
