//! Writing what a layout plans, all but the files' bytes.

use std::io;

use super::directory::{self, FileType, Named};
use super::holes::{self, Runs};
use super::layout::{Form, INODE, Layout, shape};
use super::superblock::{self, Superblock};
use super::{BLOCK, xattr};
use crate::tar::{Data, Device};
use crate::tree::{Dirent, InodeId, Node, Tree};

const HOLE: u32 = u32::MAX;

/// Gives the image's metadata piece by piece, with the place of each, in
/// ascending order.
pub(crate) fn write_metadata(
    tree: &Tree,
    layout: &Layout,
    uuid: [u8; 16],
    mut put: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let superblock = Superblock {
        root_nid: u16::try_from(layout.nid(crate::tree::ROOT)).map_err(io::Error::other)?,
        inodes: u64::from(layout.inodes()),
        blocks: layout.blocks,
        uuid,
        has_chunks: layout.has_chunks,
    };
    put(superblock::OFFSET, &superblock.encode())?;
    for (number, id) in (1..).zip(&layout.order) {
        write_inode(tree, layout, *id, number, &mut put)?;
    }
    for id in &layout.order {
        write_blocks(tree, layout, *id, &mut put)?;
    }
    Ok(())
}

fn write_inode(
    tree: &Tree,
    layout: &Layout,
    id: InodeId,
    number: u32,
    put: &mut impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let inode = tree.inode(id);
    let place = &layout.places[id as usize];
    let xattrs = xattr::encode(&inode.attributes.xattrs).map_err(io::Error::other)?;
    let mut bytes = encode_inode(tree, layout, id, number, xattrs.len());
    bytes.extend_from_slice(&xattrs);
    match (place.form, &inode.node) {
        (Form::Inline, Node::Directory(_)) => {
            let mut tail = Vec::new();
            directory_blocks(tree, layout, id, |block| {
                tail = block.to_vec();
                Ok(())
            })?;
            bytes.extend_from_slice(&tail);
        }
        (Form::Inline, Node::Symlink(target)) => bytes.extend_from_slice(target),
        (Form::Chunked { bits }, Node::File(_, data)) => {
            chunk_map(data, bits, place.block, &mut bytes);
        }
        _ => {}
    }
    put(place.offset, &bytes)
}

/// `struct erofs_inode_extended`.
fn encode_inode(tree: &Tree, layout: &Layout, id: InodeId, number: u32, xattrs: usize) -> Vec<u8> {
    let inode = tree.inode(id);
    let place = &layout.places[id as usize];
    let (kind, size, union) = match &inode.node {
        Node::Directory(_) => (0o040_000, shape(tree, id).size(), place.block),
        Node::File(_, data) => (0o100_000, data.size, place.block),
        Node::Symlink(target) => (0o120_000, target.len() as u64, place.block),
        Node::Char(device) => (0o020_000, 0, encode_device(*device)),
        Node::Block(device) => (0o060_000, 0, encode_device(*device)),
        Node::Fifo | Node::Free => (0o010_000, 0, 0),
    };
    let (layout_number, union) = match place.form {
        Form::Flat => (0_u16, union),
        Form::Inline => (2, union),
        Form::Chunked { bits } => (4, bits),
    };
    let a = &inode.attributes;
    let mut b = Vec::with_capacity(INODE as usize);
    // Bit 0: the extended form.
    b.extend_from_slice(&(layout_number << 1 | 1).to_le_bytes());
    let icount = xattr::count(xattrs).unwrap_or_default();
    b.extend_from_slice(&icount.to_le_bytes());
    b.extend_from_slice(&(kind | a.mode).to_le_bytes());
    b.extend_from_slice(&[0; 2]);
    b.extend_from_slice(&size.to_le_bytes());
    b.extend_from_slice(&union.to_le_bytes());
    b.extend_from_slice(&number.to_le_bytes());
    b.extend_from_slice(&a.uid.to_le_bytes());
    b.extend_from_slice(&a.gid.to_le_bytes());
    b.extend_from_slice(&a.mtime.to_le_bytes());
    b.extend_from_slice(&a.mtime_nsec.to_le_bytes());
    b.extend_from_slice(&place.links.to_le_bytes());
    b.resize(INODE as usize, 0);
    b
}

/// `new_encode_dev` of the kernel.
fn encode_device(device: Device) -> u32 {
    let Device { major, minor } = device;
    minor & 0xff | major << 8 | (minor & !0xff) << 12
}

fn chunk_map(data: &Data, bits: u32, block: u32, out: &mut Vec<u8>) {
    let total = holes::chunks(data).map_or(0, |c| c.total);
    let (mut at, mut next) = (0, block);
    let mut push = |address: u32| out.extend_from_slice(&address.to_le_bytes());
    for (first, last) in Runs::new(data, bits) {
        (at..first).for_each(|_| push(HOLE));
        for _ in first..=last {
            push(next);
            next = next.wrapping_add(1 << bits);
        }
        at = last + 1;
    }
    (at..total).for_each(|_| push(HOLE));
}

/// What doesn't fit behind an inode.
fn write_blocks(
    tree: &Tree,
    layout: &Layout,
    id: InodeId,
    put: &mut impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let place = &layout.places[id as usize];
    let mut at = u64::from(place.block) * BLOCK;
    match &tree.inode(id).node {
        Node::Directory(_) => {
            let full = shape(tree, id).full;
            let mut index = 0;
            if full == 0 && place.form == Form::Inline {
                return Ok(());
            }
            directory_blocks(tree, layout, id, |block| {
                let is_tail = index == full;
                index += 1;
                if is_tail && place.form == Form::Inline {
                    return Ok(());
                }
                put(at, block)?;
                at += BLOCK;
                Ok(())
            })
        }
        Node::Symlink(target) if place.form != Form::Inline => put(at, target),
        _ => Ok(()),
    }
}

fn directory_blocks(
    tree: &Tree,
    layout: &Layout,
    id: InodeId,
    block: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let describe = |inode: InodeId| (layout.nid(inode), file_type(&tree.inode(inode).node));
    let children = tree.children(id).into_iter().flatten();
    let named = children.map(|(name, Dirent { inode, .. })| Named {
        name,
        what: describe(*inode),
    });
    let parent = layout.places[id as usize].parent;
    directory::encode(
        directory::with_dots(named, describe(id), describe(parent)),
        block,
    )
}

fn file_type(node: &Node) -> FileType {
    match node {
        Node::Directory(_) => FileType::Directory,
        Node::File(..) => FileType::Regular,
        Node::Symlink(_) => FileType::Symlink,
        Node::Char(_) => FileType::Char,
        Node::Block(_) => FileType::Block,
        Node::Fifo | Node::Free => FileType::Fifo,
    }
}
