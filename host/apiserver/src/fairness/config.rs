//! The FlowSchemas and PriorityLevelConfigurations that stand, ready to
//! classify by. A mandatory level that somebody removed is there all the same.

use super::classify::Schema;
use super::levels::{Kind, Spec};
use crate::authz::Attributes;
use crate::mirror::Derived;
use crate::user::User;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) const PREFIX: &str = "/registry/flowcontrol.apiserver.k8s.io/";
const CATCH_ALL: &str = "catch-all";
const EXEMPT: &str = "exempt";

pub(super) struct Config {
    /// In the order in which they are tried.
    schemas: Vec<Schema>,
    levels: Arc<BTreeMap<String, Spec>>,
    /// Grows with each change.
    pub(super) round: u64,
}

/// Where a request belongs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Class {
    pub(super) schema: String,
    pub(super) schema_uid: String,
    pub(super) level_uid: String,
    pub(super) level: String,
    /// `false`: it needs no seat.
    pub(super) limited: bool,
    /// Of the flow.
    pub(super) hash: u64,
}

impl Default for Config {
    fn default() -> Config {
        let exempt = Spec {
            uid: String::new(),
            kind: Kind::Exempt,
        };
        let levels = [
            (EXEMPT.to_owned(), exempt),
            (CATCH_ALL.to_owned(), Spec::catch_all()),
        ];
        Config {
            schemas: Vec::new(),
            levels: Arc::new(levels.into()),
            round: 1,
        }
    }
}

impl Derived for Config {
    fn put(&mut self, key: &str, object: Value) {
        self.round += 1;
        match split(key) {
            Some(("flowschemas", name)) => {
                self.schemas.retain(|s| s.name != name);
                self.schemas.push(Schema::parse(&object));
                self.schemas.sort_by(|a, b| a.order().cmp(&b.order()));
            }
            Some(("prioritylevelconfigurations", name)) => {
                Arc::make_mut(&mut self.levels).insert(name.to_owned(), Spec::parse(&object));
            }
            _ => {}
        }
    }

    fn remove(&mut self, key: &str) {
        self.round += 1;
        match split(key) {
            Some(("flowschemas", name)) => self.schemas.retain(|s| s.name != name),
            Some(("prioritylevelconfigurations", name)) => {
                let usual = Config::default().levels.get(name).cloned();
                let levels = Arc::make_mut(&mut self.levels);
                match usual {
                    Some(usual) => levels.insert(name.to_owned(), usual),
                    None => levels.remove(name),
                };
            }
            _ => {}
        }
    }
}

fn split(key: &str) -> Option<(&str, &str)> {
    key.strip_prefix(PREFIX)?.split_once('/')
}

impl Config {
    pub(super) fn levels(&self) -> Arc<BTreeMap<String, Spec>> {
        self.levels.clone()
    }

    /// The first schema that matches and whose level is there.
    pub(super) fn classify(&self, user: &User, a: &Attributes<'_>) -> Class {
        for schema in &self.schemas {
            let Some(level) = self.levels.get(&schema.level) else {
                continue;
            };
            if schema.matches(user, a) {
                return Class {
                    schema: schema.name.clone(),
                    schema_uid: schema.uid.clone(),
                    level_uid: level.uid.clone(),
                    level: schema.level.clone(),
                    limited: level.kind != Kind::Exempt,
                    hash: hash(&schema.name, schema.flow(user, a)),
                };
            }
        }
        Class {
            schema: CATCH_ALL.to_owned(),
            schema_uid: String::new(),
            level_uid: String::new(),
            level: CATCH_ALL.to_owned(),
            limited: true,
            hash: hash(CATCH_ALL, &user.name),
        }
    }
}

/// Nobody chooses the queues that he shares: a hash that can't be steered.
fn hash(schema: &str, flow: &str) -> u64 {
    let digest = Sha256::new()
        .chain_update(schema)
        .chain_update([0])
        .chain_update(flow)
        .finalize();
    digest.iter().take(8).fold(0, |n, b| n << 8 | u64::from(*b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::kinds;
    use api::meta;

    fn usual() -> Config {
        let mut config = Config::default();
        for (kind, object) in kinds::initial_objects() {
            if kind.group() == "flowcontrol.apiserver.k8s.io" {
                let name = meta::name(&object).to_owned();
                let key = format!("/registry/{}/{name}", kind.storage());
                config.put(&key, object);
            }
        }
        config
    }

    // Table: requests of every cluster and their levels.
    #[test]
    fn the_usual_requests_have_the_usual_levels() {
        let config = usual();
        let on = |verb, group, resource, namespace| Attributes {
            verb,
            group,
            resource,
            namespace,
            ..Attributes::default()
        };
        let health = Attributes {
            verb: "get",
            path: Some("/healthz"),
            ..Attributes::default()
        };
        let lease = on("update", "coordination.k8s.io", "leases", "kube-system");
        let pods = on("list", "", "pods", "default");
        let admin = User::new("admin", ["system:masters".to_owned()]);
        for (user, a, level) in [
            (admin, pods, "exempt"),
            (User::anonymous(), health, "exempt"),
            (User::node("n1"), on("update", "", "nodes", ""), "node-high"),
            (User::node("n1"), pods, "system"),
            (User::scheduler(), lease, "leader-election"),
            (User::scheduler(), pods, "workload-high"),
            (User::account("default", "a", "1"), pods, "workload-low"),
            (
                User::account("kube-system", "a", "1"),
                pods,
                "workload-high",
            ),
            (User::new("jane", []), pods, "global-default"),
        ] {
            let class = config.classify(&user, &a);
            assert_eq!(class.level, level, "{user:?} {a:?}");
            assert_eq!(class.limited, level != "exempt");
        }
    }

    #[test]
    fn what_is_removed_counts_no_more_and_mandatory_levels_stay() {
        let mut config = usual();
        let jane = User::new("jane", []);
        let pods = Attributes {
            verb: "list",
            resource: "pods",
            namespace: "default",
            ..Attributes::default()
        };
        for (key, level) in [
            ("prioritylevelconfigurations/global-default", "catch-all"),
            ("prioritylevelconfigurations/catch-all", "catch-all"),
            ("flowschemas/catch-all", "catch-all"),
        ] {
            config.remove(&format!("{PREFIX}{key}"));
            let class = config.classify(&jane, &pods);
            assert_eq!(
                (class.level.as_str(), class.limited),
                (level, true),
                "{key}"
            );
        }
        // Flows differ by user here, and hashes with them.
        let other = config.classify(&User::new("joe", []), &pods).hash;
        assert_ne!(config.classify(&jane, &pods).hash, other);
    }
}
