//! Where everything of an image goes. See the module's diagram.

use super::directory::{self, Shape};
use super::holes::{self, Chunks, Runs};
use super::{ALIGN, BLOCK, LayoutError, xattr};
use crate::tar::Data;
use crate::tree::{InodeId, Node, ROOT, Tree};

pub(super) const INODE: u64 = 64;
/// `nid` counts slots of this size.
pub(super) const SLOT: u64 = 32;

/// How an inode's data is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Whole blocks.
    Flat,
    /// Whole blocks, the tail behind the inode.
    Inline,
    /// A map of chunks of `BLOCK << bits` behind the inode.
    Chunked { bits: u32 },
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Of the inode, in bytes from the image's start.
    pub(super) offset: u64,
    /// The first block of its data.
    pub(super) block: u32,
    pub(super) links: u32,
    pub(super) parent: InodeId,
    pub(super) form: Form,
}

/// Bytes of a layer that belong into the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Copy {
    pub(crate) layer: u16,
    pub(crate) stream: u64,
    pub(crate) length: u64,
    /// In the image.
    pub(crate) at: u64,
}

/// A complete plan of an image.
pub(crate) struct Layout {
    /// Inodes in the order of their places.
    pub(super) order: Vec<InodeId>,
    /// By id; meaningless for ids that aren't in `order`.
    pub(super) places: Vec<Place>,
    pub(super) blocks: u32,
    pub(super) has_chunks: bool,
    copies: Vec<Copy>,
}

impl Layout {
    pub(crate) fn new(tree: &Tree, max_bytes: u64) -> Result<Layout, LayoutError> {
        let mut layout = order(tree);
        let meta_end = layout.place_inodes(tree, max_bytes)?;
        let mut blocks = Blocks {
            next: meta_end / BLOCK,
            max_bytes,
        };
        layout.place_directories(tree, &mut blocks)?;
        layout.place_files(tree, &mut blocks)?;
        layout.blocks = u32::try_from(blocks.next)
            .map_err(|_| LayoutError::TooLarge(blocks.next * BLOCK, max_bytes))?;
        Ok(layout)
    }

    /// The image's size.
    pub(crate) fn size(&self) -> u64 {
        (u64::from(self.blocks) * BLOCK).next_multiple_of(ALIGN)
    }

    pub(crate) fn inodes(&self) -> u32 {
        u32::try_from(self.order.len()).unwrap_or(u32::MAX)
    }

    /// What to copy from the layers, by layer and place in it; ascending in
    /// the image, too.
    pub(crate) fn copies(&self) -> &[Copy] {
        &self.copies
    }

    pub(super) fn nid(&self, id: InodeId) -> u64 {
        self.places[id as usize].offset / SLOT
    }

    /// Gives each inode its offset and form; returns where data can begin.
    fn place_inodes(&mut self, tree: &Tree, max_bytes: u64) -> Result<u64, LayoutError> {
        let mut cursor = BLOCK;
        for id in self.order.clone() {
            let inode = tree.inode(id);
            let xattrs = xattr::encode(&inode.attributes.xattrs)?.len() as u64;
            let head = INODE + xattrs;
            let mut offset = cursor.next_multiple_of(SLOT);
            if offset % BLOCK + INODE > BLOCK {
                offset = offset.next_multiple_of(BLOCK);
            }
            let place = &mut self.places[id as usize];
            let tail = match &inode.node {
                Node::Directory(_) => {
                    place.links = 2;
                    Some(u64::from(shape(tree, id).tail))
                }
                Node::Symlink(target) => Some(target.len() as u64),
                _ => None,
            };
            let mut behind = 0;
            if let Some(tail) = tail {
                let fits = |offset: u64| (offset + head) % BLOCK + tail <= BLOCK;
                let candidates = [offset, offset.next_multiple_of(BLOCK)];
                if let Some(found) = candidates.into_iter().find(|o| fits(*o)) {
                    offset = found;
                    place.form = Form::Inline;
                    behind = tail;
                }
            }
            if let Node::File(_, data) = &inode.node
                && let Some(Chunks { bits, total, .. }) = holes::chunks(data)
            {
                place.form = Form::Chunked { bits };
                self.has_chunks = true;
                behind = total * 4;
            }
            place.offset = offset;
            cursor = offset + head + behind;
            if cursor > max_bytes {
                return Err(LayoutError::TooLarge(cursor, max_bytes));
            }
        }
        self.count_links(tree);
        Ok(cursor.next_multiple_of(BLOCK))
    }

    /// A directory is named by its parent, itself, and each subdirectory.
    fn count_links(&mut self, tree: &Tree) {
        for id in &self.order {
            match &tree.inode(*id).node {
                Node::Directory(_) if *id != ROOT => {
                    let parent = self.places[*id as usize].parent;
                    self.places[parent as usize].links += 1;
                }
                Node::Directory(_) => {}
                _ => self.places[*id as usize].links = tree.inode(*id).links,
            }
        }
    }

    fn place_directories(&mut self, tree: &Tree, blocks: &mut Blocks) -> Result<(), LayoutError> {
        for id in &self.order {
            let place = &mut self.places[*id as usize];
            let own = u64::from(place.form != Form::Inline);
            let wanted = match &tree.inode(*id).node {
                Node::Directory(_) => u64::from(shape(tree, *id).full) + own,
                Node::Symlink(_) => own,
                _ => continue,
            };
            place.block = blocks.take(wanted)?;
        }
        Ok(())
    }

    /// In the order of the layers, so that the copying pass writes forward.
    fn place_files(&mut self, tree: &Tree, blocks: &mut Blocks) -> Result<(), LayoutError> {
        let mut files: Vec<(u16, u64, InodeId)> = Vec::new();
        for id in &self.order {
            if let Node::File(layer, data) = &tree.inode(*id).node
                && let Some(first) = data.extents.first()
            {
                files.push((*layer, first.stream, *id));
            }
        }
        files.sort_unstable();
        for (layer, _, id) in files {
            let Node::File(_, data) = &tree.inode(id).node else {
                continue;
            };
            let place = &mut self.places[id as usize];
            let bits = match place.form {
                Form::Chunked { bits } => {
                    let stored = holes::chunks(data).map_or(0, |c| c.blocks);
                    place.block = blocks.take(stored)?;
                    Some(bits)
                }
                Form::Flat | Form::Inline => {
                    place.block = blocks.take(data.size.div_ceil(BLOCK))?;
                    None
                }
            };
            let start = u64::from(place.block) * BLOCK;
            copy_extents(data, layer, start, bits, &mut self.copies);
        }
        Ok(())
    }
}

struct Blocks {
    next: u64,
    max_bytes: u64,
}

impl Blocks {
    fn take(&mut self, count: u64) -> Result<u32, LayoutError> {
        let first = self.next;
        self.next += count;
        let bytes = self.next.saturating_mul(BLOCK);
        match (u32::try_from(first), bytes <= self.max_bytes) {
            (Ok(first), true) if self.next < u64::from(u32::MAX) => Ok(first),
            _ => Err(LayoutError::TooLarge(bytes, self.max_bytes)),
        }
    }
}

/// The children of a directory come together, then those of each of its
/// subdirectories.
fn order(tree: &Tree) -> Layout {
    let place = Place {
        offset: 0,
        block: 0,
        links: 0,
        parent: ROOT,
        form: Form::Flat,
    };
    let mut places = vec![place; tree.ids()];
    let mut seen = vec![false; tree.ids()];
    let mut order = vec![ROOT];
    let mut todo = vec![ROOT];
    while let Some(directory) = todo.pop() {
        let first = todo.len();
        for dirent in tree
            .children(directory)
            .into_iter()
            .flat_map(|c| c.values())
        {
            let id = dirent.inode as usize;
            if std::mem::replace(&mut seen[id], true) {
                continue;
            }
            order.push(dirent.inode);
            if tree.children(dirent.inode).is_some() {
                places[id].parent = directory;
                todo.push(dirent.inode);
            }
        }
        todo[first..].reverse();
    }
    Layout {
        order,
        places,
        blocks: 0,
        has_chunks: false,
        copies: Vec::new(),
    }
}

pub(super) fn shape(tree: &Tree, id: InodeId) -> Shape {
    let children = tree.children(id).into_iter().flat_map(|c| c.keys());
    let named = children.map(|name| directory::Named { name, what: () });
    directory::shape(directory::with_dots(named, (), ()).map(|n| n.name.len()))
}

/// `bits` is of the chunks, if there are some.
fn copy_extents(data: &Data, layer: u16, start: u64, bits: Option<u32>, out: &mut Vec<Copy>) {
    let mut runs = bits.map(|b| Runs::new(data, b)).into_iter().flatten();
    let shift = BLOCK.trailing_zeros() + bits.unwrap_or_default();
    // Where the current run begins in the image, and what it covers.
    let (mut base, mut run) = (start, (0, u64::MAX));
    let mut stored = 0;
    if bits.is_some() {
        run = (0, 0);
    }
    let mut first = true;
    for extent in &data.extents {
        let outside = bits.is_some() && (first || extent.file >> shift > run.1);
        if outside && let Some(next) = runs.next() {
            base = start + (stored << shift);
            stored += next.1 - next.0 + 1;
            run = next;
        }
        first = false;
        let run_start = match bits {
            Some(_) => run.0 << shift,
            None => 0,
        };
        out.push(Copy {
            layer,
            stream: extent.stream,
            length: extent.length,
            at: base + (extent.file - run_start),
        });
    }
}
