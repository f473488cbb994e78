//! The layered graph: a crate uses crates of lower layers, and of its own layer
//! only where `SAME_LAYER` says so. A new edge inside a layer is a decision.

use serde_json::Value;

/// Crates by layer; `docs/architecture.md` says what each owns.
const LAYERS: &[&[&str]] = &[
    &["api", "expressions", "machine-spec", "guest-protocol"],
    &["sys", "store"],
    &[
        "virtio",
        "volume",
        "fabric",
        "image",
        "reconcile",
        "streams",
    ],
    &["vmm", "apiserver", "controllers", "node"],
    &["supervisor"],
];

/// Edges inside a layer: who, and what it may use.
const SAME_LAYER: &[(&str, &str)] = &[("api", "expressions"), ("virtio", "volume")];

/// Crates outside the layers and what of the workspace they may use.
const OUTSIDE: &[(&str, &[&str])] = &[
    ("clients", &["apiserver"]),
    ("fuzzing", &[]),
    ("guest-init", &["guest-protocol"]),
    ("image-build", &[]),
    ("qemu-test", &["image-build", "test-agent"]),
    ("test-agent", &[]),
    ("tidy", &[]),
];

/// What `cargo metadata --no-deps` says that breaks the graph, a line each.
#[must_use]
pub fn violations(metadata: &Value) -> Vec<String> {
    let packages = metadata["packages"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let mut found = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        if !known(name) {
            found.push(format!("{name}: in no layer of host/tidy/src/graph.rs"));
        }
        let dependencies = package["dependencies"].as_array();
        for dependency in dependencies.map_or(&[][..], Vec::as_slice) {
            // Tests may look from above: only what is built in counts.
            let used = dependency["name"].as_str().unwrap_or_default();
            let built_in = dependency["kind"].is_null() && dependency["path"].is_string();
            if built_in && !allowed(name, used) {
                found.push(format!("{name} uses {used}: not downward"));
            }
        }
    }
    found
}

fn layer(name: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&name))
}

fn outside(name: &str) -> Option<&'static [&'static str]> {
    let row = OUTSIDE.iter().find(|(outsider, _)| *outsider == name)?;
    Some(row.1)
}

fn known(name: &str) -> bool {
    layer(name).is_some() || outside(name).is_some()
}

fn allowed(name: &str, used: &str) -> bool {
    if let Some(uses) = outside(name) {
        return uses.contains(&used);
    }
    match (layer(name), layer(used)) {
        (Some(upper), Some(lower)) if upper > lower => true,
        (Some(upper), Some(lower)) if upper == lower => SAME_LAYER.contains(&(name, used)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn edges_point_downward() {
        for (name, used, kind, fine) in [
            ("node", "sys", Value::Null, true),
            ("sys", "node", Value::Null, false),
            ("virtio", "volume", Value::Null, true),
            ("volume", "virtio", Value::Null, false),
            ("sys", "supervisor", json!("dev"), true),
            ("guest-init", "guest-protocol", Value::Null, true),
            ("guest-init", "sys", Value::Null, false),
            ("node", "qemu-test", Value::Null, false),
            ("stray", "sys", Value::Null, false),
        ] {
            let metadata = json!({ "packages": [{ "name": name, "dependencies": [
                { "name": used, "kind": kind, "path": "/somewhere" },
                { "name": "serde", "kind": null },
            ]}]});
            assert_eq!(violations(&metadata).is_empty(), fine, "{name} uses {used}");
        }
    }
}
