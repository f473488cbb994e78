//! Generated layer stacks against a second implementation of the rules.
//!
//! The model unpacks each layer into a tree of its own and then lays the
//! trees over each other, as an overlay file system does; the converter
//! applies entries to one tree. Both must give the same files.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use proptest::prelude::*;

use crate::testing::{Archive, Seen, View, contents, convert};

type Path = Vec<&'static str>;

/// One entry of a generated layer.
#[derive(Clone, Debug)]
enum Op {
    Dir(Path, u32),
    File(Path, Vec<u8>, u32, Option<Vec<u8>>),
    Symlink(Path, String),
    Fifo(Path),
    Char(Path, u32, u32),
    Hard(Path, Path),
    Whiteout(Path),
    Opaque(Path),
}

/// A file as the model has it; equal identities are hard links.
#[derive(Clone, Debug)]
struct Leaf {
    identity: usize,
    seen: Seen,
}

#[derive(Clone, Debug)]
enum Node {
    /// Without attributes if no entry describes it.
    Dir(Option<Seen>, BTreeMap<&'static str, Node>),
    Leaf(Leaf),
}

/// One layer, unpacked alone.
#[derive(Default)]
struct Layer {
    children: BTreeMap<&'static str, Node>,
    /// Paths at which nothing of lower layers shows.
    hidden: BTreeSet<Path>,
    /// Directories of which no lower content shows.
    opaque: BTreeSet<Path>,
}

impl Layer {
    /// The directory of a path, made if need be; what is in its way goes,
    /// also that of lower layers.
    fn directory(&mut self, path: &[&'static str]) -> &mut BTreeMap<&'static str, Node> {
        let mut here = &mut self.children;
        for (i, part) in path.iter().enumerate() {
            let node = here
                .entry(part)
                .or_insert_with(|| Node::Dir(None, BTreeMap::new()));
            if let Node::Leaf(_) = node {
                *node = Node::Dir(None, BTreeMap::new());
                self.hidden.insert(path[..=i].to_vec());
            }
            here = match node {
                Node::Dir(_, children) => children,
                Node::Leaf(_) => unreachable!(),
            };
        }
        here
    }

    fn put(&mut self, path: &Path, leaf: Leaf) {
        let (name, parents) = path.split_last().unwrap();
        self.directory(parents).insert(name, Node::Leaf(leaf));
        // What was below the name is gone for good.
        self.hidden.insert(path.clone());
    }
}

type Merged = BTreeMap<&'static str, Node>;

/// Lays a layer over what is below it.
fn merge(lower: &Merged, upper: &Merged, layer: &Layer, at: &Path) -> Merged {
    let show_lower = !layer.opaque.contains(at);
    let names: BTreeSet<_> = lower.keys().chain(upper.keys()).copied().collect();
    let mut merged = Merged::new();
    for name in names {
        let path = [at.clone(), vec![name]].concat();
        let shown = show_lower && !layer.hidden.contains(&path);
        let below = lower.get(name).filter(|_| shown);
        let node = match (below, upper.get(name)) {
            (below, None) => below.map(|node| apply_below(node, layer, &path)),
            (_, Some(Node::Leaf(leaf))) => Some(Node::Leaf(leaf.clone())),
            (Some(Node::Dir(old, below)), Some(Node::Dir(new, above))) => {
                let seen = new.clone().or(old.clone());
                Some(Node::Dir(seen, merge(below, above, layer, &path)))
            }
            (_, Some(Node::Dir(new, above))) => Some(Node::Dir(
                new.clone(),
                merge(&Merged::new(), above, layer, &path),
            )),
        };
        merged.extend(node.map(|node| (name, node)));
    }
    merged
}

/// Whiteouts also reach into directories that the layer has no entry of.
fn apply_below(node: &Node, layer: &Layer, path: &Path) -> Node {
    match node {
        Node::Dir(seen, children) => {
            Node::Dir(seen.clone(), merge(children, &Merged::new(), layer, path))
        }
        Node::Leaf(leaf) => Node::Leaf(leaf.clone()),
    }
}

fn find<'a>(tree: &'a Merged, path: &Path) -> Option<&'a Node> {
    let (first, rest) = path.split_first()?;
    let node = tree.get(first)?;
    match (rest.is_empty(), node) {
        (true, node) => Some(node),
        (false, Node::Dir(_, children)) => find(children, &rest.to_vec()),
        (false, Node::Leaf(_)) => None,
    }
}

const MTIME: i64 = 1_600_000_000;

fn seen(kind: char, mode: u32, content: &[u8]) -> Seen {
    Seen {
        kind,
        mode,
        content: content.to_vec(),
        mtime: (MTIME, 0),
        ..Seen::default()
    }
}

/// `None` if a hard link has no target, which is an error of the stack.
fn expected(stack: &[Vec<Op>]) -> Option<View> {
    let mut merged = Merged::new();
    let mut identity = 0;
    for ops in stack {
        let mut layer = Layer::default();
        for op in ops {
            identity += 1;
            let leaf = |seen: Seen| Leaf { identity, seen };
            match op {
                Op::Dir(path, mode) => {
                    layer.directory(path);
                    let (name, parents) = path.split_last().unwrap();
                    if let Some(Node::Dir(described, _)) = layer.directory(parents).get_mut(name) {
                        *described = Some(seen('d', *mode, b""));
                    }
                }
                Op::File(path, content, uid, xattr) => {
                    let mut s = seen('f', 0o644, content);
                    s.uid = *uid;
                    s.xattrs
                        .extend(xattr.iter().map(|v| ("user.x".to_owned(), v.clone())));
                    layer.put(path, leaf(s));
                }
                Op::Symlink(path, target) => {
                    // As lstat shows any symlink.
                    layer.put(path, leaf(seen('l', 0o644, target.as_bytes())));
                }
                Op::Fifo(path) => layer.put(path, leaf(seen('p', 0o644, b""))),
                Op::Char(path, major, minor) => {
                    let mut s = seen('c', 0o644, b"");
                    s.rdev = rustix::fs::makedev(*major, *minor);
                    layer.put(path, leaf(s));
                }
                Op::Hard(path, target) => {
                    let (_, parents) = path.split_last().unwrap();
                    layer.directory(parents);
                    let now = merge(&merged, &layer.children, &layer, &Path::new());
                    match find(&now, target) {
                        Some(Node::Leaf(found)) => layer.put(path, found.clone()),
                        _ => return None,
                    }
                }
                Op::Whiteout(path) => {
                    layer.hidden.insert(path.clone());
                }
                Op::Opaque(path) => {
                    layer.directory(path);
                    layer.opaque.insert(path.clone());
                }
            }
        }
        merged = merge(&merged, &layer.children, &layer, &Path::new());
    }
    let root = Node::Dir(None, merged);
    let mut links = BTreeMap::new();
    count(&root, &mut links);
    let mut view = View::new();
    show(&root, PathBuf::new(), &links, &mut view);
    Some(view)
}

fn count(node: &Node, links: &mut BTreeMap<usize, u64>) {
    match node {
        Node::Dir(_, children) => children.values().for_each(|c| count(c, links)),
        Node::Leaf(leaf) => *links.entry(leaf.identity).or_default() += 1,
    }
}

fn show(node: &Node, path: PathBuf, links: &BTreeMap<usize, u64>, view: &mut View) {
    let mut s = match node {
        Node::Dir(Some(described), _) => described.clone(),
        Node::Dir(None, _) => Seen {
            mtime: (0, 0),
            ..seen('d', 0o755, b"")
        },
        Node::Leaf(leaf) => leaf.seen.clone(),
    };
    match node {
        Node::Dir(_, children) => {
            let subdirectories = children.values().filter(|c| matches!(c, Node::Dir(..)));
            s.links = 2 + subdirectories.count() as u64;
            for (name, child) in children {
                show(child, path.join(name), links, view);
            }
        }
        Node::Leaf(leaf) => s.links = links[&leaf.identity],
    }
    view.insert(path, s);
}

fn archive(ops: &[Op]) -> Vec<u8> {
    let mut archive = Archive::new();
    for op in ops {
        archive = match op {
            Op::Dir(path, mode) => archive.dir(&path.join("/"), *mode),
            Op::File(path, content, uid, xattr) => {
                if let Some(value) = xattr {
                    archive = archive.pax(&[("SCHILY.xattr.user.x", value)]);
                }
                archive.add(b'0', &path.join("/"), "", content, |h| {
                    h.set_uid(u64::from(*uid))
                })
            }
            Op::Symlink(path, target) => archive.symlink(&path.join("/"), target),
            Op::Fifo(path) => archive.add(b'6', &path.join("/"), "", b"", |_| {}),
            Op::Char(path, major, minor) => archive.add(b'3', &path.join("/"), "", b"", |h| {
                h.set_device_major(*major).unwrap();
                h.set_device_minor(*minor).unwrap();
            }),
            Op::Hard(path, target) => archive.hard(&path.join("/"), &target.join("/")),
            Op::Whiteout(path) => {
                let (name, parents) = path.split_last().unwrap();
                let hidden = format!(".wh.{name}");
                archive.file(&[parents, &[&hidden]].concat().join("/"), b"")
            }
            Op::Opaque(path) => {
                archive.file(&[&path[..], &[".wh..wh..opq"]].concat().join("/"), b"")
            }
        };
    }
    archive.end()
}

fn path() -> impl Strategy<Value = Path> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "-", "d"]), 1..4)
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(Vec::new()),
        prop::collection::vec(any::<u8>(), 1..40),
        (any::<u8>(), 4090_usize..9000).prop_map(|(b, n)| vec![b; n]),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    // Symlinks have names that no path goes through: what is below one is
    // the subject of a test of its own.
    let link = (path(), 0_usize..3).prop_map(|(mut path, n)| {
        *path.last_mut().unwrap() = ["s0", "s1", "s2"][n];
        path
    });
    let xattr = prop::option::of(prop::collection::vec(any::<u8>(), 0..5000));
    prop_oneof![
        3 => (path(), prop::sample::select(vec![0o755, 0o700, 0o1777])).prop_map(|(p, m)| Op::Dir(p, m)),
        6 => (path(), content(), 0..200_000_u32, xattr).prop_map(|(p, c, u, x)| Op::File(p, c, u, x)),
        2 => (link, "[a-z/.]{1,60}").prop_map(|(p, t)| Op::Symlink(p, t)),
        1 => path().prop_map(Op::Fifo),
        1 => (path(), 0..4096_u32, 0..1_000_000_u32).prop_map(|(p, a, i)| Op::Char(p, a, i)),
        1 => (path(), path()).prop_map(|(p, t)| Op::Hard(p, t)),
        3 => path().prop_map(Op::Whiteout),
        1 => path().prop_map(Op::Opaque),
    ]
}

fn differences(want: &View, got: &View) -> Vec<String> {
    let brief = |s: Option<&Seen>| {
        s.map(|s| {
            let mut s = s.clone();
            s.content.truncate(20);
            s.xattrs.values_mut().for_each(|v| v.truncate(20));
            format!("{s:?}")
        })
    };
    let paths: BTreeSet<_> = want.keys().chain(got.keys()).collect();
    paths
        .into_iter()
        .filter(|p| want.get(*p) != got.get(*p))
        .map(|p| {
            format!(
                "{}: want {:?}, got {:?}",
                p.display(),
                brief(want.get(p)),
                brief(got.get(p))
            )
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(fuzzing::cases(80)))]

    #[test]
    fn stacks_of_layers_become_what_the_model_says(
        stack in prop::collection::vec(prop::collection::vec(op(), 0..14), 1..4)
    ) {
        let layers: Vec<Vec<u8>> = stack.iter().map(|ops| archive(ops)).collect();
        match (expected(&stack), convert(&layers)) {
            (None, Err(message)) => prop_assert!(message.contains("hard link"), "{}", message),
            (None, Ok(_)) => prop_assert!(false, "a hard link without a target was accepted"),
            (Some(_), Err(message)) => prop_assert!(false, "{}", message),
            (Some(mut want), Ok(image)) => {
                let again = convert(&layers).unwrap();
                let bytes = |f: &tempfile::NamedTempFile| std::fs::read(f.path()).unwrap();
                prop_assert!(bytes(&image) == bytes(&again), "not reproducible");
                let Some((got, full)) = contents(image.path()) else { return Ok(()) };
                if !full {
                    for s in want.values_mut() {
                        s.links = 0;
                        s.xattrs.clear();
                    }
                }
                let got = got.into_iter().map(|(path, mut s)| {
                    if !full {
                        s.links = 0;
                    }
                    (path, s)
                }).collect();
                let differences = differences(&want, &got);
                prop_assert!(differences.is_empty(), "{:#?}", differences);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(fuzzing::cases(300)))]

    /// Whatever a layer holds: an error, or an image that fsck finds
    /// nothing wrong with.
    #[test]
    fn damaged_layers_give_clean_images_or_none(
        order in prop::collection::vec(0_usize..3, 1..4),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let seeds = crate::tar::tests::seeds();
        let mut layers: Vec<Vec<u8>> = order.iter().map(|i| seeds[*i].clone()).collect();
        for (i, (at, value)) in edits.into_iter().enumerate() {
            let layer = &mut layers[i % order.len()];
            let at = at.index(layer.len());
            layer[at] = value;
            crate::tar::tests::repair(layer, at);
        }
        if let Ok(image) = convert(&layers) {
            crate::testing::fsck(image.path());
        }
    }
}
