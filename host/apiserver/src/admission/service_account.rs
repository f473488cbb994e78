//! A pod runs as a service account: the default one unless it says otherwise;
//! it gets the account's pull secrets, and its token mounted where programs
//! look for it, as upstream writes it (KEP-542).

use super::{Attributes, mirror_pods};
use crate::lookup;
use crate::rest::create::ensure;
use api::kinds;
use api::meta;
use api::status::Status;
use serde_json::{Value, json};
use store::Store;

const DEFAULT: &str = "default";
const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// What names of volumes with tokens begin with.
const VOLUME: &str = "kube-api-access-";
/// An hour and seven seconds: how clients' requests for an hour are told apart.
const SECONDS: i64 = 3607;

pub(super) async fn mutate(
    store: &Store,
    a: &Attributes<'_>,
    pod: &mut Value,
) -> Result<(), Status> {
    if mirror_pods::is_mirror(pod) {
        return match mirror_pods::refused(pod) {
            Some(why) => Err(a.forbid(why)),
            None => Ok(()),
        };
    }
    let spec = meta::ensure(pod, "spec");
    let name = match spec.get("serviceAccountName").and_then(Value::as_str) {
        None | Some("") => DEFAULT,
        Some(name) => name,
    }
    .to_owned();
    for key in ["serviceAccountName", "serviceAccount"] {
        spec.insert(key.to_owned(), name.clone().into());
    }
    let account = account(store, a, &name).await?;
    let automount = [&pod["spec"], &account]
        .iter()
        .find_map(|o| {
            o.get("automountServiceAccountToken")
                .and_then(Value::as_bool)
        })
        .unwrap_or(true);
    if automount {
        mount(pod);
    }
    if meta::list(pod, &["spec", "imagePullSecrets"]).is_empty() {
        let secrets = meta::list(&account, &["imagePullSecrets"]).to_vec();
        if !secrets.is_empty() {
            pod["spec"]["imagePullSecrets"] = secrets.into();
        }
    }
    Ok(())
}

/// The account; the default one is made at once where its controller hasn't
/// come by yet.
async fn account(store: &Store, a: &Attributes<'_>, name: &str) -> Result<Value, Status> {
    let find = || lookup::object(store, ("", "serviceaccounts"), a.namespace, name);
    match find() {
        Err(status) if status.code == 404 && name == DEFAULT => {
            let kind =
                kinds::by_resource("", "v1", "serviceaccounts").ok_or_else(Status::no_such_path)?;
            let object = json!({"kind": "ServiceAccount", "apiVersion": "v1",
                "metadata": {"name": name, "namespace": a.namespace}});
            // Boxed: making it passes here again, as nobody's request.
            Box::pin(ensure(store, &kind, object)).await?;
            find()
        }
        Err(status) if status.code == 404 => Err(a.forbid(&format!(
            "error looking up service account {}/{name}: serviceaccount {name:?} not found",
            a.namespace
        ))),
        found => found,
    }
}

/// Mounts a token, the CA and the namespace in every container that has
/// nothing there.
fn mount(pod: &mut Value) {
    // Admission may come by twice.
    let standing = meta::list(pod, &["spec", "volumes"])
        .iter()
        .map(|volume| meta::text(volume, &["name"]))
        .find(|name| name.starts_with(VOLUME))
        .map(str::to_owned);
    let is_new = standing.is_none();
    let name = standing.unwrap_or_else(|| {
        let random = uuid::Uuid::new_v4().simple().to_string();
        format!("{VOLUME}{}", &random[..5])
    });
    let mut used = false;
    for part in ["initContainers", "containers"] {
        let Some(containers) = pod["spec"].get_mut(part).and_then(Value::as_array_mut) else {
            continue;
        };
        for container in containers {
            let mounted = meta::list(container, &["volumeMounts"])
                .iter()
                .any(|m| meta::text(m, &["mountPath"]) == MOUNT);
            if mounted || !container.is_object() {
                continue;
            }
            if !container["volumeMounts"].is_array() {
                container["volumeMounts"] = json!([]);
            }
            if let Some(mounts) = container["volumeMounts"].as_array_mut() {
                mounts.push(json!({"name": name, "readOnly": true, "mountPath": MOUNT}));
                used = true;
            }
        }
    }
    if !used || !is_new {
        return;
    }
    if !pod["spec"]["volumes"].is_array() {
        pod["spec"]["volumes"] = json!([]);
    }
    if let Some(volumes) = pod["spec"]["volumes"].as_array_mut() {
        volumes.push(
            json!({"name": name, "projected": {"defaultMode": 420, "sources": [
                {"serviceAccountToken": {"expirationSeconds": SECONDS, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt",
                    "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "namespace",
                    "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
            ]}}),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_without_a_mount_get_one() {
        let mut pod = json!({"spec": {"containers": [
            {"name": "a"},
            {"name": "b", "volumeMounts": [{"name": "own", "mountPath": MOUNT}]},
        ]}});
        mount(&mut pod);
        let mounts = |i: usize| meta::list(&pod["spec"]["containers"][i], &["volumeMounts"]);
        assert_eq!(mounts(0)[0]["mountPath"], MOUNT);
        assert_eq!(mounts(0)[0]["name"], pod["spec"]["volumes"][0]["name"]);
        assert_eq!(mounts(1).len(), 1);
        // Whoever comes later gets the same volume.
        pod["spec"]["containers"] = json!([pod["spec"]["containers"][0], {"name": "c"}]);
        mount(&mut pod);
        let volume = pod["spec"]["volumes"][0]["name"].clone();
        assert_eq!(meta::list(&pod, &["spec", "volumes"]).len(), 1);
        assert_eq!(
            pod["spec"]["containers"][1]["volumeMounts"][0]["name"],
            volume
        );
    }
}
