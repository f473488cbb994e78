//! Defaults that come from other objects: a pod's priority from its class, a
//! claim's and an ingress' class from the class that is the default.

use super::objects::Collection;
use super::{Attributes, Operation};
use api::meta;
use api::status::Status;
use serde_json::Value;
use std::sync::Arc;

const DEFAULT_STORAGE: &str = "storageclass.kubernetes.io/is-default-class";
const DEFAULT_INGRESS: &str = "ingressclass.kubernetes.io/is-default-class";
const OLD_CLAIM_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const OLD_INGRESS_CLASS: &str = "kubernetes.io/ingress.class";

/// Priority: the integer and the preemption policy follow from the class's
/// name, which nobody changes later.
pub(super) fn priority(
    a: &Attributes<'_>,
    pod: &mut Value,
    old: Option<&Value>,
    classes: &Collection,
) -> Result<(), Status> {
    if a.operation == Operation::Update {
        if let Some(old) = old {
            for key in ["priority", "preemptionPolicy"] {
                if pod["spec"].get(key).is_none()
                    && let Some(value) = old["spec"].get(key)
                {
                    pod["spec"][key] = value.clone();
                }
            }
        }
        return Ok(());
    }
    let named = meta::text(pod, &["spec", "priorityClassName"]).to_owned();
    let class = match named.as_str() {
        "" => the_default(
            &classes.all()?,
            |c| meta::flag(c, &["globalDefault"]),
            |c| std::cmp::Reverse(meta::int(c, &["value"]).unwrap_or(0)),
        ),
        name => match classes.get(name)? {
            Some(class) => Some(class),
            None => return Err(a.forbid(&format!("no PriorityClass with name {name} was found"))),
        },
    };
    let value = class
        .as_ref()
        .and_then(|c| meta::int(c, &["value"]))
        .unwrap_or(0);
    if let Some(given) = meta::int(pod, &["spec", "priority"]).filter(|g| *g != value) {
        return Err(a.forbid(&format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name"
        )));
    }
    let policy = match class.as_ref().map(|c| meta::text(c, &["preemptionPolicy"])) {
        None | Some("") => "PreemptLowerPriority",
        Some(policy) => policy,
    }
    .to_owned();
    let given = meta::text(pod, &["spec", "preemptionPolicy"]);
    if !given.is_empty() && given != policy {
        return Err(a.forbid(&format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
        )));
    }
    let spec = meta::ensure(pod, "spec");
    if let (true, Some(class)) = (named.is_empty(), &class) {
        spec.insert("priorityClassName".to_owned(), meta::name(class).into());
    }
    spec.insert("priority".to_owned(), value.into());
    spec.insert("preemptionPolicy".to_owned(), policy.into());
    Ok(())
}

/// The one that `is` the default; of several the first by `order`.
fn the_default<K: Ord>(
    all: &[Arc<Value>],
    is: impl Fn(&Value) -> bool,
    order: impl Fn(&Value) -> K,
) -> Option<Arc<Value>> {
    all.iter()
        .filter(|c| is(c))
        .min_by_key(|c| order(c))
        .cloned()
}

fn marked(key: &'static str) -> impl Fn(&Value) -> bool {
    move |class| meta::text(class, &["metadata", "annotations", key]) == "true"
}

/// The newest of several, then the first by name.
fn newest(class: &Value) -> (std::cmp::Reverse<String>, String) {
    let made = meta::text(class, &["metadata", "creationTimestamp"]).to_owned();
    (std::cmp::Reverse(made), meta::name(class).to_owned())
}

pub(super) fn storage_class(
    _: &Attributes<'_>,
    claim: &mut Value,
    classes: &Collection,
) -> Result<(), Status> {
    let given = claim["spec"]
        .get("storageClassName")
        .is_some_and(|c| !c.is_null())
        || meta::at(claim, &["metadata", "annotations", OLD_CLAIM_CLASS]).is_some();
    if given {
        return Ok(());
    }
    if let Some(class) = the_default(&classes.all()?, marked(DEFAULT_STORAGE), newest) {
        let spec = meta::ensure(claim, "spec");
        spec.insert("storageClassName".to_owned(), meta::name(&class).into());
    }
    Ok(())
}

pub(super) fn ingress_class(
    a: &Attributes<'_>,
    ingress: &mut Value,
    classes: &Collection,
) -> Result<(), Status> {
    let given = ingress["spec"]
        .get("ingressClassName")
        .is_some_and(|c| !c.is_null())
        || meta::at(ingress, &["metadata", "annotations", OLD_INGRESS_CLASS]).is_some();
    if given {
        return Ok(());
    }
    let all = classes.all()?;
    let is = marked(DEFAULT_INGRESS);
    if all.iter().filter(|c| is(c)).count() > 1 {
        return Err(a.forbid(&format!(
            "{} default IngressClasses were found, only 1 allowed",
            all.iter().filter(|c| is(c)).count()
        )));
    }
    if let Some(class) = the_default(&all, is, newest) {
        let spec = meta::ensure(ingress, "spec");
        spec.insert("ingressClassName".to_owned(), meta::name(&class).into());
    }
    Ok(())
}
