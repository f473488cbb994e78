//! What becomes of a definition's names, and whether it is served: upstream's
//! naming and establishing controllers as one decision.

use super::{KIND, versions};
use crate::meta;
use crate::time::rfc3339;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Names that other definitions of the group hold.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    resources: BTreeSet<String>,
    kinds: BTreeSet<String>,
}

impl Taken {
    /// By the other definitions among `all` of the same group.
    pub fn by_others<'a>(definition: &Value, all: impl Iterator<Item = &'a Value>) -> Taken {
        let mut taken = Taken::default();
        for other in all {
            let same_group = other["spec"]["group"] == definition["spec"]["group"];
            if !same_group || meta::name(other) == meta::name(definition) {
                continue;
            }
            let names = &other["status"]["acceptedNames"];
            let text = |key: &str| meta::text(names, &[key]).to_owned();
            taken.resources.extend([text("plural"), text("singular")]);
            let short = meta::list(names, &["shortNames"]).iter();
            taken
                .resources
                .extend(short.filter_map(|s| s.as_str().map(str::to_owned)));
            taken.kinds.extend([text("kind"), text("listKind")]);
        }
        taken
    }
}

/// The status that the definition ought to have, if it has another.
pub fn wanted(definition: &Value, taken: &Taken, now: Timestamp) -> Option<Value> {
    let mut status = definition["status"].clone();
    let (accepted, conflict) = accept(definition, taken);
    status["acceptedNames"] = accepted;
    match &conflict {
        Some((reason, why)) => {
            set(&mut status, "NamesAccepted", "False", reason, why, now);
            if condition(&status, "Established").is_none() {
                let why = "not all names are accepted";
                set(&mut status, "Established", "False", "NotAccepted", why, now);
            }
        }
        None => {
            let why = "no conflicts found";
            set(
                &mut status,
                "NamesAccepted",
                "True",
                "NoConflicts",
                why,
                now,
            );
            let why = "the initial names have been accepted";
            let reason = "InitialNamesAccepted";
            if condition(&status, "Established").is_none_or(|c| c["status"] != "True") {
                set(&mut status, "Established", "True", reason, why, now);
            }
        }
    }
    approval(definition, &mut status, now);
    (status != definition["status"]).then_some(status)
}

/// The names that are free, and the last conflict: reason and message.
fn accept(definition: &Value, taken: &Taken) -> (Value, Option<(String, String)>) {
    let wanted = &definition["spec"]["names"];
    let had = &definition["status"]["acceptedNames"];
    let mut accepted = had.clone();
    if !accepted.is_object() {
        accepted = json!({});
    }
    let mut conflict = None;
    for (key, reason, used) in [
        ("plural", "PluralConflict", &taken.resources),
        ("singular", "SingularConflict", &taken.resources),
        ("shortNames", "ShortNamesConflict", &taken.resources),
        ("kind", "KindConflict", &taken.kinds),
        ("listKind", "ListKindConflict", &taken.kinds),
    ] {
        let names: Vec<&str> = match &wanted[key] {
            Value::String(name) => vec![name.as_str()],
            Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let ours = |name: &str| match &had[key] {
            Value::String(own) => own == name,
            Value::Array(list) => list.iter().any(|own| own == name),
            _ => false,
        };
        let clashes: Vec<String> = names
            .iter()
            .filter(|name| !ours(name) && used.contains(**name))
            .map(|name| format!("{name:?} is already in use"))
            .collect();
        match clashes.as_slice() {
            [] if wanted.get(key).is_some() => accepted[key] = wanted[key].clone(),
            [] => {
                if let Some(map) = accepted.as_object_mut() {
                    map.shift_remove(key);
                }
            }
            [one] => conflict = Some((reason.to_owned(), one.clone())),
            many => conflict = Some((reason.to_owned(), format!("[{}]", many.join(", ")))),
        }
    }
    meta::keep(&mut accepted, wanted, "categories");
    (accepted, conflict)
}

/// Groups of the community want an approval, which is only reported.
fn approval(definition: &Value, status: &mut Value, now: Timestamp) {
    let group = meta::text(definition, &["spec", "group"]);
    if !super::validate::is_protected(group) {
        return;
    }
    let condition = "KubernetesAPIApprovalPolicyConformant";
    let annotation = meta::at(definition, &["metadata", "annotations"])
        .and_then(|a| a.get(super::validate::APPROVAL))
        .and_then(Value::as_str)
        .unwrap_or_default();
    let (state, reason, why) = match annotation {
        url if url.contains("://") => ("True", "ApprovedAnnotation", format!("approved in {url}")),
        text if text.starts_with("unapproved") => (
            "False",
            "UnapprovedAnnotation",
            format!("not approved: {text:?}"),
        ),
        _ => return,
    };
    set(status, condition, state, reason, &why, now);
}

/// Sets a condition; its time changes with its status only.
pub fn set(
    status: &mut Value,
    condition_type: &str,
    state: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let since = condition(status, condition_type)
        .filter(|c| c["status"] == state)
        .map_or_else(|| rfc3339(now).into(), |c| c["lastTransitionTime"].clone());
    let new = json!({
        "type": condition_type, "status": state, "reason": reason, "message": message,
        "lastTransitionTime": since,
    });
    if !status["conditions"].is_array() {
        status["conditions"] = json!([]);
    }
    if let Some(list) = status["conditions"].as_array_mut() {
        match list.iter_mut().find(|c| c["type"] == condition_type) {
            Some(old) if old == &new => {}
            Some(old) => *old = new,
            None => list.push(new),
        }
    }
}

fn condition<'a>(status: &'a Value, condition_type: &str) -> Option<&'a Value> {
    meta::list(status, &["conditions"])
        .iter()
        .find(|c| c["type"] == condition_type)
}

/// Whether the definition is one, as far as it can be served.
pub fn is_definition(object: &Value) -> bool {
    object["kind"] == KIND.kind && !versions(object).is_empty()
}
