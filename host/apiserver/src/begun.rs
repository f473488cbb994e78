//! What the server has begun, under upstream's names for it
//! (`poststarthook/...`): its start, which is over before it listens, and tasks
//! that go on until it ends. A task that ended before is a fault.
//!
//! Not among the names are those of what doesn't exist here: identity leases of
//! servers, peers, informers, the tracking of old tokens. The repair of
//! Services' addresses is a controller.

use tokio::task::AbortHandle;

/// Who does what a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Start,
    Definitions,
    Fairness,
    Aggregation,
}

/// In upstream's order.
const NAMES: &[(&str, Part)] = &[
    (
        "poststarthook/start-apiserver-admission-initializer",
        Part::Start,
    ),
    (
        "poststarthook/priority-and-fairness-config-consumer",
        Part::Start,
    ),
    ("poststarthook/priority-and-fairness-filter", Part::Start),
    (
        "poststarthook/start-apiextensions-informers",
        Part::Definitions,
    ),
    (
        "poststarthook/start-apiextensions-controllers",
        Part::Definitions,
    ),
    ("poststarthook/crd-informer-synced", Part::Definitions),
    (
        "poststarthook/start-system-namespaces-controller",
        Part::Start,
    ),
    (
        "poststarthook/start-cluster-authentication-info-controller",
        Part::Start,
    ),
    ("poststarthook/storage-readiness", Part::Start),
    ("poststarthook/rbac/bootstrap-roles", Part::Start),
    (
        "poststarthook/scheduling/bootstrap-system-priority-classes",
        Part::Start,
    ),
    (
        "poststarthook/priority-and-fairness-config-producer",
        Part::Fairness,
    ),
    ("poststarthook/bootstrap-controller", Part::Start),
    (
        "poststarthook/start-kubernetes-service-cidr-controller",
        Part::Start,
    ),
    (
        "poststarthook/aggregator-reload-proxy-client-cert",
        Part::Aggregation,
    ),
    (
        "poststarthook/start-kube-aggregator-informers",
        Part::Aggregation,
    ),
    (
        "poststarthook/apiservice-status-local-available-controller",
        Part::Aggregation,
    ),
    (
        "poststarthook/apiservice-status-remote-available-controller",
        Part::Aggregation,
    ),
    (
        "poststarthook/apiservice-registration-controller",
        Part::Aggregation,
    ),
    (
        "poststarthook/apiservice-discovery-controller",
        Part::Aggregation,
    ),
    (
        "poststarthook/kube-apiserver-autoregistration",
        Part::Aggregation,
    ),
    ("autoregister-completion", Part::Aggregation),
    (
        "poststarthook/apiservice-openapi-controller",
        Part::Aggregation,
    ),
    (
        "poststarthook/apiservice-openapiv3-controller",
        Part::Aggregation,
    ),
];

/// The tasks of a server that has started.
pub(crate) struct Begun {
    pub(crate) definitions: Option<AbortHandle>,
    pub(crate) fairness: AbortHandle,
    pub(crate) aggregation: AbortHandle,
}

impl Begun {
    fn task(&self, part: Part) -> Option<&AbortHandle> {
        match part {
            Part::Start => None,
            Part::Definitions => self.definitions.as_ref(),
            Part::Fairness => Some(&self.fairness),
            Part::Aggregation => Some(&self.aggregation),
        }
    }
}

pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    NAMES.iter().map(|(name, _)| *name)
}

/// A check for each name; `None`: the server hasn't started yet.
pub(crate) fn checks(begun: Option<&Begun>) -> Vec<crate::health::Check> {
    let state = |part| match begun {
        None => Err("not finished".to_owned()),
        Some(begun) => match begun.task(part) {
            Some(task) if task.is_finished() => Err("has ended".to_owned()),
            Some(_) | None => Ok(()),
        },
    };
    NAMES
        .iter()
        .map(|(name, part)| (*name, state(*part)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_has_ended_is_told_by_its_names() {
        assert!(checks(None).iter().all(|(_, state)| state.is_err()));
        let going = tokio::spawn(std::future::pending::<()>());
        let ended = tokio::spawn(async {});
        let begun = Begun {
            definitions: Some(going.abort_handle()),
            fairness: ended.abort_handle(),
            aggregation: going.abort_handle(),
        };
        assert!(ended.await.is_ok());
        let found = checks(Some(&begun));
        let failed: Vec<&str> = found
            .iter()
            .filter(|(_, state)| state.is_err())
            .map(|(name, _)| *name)
            .collect();
        assert_eq!(
            failed,
            ["poststarthook/priority-and-fairness-config-producer"]
        );
        going.abort();
    }
}
