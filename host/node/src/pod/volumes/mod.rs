//! A pod's volumes: what the guest is told of them, where its containers mount
//! them, and which ones this node does not have.
//!
//! Three kinds are the guest's from the first: memory and disk (`emptyDir`), and
//! files (`configMap`, `secret`, `downwardAPI`, `projected`), whose content is in
//! `content`. A volume that is an image is told with each container that mounts
//! it: its disk may come when the machine runs.

pub(crate) mod content;
mod downward;

use super::environment::{ConfigError, expand_telling};
use super::resources::units;
use super::scratch::Scratch;
use super::view::View;
use guest_protocol::{Mount, VOLUMES_MAX, Volume as GuestVolume, VolumeKind};
use k8s_openapi::api::core::v1::{Container, PodSpec, Volume, VolumeMount, VolumeProjection};
use std::collections::BTreeMap;

/// The pod's volumes, as the guest is told them.
pub(crate) fn declare(view: View<'_>, scratch: &Scratch) -> Vec<GuestVolume> {
    let volume = |volume: &Volume| GuestVolume {
        name: volume.name.clone(),
        kind: if is_files(volume) {
            VolumeKind::Files
        } else if let Some(slice) = scratch.volumes.get(&volume.name) {
            VolumeKind::Disk(*slice)
        } else {
            let limit = volume
                .empty_dir
                .as_ref()
                .and_then(|e| e.size_limit.as_ref());
            VolumeKind::Memory {
                size: limit.and_then(units).unwrap_or(0),
            }
        },
    };
    let all = all(view).iter().filter(|volume| volume.image.is_none());
    all.map(volume).collect()
}

fn all(view: View<'_>) -> &[Volume] {
    view.spec()
        .and_then(|spec| spec.volumes.as_deref())
        .unwrap_or_default()
}

/// The volumes whose files the node writes.
pub(crate) fn of_files(view: View<'_>) -> impl Iterator<Item = &Volume> {
    all(view).iter().filter(|volume| is_files(volume))
}

fn is_files(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some()
        || volume.projected.is_some()
}

/// What `container` mounts, outer paths first, as runtimes order them; `disks`
/// are those of volumes that are images.
///
/// # Errors
/// A `subPathExpr` that names an unknown variable.
pub(crate) fn mounts(
    view: View<'_>,
    container: &Container,
    variables: &BTreeMap<String, String>,
    disks: &BTreeMap<String, String>,
) -> Result<Vec<Mount>, ConfigError> {
    let files = |name: &str| of_files(view).any(|volume| volume.name == name);
    let mount = |mount: &VolumeMount| {
        Ok(Mount {
            volume: mount.name.clone(),
            path: format!("/{}", clean(&mount.mount_path)),
            sub_path: sub_path(mount, variables)?,
            read_only: mount.read_only == Some(true) || files(&mount.name),
            disk: disks.get(&mount.name).cloned(),
        })
    };
    let asked = container.volume_mounts.iter().flatten();
    let mut mounts = asked.map(mount).collect::<Result<Vec<_>, ConfigError>>()?;
    mounts.sort_by_key(|mount| mount.path.matches('/').count());
    Ok(mounts)
}

/// A path by its names alone, as runtimes read `mountPath`: relative to the root,
/// `.` and `..` resolved.
fn clean(path: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    names.join("/")
}

fn sub_path(
    mount: &VolumeMount,
    variables: &BTreeMap<String, String>,
) -> Result<String, ConfigError> {
    let Some(expression) = mount.sub_path_expr.as_deref().filter(|e| !e.is_empty()) else {
        return Ok(mount.sub_path.clone().unwrap_or_default());
    };
    match expand_telling(expression, variables) {
        (_, Some(name)) => Err(ConfigError(format!("missing value for \"{name}\""))),
        (path, None) => Ok(path),
    }
}

/// The first volume, or mount of one, that is not supported, by its path.
pub(crate) fn unsupported(spec: &PodSpec) -> Option<String> {
    let volumes = spec.volumes.as_deref().unwrap_or_default();
    if volumes.len() > VOLUMES_MAX {
        return Some(format!("spec.volumes (more than {VOLUMES_MAX})"));
    }
    let mut all = volumes.iter().enumerate();
    all.find_map(|(index, volume)| {
        let field = unsupported_volume(volume)?;
        Some(format!("spec.volumes[{index}].{field}"))
    })
}

fn unsupported_volume(volume: &Volume) -> Option<String> {
    if let Some(empty) = &volume.empty_dir {
        let medium = empty.medium.as_deref().unwrap_or_default();
        return (!["", "Memory"].contains(&medium)).then(|| format!("emptyDir.medium ({medium})"));
    }
    if let Some(projected) = &volume.projected {
        let mut sources = projected.sources.iter().flatten().enumerate();
        return sources.find_map(|(index, source)| {
            let field = unsupported_source(source)?;
            Some(format!("projected.sources[{index}].{field}"))
        });
    }
    (!is_files(volume) && volume.image.is_none()).then(|| source_name(volume))
}

fn unsupported_source(source: &VolumeProjection) -> Option<&'static str> {
    if source.cluster_trust_bundle.is_some() {
        return Some("clusterTrustBundle");
    }
    source.pod_certificate.is_some().then_some("podCertificate")
}

/// The field that says what the volume is.
fn source_name(volume: &Volume) -> String {
    let fields = serde_json::to_value(volume).unwrap_or_default();
    let names = fields.as_object().into_iter().flatten();
    let mut names = names.map(|(name, _)| name).filter(|name| *name != "name");
    names.next().cloned().unwrap_or_else(|| "name".to_owned())
}

/// The first mount's field of a container that is not supported.
pub(crate) fn unsupported_mount(container: &Container) -> Option<&'static str> {
    let mut mounts = container.volume_mounts.iter().flatten();
    mounts
        .any(|mount| mount.mount_propagation.as_deref() == Some("Bidirectional"))
        .then_some("volumeMounts[].mountPropagation (Bidirectional)")
}

#[cfg(test)]
mod tests {
    use super::super::samples::pod;
    use super::super::scratch::Space;
    use super::*;
    use serde_json::{Value, json};

    fn named(volume: Value) -> Option<String> {
        let spec = json!({"containers": [], "volumes": [{"name": "a", "emptyDir": {}}, volume]});
        let pod = pod(spec);
        unsupported(pod.spec.as_ref().expect("given"))
    }

    #[test]
    fn what_is_not_there_is_named() {
        for (volume, field) in [
            (json!({"name": "v", "emptyDir": {"medium": "Memory"}}), None),
            (json!({"name": "v", "configMap": {"name": "m"}}), None),
            (json!({"name": "v", "image": {"reference": "i"}}), None),
            (
                json!({"name": "v", "emptyDir": {"medium": "HugePages"}}),
                Some("emptyDir.medium (HugePages)"),
            ),
            (
                json!({"name": "v", "hostPath": {"path": "/etc"}}),
                Some("hostPath"),
            ),
            (
                json!({"name": "v", "persistentVolumeClaim": {"claimName": "c"}}),
                Some("persistentVolumeClaim"),
            ),
            (
                json!({"name": "v", "projected": {"sources": [
                    {"secret": {"name": "s"}}, {"clusterTrustBundle": {"path": "p"}}]}}),
                Some("projected.sources[1].clusterTrustBundle"),
            ),
        ] {
            let wanted = field.map(|field| format!("spec.volumes[1].{field}"));
            assert_eq!(named(volume), wanted);
        }
    }

    #[test]
    fn mounts_are_ordered_and_expanded() {
        let pod = pod(json!({
            "volumes": [{"name": "d", "emptyDir": {"sizeLimit": "1Mi"}}, {"name": "m", "configMap": {}},
                {"name": "i", "image": {"reference": "i:1"}}],
            "containers": [{"name": "a", "volumeMounts": [
                {"name": "d", "mountPath": "/a/b/c", "subPathExpr": "$(WHO)/x"},
                {"name": "m", "mountPath": "/a"},
                {"name": "d", "mountPath": "a//x/../b/", "readOnly": true},
                {"name": "i", "mountPath": "/i", "subPath": "s"},
            ]}],
        }));
        let view = View(&pod);
        let kinds = |scratch: &Scratch| {
            let all = declare(view, scratch).into_iter();
            all.map(|v| v.kind).collect::<Vec<_>>()
        };
        let wanted = [VolumeKind::Memory { size: 1 << 20 }, VolumeKind::Files];
        assert_eq!(kinds(&Scratch::default()), wanted);
        let space = Space {
            unlimited: Some(1 << 30),
            layer: 0,
        };
        let scratch = Scratch::plan(view, space);
        let slice = scratch.volumes.get("d").copied().expect("a slice");
        assert_eq!(
            kinds(&scratch),
            [VolumeKind::Disk(slice), VolumeKind::Files]
        );
        let (_, container) = view.container("a").expect("given");
        let known = BTreeMap::from([("WHO".to_owned(), "me".to_owned())]);
        let outline = |known: &BTreeMap<String, String>| {
            let disks = BTreeMap::from([("i".to_owned(), "img1".to_owned())]);
            mounts(view, container, known, &disks).map(|all| {
                let line = |m: &Mount| {
                    let disk = m.disk.as_deref().unwrap_or("-");
                    let (volume, path) = (&m.volume, &m.path);
                    format!("{volume} {path} {:?} {} {disk}", m.sub_path, m.read_only)
                };
                all.iter().map(line).collect::<Vec<_>>()
            })
        };
        let wanted = [
            "m /a \"\" true -",
            "i /i \"s\" false img1",
            "d /a/b \"\" true -",
            "d /a/b/c \"me/x\" false -",
        ];
        assert_eq!(outline(&known).expect("expands"), wanted);
        let missing = ConfigError("missing value for \"WHO\"".to_owned());
        assert_eq!(outline(&BTreeMap::new()), Err(missing));
    }
}
