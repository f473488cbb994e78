//! What of a pod is on its machine's scratch disk, and where: a slice for each
//! `emptyDir` whose medium isn't memory, and for each writable layer that may
//! grow beyond what memory holds.
//!
//! ```text
//!   1 MiB free | slice 1 | slice 2 | ...        each begins at a whole MiB
//! ```
//!
//! The plan is made anew whenever somebody asks: from the same pod and node comes
//! the same plan. A pod that needs no slice gets no disk, since a disk takes part
//! in each start; so its layers are in memory.

use super::resources::{limit, units};
use super::view::View;
use guest_protocol::{SLICES_MAX, Slice};
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Volume};
use std::collections::BTreeMap;

const MIB: u64 = 1 << 20;

/// What a node gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    /// The most that something without a limit of its own may hold; `None` on a
    /// node whose DATA is itself memory: then all of it stays in the guest's,
    /// which is bounded.
    pub(crate) unlimited: Option<u64>,
    /// What a layer in memory may hold.
    pub(crate) layer: u64,
}

/// The slices of a scratch disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scratch {
    /// In bytes.
    pub(crate) length: u64,
    pub(crate) volumes: BTreeMap<String, Slice>,
    /// By container.
    pub(crate) layers: BTreeMap<String, Slice>,
}

impl Scratch {
    pub(crate) fn plan(view: View<'_>, space: Space) -> Self {
        let mut scratch = Self::default();
        let Some(unlimited) = space.unlimited else {
            return scratch;
        };
        let whole = pod_limit(view).unwrap_or(unlimited);
        let volumes = view.spec().and_then(|spec| spec.volumes.as_deref());
        for volume in volumes.unwrap_or_default() {
            if !is_on_disk(volume) {
                continue;
            }
            let empty = volume.empty_dir.as_ref();
            let own = empty.and_then(|empty| empty.size_limit.as_ref().and_then(units));
            let usable = own.filter(|own| *own > 0).unwrap_or(whole).min(whole);
            if let Some(slice) = scratch.take(usable) {
                scratch.volumes.insert(volume.name.clone(), slice);
            }
        }
        for (_, container) in view.declared() {
            let asked = limit(container, "ephemeral-storage").and_then(units);
            if let Some(asked) = asked.filter(|asked| *asked > space.layer)
                && let Some(slice) = scratch.take(asked)
            {
                scratch.layers.insert(container.name.clone(), slice);
            }
        }
        scratch
    }

    pub(crate) fn slices(&self) -> impl Iterator<Item = Slice> {
        self.volumes.values().chain(self.layers.values()).copied()
    }

    /// The next slice; none when Linux can't number more of them.
    fn take(&mut self, usable: u64) -> Option<Slice> {
        let taken = u16::try_from(self.volumes.len() + self.layers.len()).ok()?;
        let number = taken.checked_add(1).filter(|n| *n <= SLICES_MAX)?;
        let start = self.length.next_multiple_of(MIB).max(MIB);
        let length = volume::ext4::size(usable);
        self.length = start + length;
        Some(Slice {
            number,
            start,
            length,
        })
    }
}

/// An emptyDir that isn't in memory.
pub(crate) fn is_on_disk(volume: &Volume) -> bool {
    let medium = |empty: &EmptyDirVolumeSource| empty.medium.as_deref().unwrap_or_default().len();
    volume.empty_dir.as_ref().map(medium) == Some(0)
}

/// The sum of the limits of those main containers that have one, as upstream's
/// eviction counts it.
pub(crate) fn pod_limit(view: View<'_>) -> Option<u64> {
    let mains = view.mains().iter();
    let limits = mains.filter_map(|c| limit(c, "ephemeral-storage").and_then(units));
    let sum = limits.fold(0_u64, u64::saturating_add);
    (sum > 0).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::super::samples::pod;
    use super::*;
    use serde_json::{Value, json};

    const SPACE: Space = Space {
        unlimited: Some(16 << 30),
        layer: 64 * MIB,
    };

    fn plan(volumes: Value, storage: Option<&str>, space: Space) -> Scratch {
        let limits = storage.map(|amount| json!({"limits": {"ephemeral-storage": amount}}));
        let pod = pod(json!({"volumes": volumes, "containers": [
            {"name": "a", "resources": limits.unwrap_or_default()}, {"name": "b"}
        ]}));
        Scratch::plan(View(&pod), space)
    }

    #[test]
    fn slices_have_the_sizes_that_are_asked_for() {
        let two = json!([
            {"name": "v", "emptyDir": {}},
            {"name": "w", "emptyDir": {"sizeLimit": "100Mi"}},
            {"name": "m", "emptyDir": {"medium": "Memory"}},
            {"name": "c", "configMap": {"name": "c"}},
        ]);
        for (storage, v, w, a) in [
            (None, 16 << 30, 100 * MIB, None),
            (Some("64Mi"), 64 * MIB, 64 * MIB, None),
            (Some("1Gi"), 1 << 30, 100 * MIB, Some(1 << 30)),
        ] {
            let made = plan(two.clone(), storage, SPACE);
            let length = |slice: &Slice| slice.length;
            assert_eq!(made.volumes.len(), 2);
            assert_eq!(
                made.volumes.get("v").map(length),
                Some(volume::ext4::size(v))
            );
            assert_eq!(
                made.volumes.get("w").map(length),
                Some(volume::ext4::size(w))
            );
            let layers: Vec<_> = made
                .layers
                .iter()
                .map(|(n, s)| (n.as_str(), s.length))
                .collect();
            let wanted: Vec<_> = a
                .map(|a| ("a", volume::ext4::size(a)))
                .into_iter()
                .collect();
            assert_eq!(layers, wanted, "{storage:?}");
            let mut end = MIB;
            let mut slices: Vec<_> = made.slices().collect();
            slices.sort_by_key(|slice| slice.number);
            for (number, slice) in (1..).zip(slices) {
                assert_eq!((slice.number, slice.start % MIB), (number, 0));
                assert!(slice.start >= end);
                end = slice.start + slice.length;
            }
            assert_eq!(made.length, end);
        }
    }

    #[test]
    fn what_needs_no_disk_gets_none() {
        let none = Scratch::default();
        assert_eq!(plan(json!([]), None, SPACE), none);
        let memory = json!([{"name": "m", "emptyDir": {"medium": "Memory"}}]);
        assert_eq!(plan(memory, Some("64Mi"), SPACE), none);
        let live = Space {
            unlimited: None,
            ..SPACE
        };
        let disk = json!([{"name": "v", "emptyDir": {}}]);
        assert_eq!(plan(disk, Some("1Gi"), live), none);
        let many: Vec<_> = (0..300)
            .map(|n| json!({"name": format!("v{n}"), "emptyDir": {"sizeLimit": "1Mi"}}))
            .collect();
        assert_eq!(plan(json!(many), None, SPACE).volumes.len(), 255);
    }
}
