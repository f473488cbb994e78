#![expect(clippy::unwrap_used, reason = "tests")]
use super::*;
use crate::kinds::KINDS;
use std::collections::HashSet;

fn rows() -> Vec<KindRef> {
    KINDS.iter().copied().map(KindRef::Row).collect()
}

/// Every `$ref` in a document.
fn references(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(to)) = map.get("$ref") {
                out.push(to.clone());
            }
            map.values().for_each(|v| references(v, out));
        }
        Value::Array(items) => items.iter().for_each(|v| references(v, out)),
        _ => {}
    }
}

#[track_caller]
fn resolves(document: &Value) {
    let mut found = Vec::new();
    references(document, &mut found);
    assert!(!found.is_empty());
    for reference in found {
        let path = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(path).is_some(), "{reference}");
    }
}

fn operations(document: &Value) -> Vec<&Value> {
    document["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|item| item.as_object().unwrap().values())
        .filter(|of| of.get("operationId").is_some())
        .collect()
}

#[test]
fn documents_are_whole() {
    let all = rows();
    let document = v2(&all, "v1");
    resolves(&document);
    let mut names = HashSet::new();
    for operation in operations(&document) {
        let name = operation["operationId"].as_str().unwrap();
        assert!(names.insert(name), "{name} twice");
    }
    let mut versions: Vec<(&str, &str)> = KINDS.iter().map(|k| (k.group, k.version)).collect();
    versions.sort_unstable();
    versions.dedup();
    for (group, version) in versions {
        let of: Vec<KindRef> = all
            .iter()
            .filter(|k| k.group() == group && k.version() == version)
            .cloned()
            .collect();
        let document = v3(&of, "v1").unwrap();
        resolves(&document);
        for kind in of {
            let schema = &document["components"]["schemas"][kind.type_name()];
            assert_eq!(
                schema["x-kubernetes-group-version-kind"],
                gvk(group, version, kind.kind())
            );
        }
    }
}

/// A type of the table that the build took no descriptions for is one whose
/// root is missing there.
#[test]
fn every_type_is_described() {
    let descriptions = Descriptions::unpack();
    let all = rows();
    for name in reachable(all.iter()) {
        let facts = facts::of(name).unwrap();
        if !facts.fields.is_empty() {
            assert!(descriptions.0.contains_key(name), "{name}");
        }
    }
    for kind in KINDS {
        assert!(
            descriptions.of(kind.type_name, "").is_some(),
            "{}",
            kind.kind
        );
    }
}

#[test]
fn merging_clients_learn_how_to_merge() {
    let document = v2(&rows(), "v1");
    for (path, key, wanted) in [
        (
            "io.k8s.api.core.v1.PodSpec/properties/containers",
            "x-kubernetes-patch-merge-key",
            json!("name"),
        ),
        (
            "io.k8s.api.core.v1.PodSpec/properties/containers",
            "x-kubernetes-patch-strategy",
            json!("merge"),
        ),
        (
            "io.k8s.api.core.v1.PodSpec/properties/containers",
            "x-kubernetes-list-map-keys",
            json!(["name"]),
        ),
        (
            "io.k8s.api.admissionregistration.v1.MutatingWebhookConfiguration/properties/webhooks",
            "x-kubernetes-patch-merge-key",
            json!("name"),
        ),
        (
            "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector",
            "x-kubernetes-map-type",
            json!("atomic"),
        ),
    ] {
        let of = document.pointer(&format!("/definitions/{path}")).unwrap();
        assert_eq!(of[key], wanted, "{path}");
    }
}
