use super::*;

fn class() -> Arc<Class> {
    Arc::new(Class {
        resource: Resource::namespaced("", "v1", "configmaps"),
        kind: "ConfigMap".to_owned(),
    })
}

fn object(namespace: &str, name: &str, owners: &[(&str, bool)]) -> Object {
    let owner = |(uid, blocking): &(&str, bool)| Owner {
        uid: (*uid).into(),
        api_version: "v1".to_owned(),
        kind: "ConfigMap".to_owned(),
        name: (*uid).to_owned(),
        blocking: *blocking,
    };
    Object {
        class: class(),
        key: ObjectKey::new(namespace, name),
        uid: name.into(),
        owners: owners.iter().map(owner).collect(),
        deleting: false,
        orphan: false,
        foreground: false,
    }
}

fn put(graph: &mut Graph, object: Object) {
    let namespace = object.key.namespace.as_str().into();
    graph.put(object, namespace);
}

/// The plan in a word or two.
fn plan(graph: &Graph, name: &str) -> String {
    match graph.plan(&name.into()) {
        Action::Nothing => "nothing".to_owned(),
        Action::LookUp(_, owners) => format!("look up {}", owners[0].name),
        Action::Release(_, uids) => format!("release {}", uids.join(",")),
        Action::Delete {
            foreground,
            unblock,
            ..
        } => format!("delete {foreground} {unblock}"),
        Action::Orphan(_, dependents) => format!("orphan {}", dependents.len()),
        Action::Finish(_) => "finish".to_owned(),
        Action::After(uids) => format!("after {}", uids.join(",")),
    }
}

#[test]
fn an_object_goes_with_its_last_owner() {
    let mut graph = Graph::default();
    put(&mut graph, object("n", "a", &[]));
    put(&mut graph, object("n", "b", &[]));
    put(&mut graph, object("n", "c", &[("a", true), ("b", false)]));
    assert_eq!(plan(&graph, "a"), "nothing");
    assert_eq!(plan(&graph, "c"), "nothing");
    assert_eq!(graph.remove(&"a".into()), ["c".into()]);
    assert_eq!(plan(&graph, "c"), "look up a");
    graph.set_absent("a".into(), "n".to_owned());
    assert_eq!(plan(&graph, "c"), "release a");
    graph.remove(&"b".into());
    graph.set_absent("b".into(), "n".to_owned());
    assert_eq!(plan(&graph, "c"), "delete false false");
}

#[test]
fn in_the_foreground_dependents_go_first() {
    let mut graph = Graph::default();
    let mut owner = object("n", "a", &[]);
    (owner.deleting, owner.foreground) = (true, true);
    put(&mut graph, owner.clone());
    put(&mut graph, object("n", "b", &[("a", true)]));
    put(&mut graph, object("n", "c", &[("b", false)]));
    assert_eq!(plan(&graph, "a"), "after b");
    assert_eq!(plan(&graph, "b"), "delete true false");
    assert_eq!(graph.remove(&"b".into()), ["a".into(), "c".into()]);
    assert_eq!(plan(&graph, "a"), "finish");
    // A dependent that doesn't block isn't waited for.
    put(&mut graph, object("n", "d", &[("a", false)]));
    assert_eq!(plan(&graph, "a"), "finish");
    // Owners that wait for each other let go.
    let mut other = object("n", "e", &[("a", true)]);
    put(&mut graph, other.clone());
    owner.owners = vec![Owner {
        uid: "e".into(),
        ..other.owners[0].clone()
    }];
    put(&mut graph, owner);
    assert_eq!(plan(&graph, "e"), "delete true true");
    other.deleting = true;
    put(&mut graph, other);
    assert_eq!(plan(&graph, "e"), "nothing");
}

#[test]
fn orphans_lose_their_owner_only() {
    let mut graph = Graph::default();
    put(&mut graph, object("n", "b", &[("a", true)]));
    let mut owner = object("n", "a", &[]);
    (owner.deleting, owner.orphan) = (true, true);
    put(&mut graph, owner);
    assert_eq!(plan(&graph, "a"), "orphan 1");
    let released = graph.put(object("n", "b", &[]), "n".into());
    assert!(released.is_empty());
    assert_eq!(plan(&graph, "a"), "orphan 0");
}

#[test]
fn an_owner_in_another_namespace_is_none() {
    let mut graph = Graph::default();
    put(&mut graph, object("other", "a", &[]));
    let child = object("n", "b", &[("a", false)]);
    put(&mut graph, child.clone());
    assert_eq!(graph.misplaced(&child).len(), 1);
    assert_eq!(plan(&graph, "b"), "look up a");
    graph.set_absent("a".into(), "n".to_owned());
    assert_eq!(plan(&graph, "b"), "delete false false");
}
