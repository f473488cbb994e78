//! Limits of `ephemeral-storage` that no file system holds: the sum over a
//! pod's volumes, layers and logs, and over a container's layer and logs.
//!
//! A single volume or layer can't pass its limit: it is a file system of that
//! size (decision 3), so an `emptyDir` is never the reason of an eviction.

use crate::kubelet::quantity;
use crate::metrics::PodFigures;
use crate::pod::resources::{limit, units};
use crate::pod::scratch::{is_on_disk, pod_limit};
use crate::pod::view::View;
use k8s_openapi::api::core::v1::Container;

/// Whether a pod has such limits at all.
pub(super) fn limited(view: View<'_>) -> bool {
    pod_limit(view).is_some()
}

fn own(container: &Container) -> Option<u64> {
    limit(container, "ephemeral-storage")
        .and_then(units)
        .filter(|limit| *limit > 0)
}

/// Upstream's message for the limit that is passed, if one is.
pub(super) fn exceeded(view: View<'_>, figures: &PodFigures) -> Option<String> {
    if let Some(whole) = pod_limit(view)
        && pod_usage(view, figures) > whole
    {
        let whole = quantity(whole);
        return Some(format!(
            "Pod ephemeral local storage usage exceeds the total limit of containers {whole}. "
        ));
    }
    figures.containers.iter().find_map(|container| {
        let (_, described) = view.container(&container.name)?;
        let limit = own(described)?;
        let layer = container.layer.as_ref().map_or(0, |layer| layer.used);
        let used = layer.saturating_add(container.logs);
        (used > limit).then(|| {
            let (name, limit) = (&container.name, quantity(limit));
            format!("Container {name} exceeded its local ephemeral storage limit \"{limit}\". ")
        })
    })
}

/// Layers, logs, and volumes that aren't memory.
fn pod_usage(view: View<'_>, figures: &PodFigures) -> u64 {
    let volumes = view.spec().and_then(|spec| spec.volumes.as_deref());
    let on_disk = |name: &str| {
        let mut volumes = volumes.unwrap_or_default().iter();
        volumes.any(|volume| volume.name == name && is_on_disk(volume))
    };
    let volumes = figures.volumes.iter();
    let volumes = volumes.filter(|volume| on_disk(&volume.name));
    let volumes = volumes.map(|volume| volume.filesystem.used);
    let layers = figures.containers.iter();
    let layers = layers.filter_map(|container| Some(container.layer.as_ref()?.used));
    volumes
        .chain(layers)
        .fold(figures.logs, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::samples::pod;
    use serde_json::{Value, json};

    /// The sample has 400 in a volume, 400 in a layer, 10 in the log of that
    /// container and 20 in all logs.
    fn check(main: Value, silent: Value, medium: &str, wanted: Option<&str>) {
        let limits = |amount: Value| json!({"limits": {"ephemeral-storage": amount}});
        let pod = pod(json!({
            "volumes": [{"name": "data", "emptyDir": {"medium": medium}}],
            "containers": [
                {"name": "main", "resources": limits(main)},
                {"name": "silent", "resources": limits(silent)}],
        }));
        let sample = crate::metrics::sample_for_tests();
        let figures = sample.pods.first().expect("a pod");
        assert_eq!(exceeded(View(&pod), figures).as_deref(), wanted);
    }

    #[test]
    fn sums_are_held_to_limits() {
        check(json!("820"), json!("0"), "", None);
        check(
            json!("819"),
            json!("0"),
            "",
            Some("Pod ephemeral local storage usage exceeds the total limit of containers 819. "),
        );
        check(json!("420"), json!("0"), "Memory", None);
        check(json!("410"), json!("9Ki"), "", None);
        check(
            json!("409"),
            json!("9Ki"),
            "",
            Some("Container main exceeded its local ephemeral storage limit \"409\". "),
        );
    }
}
