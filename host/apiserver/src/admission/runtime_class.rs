//! RuntimeClass: a pod's overhead and where it may run come from the class that
//! it names (KEP-585, KEP-688; `plugin/pkg/admission/runtimeclass`). Pure but
//! for the class, which the caller brings.

use super::resources::amounts;
use api::meta;
use serde_json::{Map, Value};

/// The class that a pod names, or "".
pub(super) fn name_of(pod: &Value) -> &str {
    meta::text(pod, &["spec", "runtimeClassName"])
}

pub(super) fn not_found(name: &str) -> String {
    format!("pod rejected: RuntimeClass \"{name}\" not found")
}

/// Gives a new pod what its class says.
///
/// # Errors
/// What of the pod contradicts the class.
pub(super) fn apply(pod: &mut Value, class: &Value) -> Result<(), String> {
    set_overhead(pod, class)?;
    select_nodes(pod, class)?;
    tolerate(pod, class);
    Ok(())
}

fn set_overhead(pod: &mut Value, class: &Value) -> Result<(), String> {
    let Some(fixed) = meta::at(class, &["overhead", "podFixed"]) else {
        return Ok(());
    };
    if meta::members(pod, &["spec", "overhead"]).next().is_some() {
        return check_overhead(pod, Some(class));
    }
    meta::ensure(pod, "spec").insert("overhead".to_owned(), fixed.clone());
    Ok(())
}

/// Whether the overhead of a new pod is the one of its class.
///
/// # Errors
/// Why it isn't.
pub(super) fn check_overhead(pod: &Value, class: Option<&Value>) -> Result<(), String> {
    let class = class.filter(|class| class.get("overhead").is_some_and(|o| !o.is_null()));
    let own = meta::at(pod, &["spec", "overhead"]).filter(|own| !own.is_null());
    match class {
        Some(class)
            if amounts(class, &["overhead", "podFixed"]) != amounts(pod, &["spec", "overhead"]) =>
        {
            Err("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead".into())
        }
        None if own.is_some() => Err(
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
                .into(),
        ),
        _ => Ok(()),
    }
}

fn select_nodes(pod: &mut Value, class: &Value) -> Result<(), String> {
    let mut all = Map::new();
    for (key, value) in meta::members(pod, &["spec", "nodeSelector"]) {
        all.insert(key.clone(), value.clone());
    }
    for (key, value) in meta::members(class, &["scheduling", "nodeSelector"]) {
        if let Some(own) = all.get(key).filter(|own| *own != value) {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            return Err(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                text(value),
                text(own)
            ));
        }
        all.insert(key.clone(), value.clone());
    }
    if !all.is_empty() {
        meta::ensure(pod, "spec").insert("nodeSelector".to_owned(), Value::Object(all));
    }
    Ok(())
}

fn tolerate(pod: &mut Value, class: &Value) {
    let more = meta::list(class, &["scheduling", "tolerations"]);
    if more.is_empty() {
        return;
    }
    let own = meta::list(pod, &["spec", "tolerations"]);
    let merged = merge(own.iter().chain(more).cloned().collect());
    meta::ensure(pod, "spec").insert("tolerations".to_owned(), Value::Array(merged));
}

/// All but those that another one covers; of equal ones the first.
fn merge(all: Vec<Value>) -> Vec<Value> {
    let mut merged: Vec<Value> = Vec::new();
    for (i, one) in all.iter().enumerate() {
        let later = all.iter().skip(i + 1);
        let covered = merged.iter().any(|other| covers(other, one))
            || later.filter(|l| *l != one).any(|other| covers(other, one));
        if !covered {
            merged.push(one.clone());
        }
    }
    merged
}

/// Whether `wide` tolerates whatever `one` does.
fn covers(wide: &Value, one: &Value) -> bool {
    if wide == one {
        return true;
    }
    let (w, o) = (
        |key: &str| meta::text(wide, &[key]),
        |key: &str| meta::text(one, &[key]),
    );
    let exists = w("operator") == "Exists";
    if o("key") != w("key") && !(w("key").is_empty() && exists) {
        return false;
    }
    if o("effect") != w("effect") && !w("effect").is_empty() {
        return false;
    }
    if w("effect") == "NoExecute"
        && let Some(most) = meta::int(wide, &["tolerationSeconds"])
        && meta::int(one, &["tolerationSeconds"]).is_none_or(|seconds| seconds > most)
    {
        return false;
    }
    exists || (["", "Equal"].contains(&o("operator")) && o("value") == w("value"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn applied(pod: Value, class: Value) -> Result<Value, String> {
        let mut pod = json!({"spec": pod});
        apply(&mut pod, &class)?;
        Ok(pod["spec"].clone())
    }

    #[test]
    fn a_class_gives_overhead_and_places() {
        let class = json!({
            "handler": "atoll",
            "overhead": {"podFixed": {"cpu": "100m"}},
            "scheduling": {"nodeSelector": {"a": "1"},
                "tolerations": [{"key": "k", "operator": "Exists", "effect": "NoSchedule"}]},
        });
        let own = json!({"key": "k", "value": "v", "effect": "NoSchedule"});
        let other = json!({"key": "z", "operator": "Exists"});
        let spec = json!({"nodeSelector": {"b": "2"}, "tolerations": [own, other]});
        let wanted = json!({
            "nodeSelector": {"b": "2", "a": "1"},
            "tolerations": [other, class["scheduling"]["tolerations"][0]],
            "overhead": {"cpu": "100m"},
        });
        assert_eq!(applied(spec, class.clone()), Ok(wanted));
        let same = json!({"overhead": {"cpu": "0.1"}, "nodeSelector": {"a": "1"}});
        assert!(applied(same, class.clone()).is_ok());
        for (spec, why) in [
            (
                json!({"overhead": {"cpu": "1"}}),
                "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead",
            ),
            (
                json!({"nodeSelector": {"a": "2"}}),
                "conflict: runtimeClass.scheduling.nodeSelector[a] = 1; pod.spec.nodeSelector[a] = 2",
            ),
        ] {
            assert_eq!(applied(spec, class.clone()), Err(why.to_owned()));
        }
        let plain = json!({"handler": "atoll"});
        assert_eq!(applied(json!({}), plain.clone()), Ok(json!({})));
        let own = json!({"spec": {"overhead": {"cpu": "1"}}});
        for class in [None, Some(&plain)] {
            let why = check_overhead(&own, class);
            assert!(why.is_err_and(|why| why.contains("without corresponding RuntimeClass")));
        }
    }

    #[test]
    fn tolerations_that_others_cover_are_left_out() {
        let exists = json!({"operator": "Exists"});
        let short = json!({"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5});
        let long = json!({"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 9});
        let value = json!({"key": "k", "operator": "Equal", "value": "v"});
        let plain = json!({"key": "k", "value": "v"});
        for (all, wanted) in [
            (vec![&short, &long], vec![&long]),
            (vec![&long, &short], vec![&long]),
            (vec![&short, &exists], vec![&exists]),
            (vec![&value, &short], vec![&value, &short]),
            (vec![&value, &value], vec![&value]),
            (vec![&plain, &exists, &value], vec![&exists]),
        ] {
            let list = |of: &[&Value]| of.iter().map(|one| (*one).clone()).collect::<Vec<_>>();
            assert_eq!(merge(list(&all)), list(&wanted));
        }
    }
}
