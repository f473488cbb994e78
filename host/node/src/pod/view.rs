//! What the rest of `pod` reads of a Pod, defaults and absent parts resolved.

use super::Pod;
use super::observed::Terminated;
use k8s_openapi::api::core::v1::{
    Container, ContainerStatus, ImageVolumeSource, LifecycleHandler, PodSpec, PodStatus,
};
use machine_spec::MachineId;

/// Which of a pod's lists a container stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Runs before the main containers, to its end.
    Init,
    /// An init container that is kept running (`restartPolicy: Always`).
    Sidecar,
    Main,
    /// Came while the pod ran (`kubectl debug`); never restarted.
    Ephemeral,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

/// The more of them a pod has for an image, the more it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PullPolicy {
    Never,
    IfNotPresent,
    Always,
}

/// The grace period of a pod that names none (upstream's default), in seconds.
pub(crate) const DEFAULT_GRACE: i64 = 30;

/// Read access to one Pod.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a>(pub(crate) &'a Pod);

impl<'a> View<'a> {
    pub(crate) fn name(self) -> &'a str {
        self.0.metadata.name.as_deref().unwrap_or_default()
    }

    pub(crate) fn namespace(self) -> &'a str {
        self.0.metadata.namespace.as_deref().unwrap_or_default()
    }

    pub(crate) fn uid(self) -> &'a str {
        self.0.metadata.uid.as_deref().unwrap_or_default()
    }

    /// `name_namespace(uid)`, as upstream's messages name a pod.
    pub(crate) fn label(self) -> String {
        format!("{}_{}({})", self.name(), self.namespace(), self.uid())
    }

    pub(crate) fn spec(self) -> Option<&'a PodSpec> {
        self.0.spec.as_ref()
    }

    pub(crate) fn restart_policy(self) -> RestartPolicy {
        match self.spec().and_then(|spec| spec.restart_policy.as_deref()) {
            Some("Never") => RestartPolicy::Never,
            Some("OnFailure") => RestartPolicy::OnFailure,
            _ => RestartPolicy::Always,
        }
    }

    pub(crate) fn inits(self) -> &'a [Container] {
        self.spec()
            .and_then(|spec| spec.init_containers.as_deref())
            .unwrap_or_default()
    }

    pub(crate) fn mains(self) -> &'a [Container] {
        self.spec().map_or(&[], |spec| &spec.containers)
    }

    /// All containers that the pod was made with, init containers first.
    pub(crate) fn declared(self) -> impl Iterator<Item = (Role, &'a Container)> {
        let inits = self.inits().iter().map(|c| (role_of_init(c), c));
        inits.chain(self.mains().iter().map(|c| (Role::Main, c)))
    }

    /// Those, and the ephemeral ones.
    pub(crate) fn containers(self) -> impl Iterator<Item = (Role, &'a Container)> {
        let ephemeral = self.0.ephemeral().iter();
        self.declared()
            .chain(ephemeral.map(|container| (Role::Ephemeral, container)))
    }

    /// The container whose process namespace an ephemeral one shares.
    pub(crate) fn target(self, ephemeral: &str) -> Option<&'a str> {
        let list = self.spec()?.ephemeral_containers.as_deref()?;
        let own = list.iter().find(|own| own.name == ephemeral)?;
        let target = own.target_container_name.as_deref()?;
        (!target.is_empty()).then_some(target)
    }

    pub(crate) fn container(self, name: &str) -> Option<(Role, &'a Container)> {
        self.containers().find(|(_, c)| c.name == name)
    }

    /// The volumes that are images (KEP-4639), by name.
    pub(crate) fn image_volumes(self) -> impl Iterator<Item = (&'a str, &'a ImageVolumeSource)> {
        let volumes = self.spec().and_then(|spec| spec.volumes.as_deref());
        let volumes = volumes.unwrap_or_default().iter();
        volumes.filter_map(|volume| Some((volume.name.as_str(), volume.image.as_ref()?)))
    }

    /// Those of them that a container mounts: their names and references.
    pub(crate) fn mounted_images(
        self,
        container: &Container,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        let mounts = |name: &str| {
            let mut mounts = container.volume_mounts.iter().flatten();
            mounts.any(|mount| mount.name == name)
        };
        self.image_volumes()
            .filter(move |(name, _)| mounts(name))
            .map(|(name, source)| (name, reference_of(source)))
    }

    /// All images without which a container can't start.
    pub(crate) fn needed_images(self, container: &'a Container) -> impl Iterator<Item = &'a str> {
        let mounted = self.mounted_images(container);
        std::iter::once(image_of(container)).chain(mounted.map(|(_, reference)| reference))
    }

    /// All images of the pod, each as often as it is asked for; as upstream also
    /// those of volumes that nobody mounts.
    pub(crate) fn images(self) -> impl Iterator<Item = (&'a str, PullPolicy)> {
        let own = self.containers();
        let own = own.map(|(_, container)| (image_of(container), pull_policy(container)));
        own.chain(self.image_volumes().map(|(_, source)| {
            let reference = reference_of(source);
            (reference, policy(source.pull_policy.as_deref(), reference))
        }))
    }

    /// How an image is pulled that is one of the pod's.
    pub(crate) fn pull_policy(self, image: &str) -> Option<PullPolicy> {
        let own = self.images().filter(|(own, _)| *own == image);
        own.map(|(_, policy)| policy).max()
    }

    pub(crate) fn deleting(self) -> bool {
        self.0.metadata.deletion_timestamp.is_some()
    }

    /// The grace period that applies now, in milliseconds.
    pub(crate) fn grace_ms(self) -> u64 {
        let asked = self.0.metadata.deletion_grace_period_seconds;
        let own = self.spec().and_then(|s| s.termination_grace_period_seconds);
        let seconds = asked.or(own).unwrap_or(DEFAULT_GRACE).clamp(0, 1 << 31);
        u64::try_from(seconds)
            .unwrap_or_default()
            .saturating_mul(1000)
    }

    /// The phase that the API has on record.
    pub(crate) fn phase(self) -> &'a str {
        let status = self.0.status.as_ref();
        status.and_then(|s| s.phase.as_deref()).unwrap_or("Pending")
    }

    pub(crate) fn terminal_in_api(self) -> bool {
        self.0.status.as_ref().is_some_and(is_terminal)
    }

    /// The bytes of the pod's UID.
    pub(crate) fn machine_id(self) -> Option<MachineId> {
        machine_id(self.uid())
    }
}

/// What an entry of `initContainers` is.
pub(crate) fn role_of_init(container: &Container) -> Role {
    match container.restart_policy.as_deref() {
        Some("Always") => Role::Sidecar,
        _ => Role::Init,
    }
}

/// A machine is named by the bytes of its pod's UID.
pub(crate) fn machine_id(uid: &str) -> Option<MachineId> {
    uuid::Uuid::parse_str(uid)
        .ok()
        .map(|uid| MachineId(*uid.as_bytes()))
}

/// Whether a status says that its pod is over.
pub(crate) fn is_terminal(status: &PodStatus) -> bool {
    matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"))
}

/// What a status says of containers of every role.
pub(crate) fn statuses(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    let lists = [
        &status.init_container_statuses,
        &status.container_statuses,
        &status.ephemeral_container_statuses,
    ];
    lists.into_iter().flatten().flatten()
}

pub(crate) fn post_start(container: &Container) -> Option<&LifecycleHandler> {
    container.lifecycle.as_ref()?.post_start.as_ref()
}

pub(crate) fn pre_stop(container: &Container) -> Option<&LifecycleHandler> {
    container.lifecycle.as_ref()?.pre_stop.as_ref()
}

/// Whether the end of its output may be its message
/// (`terminationMessagePolicy: FallbackToLogsOnError`).
pub(crate) fn falls_back_to_log(container: &Container) -> bool {
    container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError")
}

/// Whether it is, of such an end.
pub(crate) fn wants_tail(container: &Container, end: &Terminated) -> bool {
    falls_back_to_log(container) && end.exit_code != 0 && end.message.is_empty()
}

pub(crate) fn image_of(container: &Container) -> &str {
    container.image.as_deref().unwrap_or_default()
}

pub(crate) fn reference_of(source: &ImageVolumeSource) -> &str {
    source.reference.as_deref().unwrap_or_default()
}

fn pull_policy(container: &Container) -> PullPolicy {
    policy(container.image_pull_policy.as_deref(), image_of(container))
}

/// What is given, or upstream's default.
fn policy(given: Option<&str>, image: &str) -> PullPolicy {
    match given {
        Some("Always") => PullPolicy::Always,
        Some("IfNotPresent") => PullPolicy::IfNotPresent,
        Some("Never") => PullPolicy::Never,
        _ => default_pull_policy(image),
    }
}

fn default_pull_policy(image: &str) -> PullPolicy {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains('@') {
        return PullPolicy::IfNotPresent;
    }
    match last.rsplit_once(':') {
        None | Some((_, "latest")) => PullPolicy::Always,
        Some(_) => PullPolicy::IfNotPresent,
    }
}

/// `spec.containers{name}`, as events name a container.
pub(crate) fn field_path(role: Role, name: &str) -> String {
    match role {
        Role::Init | Role::Sidecar => format!("spec.initContainers{{{name}}}"),
        Role::Main => format!("spec.containers{{{name}}}"),
        Role::Ephemeral => format!("spec.ephemeralContainers{{{name}}}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pull_policy_defaults_by_tag() {
        for (image, policy) in [
            ("nginx", PullPolicy::Always),
            ("nginx:latest", PullPolicy::Always),
            ("registry:5000/nginx", PullPolicy::Always),
            ("nginx:1.27", PullPolicy::IfNotPresent),
            ("nginx@sha256:00", PullPolicy::IfNotPresent),
        ] {
            assert_eq!(default_pull_policy(image), policy, "{image}");
        }
    }

    #[test]
    fn images_are_the_containers_and_the_volumes() {
        let pod = super::super::samples::pod(serde_json::json!({
            "volumes": [
                {"name": "d", "emptyDir": {}},
                {"name": "v", "image": {"reference": "b:1", "pullPolicy": "Always"}},
                {"name": "w", "image": {"reference": "c"}},
            ],
            "containers": [
                {"name": "a", "image": "a:1", "volumeMounts": [
                    {"name": "v", "mountPath": "/x"}, {"name": "d", "mountPath": "/d"},
                    {"name": "v", "mountPath": "/y", "subPath": "y"}]},
                {"name": "b", "image": "b:1", "imagePullPolicy": "Never"},
            ],
        }));
        let view = View(&pod);
        let all: Vec<_> = view.images().map(|(image, _)| image).collect();
        assert_eq!(all, ["a:1", "b:1", "b:1", "c"]);
        for (image, policy) in [
            ("a:1", Some(PullPolicy::IfNotPresent)),
            ("b:1", Some(PullPolicy::Always)),
            ("c", Some(PullPolicy::Always)),
            ("d", None),
        ] {
            assert_eq!(view.pull_policy(image), policy, "{image}");
        }
        let needs = |container: &str| -> Vec<&str> {
            let (_, container) = view.container(container).expect("given");
            view.needed_images(container).collect()
        };
        assert_eq!(needs("a"), ["a:1", "b:1"]);
        assert_eq!(needs("b"), ["b:1"]);
    }

    #[test]
    fn a_uid_names_the_machine() {
        let id = machine_id("0f0e0d0c-0b0a-0908-0706-050403020100").expect("a uid");
        assert_eq!(id.to_string(), "0f0e0d0c0b0a09080706050403020100");
        assert_eq!(machine_id("../etc"), None);
    }
}
