//! What a deletion makes of an object, as `registry/rest.BeforeDelete` and the
//! generic registry's `deletionFinalizersForGarbageCollection` decide it. Pure.

use super::options::{DeleteOptions, Propagation};
use api::kinds::{self, Deletion, KindRef};
use api::meta;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// Upstream's default where neither client nor pod says otherwise.
const DEFAULT_GRACE: i64 = 30;
pub(super) const ORPHAN: &str = "orphan";
pub(super) const FOREGROUND: &str = "foregroundDeletion";

/// The object as its deletion leaves it. One that may be removed now has a
/// deletionTimestamp, no grace and no finalizers.
pub(super) fn mark(
    kind: &KindRef,
    object: &Value,
    options: &DeleteOptions,
    now: Timestamp,
) -> Value {
    let mut marked = object.clone();
    match kind.deletion() {
        Deletion::NamespaceLifecycle => {
            end(&mut marked, now);
            meta::ensure_metadata(&mut marked).shift_remove("deletionGracePeriodSeconds");
            meta::ensure(&mut marked, "status").insert("phase".to_owned(), "Terminating".into());
            return marked;
        }
        Deletion::Graceful => match graceful(&mut marked, options, now) {
            Grace::Pending => return object.clone(),
            Grace::Given => set_finalizers(kind, &mut marked, options),
            Grace::Over => {
                set_finalizers(kind, &mut marked, options);
                end(&mut marked, now);
            }
        },
        Deletion::Immediate => {
            set_finalizers(kind, &mut marked, options);
            end(&mut marked, now);
            if !meta::is_deleting(object) {
                kind.prepare_delete(&mut marked, now);
            }
        }
    }
    marked
}

enum Grace {
    /// A deletion is under way, and this one changes nothing.
    Pending,
    Given,
    Over,
}

/// Gives a grace period, or shortens the one that runs.
fn graceful(object: &mut Value, options: &DeleteOptions, now: Timestamp) -> Grace {
    let asked = options.grace.map(|grace| match grace {
        i64::MIN..0 => 1,
        // Bounded, so that a timestamp stays one.
        other => other.min(i64::from(i32::MAX)),
    });
    if !meta::is_deleting(object) {
        let generation = generation(object);
        let grace = period(object, asked);
        let until = later(now, grace);
        let metadata = meta::ensure_metadata(object);
        metadata.insert("deletionTimestamp".to_owned(), until.into());
        metadata.insert("deletionGracePeriodSeconds".to_owned(), grace.into());
        if let Some(generation) = generation {
            metadata.insert("generation".to_owned(), (generation + 1).into());
        }
        return Grace::Given;
    }
    let running = meta::int(object, &["metadata", "deletionGracePeriodSeconds"]).unwrap_or(0);
    if running == 0 {
        return Grace::Over;
    }
    let Some(shorter) = asked.filter(|asked| *asked < running) else {
        return Grace::Pending;
    };
    let until = meta::text(object, &["metadata", "deletionTimestamp"]);
    let begun = api::time::parse(until)
        .and_then(|until| until.checked_sub(SignedDuration::from_secs(running)).ok())
        .unwrap_or(now);
    let until = later(begun, shorter);
    let metadata = meta::ensure_metadata(object);
    metadata.insert("deletionTimestamp".to_owned(), until.into());
    metadata.insert("deletionGracePeriodSeconds".to_owned(), shorter.into());
    Grace::Given
}

fn later(from: Timestamp, seconds: i64) -> String {
    let until = from.checked_add(SignedDuration::from_secs(seconds));
    api::time::rfc3339(until.unwrap_or(Timestamp::MAX))
}

fn generation(object: &Value) -> Option<i64> {
    meta::int(object, &["metadata", "generation"]).filter(|g| *g > 0)
}

/// Nothing waits for a pod that no node has, or that has ended.
fn period(pod: &Value, asked: Option<i64>) -> i64 {
    if meta::text(pod, &["spec", "nodeName"]).is_empty() || kinds::pod_is_terminal(pod) {
        return 0;
    }
    let own = meta::int(pod, &["spec", "terminationGracePeriodSeconds"]);
    match asked.or(own).unwrap_or(DEFAULT_GRACE) {
        i64::MIN..0 => 1,
        other => other.min(i64::from(i32::MAX)),
    }
}

/// No grace: gone as soon as nothing holds it.
fn end(object: &mut Value, now: Timestamp) {
    let deleting = meta::is_deleting(object);
    let until = api::time::parse(meta::text(object, &["metadata", "deletionTimestamp"]));
    let generation = generation(object).filter(|_| !deleting);
    let metadata = meta::ensure_metadata(object);
    if !deleting || until.is_none_or(|until| until > now) {
        let now = api::time::rfc3339(now);
        metadata.insert("deletionTimestamp".to_owned(), now.into());
    }
    metadata.insert("deletionGracePeriodSeconds".to_owned(), 0.into());
    if let Some(generation) = generation {
        metadata.insert("generation".to_owned(), (generation + 1).into());
    }
}

/// Whose dependents the garbage collector leaves alone, and whose stay where
/// nothing else is asked for.
fn default_propagation(kind: &KindRef) -> Option<Propagation> {
    match (kind.group(), kind.plural()) {
        ("" | "events.k8s.io", "events") => None,
        // Compatible with what these versions did first.
        ("", "replicationcontrollers") | ("batch", "jobs") => Some(Propagation::Orphan),
        _ => Some(Propagation::Background),
    }
}

/// What will be done about the dependents.
pub(super) fn propagation(
    kind: &KindRef,
    finalizers: &[Value],
    options: &DeleteOptions,
) -> Option<Propagation> {
    let default = default_propagation(kind)?;
    let standing = || {
        finalizers.iter().find_map(|f| match f.as_str() {
            Some(ORPHAN) => Some(Propagation::Orphan),
            Some(FOREGROUND) => Some(Propagation::Foreground),
            _ => None,
        })
    };
    Some(options.propagation.or_else(standing).unwrap_or(default))
}

/// The garbage collector's finalizers say how the dependents are treated.
fn set_finalizers(kind: &KindRef, object: &mut Value, options: &DeleteOptions) {
    let before = meta::list(object, &["metadata", "finalizers"]).to_vec();
    let Some(propagation) = propagation(kind, &before, options) else {
        return;
    };
    let ours = |f: &Value| f == ORPHAN || f == FOREGROUND;
    let mut after: Vec<Value> = before.iter().filter(|f| !ours(f)).cloned().collect();
    match propagation {
        Propagation::Orphan => after.push(ORPHAN.into()),
        Propagation::Foreground => after.push(FOREGROUND.into()),
        Propagation::Background => {}
    }
    let same = after.len() == before.len() && after.iter().all(|f| before.contains(f));
    if same {
        return;
    }
    let metadata = meta::ensure_metadata(object);
    match after.is_empty() {
        true => drop(metadata.shift_remove("finalizers")),
        false => drop(metadata.insert("finalizers".to_owned(), after.into())),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde_json::json;

    fn options(grace: Option<i64>, propagation: Option<Propagation>) -> DeleteOptions {
        DeleteOptions {
            grace,
            propagation,
            ..DeleteOptions::default()
        }
    }

    #[test]
    fn grace_is_given_once_and_only_shortened() {
        let pods = kinds::by_resource("", "v1", "pods").unwrap();
        let now = api::time::parse("2026-01-01T00:00:00Z").unwrap();
        let fresh = json!({"metadata": {"generation": 1}, "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 20}});
        let unbound = json!({"metadata": {}, "spec": {}});
        let ended =
            json!({"metadata": {}, "spec": {"nodeName": "n"}, "status": {"phase": "Failed"}});
        let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:10Z", "deletionGracePeriodSeconds": 20},
            "spec": {"nodeName": "n"}});
        for (pod, asked, until, grace) in [
            (&fresh, None, "2026-01-01T00:00:20Z", 20),
            (&fresh, Some(5), "2026-01-01T00:00:05Z", 5),
            (&fresh, Some(-7), "2026-01-01T00:00:01Z", 1),
            (&unbound, None, "2026-01-01T00:00:00Z", 0),
            (&ended, Some(9), "2026-01-01T00:00:00Z", 0),
            (&going, None, "2026-01-01T00:00:10Z", 20),
            (&going, Some(30), "2026-01-01T00:00:10Z", 20),
            (&going, Some(5), "2025-12-31T23:59:55Z", 5),
        ] {
            let marked = mark(&pods, pod, &options(asked, None), now);
            let metadata = &marked["metadata"];
            assert_eq!(metadata["deletionTimestamp"], until, "{pod} {asked:?}");
            assert_eq!(
                metadata["deletionGracePeriodSeconds"], grace,
                "{pod} {asked:?}"
            );
        }
        assert_eq!(
            mark(&pods, &fresh, &options(None, None), now)["metadata"]["generation"],
            2
        );
    }

    #[test]
    fn policies_become_finalizers() {
        use Propagation::{Background, Foreground, Orphan};
        let now = Timestamp::UNIX_EPOCH;
        let maps = kinds::by_resource("", "v1", "configmaps").unwrap();
        let events = kinds::by_resource("", "v1", "events").unwrap();
        for (kind, before, policy, after) in [
            (&maps, json!([]), None, json!(null)),
            (&maps, json!(["a/b"]), None, json!(["a/b"])),
            (&maps, json!([]), Some(Foreground), json!([FOREGROUND])),
            (&maps, json!(["a/b"]), Some(Orphan), json!(["a/b", ORPHAN])),
            (&maps, json!([FOREGROUND]), None, json!([FOREGROUND])),
            (&maps, json!([FOREGROUND]), Some(Background), json!(null)),
            (&maps, json!([FOREGROUND]), Some(Orphan), json!([ORPHAN])),
            (&events, json!([]), Some(Foreground), json!([])),
        ] {
            let object = json!({"metadata": {"finalizers": before}});
            let marked = mark(kind, &object, &options(None, policy), now);
            let found = marked["metadata"].get("finalizers").cloned();
            let found = found.filter(|f| f != &json!([])).unwrap_or_default();
            let after = Some(after).filter(|f| f != &json!([])).unwrap_or_default();
            assert_eq!(found, after, "{before} {policy:?}");
        }
    }
}
