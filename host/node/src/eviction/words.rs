//! Upstream's words for an eviction: the pod's message, and the annotations of
//! its Event.

use super::Resource;
use super::decision::Threshold;
use super::signals::{Observations, figure};
use crate::kubelet::quantity;
use crate::metrics::{ContainerFigures, PodFigures};
use crate::pod::resources::{request, units};
use crate::pod::view::View;
use std::collections::BTreeMap;

/// What is said of an evicted pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) message: String,
    pub(super) annotations: BTreeMap<&'static str, String>,
}

/// Why `view` is evicted: what was low, and which of its containers used more
/// than they asked for.
pub(super) fn low(
    resource: Resource,
    view: View<'_>,
    figures: Option<&PodFigures>,
    starved: &[Threshold],
    seen: &Observations,
) -> Words {
    let name = resource.name();
    let mut message = format!("The node was low on resource: {name}. ");
    let own = starved.iter().find(|one| one.resource() == resource);
    if let Some((threshold, seen)) = own.and_then(|t| Some((t, seen.get(&t.signal)?))) {
        let wanted = figure(resource, threshold.size.of(seen.capacity));
        let left = figure(resource, seen.available);
        message += &format!("Threshold quantity: {wanted}, available: {left}. ");
    }
    let Some(figures) = figures else {
        let annotations = BTreeMap::new();
        return Words {
            message,
            annotations,
        };
    };
    let (mut names, mut usages) = (Vec::new(), Vec::new());
    for container in &figures.containers {
        let Some((_, described)) = view.container(&container.name) else {
            continue;
        };
        let asked = request(described, name).and_then(units).unwrap_or(0);
        let Some(used) = usage(resource, container).filter(|used| *used > asked) else {
            continue;
        };
        let (used, asked) = (quantity(used), quantity(asked));
        message += &format!(
            "Container {} was using {used}, request is {asked}, has larger consumption of {name}. ",
            container.name
        );
        names.push(container.name.as_str());
        usages.push(used);
    }
    let annotations = BTreeMap::from([
        ("offending_containers", names.join(",")),
        ("offending_containers_usage", usages.join(",")),
        ("starved_resource", name.to_owned()),
    ]);
    Words {
        message,
        annotations,
    }
}

fn usage(resource: Resource, container: &ContainerFigures) -> Option<u64> {
    match resource {
        Resource::Memory => Some(container.usage.as_ref()?.working_set),
        Resource::Storage => Some(
            container
                .layer
                .as_ref()?
                .used
                .saturating_add(container.logs),
        ),
        Resource::Inodes | Resource::Pids => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::signals::Observation;
    use super::*;
    use crate::kubelet::{Signal, Size};
    use crate::pod::samples::pod;
    use serde_json::json;
    use std::time::Duration;

    #[test]
    fn the_message_is_upstreams() {
        let sample = crate::metrics::sample_for_tests();
        let figures = sample.pods.first().map(AsRef::as_ref);
        let pod = pod(json!({"containers": [
            {"name": "main", "resources": {"requests": {"memory": "1Ki"}}}, {"name": "silent"}]}));
        let threshold = |signal, size| Threshold {
            signal,
            size,
            grace: Duration::ZERO,
            reclaim: None,
        };
        let starved = [
            threshold(Signal::MemoryAvailable, Size::bytes(100 << 20)),
            threshold(Signal::NodeFsInodesFree, Size::percent(5)),
        ];
        let of = |available, capacity| Observation {
            available,
            capacity,
        };
        let seen: Observations = [
            (Signal::MemoryAvailable, of(52_428_800, 1 << 30)),
            (Signal::NodeFsInodesFree, of(7, 2_000_000)),
        ]
        .into();
        for (resource, figures, wanted) in [
            (
                Resource::Memory,
                figures,
                "The node was low on resource: memory. Threshold quantity: 100Mi, \
                 available: 50Mi. Container main was using 4Ki, request is 1Ki, has larger \
                 consumption of memory. ",
            ),
            (
                Resource::Inodes,
                figures,
                "The node was low on resource: inodes. Threshold quantity: 100k, available: 7. ",
            ),
            (
                Resource::Storage,
                None,
                "The node was low on resource: ephemeral-storage. ",
            ),
        ] {
            let words = low(resource, View(&pod), figures, &starved, &seen);
            assert_eq!(words.message, wanted);
        }
        let words = low(Resource::Memory, View(&pod), figures, &starved, &seen);
        assert_eq!(words.annotations["offending_containers"], "main");
        assert_eq!(words.annotations["offending_containers_usage"], "4Ki");
    }
}
