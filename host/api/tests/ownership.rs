//! Properties of field ownership over random pods: FieldsV1 is read as it was
//! written, an apply done twice changes nothing, appliers converge whatever
//! came before; and no bytes break the reader.
#![expect(clippy::unwrap_used, reason = "tests")]

use api::kinds;
use api::managed::{Endpoint, FactsNode, Set, Writer, compare, field_set, with_structs};
use fuzzing::{Random, rounds};
use serde_json::{Map, Value, json};

/// What is drawn of a pod.
struct Drawn(Random);

impl Drawn {
    fn below(&mut self, n: usize) -> usize {
        self.0.below(n)
    }

    fn text(&mut self) -> Value {
        ["a", "b", "c"][self.below(3)].into()
    }

    /// Each of `keys` now and then.
    fn map(&mut self, keys: &[&str]) -> Value {
        let mut out = Map::new();
        for key in keys {
            if self.below(2) == 0 {
                out.insert((*key).to_owned(), self.text());
            }
        }
        Value::Object(out)
    }

    /// Items with different `key`s, in any order.
    fn list(&mut self, key: &str, values: &[Value], keys: &[&str]) -> Value {
        let mut left = values.to_vec();
        let mut out = Vec::new();
        for _ in 0..self.below(values.len() + 1) {
            let id = left.swap_remove(self.below(left.len()));
            let mut item = self.map(keys);
            item[key] = id;
            out.push(item);
        }
        Value::Array(out)
    }

    fn pod(&mut self) -> Value {
        let names = [json!("x"), json!("y"), json!("z")];
        let ports = [json!(80), json!(81), json!(82)];
        let mut containers = self.list("name", &names, &["image", "workingDir"]);
        for c in containers.as_array_mut().unwrap() {
            if self.below(2) == 0 {
                c["ports"] = self.list("containerPort", &ports, &["name"]);
            }
            if self.below(2) == 0 {
                c["env"] = self.list("name", &names, &["value"]);
            }
            if self.below(3) == 0 {
                c["args"] = (0..self.below(3)).map(|_| self.text()).collect();
            }
        }
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "namespace": "d"}});
        if self.below(2) == 0 {
            pod["metadata"]["labels"] = self.map(&["l", "m", "n"]);
        }
        if self.below(2) == 0 {
            let texts = [json!("f/a"), json!("f/b")];
            pod["metadata"]["finalizers"] = texts[..self.below(3)].into();
        }
        if containers != json!([]) {
            pod["spec"] = self.map(&["nodeName", "hostname"]);
            pod["spec"]["containers"] = containers;
            if self.below(2) == 0 {
                pod["spec"]["nodeSelector"] = self.map(&["s", "t"]);
            }
        }
        // Without what is empty, as decoded bodies are.
        let kind = kinds::by_resource("", "v1", "pods").unwrap();
        kind.conform(&mut pod, &mut Vec::new()).unwrap();
        pod
    }
}

fn seeds() -> (u64, Drawn) {
    let random = Random::seeded();
    (random.0, Drawn(random))
}

const ROUNDS: u64 = 1500;

fn node() -> FactsNode {
    FactsNode::named("io.k8s.api.core.v1.Pod")
}

fn writer(manager: &str) -> Writer<'_> {
    Writer {
        manager,
        version: "v1",
        subresource: "",
        time: "2026-01-01T00:00:00Z",
    }
}

fn apply(live: Option<&Value>, config: &Value, manager: &str, force: bool) -> Option<Value> {
    let kind = kinds::by_resource("", "v1", "pods").unwrap();
    let endpoint = Endpoint {
        kind: &kind,
        subresource: "",
    };
    let mut object = endpoint.apply(live, config, &writer(manager), force).ok()?;
    kind.conform(&mut object, &mut Vec::new()).unwrap();
    object["metadata"]["uid"] = "u".into();
    Some(object)
}

fn update(live: Option<&Value>, mut new: Value, manager: &str) -> Value {
    let kind = kinds::by_resource("", "v1", "pods").unwrap();
    let endpoint = Endpoint {
        kind: &kind,
        subresource: "",
    };
    new["metadata"]["uid"] = "u".into();
    endpoint.track(live, &mut new, &writer(manager));
    new
}

fn bare(object: &Value) -> Value {
    let mut out = object.clone();
    let metadata = out["metadata"].as_object_mut().unwrap();
    metadata.shift_remove("managedFields");
    metadata.shift_remove("uid");
    out
}

#[test]
fn sets_are_read_as_they_were_written() {
    let (seed, mut r) = seeds();
    for _ in 0..rounds(ROUNDS) {
        let (a, b) = (r.pod(), r.pod());
        let (x, y) = (field_set(&node(), &a), field_set(&node(), &b));
        for set in [x.union(&y), x.intersection(&y), x.difference(&y)] {
            assert_eq!(Set::from_fields(&set.to_fields()).unwrap(), set, "{seed}");
        }
        assert_eq!(
            x.difference(&y).union(&x.intersection(&y)),
            x,
            "seed {seed}"
        );
        assert!(compare(&node(), &a, &a).is_same());
        let (there, back) = (compare(&node(), &a, &b), compare(&node(), &b, &a));
        assert_eq!(there.added, back.removed, "seed {seed}");
        assert_eq!(there.modified, back.modified, "seed {seed}");
    }
}

#[test]
fn an_apply_done_twice_changes_nothing_more() {
    let (seed, mut r) = seeds();
    for _ in 0..rounds(ROUNDS) {
        let live = update(None, r.pod(), "u");
        let config = r.pod();
        let once = apply(Some(&live), &config, "x", true).unwrap();
        let twice = apply(Some(&once), &config, "x", false).unwrap();
        assert_eq!(once, twice, "seed {seed}: {live} {config}");
        // All that was asked for is there.
        let missing = compare(&node(), &config, &once);
        assert!(missing.modified.is_empty(), "seed {seed}: {config} {once}");
        // And without force nothing of others changed.
        if let Some(peaceful) = apply(Some(&live), &config, "x", false) {
            let changed = compare(&node(), &bare(&live), &bare(&peaceful));
            assert!(changed.modified.is_empty() && changed.removed.is_empty());
        }
    }
}

#[test]
fn the_last_of_ones_own_applies_decides() {
    let (seed, mut r) = seeds();
    for _ in 0..rounds(ROUNDS) {
        let (first, last) = (r.pod(), r.pod());
        let before = apply(None, &first, "x", false).unwrap();
        let after = apply(Some(&before), &last, "x", false).unwrap();
        let direct = apply(None, &last, "x", false).unwrap();
        let sets = |o: &Value| field_set(&node(), &bare(o));
        let dangling = compare(&node(), &bare(&direct), &bare(&after));
        assert!(
            dangling.modified.is_empty(),
            "seed {seed}: {first} {last} {after}"
        );
        assert_eq!(
            sets(&direct).difference(&sets(&after)),
            Set::default(),
            "seed {seed}"
        );
        assert_eq!(
            after["metadata"]["managedFields"], direct["metadata"]["managedFields"],
            "seed {seed}"
        );
    }
}

/// What is owned of `object` and isn't there.
fn dangling(object: &Value) -> Set {
    let there = with_structs(Some(&node()), &field_set(&node(), &bare(object)));
    let entries = object["metadata"]["managedFields"].as_array();
    let owned = entries.into_iter().flatten().map(|entry| {
        let set = Set::from_fields(&entry["fieldsV1"]).unwrap();
        set.difference(&there)
    });
    owned.fold(Set::default(), |all, set| all.union(&set))
}

#[test]
fn every_owned_field_is_there() {
    let (seed, mut r) = seeds();
    for _ in 0..rounds(ROUNDS / 5) {
        let mut live = update(None, r.pod(), "u");
        let mut done = vec![live.clone()];
        for _ in 0..4 {
            let manager = ["x", "y"][r.below(2)];
            let wanted = r.pod();
            live = match r.below(3) {
                0 => {
                    let mut wanted = wanted;
                    wanted["metadata"]["managedFields"] = live["metadata"]["managedFields"].clone();
                    update(Some(&live), wanted, manager)
                }
                _ => apply(Some(&live), &wanted, manager, true).unwrap(),
            };
            done.push(live.clone());
            let left = dangling(&live).to_fields();
            assert_eq!(left, json!({}), "seed {seed}: {done:#?}");
        }
    }
}

#[test]
fn the_reader_of_fields_survives_anything() {
    let (seed, mut r) = seeds();
    let keys = [
        ".",
        "f:a",
        "f:",
        "k:{\"a\":1}",
        "k:{",
        "k:[]",
        "k:{\"a\":{}}",
        "v:1",
        "v:\"x\"",
        "v:",
        "i:3",
        "i:x",
        "x:1",
        "",
        "é:",
        "f",
        "k:{\"a\":1e400}",
        "v:1.0",
        "v:<",
    ];
    fn tree(r: &mut Drawn, keys: &[&str], depth: usize) -> Value {
        match r.below(if depth == 0 { 2 } else { 6 }) {
            0 => Value::Null,
            1 => json!({}),
            _ => (0..r.below(4))
                .map(|_| {
                    let key = keys[r.below(keys.len())].to_owned();
                    (key, tree(r, keys, depth - 1))
                })
                .collect::<Map<String, Value>>()
                .into(),
        }
    }
    for _ in 0..rounds(ROUNDS) * 10 {
        if let Ok(set) = Set::from_fields(&tree(&mut r, &keys, 4)) {
            let again = Set::from_fields(&set.to_fields()).unwrap();
            assert_eq!(again, set, "seed {seed}");
        }
    }
}

/// Quadratic work on as many items wouldn't end.
#[test]
fn large_lists_are_owned_item_by_item() {
    let pod = |n: usize| -> Value {
        let env: Vec<Value> = (0..n)
            .map(|i| json!({"name": format!("N{i}"), "value": "v"}))
            .collect();
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
            "spec": {"containers": [{"name": "c", "env": env}]}})
    };
    let object = pod(20_000);
    let made = apply(None, &object, "x", false).unwrap();
    let again = apply(Some(&made), &object, "x", false).unwrap();
    assert_eq!(made, again);
}
