//! ClusterRoles with an `aggregationRule`: their rules are those of every
//! ClusterRole that the rule's selectors match, kept so.

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use reconcile::{
    Backoff, Cache, Client, ClientError, ObjectKey, Queue, Reflector, Requeue, Resource, Write,
    work,
};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const CLUSTER_ROLES: Resource =
    Resource::cluster("rbac.authorization.k8s.io", "v1", "clusterroles");
const CAPACITY: usize = 100_000;
const BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(100),
    max: Duration::from_secs(60),
};

pub(crate) struct Aggregation {
    client: Client,
    roles: Cache<ClusterRole>,
    queue: Queue<ObjectKey>,
}

impl Aggregation {
    pub(crate) fn new(client: Client, roles: &Cache<ClusterRole>) -> Aggregation {
        Aggregation {
            client,
            roles: roles.clone(),
            queue: Queue::new(CAPACITY, BACKOFF),
        }
    }

    /// Any change may concern every aggregated role; there are few.
    pub(crate) fn feed(&self, roles: Reflector<ClusterRole>) -> Reflector<ClusterRole> {
        let (queue, cache) = (self.queue.clone(), self.roles.clone());
        roles.on_change(move |change| {
            queue.add(change.key.clone());
            for role in cache.list() {
                if let (Some(_), Some(name)) = (&role.aggregation_rule, &role.metadata.name) {
                    queue.add(ObjectKey::new("", name.clone()));
                }
            }
        })
    }

    pub(crate) async fn run(&self) {
        self.roles.synced().await;
        work("role aggregation", &self.queue, 1, |key| {
            self.reconcile(key)
        })
        .await;
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue, ClientError> {
        let Some(role) = self.roles.get(&key) else {
            return Ok(Requeue::Never);
        };
        if let Some(write) = plan(&role, &self.roles.list()) {
            match self.client.write(&write).await {
                Ok(_) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Requeue::Never)
    }
}

/// The write that gives an aggregated role its rules, if it lacks them.
fn plan(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Option<Write> {
    let selectors = role
        .aggregation_rule
        .as_ref()?
        .cluster_role_selectors
        .as_ref()?;
    let own = role.metadata.name.as_deref()?;
    let mut chosen: Vec<&ClusterRole> = all
        .iter()
        .map(|r| &**r)
        .filter(|r| r.metadata.name.as_deref() != Some(own))
        .filter(|r| {
            selectors
                .iter()
                .any(|s| matches(s, r.metadata.labels.as_ref()))
        })
        .collect();
    chosen.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    let mut rules: Vec<&PolicyRule> = Vec::new();
    for rule in chosen.iter().flat_map(|r| r.rules.iter().flatten()) {
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    }
    if role.rules.iter().flatten().eq(rules.iter().copied()) {
        return None;
    }
    let mut object = serde_json::to_value(role).ok()?;
    object["rules"] = json!(rules);
    Some(Write::Update {
        resource: CLUSTER_ROLES,
        namespace: None,
        object,
    })
}

fn matches(selector: &LabelSelector, labels: Option<&BTreeMap<String, String>>) -> bool {
    let value = |key: &str| labels.and_then(|l| l.get(key));
    let equal = selector
        .match_labels
        .iter()
        .flatten()
        .all(|(key, wanted)| value(key) == Some(wanted));
    equal
        && selector.match_expressions.iter().flatten().all(|e| {
            let found = value(&e.key);
            let listed = found.is_some_and(|f| e.values.iter().flatten().any(|v| v == f));
            match e.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => found.is_some(),
                "DoesNotExist" => found.is_none(),
                _ => false,
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn role(value: Value) -> Arc<ClusterRole> {
        Arc::new(serde_json::from_value(value).expect("a fixture"))
    }

    #[test]
    fn rules_follow_the_roles_that_match() {
        let rule = |resource: &str| json!({"verbs": ["get"], "resources": [resource]});
        let part = |name: &str, label: &str, resource: &str| {
            role(json!({
                "metadata": {"name": name, "labels": {label: "true"}},
                "rules": [rule(resource), rule("shared")],
            }))
        };
        let whole = |rules: Value| {
            role(json!({
                "metadata": {"name": "whole", "labels": {"to": "true"}},
                "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to": "true"}}]},
                "rules": rules,
            }))
        };
        let parts = [
            part("b", "to", "pods"),
            part("a", "to", "nodes"),
            part("c", "no", "x"),
        ];
        let wanted = json!([rule("nodes"), rule("shared"), rule("pods")]);
        for (found, changes) in [
            (whole(json!([])), true),
            (whole(json!([rule("gone")])), true),
            (whole(wanted.clone()), false),
            (parts[0].clone(), false),
        ] {
            let mut all = parts.to_vec();
            all.push(found.clone());
            match plan(&found, &all) {
                Some(Write::Update { object, .. }) if changes => {
                    assert_eq!(object["rules"], wanted)
                }
                None if !changes => {}
                other => panic!("{other:?}"),
            }
        }
    }
}
