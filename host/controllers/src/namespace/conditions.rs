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

/// The status that says so, unless it is said; `now` in RFC 3339.
pub(super) fn write(namespace: &Namespace, remaining: &Remaining, now: &str) -> Option<Write> {
    let mut object = serde_json::to_value(namespace).ok()?;
    let had = match &object["status"]["conditions"] {
        Value::Array(conditions) => conditions.clone(),
        _ => Vec::new(),
    };
    let mut conditions = had.clone();
    for mut wanted in wanted(remaining) {
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

/// All five, in upstream's order.
fn wanted(remaining: &Remaining) -> [Value; 5] {
    let fine = |kind: &str, reason: &str, message: &str| json!({"type": kind, "status": "False", "reason": reason, "message": message});
    let some = |kind: &str, reason: &str, said: &str, each: Vec<String>| {
        let message = format!("{said}: {}", each.join(", "));
        json!({"type": kind, "status": "True", "reason": reason, "message": message})
    };
    let counted = |counts: &BTreeMap<String, usize>, joint: &str| -> Vec<String> {
        let each = counts.iter();
        each.map(|(name, count)| format!("{name} {joint} {count} resource instances"))
            .collect()
    };
    [
        fine(
            "NamespaceDeletionDiscoveryFailure",
            "ResourcesDiscovered",
            "All resources successfully discovered",
        ),
        fine(
            "NamespaceDeletionGroupVersionParsingFailure",
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        fine(
            "NamespaceDeletionContentFailure",
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
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
            let Some(Write::UpdateStatus { object, .. }) = write(&namespace, remaining, now) else {
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
            assert_eq!(write(&namespace, remaining, "2026-02-01T00:00:00Z"), None);
        }
    }
}
