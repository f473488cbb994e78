//! What namespaces hold, by discovery: each resource once, in its group's
//! preferred version where that has it (client-go's
//! `ServerPreferredNamespacedResources`). Groups that can't be asked are told of.

use super::conditions::Trouble;
use super::said;
use reconcile::{Client, ClientError, Resource};
use serde_json::Value;
use std::collections::BTreeSet;

fn text<'a>(value: &'a Value, field: &str) -> Option<&'a str> {
    value.get(field)?.as_str()
}

/// The resources of a discovery document that hold objects of namespaces; the
/// error names a group-version that is none.
pub(super) fn contents(document: &Value) -> Result<Vec<Resource>, String> {
    let group_version = text(document, "groupVersion").unwrap_or_default();
    let (group, version) = group_version.split_once('/').unwrap_or(("", group_version));
    if version.contains('/') {
        return Err(format!("unexpected GroupVersion string: {group_version}"));
    }
    let listed = document.get("resources").and_then(Value::as_array);
    let keep = |entry: &Value| {
        let plural = text(entry, "name")?.to_owned();
        let verbs = entry.get("verbs").and_then(Value::as_array)?;
        let has = |verb: &str| verbs.iter().any(|v| v == verb);
        let namespaced = entry.get("namespaced") == Some(&Value::Bool(true));
        let usable = namespaced && !plural.contains('/') && has("list") && has("delete");
        usable.then(|| Resource {
            group: group.to_owned().into(),
            version: version.to_owned().into(),
            plural: plural.into(),
            namespaced: true,
        })
    };
    Ok(listed.into_iter().flatten().filter_map(keep).collect())
}

/// The group-versions of `/apis`, each group's preferred one first.
pub(super) fn group_versions(groups: &Value) -> Vec<String> {
    let groups = groups.get("groups").and_then(Value::as_array);
    let mut out: Vec<String> = Vec::new();
    for group in groups.into_iter().flatten() {
        let preferred = group.get("preferredVersion").into_iter();
        let versions = group.get("versions").and_then(Value::as_array);
        let all = preferred.chain(versions.into_iter().flatten());
        for version in all.filter_map(|v| text(v, "groupVersion")) {
            if !out.iter().any(|known| known == version) {
                out.push(version.to_owned());
            }
        }
    }
    out
}

pub(super) async fn resources(
    client: &Client,
    trouble: &mut Trouble,
) -> Result<Vec<Resource>, ClientError> {
    let mut documents = vec![client.get_path("/api/v1").await?];
    for version in group_versions(&client.get_path("/apis").await?) {
        match client.get_path(&format!("/apis/{version}")).await {
            Ok(document) => documents.push(document),
            // It went meanwhile.
            Err(error) if error.is_not_found() => {}
            Err(error) => {
                let why = match error.status().map(|s| s.code) {
                    Some(503) => format!("stale GroupVersion discovery: {version}"),
                    _ => said(&error),
                };
                trouble.groups.insert(version, why);
            }
        }
    }
    let mut known = BTreeSet::new();
    let mut out = Vec::new();
    for document in &documents {
        match contents(document) {
            Ok(found) => out.extend(
                found
                    .into_iter()
                    .filter(|r| known.insert((r.group.to_string(), r.plural.to_string()))),
            ),
            Err(why) => trouble.unparsed.push(why),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn discovery_tells_what_namespaces_hold() {
        let core = json!({"groupVersion": "v1", "resources": [
            {"name": "pods", "namespaced": true, "verbs": ["list", "delete", "get"]},
            {"name": "pods/status", "namespaced": true, "verbs": ["get", "list", "delete"]},
            {"name": "nodes", "namespaced": false, "verbs": ["list", "delete"]},
            {"name": "bindings", "namespaced": true, "verbs": ["create"]},
        ]});
        let found = contents(&core);
        assert_eq!(found, Ok(vec![Resource::namespaced("", "v1", "pods")]));
        let leases = json!({"groupVersion": "coordination.k8s.io/v1", "resources": [
            {"name": "leases", "namespaced": true, "verbs": ["list", "delete"]},
        ]});
        let expected = Resource::namespaced("coordination.k8s.io", "v1", "leases");
        assert_eq!(contents(&leases), Ok(vec![expected]));
        assert_eq!(contents(&json!({"resources": 7})), Ok(vec![]));
        let odd = json!({"groupVersion": "a/b/c"});
        assert_eq!(
            contents(&odd),
            Err("unexpected GroupVersion string: a/b/c".to_owned())
        );
    }

    #[test]
    fn each_version_is_asked_and_the_preferred_one_first() {
        let version = |v: &str| json!({"groupVersion": v});
        let groups = json!({"groups": [
            {"name": "apps", "preferredVersion": version("apps/v1"),
                "versions": [version("apps/v2"), version("apps/v1")]},
            {},
        ]});
        assert_eq!(group_versions(&groups), ["apps/v1", "apps/v2"]);
    }
}
