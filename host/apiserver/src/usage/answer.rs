//! NodeMetrics and PodMetrics as metrics-server gives them (its `pkg/api`): of
//! objects that are there, selected by their metadata, with its refusals.

use super::points::{Points, Used};
use crate::endpoints::row;
use crate::registry;
use crate::rest::list::{self, Selection};
use crate::rest::{Answer, Call};
use api::meta;
use api::pick::Paths;
use api::quantity::Quantity;
use api::status::{Qualified, Status};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// What of a node or pod is shown, or decides whether it is.
const METADATA: &[&str] = &["name", "namespace", "labels"];

/// Answers `get` and `list`.
pub(crate) async fn answer(call: Call) -> Answer {
    match call.route.verb {
        "get" => get(&call),
        "list" => list(&call).await,
        _ => Err(Status::method_not_allowed()),
    }
}

fn get(call: &Call) -> Answer {
    let (namespace, name) = (&call.route.namespace, &call.route.name);
    let metadata =
        metadata(call, namespace, name).map_err(|e| match (e.code, namespace.as_str()) {
            // As the caches name it that metrics-server reads.
            (404, "") => Status::not_found(
                Qualified {
                    group: "",
                    name: "node",
                },
                name,
            ),
            _ => e,
        })?;
    let found = object(call, &call.usages.lock(), metadata);
    let found = found.ok_or_else(|| {
        let (resource, full) = match namespace.as_str() {
            "" => ("nodemetrics", name.clone()),
            namespace => ("podmetrics", format!("{namespace}/{name}")),
        };
        let group = super::GROUP;
        Status::not_found(
            Qualified {
                group,
                name: resource,
            },
            &full,
        )
    })?;
    Ok(call.object(200, found))
}

async fn list(call: &Call) -> Answer {
    let selection = Selection::of(call)?;
    let objects = {
        let points = call.usages.lock();
        let keys: Vec<(&str, &str)> = match call.kind.namespaced() {
            true => points.pods(&call.route.namespace).collect(),
            false => points.nodes().map(|name| ("", name)).collect(),
        };
        let found = keys.into_iter().filter_map(|(namespace, name)| {
            // What is gone has no metrics any more.
            let metadata = metadata(call, namespace, name).ok()?;
            let whole = json!({"metadata": metadata});
            if !selection.matches(&whole) {
                return None;
            }
            object(call, &points, metadata)
        });
        found.collect()
    };
    list::computed(call, objects).await
}

/// Of the node or pod itself.
fn metadata(call: &Call, namespace: &str, name: &str) -> Result<Value, Status> {
    let kind = row("", call.kind.plural())?;
    let mut paths = Paths::default();
    for key in METADATA {
        paths.add(&["metadata", key]);
    }
    let (part, _) = registry::part(&call.store, &kind, (namespace, name), &paths)?;
    Ok(part.get("metadata").cloned().unwrap_or_default())
}

/// What the last two rounds say; `None` if that isn't enough.
fn object(call: &Call, points: &Points, metadata: Value) -> Option<Value> {
    let of = json!({"metadata": metadata});
    let (namespace, name) = (meta::namespace(&of), meta::name(&of));
    let (used, content) = match call.kind.namespaced() {
        true => {
            let all = points.pod(namespace, name)?;
            let first = all
                .iter()
                .map(|(_, used)| *used)
                .min_by_key(|used| used.at)?;
            let containers = all
                .iter()
                .map(|(name, used)| json!({"name": name, "usage": usage(used)}));
            (first, ("containers", containers.collect()))
        }
        false => {
            let used = points.node(name)?;
            (used, ("usage", usage(&used)))
        }
    };
    let mut shown = of.get("metadata")?.clone();
    shown["creationTimestamp"] = api::time::rfc3339(call.now).into();
    let at = Timestamp::from_nanosecond(i128::from(used.at)).unwrap_or_default();
    let mut out = Map::new();
    for (key, value) in [
        ("kind", call.kind.kind().into()),
        ("apiVersion", call.kind.api_version().into()),
        ("metadata", shown),
        ("timestamp", api::time::rfc3339(at).into()),
        ("window", api::time::go_duration(used.window).into()),
        content,
    ] {
        out.insert(key.to_owned(), value);
    }
    Some(Value::Object(out))
}

/// In their shortest exact form.
fn usage(used: &Used) -> Value {
    let memory = match used.memory % 1024 {
        0 => format!("{}Ki", used.memory / 1024),
        _ => used.memory.to_string(),
    };
    let shortest = |text: String| Quantity::parse(&text).map_or(text, |found| found.to_string());
    json!({"cpu": shortest(format!("{}n", used.cpu)), "memory": shortest(memory)})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_shown_as_quantities() {
        for (cpu, memory, wanted) in [
            (0, 0, ("0", "0")),
            (1_234_567, 4096, ("1234567n", "4Ki")),
            (250_000_000, 3 << 20, ("250m", "3Mi")),
            (2_000_000_000, 1001, ("2", "1001")),
        ] {
            let used = Used {
                at: 1,
                window: 1,
                cpu,
                memory,
            };
            let (cpu, memory) = wanted;
            assert_eq!(usage(&used), json!({"cpu": cpu, "memory": memory}));
        }
    }
}
