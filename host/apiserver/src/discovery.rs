//! Discovery from the table of kinds: legacy lists and the aggregated document
//! (`apidiscovery.k8s.io/v2`), in upstream's order: groups and versions by
//! priority, resources by name.

use crate::kinds::Table;
use api::custom::version_order;
use api::kinds::{KindRef, Subresource, api_version, priority};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

fn scope(kind: &KindRef) -> &'static str {
    if kind.namespaced() {
        "Namespaced"
    } else {
        "Cluster"
    }
}

/// `/`: every path that isn't a resource.
pub(crate) fn paths(table: &Table) -> Value {
    let mut paths: Vec<String> = [
        "/api",
        "/api/v1",
        "/apis",
        "/apis/",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openapi/v3/",
        "/version",
    ]
    .map(str::to_owned)
    .to_vec();
    paths.extend(crate::server::checks::paths());
    for group in groups(table) {
        paths.push(format!("/apis/{group}"));
        for version in versions_of(table, group) {
            paths.push(format!("/apis/{group}/{version}"));
        }
    }
    paths.sort();
    json!({"paths": paths})
}

/// `/api`.
pub(crate) fn versions() -> Value {
    json!({
        "kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [],
    })
}

/// All group-versions, this server's and others'.
fn group_versions(table: &Table) -> Vec<(&str, &str)> {
    let mut out = table.group_versions();
    for remote in table.remotes() {
        let of = (remote.group(), remote.version());
        if !out.contains(&of) {
            out.push(of);
        }
    }
    out
}

/// The group's place in discovery, and the version's in its group.
fn place(table: &Table, group: &str, version: &str) -> (i64, i64) {
    let remote = table.remote(group, version);
    remote.map_or_else(|| priority(group, version), |r| r.priority())
}

/// The versions of a group, the preferred one first.
fn versions_of<'a>(table: &'a Table, group: &str) -> Vec<&'a str> {
    let mut out: Vec<&str> = group_versions(table)
        .into_iter()
        .filter(|(g, _)| *g == group)
        .map(|(_, v)| v)
        .collect();
    out.sort_by(|a, b| {
        let by_place = place(table, group, b).1.cmp(&place(table, group, a).1);
        by_place.then_with(|| version_order(a, b))
    });
    out
}

/// All groups but the core one, those of higher priority first.
fn groups(table: &Table) -> Vec<&str> {
    let mut out: Vec<&str> = Vec::new();
    for (group, _) in group_versions(table) {
        if !group.is_empty() && !out.contains(&group) {
            out.push(group);
        }
    }
    let highest = |group: &str| {
        let places = versions_of(table, group).into_iter();
        places.map(|v| place(table, group, v).0).max().unwrap_or(0)
    };
    out.sort_by(|a, b| highest(b).cmp(&highest(a)).then_with(|| a.cmp(b)));
    out
}

/// The kinds of a group-version, by name.
fn kinds<'a>(table: &'a Table, group: &'a str, version: &'a str) -> Vec<&'a KindRef> {
    let mut out: Vec<&KindRef> = table.of(group, version).collect();
    out.sort_by(|a, b| a.plural().cmp(b.plural()));
    out
}

fn subresources(kind: &KindRef) -> Vec<Subresource> {
    let mut out = kind.subresources().to_vec();
    out.sort_by_key(|s| s.name());
    out
}

fn group_entry(table: &Table, group: &str) -> Value {
    let versions: Vec<Value> = versions_of(table, group)
        .into_iter()
        .map(|v| json!({"groupVersion": api_version(group, v), "version": v}))
        .collect();
    json!({
        "name": group,
        "versions": versions,
        "preferredVersion": versions.first(),
    })
}

/// `/apis`.
pub(crate) fn group_list(table: &Table) -> Value {
    let groups: Vec<Value> = groups(table)
        .into_iter()
        .map(|g| group_entry(table, g))
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/GROUP`.
pub(crate) fn group(table: &Table, name: &str) -> Option<Value> {
    groups(table).contains(&name).then(|| {
        let mut entry = group_entry(table, name);
        entry["kind"] = "APIGroup".into();
        entry["apiVersion"] = "v1".into();
        entry
    })
}

fn subresource_entry(kind: &KindRef, sub: Subresource) -> Value {
    let (group, version, its_kind, verbs) = sub.discovery();
    let mut entry = json!({
        "name": format!("{}/{}", kind.plural(), sub.name()),
        "singularName": "",
        "namespaced": kind.namespaced(),
        "kind": its_kind.unwrap_or(kind.kind()),
        "verbs": verbs,
    });
    if !version.is_empty() {
        entry["group"] = group.into();
        entry["version"] = version.into();
    }
    entry
}

/// What names the form in which objects are stored, for clients that want to
/// know when it changes (upstream's `discovery.StorageVersionHash`).
fn storage_version_hash(kind: &KindRef) -> Option<String> {
    if kind.storage().is_empty() {
        return None;
    }
    let group = match kind.storage().split('/').next().unwrap_or_default() {
        "core" => "",
        _ => kind.group(),
    };
    let named = format!("{group}/{}/{}", kind.version(), kind.kind());
    Some(STANDARD.encode(&Sha256::digest(named)[..8]))
}

fn resource_entry(kind: &KindRef) -> Value {
    let mut entry = json!({
        "name": kind.plural(), "singularName": kind.singular(),
        "namespaced": kind.namespaced(), "kind": kind.kind(), "verbs": kind.verbs(),
    });
    if !kind.short_names().is_empty() {
        entry["shortNames"] = json!(kind.short_names());
    }
    if !kind.categories().is_empty() {
        entry["categories"] = json!(kind.categories());
    }
    if let Some(hash) = storage_version_hash(kind) {
        entry["storageVersionHash"] = hash.into();
    }
    entry
}

/// `/api/v1`, `/apis/GROUP/VERSION`.
pub(crate) fn resources(table: &Table, group: &str, version: &str) -> Option<Value> {
    let mut entries = Vec::new();
    for kind in kinds(table, group, version) {
        entries.push(resource_entry(kind));
        let subs = subresources(kind).into_iter();
        entries.extend(subs.map(|s| subresource_entry(kind, s)));
    }
    (!entries.is_empty()).then(|| {
        json!({
            "kind": "APIResourceList", "apiVersion": "v1",
            "groupVersion": api_version(group, version), "resources": entries,
        })
    })
}

/// Whether `Accept` asks for the aggregated document.
pub(crate) fn wants_aggregated(accept: &str) -> bool {
    accept.split(',').any(|entry| {
        entry.contains("g=apidiscovery.k8s.io")
            && entry.contains("v=v2")
            && !entry.contains("v2beta1")
            && entry.trim().starts_with("application/json")
    })
}

pub(crate) const AGGREGATED_TYPE: &str =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// All groups, or only the core one (`/api`).
pub(crate) fn aggregated(table: &Table, core: bool) -> Value {
    let names = if core { vec![""] } else { groups(table) };
    let items: Vec<Value> = names
        .into_iter()
        .map(|g| aggregated_group(table, g))
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {}, "items": items,
    })
}

fn aggregated_group(table: &Table, group: &str) -> Value {
    let versions: Vec<Value> = versions_of(table, group)
        .into_iter()
        .map(|v| {
            if let Some(remote) = table.remote(group, v) {
                return remote.said.discovery.clone();
            }
            let listed = kinds(table, group, v).into_iter();
            let resources: Vec<Value> = listed.map(aggregated_resource).collect();
            json!({"version": v, "resources": resources, "freshness": "Current"})
        })
        .collect();
    let metadata = match group {
        "" => json!({}),
        name => json!({"name": name}),
    };
    json!({"metadata": metadata, "versions": versions})
}

fn aggregated_resource(kind: &KindRef) -> Value {
    let response = |group: &str, version: &str, name: &str| json!({"group": group, "version": version, "kind": name});
    let mut entry = json!({
        "resource": kind.plural(),
        "responseKind": response(kind.group(), kind.version(), kind.kind()),
        "scope": scope(kind),
        "singularResource": kind.singular(),
        "verbs": kind.verbs(),
    });
    if !kind.short_names().is_empty() {
        entry["shortNames"] = json!(kind.short_names());
    }
    if !kind.categories().is_empty() {
        entry["categories"] = json!(kind.categories());
    }
    let subs: Vec<Value> = subresources(kind)
        .into_iter()
        .map(|s| {
            let (group, version, name, verbs) = s.discovery();
            let (group, version) = match version {
                "" => (kind.group(), kind.version()),
                _ => (group, version),
            };
            json!({
                "subresource": s.name(),
                "responseKind": response(group, version, name.unwrap_or(kind.kind())),
                "verbs": verbs,
            })
        })
        .collect();
    if !subs.is_empty() {
        entry["subresources"] = subs.into();
    }
    entry
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::kinds::Kinds;

    #[test]
    fn groups_and_resources_have_upstreams_order() {
        let table = Kinds::default().table();
        let groups = groups(&table);
        let place = |name: &str| groups.iter().position(|g| *g == name).unwrap();
        assert_eq!(groups.first(), Some(&"apiregistration.k8s.io"));
        assert!(place("events.k8s.io") < place("networking.k8s.io"));
        assert!(place("networking.k8s.io") < place("rbac.authorization.k8s.io"));
        assert_eq!(groups.last(), Some(&"metrics.k8s.io"));
        let list = resources(&table, "", "v1").unwrap();
        let names: Vec<&str> = list["resources"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| r["name"].as_str().unwrap())
            .collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        assert_eq!(names, sorted);
    }

    #[test]
    fn storage_versions_are_named_as_upstream_names_them() {
        let table = Kinds::default().table();
        // As upstream's own servers answer.
        for (group, plural, wanted) in [
            ("", "pods", "xPOwRZ+Yhw8="),
            ("", "configmaps", "qFsyl6wFWjQ="),
            ("", "namespaces", "Q3oi5N2YM8M="),
            ("", "events", "r2yiGXH7wu8="),
            ("events.k8s.io", "events", "r2yiGXH7wu8="),
            ("", "bindings", ""),
        ] {
            let kind = table.resolve(group, "v1", plural).unwrap();
            let found = storage_version_hash(kind).unwrap_or_default();
            assert_eq!(found, wanted, "{group}/{plural}");
        }
    }
}
