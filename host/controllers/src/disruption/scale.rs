//! How many pods what controls a pod wants: a Deployment's for the pods of its
//! ReplicaSets, else by the scale subresource of whatever the controller is
//! (upstream's finders, which come to the same by their caches).

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use reconcile::{Client, ClientError};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

/// Why there is no number.
pub(super) enum Failed {
    /// The budget says so.
    Because(String),
    Api(ClientError),
}

impl From<ClientError> for Failed {
    fn from(error: ClientError) -> Failed {
        Failed::Api(error)
    }
}

/// How many pods are expected.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Expected {
    pub(super) count: i64,
    /// Whether some pods have no controller, and don't count.
    pub(super) unmanaged: bool,
}

/// A kind, as owner references name it, and its resource.
type Plurals = HashMap<(String, String), String>;

/// Kinds remembered; more than that, and all are forgotten.
const PLURALS: usize = 1000;

pub(super) struct Scales {
    client: Client,
    plurals: Mutex<Plurals>,
}

/// A controller, by its UID, and the pods that it wants.
type Scale = (String, i64);

fn controller(owners: &Value) -> Option<&Value> {
    let owners = owners["metadata"]["ownerReferences"].as_array();
    owners?.iter().find(|o| o["controller"] == true)
}

fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

fn base(api_version: &str) -> String {
    match api_version.contains('/') {
        true => format!("/apis/{api_version}"),
        false => format!("/api/{api_version}"),
    }
}

fn is_workload(api_version: &str) -> bool {
    matches!(group(api_version), "apps" | "extensions")
}

impl Scales {
    pub(super) fn new(client: Client) -> Scales {
        let plurals = Mutex::default();
        Scales { client, plurals }
    }

    /// The sum over all controllers of `pods`.
    pub(super) async fn expected(&self, pods: &[&Pod]) -> Result<Expected, Failed> {
        let mut scales: BTreeMap<String, i64> = BTreeMap::new();
        let mut known: Vec<&str> = Vec::new();
        let mut out = Expected::default();
        for pod in pods {
            let owners = pod.metadata.owner_references.iter().flatten();
            let Some(owner) = owners.into_iter().find(|o| o.controller == Some(true)) else {
                out.unmanaged = true;
                continue;
            };
            if known.contains(&owner.uid.as_str()) {
                continue;
            }
            known.push(&owner.uid);
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            let Some((uid, scale)) = self.of(owner, namespace).await? else {
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                let why = format!("found no controllers for pod {name:?}");
                return Err(Failed::Because(why));
            };
            scales.insert(uid, scale);
        }
        let sum = scales
            .values()
            .fold(0, |sum: i64, n| sum.saturating_add(*n));
        out.count = sum.clamp(0, i64::from(i32::MAX));
        Ok(out)
    }

    async fn of(&self, owner: &OwnerReference, namespace: &str) -> Result<Option<Scale>, Failed> {
        let found = match owner.kind.as_str() {
            "ReplicaSet" if is_workload(&owner.api_version) => {
                self.deployment(owner, namespace).await?
            }
            _ => None,
        };
        match found {
            Some(found) => Ok(Some(found)),
            None => self.by_subresource(owner, namespace).await,
        }
    }

    async fn get(&self, path: &str) -> Result<Option<Value>, Failed> {
        match self.client.get_path(path).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The Deployment behind a ReplicaSet.
    async fn deployment(
        &self,
        owner: &OwnerReference,
        namespace: &str,
    ) -> Result<Option<Scale>, Failed> {
        let apps = format!("/apis/apps/v1/namespaces/{namespace}");
        let path = format!("{apps}/replicasets/{}", owner.name);
        let Some(set) = self.get(&path).await? else {
            return Ok(None);
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let deployment = controller(&set).filter(|above| {
            set["metadata"]["uid"] == owner.uid.as_str()
                && above["kind"] == "Deployment"
                && is_workload(above["apiVersion"].as_str().unwrap_or_default())
        });
        let Some(above) = deployment else {
            return Ok(None);
        };
        let path = format!("{apps}/deployments/{}", text(&above["name"]));
        let Some(found) = self.get(&path).await? else {
            return Ok(None);
        };
        let is_it = found["metadata"]["uid"] == above["uid"];
        let replicas = found["spec"]["replicas"].as_i64().unwrap_or(1);
        Ok(is_it.then(|| (text(&above["uid"]), replicas)))
    }

    async fn by_subresource(
        &self,
        owner: &OwnerReference,
        namespace: &str,
    ) -> Result<Option<Scale>, Failed> {
        let plural = self.plural(owner).await?;
        let base = base(&owner.api_version);
        let path = format!(
            "{base}/namespaces/{namespace}/{plural}/{}/scale",
            owner.name
        );
        let Some(scale) = self.get(&path).await? else {
            return self.absent(owner, &plural).await;
        };
        let is_it = scale["metadata"]["uid"] == owner.uid.as_str();
        let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
        Ok(is_it.then(|| (owner.uid.clone(), replicas)))
    }

    /// There is no scale: of this one, or of none of its kind.
    async fn absent(&self, owner: &OwnerReference, plural: &str) -> Result<Option<Scale>, Failed> {
        let document = self.get(&base(&owner.api_version)).await?;
        let name = format!("{plural}/scale");
        let has_scale = |r: &Value| {
            r["name"] == name.as_str() && r["kind"] == "Scale" && r["group"] == "autoscaling"
        };
        let resources = document.as_ref().and_then(|d| d["resources"].as_array());
        if resources.is_some_and(|all| all.iter().any(has_scale)) {
            return Ok(None);
        }
        // The kind may have gone, or have another resource by now.
        self.plurals().remove(&key(owner));
        let resource = match group(&owner.api_version) {
            "" => plural.to_owned(),
            group => format!("{plural}.{group}"),
        };
        let why = format!("{resource} does not implement the scale subresource");
        Err(Failed::Because(why))
    }

    fn plurals(&self) -> std::sync::MutexGuard<'_, Plurals> {
        self.plurals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The resource of the owner's kind.
    async fn plural(&self, owner: &OwnerReference) -> Result<String, Failed> {
        if let Some(known) = self.plurals().get(&key(owner)) {
            return Ok(known.clone());
        }
        let document = self.get(&base(&owner.api_version)).await?;
        let resources = document.as_ref().and_then(|d| d["resources"].as_array());
        let found = resources.into_iter().flatten().find_map(|r| {
            let name = r["name"].as_str().filter(|name| !name.contains('/'))?;
            (r["kind"] == owner.kind.as_str()).then(|| name.to_owned())
        });
        let found = found.ok_or_else(|| {
            let OwnerReference {
                kind, api_version, ..
            } = owner;
            Failed::Because(format!(
                "no matches for kind {kind:?} in version {api_version:?}"
            ))
        })?;
        let mut plurals = self.plurals();
        if plurals.len() >= PLURALS {
            plurals.clear();
        }
        plurals.insert(key(owner), found.clone());
        Ok(found)
    }
}

fn key(owner: &OwnerReference) -> (String, String) {
    (owner.api_version.clone(), owner.kind.clone())
}
