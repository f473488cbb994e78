//! A pod as this crate reads it: the API's, and what is derived of it once.

use super::resize::{self, Allocation};
use super::view::View;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod as ApiPod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::ops::Deref;

/// Reads like the API's.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pod {
    api: ApiPod,
    /// `ephemeralContainers`, in the shape of the others.
    ephemeral: Vec<Container>,
    /// What its containers ask for, as long as that isn't what they were given.
    asked: Option<Allocation>,
}

impl From<ApiPod> for Pod {
    fn from(api: ApiPod) -> Self {
        let spec = api.spec.as_ref();
        let list = spec.and_then(|spec| spec.ephemeral_containers.as_deref());
        let ephemeral = list.unwrap_or_default().iter().map(container).collect();
        Self {
            api,
            ephemeral,
            asked: None,
        }
    }
}

impl Deref for Pod {
    type Target = ApiPod;

    fn deref(&self) -> &ApiPod {
        &self.api
    }
}

impl Pod {
    pub(crate) fn as_api(&self) -> &ApiPod {
        &self.api
    }

    pub(crate) fn ephemeral(&self) -> &[Container] {
        &self.ephemeral
    }

    /// Reads as what its containers were given, whatever they ask for.
    pub(crate) fn give(&mut self, given: &Allocation) {
        let asked = resize::allocation(View(self));
        let other = |(name, own)| given.get(name).is_some_and(|has| resize::differ(own, has));
        if asked.iter().any(other) {
            self.set(given);
            self.asked = Some(asked);
        }
    }

    pub(crate) fn asked(&self) -> Option<&Allocation> {
        self.asked.as_ref()
    }

    /// The pod with what it asks for, if that is something else.
    pub(crate) fn as_asked(&self) -> Option<Self> {
        let asked = self.asked.as_ref()?;
        let mut pod = Self {
            asked: None,
            ..self.clone()
        };
        pod.set(asked);
        Some(pod)
    }

    fn set(&mut self, resources: &Allocation) {
        let Some(spec) = &mut self.api.spec else {
            return;
        };
        let inits = spec.init_containers.iter_mut().flatten();
        for container in inits.chain(&mut spec.containers) {
            if let Some(own) = resources.get(&container.name) {
                container.resources = Some(own.clone());
            }
        }
    }

    /// Is deleted from now on, unless it was before; a `grace` period, in
    /// seconds, takes the place of the one that it had.
    pub(crate) fn delete(&mut self, now: Timestamp, grace: Option<i64>) {
        let meta = &mut self.api.metadata;
        meta.deletion_timestamp.get_or_insert(Time(now));
        if grace.is_some() {
            meta.deletion_grace_period_seconds = grace;
        }
    }
}

/// All fields that an ephemeral container may have; the API lets no other pass.
fn container(own: &EphemeralContainer) -> Container {
    Container {
        name: own.name.clone(),
        image: own.image.clone(),
        command: own.command.clone(),
        args: own.args.clone(),
        working_dir: own.working_dir.clone(),
        env: own.env.clone(),
        env_from: own.env_from.clone(),
        volume_mounts: own.volume_mounts.clone(),
        volume_devices: own.volume_devices.clone(),
        termination_message_path: own.termination_message_path.clone(),
        termination_message_policy: own.termination_message_policy.clone(),
        image_pull_policy: own.image_pull_policy.clone(),
        security_context: own.security_context.clone(),
        stdin: own.stdin,
        stdin_once: own.stdin_once,
        tty: own.tty,
        ..Container::default()
    }
}
