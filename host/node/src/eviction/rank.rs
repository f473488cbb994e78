//! Whom pressure hits first: those that use more than they asked for, then by
//! priority, then those that use most beyond what they asked for. Pods without
//! figures come before all, as upstream has it.

use super::{CRITICAL, Resource};
use crate::metrics::PodFigures;
use crate::pod::resources::{machine_overhead, request, requests, units};
use crate::pod::scratch::Scratch;
use crate::pod::view::View;
use crate::static_pods::{is_mirror, is_static};
use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;

/// What a pod asked for or uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amounts {
    pub(super) memory: u64,
    pub(super) storage: u64,
    pub(super) pids: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) uid: String,
    pub(super) priority: i32,
    pub(super) asked: Amounts,
    pub(super) used: Option<Amounts>,
}

impl Candidate {
    pub(super) fn new(view: View<'_>, figures: Option<&PodFigures>, scratch: &Scratch) -> Self {
        let mains = view.mains().iter();
        let storage = mains.filter_map(|c| request(c, "ephemeral-storage").and_then(units));
        let memory = match requests(view).memory {
            0 => 0,
            asked => asked.saturating_add(machine_overhead()),
        };
        Self {
            uid: view.uid().to_owned(),
            priority: priority(view),
            asked: Amounts {
                memory,
                storage: storage.fold(0, u64::saturating_add),
                pids: 0,
            },
            used: figures.and_then(|figures| used(figures, scratch)),
        }
    }

    /// What it is measured by.
    fn of(&self, resource: Resource) -> Option<(u64, u64)> {
        let used = self.used?;
        Some(match resource {
            Resource::Memory => (used.memory, self.asked.memory),
            Resource::Storage => (used.storage, self.asked.storage),
            // All files of a guest are one to the host.
            Resource::Inodes => (0, 0),
            Resource::Pids => (used.pids, self.asked.pids),
        })
    }
}

/// Critical pods are never evicted and always admitted.
pub(crate) fn is_critical(view: View<'_>) -> bool {
    priority(view) >= CRITICAL || is_static(view.0) || is_mirror(view.0)
}

pub(crate) fn priority(view: View<'_>) -> i32 {
    view.spec().and_then(|spec| spec.priority).unwrap_or(0)
}

/// Memory as the host counts it; on disk the logs and what its slices hold, as
/// far as they can.
fn used(figures: &PodFigures, scratch: &Scratch) -> Option<Amounts> {
    let usage = figures.usage.as_ref()?;
    let disk = on_disk(figures, scratch);
    Some(Amounts {
        memory: usage.working_set,
        storage: disk
            .values()
            .fold(figures.logs, |sum, one| sum.saturating_add(*one)),
        pids: usage.pids,
    })
}

/// What each slice of a pod's scratch disk holds, by the name of its volume or
/// container.
fn on_disk<'a>(figures: &'a PodFigures, scratch: &Scratch) -> BTreeMap<(bool, &'a str), u64> {
    let volumes = figures.volumes.iter().filter_map(|volume| {
        let slice = scratch.volumes.get(&volume.name)?;
        let used = volume.filesystem.used.min(slice.length);
        Some(((true, volume.name.as_str()), used))
    });
    let layers = figures.containers.iter().filter_map(|container| {
        let slice = scratch.layers.get(&container.name)?;
        let used = container.layer.as_ref()?.used.min(slice.length);
        Some(((false, container.name.as_str()), used))
    });
    volumes.chain(layers).collect()
}

/// The first is evicted first.
pub(super) fn rank(candidates: &mut [Candidate], resource: Resource) {
    candidates.sort_by(|a, b| compare(a, b, resource));
}

fn compare(a: &Candidate, b: &Candidate, resource: Resource) -> Ordering {
    let (of_a, of_b) = (a.of(resource), b.of(resource));
    let exceeds = |of: Option<(u64, u64)>| of.is_none_or(|(used, asked)| used > asked);
    let beyond = |of: Option<(u64, u64)>| {
        of.map_or(i128::MAX, |(used, asked)| {
            i128::from(used) - i128::from(asked)
        })
    };
    let order = match resource {
        Resource::Pids => Ordering::Equal,
        Resource::Memory | Resource::Storage | Resource::Inodes => {
            let unknown = of_b.is_none().cmp(&of_a.is_none());
            unknown.then(exceeds(of_b).cmp(&exceeds(of_a)))
        }
    };
    order
        .then(a.priority.cmp(&b.priority))
        .then_with(|| Reverse(beyond(of_a)).cmp(&Reverse(beyond(of_b))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::samples::pod;
    use serde_json::json;

    fn candidate(name: &str, priority: i32, asked: u64, used: Option<u64>) -> Candidate {
        let amounts = |amount| Amounts {
            memory: amount,
            storage: amount,
            pids: amount,
        };
        Candidate {
            uid: name.to_owned(),
            priority,
            asked: amounts(asked),
            used: used.map(amounts),
        }
    }

    fn check(resource: Resource, mut list: Vec<Candidate>, wanted: &[&str]) {
        rank(&mut list, resource);
        let names: Vec<_> = list.iter().map(|one| one.uid.as_str()).collect();
        assert_eq!(names, wanted, "{resource:?}");
    }

    #[test]
    fn usage_above_request_then_priority_then_amount() {
        let list = || {
            vec![
                candidate("modest", 0, 100, Some(50)),
                candidate("modest-high", 5, 100, Some(99)),
                candidate("greedy-high", 5, 10, Some(500)),
                candidate("greedy", 0, 10, Some(20)),
                candidate("greediest", 0, 10, Some(30)),
                candidate("unknown", 9, 10, None),
            ]
        };
        let wanted = [
            "unknown",
            "greediest",
            "greedy",
            "greedy-high",
            "modest",
            "modest-high",
        ];
        check(Resource::Memory, list(), &wanted);
        check(Resource::Storage, list(), &wanted);
        let by_priority = [
            "greediest",
            "greedy",
            "modest",
            "greedy-high",
            "modest-high",
            "unknown",
        ];
        check(Resource::Pids, list(), &by_priority);
    }

    #[test]
    fn a_pod_is_measured_by_the_host_and_its_slices() {
        let pod = pod(json!({"priority": 7,
            "volumes": [{"name": "data", "emptyDir": {"sizeLimit": "1Mi"}}],
            "containers": [{"name": "main", "resources": {
                "requests": {"memory": "1Mi", "ephemeral-storage": "300"}}}]}));
        let space = crate::pod::scratch::Space {
            unlimited: Some(1 << 30),
            layer: 1 << 20,
        };
        let scratch = Scratch::plan(View(&pod), space);
        let sample = crate::metrics::sample_for_tests();
        let found = Candidate::new(View(&pod), sample.pods.first().map(AsRef::as_ref), &scratch);
        assert_eq!(found.priority, 7);
        assert_eq!(found.asked.memory, (1 << 20) + machine_overhead());
        // 20 of logs and 400 in the volume; the layer is in memory.
        assert_eq!(
            (found.asked.storage, found.used.map(|u| u.storage)),
            (300, Some(420))
        );
        assert_eq!(found.used.map(|used| used.memory), Some(8192));
        assert_eq!(Candidate::new(View(&pod), None, &scratch).used, None);
    }
}
