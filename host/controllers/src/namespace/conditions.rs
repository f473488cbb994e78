//! What a namespace that is going says of what it waits for, in upstream's
//! words (`pkg/controller/namespace/deletion`).

use k8s_openapi::api::core::v1::Namespace;
use reconcile::resource::core::NAMESPACES;
use reconcile::{Resource, Write};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What is still there after everything was told to go.
#[derive(Debug, Default)]
pub(super) struct Remaining {
    /// Objects by `plural.group`.
    resources: BTreeMap<String, usize>,
    /// Objects by the finalizer that they wait for.
    finalizers: BTreeMap<String, usize>,
}

impl Remaining {
    pub(super) fn add(&mut self, resource: &Resource, items: &[Value]) {
        if items.is_empty() {
            return;
        }
        let name = format!("{}.{}", resource.plural, resource.group);
        *self.resources.entry(name).or_default() += items.len();
        for item in items {
            let finalizers = item["metadata"]["finalizers"].as_array();
            for finalizer in finalizers.into_iter().flatten().filter_map(Value::as_str) {
                *self.finalizers.entry(finalizer.to_owned()).or_default() += 1;
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.resources.is_empty()
    }
}

/// What went wrong.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// Why group-versions could not be asked what they have.
    pub(super) groups: BTreeMap<String, String>,
    /// Group-versions that are none.
    pub(super) unparsed: Vec<String>,
    /// Why objects could not be deleted.
    pub(super) content: Vec<String>,
}

impl Trouble {
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.unparsed.is_empty() && self.content.is_empty()
    }

    fn discovery(&self) -> Option<String> {
        let each = self.groups.iter();
        let each: Vec<String> = each.map(|(group, why)| format!("{group}: {why}")).collect();
        (!each.is_empty()).then(|| {
            format!(
                "Discovery failed for some groups, {} failing: unable to retrieve the complete list of server APIs: {}",
                each.len(),
                each.join(", ")
            )
        })
    }

    fn parsing(&self) -> Option<String> {
        match self.unparsed.as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            all => Some(format!("[{}]", all.join(", "))),
        }
    }

    fn deletion(&self) -> Option<String> {
        let mut all = self.content.clone();
        all.sort();
        (!all.is_empty()).then(|| {
            format!(
                "Failed to delete all resource types, {} remaining: {}",
                all.len(),
                all.join(", ")
            )
        })
    }
}

/// The status that says so, unless it is said; `now` in RFC 3339.
pub(super) fn write(
    namespace: &Namespace,
    remaining: &Remaining,
    trouble: &Trouble,
    now: &str,
) -> Option<Write> {
    let mut object = serde_json::to_value(namespace).ok()?;
    let had = match &object["status"]["conditions"] {
        Value::Array(conditions) => conditions.clone(),
        _ => Vec::new(),
    };
    let mut conditions = had.clone();
    for mut wanted in wanted(remaining, trouble) {
        let found = conditions.iter_mut().find(|c| c["type"] == wanted["type"]);
        wanted["lastTransitionTime"] = now.into();
        match found {
            None => conditions.push(wanted),
            Some(found) => {
                if found["status"] == wanted["status"] {
                    wanted["lastTransitionTime"] = found["lastTransitionTime"].clone();
                }
                *found = wanted;
            }
        }
    }
    if conditions == had {
        return None;
    }
    object["status"]["conditions"] = conditions.into();
    Some(Write::UpdateStatus {
        resource: NAMESPACES,
        namespace: None,
        object,
    })
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": message})
}

fn fine(kind: &str, reason: &str, message: &str) -> Value {
    condition(kind, "False", reason, message)
}

/// With a reason and perhaps a message if it failed, else with another.
fn failure(kind: &str, failed: (&str, Option<String>), well: (&str, &str)) -> Value {
    match failed {
        (reason, Some(message)) => condition(kind, "True", reason, &message),
        (_, None) => fine(kind, well.0, well.1),
    }
}

fn counted(counts: &BTreeMap<String, usize>, joint: &str) -> Vec<String> {
    let each = counts.iter();
    each.map(|(name, count)| format!("{name} {joint} {count} resource instances"))
        .collect()
}

/// All five, in upstream's order.
fn wanted(remaining: &Remaining, trouble: &Trouble) -> [Value; 5] {
    let some = |kind: &str, reason: &str, said: &str, each: Vec<String>| {
        let message = format!("{said}: {}", each.join(", "));
        condition(kind, "True", reason, &message)
    };
    [
        failure(
            "NamespaceDeletionDiscoveryFailure",
            ("DiscoveryFailed", trouble.discovery()),
            (
                "ResourcesDiscovered",
                "All resources successfully discovered",
            ),
        ),
        failure(
            "NamespaceDeletionGroupVersionParsingFailure",
            ("GroupVersionParsingFailed", trouble.parsing()),
            (
                "ParsedGroupVersions",
                "All legacy kube types successfully parsed",
            ),
        ),
        failure(
            "NamespaceDeletionContentFailure",
            ("ContentDeletionFailed", trouble.deletion()),
            (
                "ContentDeleted",
                "All content successfully deleted, may be waiting on finalization",
            ),
        ),
        match remaining.resources.is_empty() {
            true => fine(
                "NamespaceContentRemaining",
                "ContentRemoved",
                "All content successfully removed",
            ),
            false => some(
                "NamespaceContentRemaining",
                "SomeResourcesRemain",
                "Some resources are remaining",
                counted(&remaining.resources, "has"),
            ),
        },
        match remaining.finalizers.is_empty() {
            true => fine(
                "NamespaceFinalizersRemaining",
                "ContentHasNoFinalizers",
                "All content-preserving finalizers finished",
            ),
            false => some(
                "NamespaceFinalizersRemaining",
                "SomeFinalizersRemain",
                "Some content in the namespace has finalizers remaining",
                counted(&remaining.finalizers, "in"),
            ),
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use reconcile::resource::core::PODS;

    #[test]
    fn what_remains_is_said_once() {
        let mut namespace: Namespace = serde_json::from_value(
            json!({"metadata": {"name": "n"}, "status": {"phase": "Terminating"}}),
        )
        .expect("a fixture");
        let pod = json!({"metadata": {"name": "p", "finalizers": ["x/y"]}});
        let (mut one, none) = (Remaining::default(), Remaining::default());
        one.add(&PODS, &[pod]);
        one.add(&NAMESPACES, &[]);
        let fine = Trouble::default();
        let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        for (remaining, now, since, content, finalizers) in [
            (
                &one,
                early,
                early,
                "Some resources are remaining: pods. has 1 resource instances",
                "Some content in the namespace has finalizers remaining: x/y in 1 resource instances",
            ),
            (
                &none,
                late,
                late,
                "All content successfully removed",
                "All content-preserving finalizers finished",
            ),
        ] {
            let Some(Write::UpdateStatus { object, .. }) = write(&namespace, remaining, &fine, now)
            else {
                panic!("nothing is said of {remaining:?}")
            };
            let conditions = &object["status"]["conditions"];
            assert_eq!(conditions.as_array().map(Vec::len), Some(5));
            assert_eq!(conditions[2]["type"], "NamespaceDeletionContentFailure");
            assert_eq!(conditions[0]["lastTransitionTime"], early);
            assert_eq!(conditions[3]["lastTransitionTime"], since);
            assert_eq!(conditions[3]["message"], content);
            assert_eq!(conditions[4]["message"], finalizers);
            namespace = serde_json::from_value(object).expect("a Namespace");
            assert_eq!(
                write(&namespace, remaining, &fine, "2026-02-01T00:00:00Z"),
                None
            );
        }
    }

    #[test]
    fn trouble_is_told_in_upstreams_words() {
        let trouble = Trouble {
            groups: BTreeMap::from([("g/v1".to_owned(), "no answer".to_owned())]),
            unparsed: vec!["unexpected GroupVersion string: a/b/c".to_owned()],
            content: vec!["b".to_owned(), "a".to_owned()],
        };
        let said = wanted(&Remaining::default(), &trouble);
        for (i, reason, message) in [
            (
                0,
                "DiscoveryFailed",
                "Discovery failed for some groups, 1 failing: unable to retrieve the complete list of server APIs: g/v1: no answer",
            ),
            (
                1,
                "GroupVersionParsingFailed",
                "unexpected GroupVersion string: a/b/c",
            ),
            (
                2,
                "ContentDeletionFailed",
                "Failed to delete all resource types, 2 remaining: a, b",
            ),
        ] {
            assert_eq!(said[i]["status"], "True");
            assert_eq!(said[i]["reason"], reason);
            assert_eq!(said[i]["message"], message);
        }
    }
}
