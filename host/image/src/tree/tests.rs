#![expect(clippy::unwrap_used, reason = "tests")]
use super::*;

const BOUNDS: Bounds = Bounds {
    inodes: 1000,
    bytes: 1 << 20,
    file_bytes: 1 << 20,
};

fn put(tree: &mut Tree, layer: u16, path: &str, kind: Kind) {
    let entry = Entry {
        path: path.as_bytes().to_vec(),
        kind,
        attributes: Attributes::default(),
    };
    tree.apply(layer, entry).unwrap();
}

fn file() -> Kind {
    Kind::File(Data {
        size: 0,
        extents: Vec::new(),
    })
}

/// Reachable inodes and the free list must add up, link counts must fit.
fn check(tree: &Tree) {
    let mut names = vec![0; tree.ids()];
    names[ROOT as usize] = 1;
    let mut todo = vec![ROOT];
    while let Some(id) = todo.pop() {
        for dirent in tree.children(id).into_iter().flat_map(|c| c.values()) {
            names[dirent.inode as usize] += 1;
            if tree.children(dirent.inode).is_some() {
                todo.push(dirent.inode);
            }
        }
    }
    for (id, names) in (0..).zip(&names) {
        let is_free = tree.free.contains(&id);
        assert_eq!(is_free, *names == 0, "inode {id}");
        assert_eq!(tree.inode(id).links, *names, "inode {id}");
    }
}

#[test]
fn a_link_survives_what_makes_room_for_it() {
    let mut tree = Tree::new(BOUNDS);
    put(&mut tree, 1, "a/b", file());
    put(&mut tree, 1, "a", Kind::HardLink(b"a/b".to_vec()));
    check(&tree);
    assert!(tree.child(ROOT, b"a").is_some());
    let gone = Entry {
        path: b"a/c".to_vec(),
        kind: Kind::HardLink(b"a".to_vec()),
        attributes: Attributes::default(),
    };
    assert!(tree.apply(2, gone).is_err());
    check(&tree);
}

#[test]
fn removed_inodes_are_used_again() {
    let mut tree = Tree::new(BOUNDS);
    for layer in 1..100 {
        for i in 0..20 {
            put(&mut tree, layer, &format!("d/{i}"), file());
        }
        put(&mut tree, layer, "d/link", Kind::HardLink(b"d/3".to_vec()));
        put(&mut tree, layer + 1, ".wh.d", file());
        check(&tree);
    }
    assert!(tree.ids() < 50);
    assert_eq!(tree.bytes, 0);
}

#[test]
fn a_whiteout_before_and_after_means_the_same() {
    for whiteout_first in [true, false] {
        let mut tree = Tree::new(BOUNDS);
        put(&mut tree, 1, "d/old", file());
        if whiteout_first {
            put(&mut tree, 2, ".wh.d", file());
        }
        put(&mut tree, 2, "d/new", file());
        if !whiteout_first {
            put(&mut tree, 2, ".wh.d", file());
        }
        check(&tree);
        let d = tree.child(ROOT, b"d").unwrap().inode;
        let names: Vec<_> = tree.children(d).unwrap().keys().collect();
        assert_eq!(names, [&Box::from(&b"new"[..])]);
    }
}
