//! The condition `Dangling` of FlowSchemas: whether the level that they name is
//! missing (`apf_controller.go`).

use crate::registry::{self, Along};
use api::kinds::{self, KindRef};
use api::meta;
use api::status::Status;
use api::time::rfc3339;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use store::{Range, Store};

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const DANGLING: &str = "Dangling";

/// Sets it right wherever it isn't.
pub(super) async fn settle(store: &Store, now: Timestamp) -> Result<(), Status> {
    let kind = |plural| kinds::by_resource(GROUP, "v1", plural).ok_or_else(Status::no_such_path);
    let (schemas, levels) = (kind("flowschemas")?, kind("prioritylevelconfigurations")?);
    let levels: BTreeSet<String> = all(store, &levels)?
        .iter()
        .map(|level| meta::name(&level.object).to_owned())
        .collect();
    for schema in all(store, &schemas)? {
        let Some(next) = settled(&schema.object, &levels, now) else {
            continue;
        };
        let key = registry::key(&schemas, "", meta::name(&next));
        let value = registry::encode(&schemas, &next)?;
        // Whoever was faster has this look again.
        registry::update(store, key, value, schema.revision, Along::default()).await?;
    }
    Ok(())
}

struct Found {
    object: Value,
    revision: store::Revision,
}

fn all(store: &Store, kind: &KindRef) -> Result<Vec<Found>, Status> {
    let found = store
        .range(&Range::prefix(registry::prefix(kind, "")))
        .map_err(registry::store_status)?;
    let read = |kv: store::KeyValue| {
        let object = registry::decode(kind, &kv.value, kv.mod_revision)?;
        Ok(Found {
            object,
            revision: kv.mod_revision,
        })
    };
    found.items.into_iter().map(read).collect()
}

/// The schema with its condition, if that is wrong. Pure.
fn settled(schema: &Value, levels: &BTreeSet<String>, now: Timestamp) -> Option<Value> {
    let level = meta::text(schema, &["spec", "priorityLevelConfiguration", "name"]);
    let named =
        format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?}");
    let (status, reason, message) = match levels.contains(level) {
        true => ("False", "Found", format!("{named} and it exists")),
        false => (
            "True",
            "NotFound",
            format!("{named} but there is no such object"),
        ),
    };
    let conditions = meta::list(schema, &["status", "conditions"]);
    let found = conditions.iter().find(|c| c["type"] == DANGLING);
    let is = |key, wanted: &str| found.is_some_and(|c| c[key] == wanted);
    if is("status", status) && is("reason", reason) && is("message", &message) {
        return None;
    }
    let since = match found {
        Some(found) if is("status", status) => found["lastTransitionTime"].clone(),
        _ => rfc3339(now).into(),
    };
    let own = json!({"type": DANGLING, "status": status, "lastTransitionTime": since,
        "reason": reason, "message": message});
    let others = conditions.iter().filter(|c| c["type"] != DANGLING);
    let all: Vec<Value> = others.cloned().chain([own]).collect();
    let mut next = schema.clone();
    next["status"]["conditions"] = all.into();
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_dangles_while_its_level_is_missing() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let levels = |name: &str| BTreeSet::from([name.to_owned()]);
        let bare = json!({"spec": {"priorityLevelConfiguration": {"name": "l"}},
            "status": {"conditions": [{"type": "Other"}]}});
        let condition = |schema: &Value| schema["status"]["conditions"][1].clone();
        let missing = settled(&bare, &levels("x"), at(0)).expect("a change");
        assert_eq!(missing["status"]["conditions"][0]["type"], "Other");
        assert_eq!(condition(&missing)["status"], "True");
        assert_eq!(condition(&missing)["reason"], "NotFound");
        assert_eq!(settled(&missing, &levels("y"), at(9)), None);
        let there = settled(&missing, &levels("l"), at(10)).expect("a change");
        assert_eq!(
            condition(&there),
            json!({"type": "Dangling", "status": "False", "lastTransitionTime": "1970-01-01T00:00:10Z",
                "reason": "Found", "message": "This FlowSchema references the PriorityLevelConfiguration object named \"l\" and it exists"})
        );
        // Another level: the same answer since then, in other words.
        let mut moved = there;
        moved["spec"]["priorityLevelConfiguration"]["name"] = "m".into();
        let moved = settled(&moved, &levels("m"), at(20)).expect("a change");
        assert_eq!(
            condition(&moved)["lastTransitionTime"],
            "1970-01-01T00:00:10Z"
        );
    }
}
