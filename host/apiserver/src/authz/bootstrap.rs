//! The roles and bindings that every cluster has, from `bootstrap.table`, and
//! how what stands is brought up to it at start (upstream's reconciliation):
//! what is missing is added, what somebody added stays, and an object whose
//! annotation `rbac.authorization.kubernetes.io/autoupdate` is "false" is left
//! alone. A binding whose role differs is made anew.

use super::rbac::GROUP;
use super::rule::{Rule, missing};
use crate::registry::{self, Along, Written};
use crate::rest::create::ensure;
use api::kinds;
use api::meta;
use api::status::Status;
use serde_json::{Map, Value, json};
use store::Store;

const TABLE: &str = include_str!("bootstrap.table");
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
const BOOTSTRAPPING: &str = "kubernetes.io/bootstrapping";
const ATTEMPTS: usize = 8;

/// Every object of the table, roles before their bindings.
pub(crate) fn objects() -> Vec<Value> {
    let mut out: Vec<Value> = Vec::new();
    for line in TABLE.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [] => {}
            [first, ..] if first.starts_with('#') => {}
            ["role", name, options @ ..] => out.push(role(name, options)),
            ["controller", name] => {
                let full = format!("system:controller:{name}");
                out.push(binding(&full, &format!("sa:kube-system/{name}")));
                out.push(role(&full, &[]));
            }
            ["bind", role, subjects] => out.push(binding(role, subjects)),
            rule_words => {
                if let Some(rule) = rule(rule_words)
                    && let Some(last) = out.last_mut()
                    && let Some(rules) = last["rules"].as_array_mut()
                {
                    rules.push(rule.to_value());
                }
            }
        }
    }
    all_controllers(&mut out);
    out.sort_by_key(|o| meta::text(o, &["kind"]).ends_with("Binding"));
    out
}

/// The one user that is all controllers is bound to the role of each.
fn all_controllers(out: &mut [Value]) {
    for object in out {
        if meta::text(object, &["kind"]) == "ClusterRoleBinding"
            && meta::name(object).starts_with("system:controller:")
            && let Some(subjects) = object["subjects"].as_array_mut()
        {
            subjects.push(subject("user:system:kube-controller-manager"));
        }
    }
}

fn words(list: &str) -> Vec<String> {
    list.split(',')
        .map(|w| if w == "core" { "" } else { w }.to_owned())
        .collect()
}

fn verbs(list: &str) -> Vec<String> {
    words(match list {
        "READ" => "get,list,watch",
        "WRITE" => "create,delete,deletecollection,patch,update",
        "EVENTS" => "create,patch,update",
        other => other,
    })
}

fn rule(line: &[&str]) -> Option<Rule> {
    let (of, groups, resources) = (line.first()?, line.get(1)?, line.get(2)?);
    Some(match *groups {
        "url" => Rule {
            verbs: verbs(of),
            urls: words(resources),
            ..Rule::default()
        },
        groups => Rule {
            verbs: verbs(of),
            groups: words(groups),
            resources: words(resources),
            names: line.get(3).map(|n| words(n)).unwrap_or_default(),
            ..Rule::default()
        },
    })
}

/// `[NAMESPACE/]NAME`; only a namespaced name has a slash here.
fn object(kind: &str, name: &str) -> Value {
    let (namespace, name) = name.split_once('/').unwrap_or(("", name));
    let kind = match namespace {
        "" => format!("Cluster{kind}"),
        _ => kind.to_owned(),
    };
    let mut object = json!({
        "kind": kind,
        "apiVersion": format!("{GROUP}/v1"),
        "metadata": {
            "name": name,
            "labels": {BOOTSTRAPPING: "rbac-defaults"},
            "annotations": {AUTOUPDATE: "true"},
        },
    });
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = namespace.into();
    }
    object
}

fn role(name: &str, options: &[&str]) -> Value {
    let mut role = object("Role", name);
    role["rules"] = json!([]);
    let mut options = options.iter();
    while let Some(option) = options.next() {
        match *option {
            "from" => {
                let label = options.next().copied().unwrap_or_default();
                let label = format!("{GROUP}/{label}");
                role["aggregationRule"] =
                    json!({"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]});
            }
            label => role["metadata"]["labels"][format!("{GROUP}/{label}")] = "true".into(),
        }
    }
    role
}

fn subject(text: &str) -> Value {
    let (kind, name) = text.split_once(':').unwrap_or((text, ""));
    let kind = match kind {
        "group" => "Group",
        "user" => "User",
        _ => {
            let (namespace, name) = name.split_once('/').unwrap_or(("", name));
            return json!({"kind": "ServiceAccount", "name": name, "namespace": namespace});
        }
    };
    json!({"kind": kind, "apiGroup": GROUP, "name": name})
}

fn binding(role: &str, subjects: &str) -> Value {
    let mut binding = object("RoleBinding", role);
    let (kind, name) = match role.split_once('/') {
        Some((_, name)) => ("Role", name),
        None => ("ClusterRole", role),
    };
    binding["roleRef"] = json!({"apiGroup": GROUP, "kind": kind, "name": name});
    let listed = subjects.split(',').filter(|s| *s != "-").map(subject);
    binding["subjects"] = listed.collect();
    binding
}

/// What `found` becomes so that it has all that `wanted` has; `None` if it
/// does, or is protected. Pure.
fn reconciled(found: &Value, wanted: &Value) -> Option<Value> {
    if meta::text(found, &["metadata", "annotations", AUTOUPDATE]) == "false" {
        return None;
    }
    let mut next = found.clone();
    for part in ["labels", "annotations"] {
        let metadata = meta::ensure_metadata(&mut next);
        let of = metadata.entry(part).or_insert_with(|| json!({}));
        for (key, value) in meta::members(wanted, &["metadata", part]) {
            if of.get(key).is_none() {
                of[key] = value.clone();
            }
        }
    }
    if let Some(rules) = wanted.get("rules") {
        let lacking = missing(&Rule::parse_all(found), &Rule::parse_all(wanted));
        // An aggregated role's rules belong to its controller.
        if !lacking.is_empty() && wanted.get("aggregationRule").is_none() {
            let all =
                meta::list(found, &["rules"]).iter().chain(
                    rules.as_array().into_iter().flatten().filter(|r| {
                        !missing(&Rule::parse_all(found), &[Rule::parse(r)]).is_empty()
                    }),
                );
            next["rules"] = all.cloned().collect();
        }
    }
    if let Some(rule) = wanted.get("aggregationRule")
        && found.get("aggregationRule").is_none()
    {
        next["aggregationRule"] = rule.clone();
    }
    for subject in meta::list(wanted, &["subjects"]) {
        if !meta::list(found, &["subjects"]).contains(subject) {
            let map = next.as_object_mut()?;
            let subjects = map.entry("subjects").or_insert_with(|| json!([]));
            subjects.as_array_mut()?.push(subject.clone());
        }
    }
    (next != *found).then_some(next)
}

/// Makes or completes every object of the table.
pub(crate) async fn reconcile(store: &Store) -> Result<(), Status> {
    for wanted in objects() {
        one(store, wanted).await?;
    }
    Ok(())
}

async fn one(store: &Store, wanted: Value) -> Result<(), Status> {
    let plural = format!("{}s", meta::text(&wanted, &["kind"]).to_lowercase());
    let Some(kind) = kinds::by_resource(GROUP, "v1", &plural) else {
        return Ok(());
    };
    let (namespace, name) = (meta::namespace(&wanted), meta::name(&wanted));
    for _ in 0..ATTEMPTS {
        let found = match registry::get(store, &kind, namespace, name) {
            Err(status) if status.code == 404 => {
                return ensure(store, &kind, wanted).await;
            }
            found => found?,
        };
        let key = registry::key(&kind, namespace, name);
        let other_role = wanted.get("roleRef").is_some()
            && Map::from_iter([("r".to_owned(), wanted["roleRef"].clone())])
                != Map::from_iter([("r".to_owned(), found.object["roleRef"].clone())]);
        if other_role
            && meta::text(&found.object, &["metadata", "annotations", AUTOUPDATE]) != "false"
        {
            registry::remove(store, key, found.revision, Along::default()).await?;
            continue;
        }
        let Some(next) = reconciled(&found.object, &wanted) else {
            return Ok(());
        };
        let value = registry::encode(&kind, &next)?;
        if let Written::At(_) =
            registry::update(store, key, value, found.revision, Along::default()).await?
        {
            return Ok(());
        }
    }
    Err(Status::modified(
        api::status::Qualified {
            group: GROUP,
            name: "roles",
        },
        name,
    ))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn named(kind: &str, name: &str) -> Value {
        objects()
            .into_iter()
            .find(|o| o["kind"] == kind && meta::name(o) == name)
            .unwrap()
    }

    #[test]
    fn the_table_is_read() {
        assert_eq!(
            named("ClusterRole", "cluster-admin")["rules"],
            json!([
                {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
                {"verbs": ["*"], "nonResourceURLs": ["*"]},
            ])
        );
        assert_eq!(
            named("ClusterRole", "edit")["aggregationRule"]["clusterRoleSelectors"][0]["matchLabels"],
            json!({"rbac.authorization.k8s.io/aggregate-to-edit": "true"})
        );
        assert_eq!(
            named("RoleBinding", "system:controller:token-cleaner")["subjects"][0],
            json!({"kind": "ServiceAccount", "name": "token-cleaner", "namespace": "kube-system"})
        );
        for object in objects() {
            let role = meta::text(&object, &["roleRef", "name"]);
            if !role.is_empty() {
                let found = objects().into_iter().any(|o| {
                    o["kind"] == object["roleRef"]["kind"]
                        && meta::name(&o) == role
                        && meta::namespace(&o) == meta::namespace(&object)
                });
                assert!(found, "{role}");
            }
        }
    }

    #[test]
    fn what_somebody_added_stays_and_what_is_missing_comes_back() {
        let wanted = named("ClusterRole", "system:kube-dns");
        assert_eq!(reconciled(&wanted, &wanted), None);
        let mut emptied = wanted.clone();
        emptied["rules"] = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["own"]}]);
        let next = reconciled(&emptied, &wanted).unwrap();
        assert_eq!(meta::list(&next, &["rules"]).len(), 2);
        assert_eq!(next["rules"][0]["resources"][0], "own");
        emptied["metadata"]["annotations"][AUTOUPDATE] = "false".into();
        assert_eq!(reconciled(&emptied, &wanted), None);
        let bound = named("ClusterRoleBinding", "system:discovery");
        let mut bare = bound.clone();
        bare["subjects"] = json!([]);
        assert_eq!(reconciled(&bare, &bound), Some(bound));
    }
}
