//! What every namespace has: the ServiceAccount `default` and the ConfigMap
//! `kube-root-ca.crt`.

use crate::Config;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use reconcile::resource::core::{CONFIG_MAPS, SERVICE_ACCOUNTS};
use reconcile::{
    Backoff, Cache, Client, ClientError, ObjectKey, Queue, Reflector, Requeue, Write, work,
};
use serde_json::json;
use std::sync::OnceLock;
use std::time::Duration;

pub(crate) const ROOT_CA: &str = "kube-root-ca.crt";
const DESCRIPTION: &str = "kubernetes.io/description";
const DESCRIPTION_TEXT: &str = "Contains a CA bundle that can be used to verify the \
    kube-apiserver when using internal endpoints such as the internal service IP or \
    kubernetes.default.svc. No other usage is guaranteed across distributions of \
    Kubernetes clusters.";

const CAPACITY: usize = 100_000;
const BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(100),
    max: Duration::from_secs(60),
};

pub(crate) struct View<'a> {
    pub(crate) namespace: Option<&'a Namespace>,
    pub(crate) account: Option<&'a ServiceAccount>,
    pub(crate) root_ca: Option<&'a ConfigMap>,
}

pub(crate) fn plan(name: &str, view: &View<'_>, root_ca: &str) -> Vec<Write> {
    let ending = |ns: &Namespace| ns.metadata.deletion_timestamp.is_some();
    if view.namespace.is_none_or(ending) {
        return Vec::new();
    }
    let namespace = Some(name.to_owned());
    let mut writes = Vec::new();
    if view.account.is_none() {
        let object = json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": name},
        });
        let resource = SERVICE_ACCOUNTS;
        writes.push(Write::Create {
            resource,
            namespace: namespace.clone(),
            object,
        });
    }
    let mut object = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": ROOT_CA,
            "namespace": name,
            "annotations": {DESCRIPTION: DESCRIPTION_TEXT},
        },
        "data": {"ca.crt": root_ca},
    });
    let resource = CONFIG_MAPS;
    match view.root_ca {
        None => writes.push(Write::Create {
            resource,
            namespace,
            object,
        }),
        Some(found) if has_root_ca(found, root_ca) => {}
        Some(found) => {
            object["metadata"]["resourceVersion"] = json!(found.metadata.resource_version);
            writes.push(Write::Update {
                resource,
                namespace,
                object,
            });
        }
    }
    writes
}

fn has_root_ca(found: &ConfigMap, root_ca: &str) -> bool {
    let data = found.data.as_ref();
    data.is_some_and(|data| data.len() == 1 && data.get("ca.crt").is_some_and(|ca| ca == root_ca))
}

pub(crate) struct Defaults {
    client: Client,
    root_ca: String,
    queue: Queue<ObjectKey>,
    caches: OnceLock<Caches>,
}

struct Caches {
    namespaces: Cache<Namespace>,
    accounts: Cache<ServiceAccount>,
    root_cas: Cache<ConfigMap>,
}

type Fed = (
    Reflector<Namespace>,
    Reflector<ServiceAccount>,
    Reflector<ConfigMap>,
);

impl Defaults {
    pub(crate) fn new(client: Client, config: &Config) -> Defaults {
        Defaults {
            client,
            root_ca: config.root_ca.clone(),
            queue: Queue::new(CAPACITY, BACKOFF),
            caches: OnceLock::new(),
        }
    }

    pub(crate) fn feed(
        &self,
        namespaces: Reflector<Namespace>,
        accounts: Reflector<ServiceAccount>,
        root_cas: Reflector<ConfigMap>,
    ) -> Fed {
        self.caches.get_or_init(|| Caches {
            namespaces: namespaces.cache(),
            accounts: accounts.cache(),
            root_cas: root_cas.cache(),
        });
        let add = |queue: &Queue<ObjectKey>| {
            let queue = queue.clone();
            move |namespace: &str| queue.add(ObjectKey::new("", namespace))
        };
        let (first, second, third) = (add(&self.queue), add(&self.queue), add(&self.queue));
        (
            namespaces.on_change(move |change| first(&change.key.name)),
            accounts.on_change(move |change| second(&change.key.namespace)),
            root_cas.on_change(move |change| third(&change.key.namespace)),
        )
    }

    pub(crate) async fn run(&self) {
        let Some(caches) = self.caches.get() else {
            return;
        };
        tokio::join!(
            caches.namespaces.synced(),
            caches.accounts.synced(),
            caches.root_cas.synced()
        );
        work("namespace defaults", &self.queue, 2, |key| {
            self.reconcile(caches, key)
        })
        .await;
    }

    async fn reconcile(&self, caches: &Caches, key: ObjectKey) -> Result<Requeue, ClientError> {
        let name = &*key.name;
        let namespace = caches.namespaces.get(&key);
        let account = caches.accounts.get(&ObjectKey::new(name, "default"));
        let root_ca = caches.root_cas.get(&ObjectKey::new(name, ROOT_CA));
        let view = View {
            namespace: namespace.as_deref(),
            account: account.as_deref(),
            root_ca: root_ca.as_deref(),
        };
        for write in plan(name, &view, &self.root_ca) {
            match self.client.write(&write).await {
                Ok(_) => {}
                Err(error) if error.is_already_exists() || error.is_not_found() => {}
                Err(error) if forbidden_by_end(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Requeue::Never)
    }
}

/// The namespace began to end meanwhile.
fn forbidden_by_end(error: &ClientError) -> bool {
    error
        .status()
        .is_some_and(|s| s.code == 403 && s.message.contains("being terminated"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::sync::Arc;

    fn decode<T: serde::de::DeserializeOwned>(value: Value) -> Arc<T> {
        Arc::new(serde_json::from_value(value).expect("a fixture"))
    }

    #[test]
    fn a_namespace_gets_what_it_lacks() {
        let live: Arc<Namespace> = decode(json!({"metadata": {"name": "n"}}));
        let ending: Arc<Namespace> =
            decode(json!({"metadata": {"name": "n", "deletionTimestamp": "2026-01-01T00:00:00Z"}}));
        let account: Arc<ServiceAccount> = decode(json!({"metadata": {"name": "default"}}));
        let map = |ca: &str| -> Arc<ConfigMap> { decode(json!({"data": {"ca.crt": ca}})) };
        let (good, stale) = (map("CA"), map("old"));
        for (namespace, account, root_ca, expected) in [
            (None, None, None, vec![]),
            (Some(&ending), None, None, vec![]),
            (
                Some(&live),
                None,
                None,
                vec!["create serviceaccounts", "create configmaps"],
            ),
            (Some(&live), Some(&account), None, vec!["create configmaps"]),
            (Some(&live), Some(&account), Some(&good), vec![]),
            (
                Some(&live),
                Some(&account),
                Some(&stale),
                vec!["update configmaps"],
            ),
        ] {
            let view = View {
                namespace: namespace.map(|v| &**v),
                account: account.map(|v| &**v),
                root_ca: root_ca.map(|v| &**v),
            };
            let writes = plan("n", &view, "CA");
            let found: Vec<_> = writes
                .iter()
                .map(|write| match write {
                    Write::Create { resource, .. } => format!("create {resource}"),
                    Write::Update { resource, .. } => format!("update {resource}"),
                    other => format!("{other:?}"),
                })
                .collect();
            assert_eq!(found, expected);
        }
    }
}
