//! The file tree that a stack of layers makes; pure, names and metadata only.
//!
//! Layers are applied lowest first, entry by entry, to one tree. Each
//! directory entry carries the layer that touched it last, because two rules
//! of the OCI image specification ("Layer changesets") depend on it:
//!
//! - a whiteout hides what lower layers brought, never what its own layer
//!   has, wherever in the archive it stands;
//! - a path below a symlink follows it only if the symlink is of the same
//!   layer. One from a lower layer is replaced by a directory, as containerd
//!   does, whose layers are unpacked each into a directory of its own.
//!
//! Paths can't leave the tree: `..` stops at its root, links are looked up
//! inside it, and nothing here knows the host's file system. A hard link may
//! name a file of a lower layer; it then shares its inode.

mod path;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::tar::{Attributes, Data, Device, Entry, Kind};
pub(crate) use path::TreeError;
use path::{clean, components};

pub(crate) type InodeId = u32;
pub(crate) const ROOT: InodeId = 0;

/// As Linux' MAXSYMLINKS.
const MAX_FOLLOWED: u32 = 40;
/// PATH_MAX leaves room for no more components.
const MAX_DEPTH: usize = 2048;
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const META: &[u8] = b".wh..wh.";
/// The kernel's own state of overlays: in an image it can only confuse the
/// overlay that the guest makes of it.
const OVERLAY_XATTRS: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];
/// Counted for an inode, and for a name, beside their variable parts; with
/// what the layout adds to each.
const FIXED_BYTES: u64 = 160;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dirent {
    pub(crate) inode: InodeId,
    /// The last layer that made it or went through it.
    touched: u16,
    /// The last layer that gave it its attributes; 0 if none did.
    described: u16,
}

#[derive(Debug)]
pub(crate) enum Node {
    Directory(BTreeMap<Box<[u8]>, Dirent>),
    /// Its bytes are in this layer.
    File(u16, Data),
    Symlink(Box<[u8]>),
    Char(Device),
    Block(Device),
    Fifo,
    /// Unused; tar has no sockets either.
    Free,
}

#[derive(Debug)]
pub(crate) struct Inode {
    pub(crate) attributes: Attributes,
    pub(crate) node: Node,
    /// Names of a file; not kept for directories.
    pub(crate) links: u32,
}

/// What the tree may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) inodes: u32,
    pub(crate) bytes: u64,
    pub(crate) file_bytes: u64,
}

pub(crate) struct Tree {
    inodes: Vec<Inode>,
    free: Vec<InodeId>,
    bounds: Bounds,
    bytes: u64,
}

impl Tree {
    pub(crate) fn new(bounds: Bounds) -> Tree {
        Tree {
            inodes: vec![Inode {
                attributes: implied(),
                node: Node::Directory(BTreeMap::new()),
                links: 1,
            }],
            free: Vec::new(),
            bounds,
            bytes: 0,
        }
    }

    pub(crate) fn inode(&self, id: InodeId) -> &Inode {
        &self.inodes[id as usize]
    }

    /// One past the largest id.
    pub(crate) fn ids(&self) -> usize {
        self.inodes.len()
    }

    pub(crate) fn children(&self, id: InodeId) -> Option<&BTreeMap<Box<[u8]>, Dirent>> {
        match &self.inode(id).node {
            Node::Directory(children) => Some(children),
            _ => None,
        }
    }

    /// Applies one entry of layer `layer` (from 1 on, not decreasing).
    pub(crate) fn apply(&mut self, layer: u16, entry: Entry) -> Result<(), TreeError> {
        let Entry {
            path,
            kind,
            mut attributes,
        } = entry;
        let parts = clean(&path)?;
        attributes
            .xattrs
            .retain(|(name, _)| !OVERLAY_XATTRS.iter().any(|o| name.starts_with(o)));
        let Some((name, parents)) = parts.split_last() else {
            return match kind {
                Kind::Directory => self.set_attributes(ROOT, attributes),
                _ => Err(TreeError::path("the root is no directory", &path)),
            };
        };
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return self.whiteout(layer, parents, name, hidden, &path);
        }
        if let Kind::File(data) = &kind
            && data.size > self.bounds.file_bytes
        {
            return Err(TreeError::FileTooLarge(data.size, self.bounds.file_bytes));
        }
        // Making the directory may remove files, so the target comes after.
        let directory = self.directory(layer, parents, &path)?;
        let target = match &kind {
            Kind::HardLink(target) => Some(self.link_target(target, &path)?),
            _ => None,
        };
        let existing = self.child(directory, name);
        let keeps = existing.filter(|existing| match target {
            Some(target) => existing.inode == target,
            None => matches!(kind, Kind::Directory) && self.children(existing.inode).is_some(),
        });
        if let Some(existing) = keeps {
            self.touch(directory, name, layer, layer);
            return match target {
                None => self.set_attributes(existing.inode, attributes),
                Some(_) => Ok(()),
            };
        }
        let inode = match (kind, target) {
            (_, Some(target)) => {
                self.inodes[target as usize].links += 1;
                target
            }
            (kind, None) => {
                let node = node(kind, layer, &path)?;
                self.add(attributes, node)?
            }
        };
        self.unlink(directory, name);
        self.link(
            directory,
            name,
            Dirent {
                inode,
                touched: layer,
                described: layer,
            },
        )
    }

    fn whiteout(
        &mut self,
        layer: u16,
        parents: &[&[u8]],
        name: &[u8],
        hidden: &[u8],
        path: &[u8],
    ) -> Result<(), TreeError> {
        if name == OPAQUE {
            let directory = self.directory(layer, parents, path)?;
            self.sweep(directory, layer);
            return Ok(());
        }
        if name.starts_with(META) {
            return Ok(());
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(TreeError::path("invalid whiteout", path));
        }
        let Some(directory) = self.lookup_parents(parents)? else {
            return Ok(());
        };
        match self.child(directory, hidden) {
            Some(d) if d.touched != layer => self.unlink(directory, hidden),
            Some(d) => {
                self.forget(d, layer);
                self.sweep(d.inode, layer);
            }
            None => {}
        }
        Ok(())
    }

    /// Removes what `layer` hasn't touched below a directory.
    fn sweep(&mut self, directory: InodeId, layer: u16) {
        let mut todo = vec![directory];
        while let Some(directory) = todo.pop() {
            let Some(children) = self.children(directory) else {
                continue;
            };
            let mut doomed = Vec::new();
            let mut kept = Vec::new();
            for (name, dirent) in children {
                match dirent.touched == layer {
                    true => kept.push(*dirent),
                    false => doomed.push(name.clone()),
                }
            }
            for name in doomed {
                self.unlink(directory, &name);
            }
            for dirent in kept {
                self.forget(dirent, layer);
                todo.push(dirent.inode);
            }
        }
    }

    /// Takes the attributes that a hidden lower layer gave a directory.
    fn forget(&mut self, dirent: Dirent, layer: u16) {
        if dirent.described != layer && self.children(dirent.inode).is_some() {
            let inode = &mut self.inodes[dirent.inode as usize];
            let before = weight(inode);
            inode.attributes = implied();
            let after = weight(inode);
            self.bytes = (self.bytes + after).saturating_sub(before);
        }
    }

    fn child(&self, directory: InodeId, name: &[u8]) -> Option<Dirent> {
        self.children(directory)?.get(name).copied()
    }

    fn touch(&mut self, directory: InodeId, name: &[u8], layer: u16, described: u16) {
        if let Node::Directory(children) = &mut self.inodes[directory as usize].node
            && let Some(dirent) = children.get_mut(name)
        {
            dirent.touched = layer;
            dirent.described = described;
        }
    }

    /// The directory of a path, made if it isn't there, through symlinks of
    /// this layer only.
    fn directory(
        &mut self,
        layer: u16,
        parts: &[&[u8]],
        path: &[u8],
    ) -> Result<InodeId, TreeError> {
        let mut todo: Vec<Box<[u8]>> = parts.iter().rev().map(|p| Box::from(*p)).collect();
        let mut stack = vec![ROOT];
        let mut followed = 0;
        while let Some(part) = todo.pop() {
            let here = stack.last().copied().unwrap_or(ROOT);
            if &*part == b".." {
                stack.truncate(stack.len().max(2) - 1);
                continue;
            }
            let found = self.child(here, &part);
            let inode = match found.map(|d| (d, &self.inode(d.inode).node)) {
                Some((dirent, Node::Directory(_))) => {
                    if dirent.touched != layer {
                        self.touch(here, &part, layer, dirent.described);
                    }
                    dirent.inode
                }
                Some((dirent, Node::Symlink(target))) if dirent.touched == layer => {
                    followed += 1;
                    follow(target, followed, &mut stack, &mut todo, path)?;
                    continue;
                }
                _ => {
                    self.unlink(here, &part);
                    let inode = self.add(implied(), Node::Directory(BTreeMap::new()))?;
                    let dirent = Dirent {
                        inode,
                        touched: layer,
                        described: 0,
                    };
                    self.link(here, &part, dirent)?;
                    inode
                }
            };
            stack.push(inode);
            if stack.len() > MAX_DEPTH {
                return Err(TreeError::path("too deep", path));
            }
        }
        Ok(stack.last().copied().unwrap_or(ROOT))
    }

    /// The directory of a path as the tree stands, through every symlink.
    fn lookup_parents(&self, parts: &[&[u8]]) -> Result<Option<InodeId>, TreeError> {
        let mut todo: Vec<Box<[u8]>> = parts.iter().rev().map(|p| Box::from(*p)).collect();
        let mut stack = vec![ROOT];
        let mut followed = 0;
        while let Some(part) = todo.pop() {
            let here = stack.last().copied().unwrap_or(ROOT);
            if &*part == b".." {
                stack.truncate(stack.len().max(2) - 1);
                continue;
            }
            let Some(dirent) = self.child(here, &part) else {
                return Ok(None);
            };
            match &self.inode(dirent.inode).node {
                Node::Directory(_) => stack.push(dirent.inode),
                Node::Symlink(target) => {
                    followed += 1;
                    follow(target, followed, &mut stack, &mut todo, &part)?;
                }
                _ => return Ok(None),
            }
        }
        Ok(stack.last().copied())
    }

    fn link_target(&self, target: &[u8], path: &[u8]) -> Result<InodeId, TreeError> {
        let parts = clean(target)?;
        let missing = || TreeError::MissingTarget(show(path), show(target));
        let (name, parents) = parts.split_last().ok_or_else(missing)?;
        let directory = self.lookup_parents(parents)?.ok_or_else(missing)?;
        let found = self.child(directory, name).ok_or_else(missing)?;
        match self.children(found.inode) {
            Some(_) => Err(TreeError::path("hard link to a directory", path)),
            None => Ok(found.inode),
        }
    }

    fn add(&mut self, attributes: Attributes, node: Node) -> Result<InodeId, TreeError> {
        let inode = Inode {
            attributes,
            node,
            links: 1,
        };
        self.charge(weight(&inode))?;
        if let Some(id) = self.free.pop() {
            self.inodes[id as usize] = inode;
            return Ok(id);
        }
        let id = u32::try_from(self.inodes.len()).unwrap_or(u32::MAX);
        if id >= self.bounds.inodes {
            return Err(TreeError::TooManyInodes(self.bounds.inodes));
        }
        self.inodes.push(inode);
        Ok(id)
    }

    fn set_attributes(&mut self, id: InodeId, attributes: Attributes) -> Result<(), TreeError> {
        let before = weight(self.inode(id));
        self.inodes[id as usize].attributes = attributes;
        self.bytes = self.bytes.saturating_sub(before);
        self.charge(weight(self.inode(id)))
    }

    fn charge(&mut self, bytes: u64) -> Result<(), TreeError> {
        self.bytes += bytes;
        match self.bytes > self.bounds.bytes {
            true => Err(TreeError::TooMuchMetadata(self.bounds.bytes)),
            false => Ok(()),
        }
    }

    fn link(&mut self, directory: InodeId, name: &[u8], dirent: Dirent) -> Result<(), TreeError> {
        self.charge(name.len() as u64 + FIXED_BYTES)?;
        if let Node::Directory(children) = &mut self.inodes[directory as usize].node {
            children.insert(name.into(), dirent);
        }
        Ok(())
    }

    /// Removes a name and what is only reachable by it.
    fn unlink(&mut self, directory: InodeId, name: &[u8]) {
        let Node::Directory(children) = &mut self.inodes[directory as usize].node else {
            return;
        };
        let Some(dirent) = children.remove(name) else {
            return;
        };
        let mut freed = name.len() as u64 + FIXED_BYTES;
        let mut todo = vec![dirent.inode];
        while let Some(id) = todo.pop() {
            let inode = &mut self.inodes[id as usize];
            inode.links -= 1;
            if inode.links > 0 {
                continue;
            }
            freed += weight(inode);
            if let Node::Directory(children) = std::mem::replace(&mut inode.node, Node::Free) {
                for (name, dirent) in children {
                    freed += name.len() as u64 + FIXED_BYTES;
                    todo.push(dirent.inode);
                }
            }
            inode.attributes = Attributes::default();
            self.free.push(id);
        }
        self.bytes = self.bytes.saturating_sub(freed);
    }
}

/// Puts a symlink's target in front of what is left of a path.
fn follow(
    target: &[u8],
    followed: u32,
    stack: &mut Vec<InodeId>,
    todo: &mut Vec<Box<[u8]>>,
    path: &[u8],
) -> Result<(), TreeError> {
    if followed > MAX_FOLLOWED {
        return Err(TreeError::path("too many levels of symbolic links", path));
    }
    if target.starts_with(b"/") {
        stack.truncate(1);
    }
    todo.extend(components(target).rev().map(Box::from));
    Ok(())
}

/// Of a directory that no layer describes.
fn implied() -> Attributes {
    Attributes {
        mode: 0o755,
        ..Attributes::default()
    }
}

fn node(kind: Kind, layer: u16, path: &[u8]) -> Result<Node, TreeError> {
    let device = |d: Device| match d.major < 1 << 12 && d.minor < 1 << 20 {
        true => Ok(d),
        false => Err(TreeError::path("a device number beyond Linux' range", path)),
    };
    Ok(match kind {
        Kind::File(data) => Node::File(layer, data),
        Kind::Directory => Node::Directory(BTreeMap::new()),
        Kind::Symlink(target) => match target.is_empty() || target.len() > 4095 {
            true => {
                return Err(TreeError::path(
                    "a symlink's target is empty or too long",
                    path,
                ));
            }
            false => Node::Symlink(target.into()),
        },
        Kind::Char(d) => Node::Char(device(d)?),
        Kind::Block(d) => Node::Block(device(d)?),
        Kind::Fifo => Node::Fifo,
        Kind::HardLink(_) => return Err(TreeError::path("hard link to nothing", path)),
    })
}

fn weight(inode: &Inode) -> u64 {
    let xattrs: usize = inode
        .attributes
        .xattrs
        .iter()
        .map(|(name, value)| name.len() + value.len() + 64)
        .sum();
    let own = match &inode.node {
        Node::File(_, data) => data.extents.len() * 24,
        Node::Symlink(target) => target.len(),
        _ => 0,
    };
    (xattrs + own) as u64 + FIXED_BYTES
}

/// For error messages: printable and short.
fn show(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    text.chars()
        .flat_map(char::escape_default)
        .take(300)
        .collect()
}
