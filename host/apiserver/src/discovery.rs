//! Discovery from the table of kinds: legacy lists and the aggregated document
//! (`apidiscovery.k8s.io/v2`).

use crate::kinds::Table;
use api::kinds::{KindRef, Subresource, api_version};
use serde_json::{Value, json};

fn scope(kind: &KindRef) -> &'static str {
    if kind.namespaced() {
        "Namespaced"
    } else {
        "Cluster"
    }
}

/// `/api`.
pub(crate) fn versions() -> Value {
    json!({
        "kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [],
    })
}

fn groups(table: &Table) -> Vec<&str> {
    let mut out: Vec<&str> = Vec::new();
    for (group, _) in table.group_versions() {
        if !group.is_empty() && !out.contains(&group) {
            out.push(group);
        }
    }
    out
}

fn group_entry(table: &Table, group: &str) -> Value {
    let versions: Vec<Value> = table
        .group_versions()
        .into_iter()
        .filter(|(g, _)| *g == group)
        .map(|(g, v)| json!({"groupVersion": api_version(g, v), "version": v}))
        .collect();
    json!({
        "name": group,
        "preferredVersion": versions.first(),
        "versions": versions,
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

/// `/api/v1`, `/apis/GROUP/VERSION`.
pub(crate) fn resources(table: &Table, group: &str, version: &str) -> Option<Value> {
    let mut entries = Vec::new();
    for kind in table.of(group, version) {
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
        entries.push(entry);
        entries.extend(
            kind.subresources()
                .iter()
                .map(|s| subresource_entry(kind, *s)),
        );
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
    let versions: Vec<Value> = table
        .group_versions()
        .into_iter()
        .filter(|(g, _)| *g == group)
        .map(|(g, v)| {
            let resources: Vec<Value> = table.of(g, v).map(aggregated_resource).collect();
            json!({"version": v, "freshness": "Current", "resources": resources})
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
    let subs: Vec<Value> = kind
        .subresources()
        .iter()
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
