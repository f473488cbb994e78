//! The initramfs format: a tree in memory, written as a newc cpio.
//!
//! Reproducible by construction: entries in the order of their names, owned by
//! root, dated 1970, inode numbers counted. Parents come before children as
//! the kernel's unpacker wants (Documentation/driver-api/early-userspace/
//! buffer-format.rst), because a name sorts before its extensions.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Directory,
    File { mode: u32, bytes: Vec<u8> },
    Link(String),
    Device { major: u32, minor: u32 },
}

/// A tree of files that knows its parents: adding a file adds its directories.
#[derive(Clone, Debug, Default)]
pub struct Tree(BTreeMap<String, Node>);

impl Tree {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn directory(&mut self, path: &str) -> Result<()> {
        self.add(path, Node::Directory)
    }

    pub fn file(&mut self, path: &str, mode: u32, bytes: Vec<u8>) -> Result<()> {
        self.add(path, Node::File { mode, bytes })
    }

    pub fn link(&mut self, path: &str, target: &str) -> Result<()> {
        self.add(path, Node::Link(target.to_owned()))
    }

    pub fn device(&mut self, path: &str, major: u32, minor: u32) -> Result<()> {
        self.add(path, Node::Device { major, minor })
    }

    fn add(&mut self, path: &str, node: Node) -> Result<()> {
        let name = path.trim_start_matches('/');
        if name.is_empty() || name.split('/').any(|part| matches!(part, "" | "." | "..")) {
            bail!("no path for an archive: {path:?}");
        }
        for (at, _) in name.match_indices('/') {
            let parent = self
                .0
                .entry(name[..at].to_owned())
                .or_insert(Node::Directory);
            if *parent != Node::Directory {
                bail!("{path}: {} is no directory", &name[..at]);
            }
        }
        match self.0.insert(name.to_owned(), node.clone()) {
            Some(old) if old != node => bail!("{path} is there already, with other content"),
            _ => Ok(()),
        }
    }

    /// The archive, padded to 512 bytes.
    pub fn to_cpio(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (inode, (name, node)) in (1..).zip(&self.0) {
            let (mode, links, device, bytes): (u32, u32, (u32, u32), &[u8]) = match node {
                Node::Directory => (0o40755, 2, (0, 0), &[]),
                Node::File { mode, bytes } => (0o100_000 | mode, 1, (0, 0), bytes),
                Node::Link(target) => (0o120_777, 1, (0, 0), target.as_bytes()),
                Node::Device { major, minor } => (0o20600, 1, (*major, *minor), &[]),
            };
            member(
                &mut out,
                name,
                [inode, mode, links, device.0, device.1],
                bytes,
            );
        }
        member(&mut out, "TRAILER!!!", [0, 0, 1, 0, 0], &[]);
        out.resize(out.len().next_multiple_of(512), 0);
        out
    }
}

fn member(
    out: &mut Vec<u8>,
    name: &str,
    [inode, mode, links, major, minor]: [u32; 5],
    bytes: &[u8],
) {
    let size = u32::try_from(bytes.len()).expect("no file of the image reaches 4 GiB");
    let name_size = u32::try_from(name.len() + 1).expect("names are short");
    // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
    let fields = [
        inode, mode, 0, 0, links, 0, size, 0, 0, major, minor, name_size, 0,
    ];
    out.extend_from_slice(b"070701");
    for field in fields {
        out.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    out.extend_from_slice(name.as_bytes());
    out.push(0);
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend_from_slice(bytes);
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn sample(paths: &[&str]) -> Tree {
        let mut tree = Tree::new();
        for path in paths {
            tree.file(path, 0o755, path.as_bytes().to_vec()).unwrap();
        }
        tree.link("/bin/link", "../init").unwrap();
        tree.device("/dev/console", 5, 1).unwrap();
        tree
    }

    #[test]
    fn the_order_of_adding_does_not_show() {
        let one = sample(&["/init", "/a/b/c", "/a/d"]).to_cpio();
        let other = sample(&["/a/d", "/init", "/a/b/c"]).to_cpio();
        assert_eq!(one, other);
        assert_eq!(one.len() % 512, 0);
    }

    #[test]
    fn names_come_out_parents_first_and_once() {
        let bytes = sample(&["/init", "/a/b/c", "/a/d"]).to_cpio();
        let mut names = Vec::new();
        let mut at = 0;
        loop {
            let field = |index: usize| {
                let start = at + 6 + index * 8;
                let digits = std::str::from_utf8(&bytes[start..start + 8]).unwrap();
                usize::from_str_radix(digits, 16).unwrap()
            };
            assert_eq!(&bytes[at..at + 6], b"070701");
            let name = &bytes[at + 110..at + 110 + field(11) - 1];
            let name = String::from_utf8(name.to_vec()).unwrap();
            if name == "TRAILER!!!" {
                break;
            }
            let data = (at + 110 + field(11)).next_multiple_of(4);
            at = (data + field(6)).next_multiple_of(4);
            names.push(name);
        }
        let wanted = [
            "a",
            "a/b",
            "a/b/c",
            "a/d",
            "bin",
            "bin/link",
            "dev",
            "dev/console",
            "init",
        ];
        assert_eq!(names, wanted);
    }

    #[test]
    fn contradictions_are_refused() {
        let mut tree = sample(&["/init"]);
        assert!(tree.file("/init", 0o755, b"other".to_vec()).is_err());
        assert!(tree.file("/init/below", 0o644, Vec::new()).is_err());
        assert!(tree.file("/a/../b", 0o644, Vec::new()).is_err());
        assert!(tree.directory("/").is_err());
    }
}
