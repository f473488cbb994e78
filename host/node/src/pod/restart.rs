//! Whether a container that ended is started again, and from when on; and whether
//! its end restarts all of the pod's.

use super::backoff::go_duration;
use super::observed::{Observed, Record, State, Terminated};
use super::view::{RestartPolicy, Role, View, image_of};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, ContainerRestartRule};

impl Record {
    /// Its newest attempt was started with another image than the pod names now.
    pub(crate) fn has_other_image(&self, container: &Container) -> bool {
        !self.image.is_empty() && self.image != image_of(container)
    }

    /// It runs with another image: it is to be ended and started with the new
    /// one, whatever the restart policy says. What upstream calls a container's
    /// definition is its name and image; an init container runs to its end.
    pub(crate) fn is_outdated(&self, role: Role, container: &Container) -> bool {
        let runs = self.runs_since().is_some();
        runs && matches!(role, Role::Main | Role::Sidecar) && self.has_other_image(container)
    }

    /// An attempt was ended only for its image.
    pub(crate) fn is_replaced(&self, end: &Terminated) -> bool {
        self.replaced == Some(end.attempt)
    }

    /// From when on it may start again. A back-off is that of one image.
    pub(crate) fn due(&self, container: &Container) -> Option<Timestamp> {
        let end = self.ended()?;
        let same = !self.has_other_image(container);
        same.then(|| self.backoff.due(end.finished_at))
    }
}

/// When an attempt of a container may start: the attempt, and from when on.
pub(crate) fn next_start(
    view: View<'_>,
    role: Role,
    container: &Container,
    record: Option<&Record>,
    epoch: u32,
) -> Option<(u32, Option<Timestamp>)> {
    let Some(record) = record else {
        return Some((0, None));
    };
    match &record.state {
        State::Waiting => Some((record.attempt, None)),
        State::Blocked { retry_at, .. } => Some((record.attempt, Some(*retry_at))),
        State::Starting { resend, .. } => resend.map(|at| (record.attempt, Some(at))),
        State::PostStart { .. } | State::Running { .. } | State::Stopping { .. } => None,
        State::Ended { end, .. } => {
            let again = record.attempt.checked_add(1)?;
            if role == Role::Init && end.exit_code == 0 {
                return (record.epoch != epoch).then_some((again, None));
            }
            let due = record.due(container);
            restarts(view, role, container, record).then_some((again, due))
        }
    }
}

/// Whether a container has ended and is started again.
pub(crate) fn restarts(view: View<'_>, role: Role, container: &Container, record: &Record) -> bool {
    let Some(end) = record.ended() else {
        return false;
    };
    record.is_replaced(end) || by_policy(view, role, container, end.exit_code)
}

/// By its rules, its own policy or its pod's, in this order (KEP-5307).
fn by_policy(view: View<'_>, role: Role, container: &Container, exit_code: i32) -> bool {
    let action = action(container, exit_code);
    match role {
        Role::Ephemeral => return false,
        // That an init container is done is no end to be judged, unless it
        // restarts the others, too.
        Role::Init if exit_code == 0 => return action == Some(Action::RestartAll),
        Role::Init | Role::Sidecar | Role::Main => {}
    }
    action.is_some()
        || match policy(view, container) {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => exit_code != 0,
            RestartPolicy::Never => false,
        }
}

/// The policy of a container: its own, or its pod's.
pub(crate) fn policy(view: View<'_>, container: &Container) -> RestartPolicy {
    match container.restart_policy.as_deref() {
        Some("Always") => RestartPolicy::Always,
        Some("OnFailure") => RestartPolicy::OnFailure,
        Some("Never") => RestartPolicy::Never,
        _ => view.restart_policy(),
    }
}

/// Why a container waits for its back-off to end.
pub(crate) fn back_off(view: View<'_>, container: &str, delay: SignedDuration) -> String {
    let (delay, pod) = (go_duration(delay), view.label());
    format!("back-off {delay} restarting failed container={container} pod={pod}")
}

/// What a rule asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Restart,
    /// KEP-5532.
    RestartAll,
}

/// What the first rule that matches asks for.
fn action(container: &Container, exit_code: i32) -> Option<Action> {
    container.restart_policy.as_ref()?;
    let mut rules = container.restart_policy_rules.iter().flatten();
    let rule = rules.find(|rule| {
        rule.exit_codes.as_ref().is_some_and(|codes| {
            let within = codes.values.iter().flatten().any(|own| *own == exit_code);
            match codes.operator.as_str() {
                "In" => within,
                "NotIn" => !within,
                _ => false,
            }
        })
    })?;
    action_of(rule)
}

fn action_of(rule: &ContainerRestartRule) -> Option<Action> {
    match rule.action.as_str() {
        "Restart" => Some(Action::Restart),
        "RestartAllContainers" => Some(Action::RestartAll),
        _ => None,
    }
}

/// Whether the end of some container may restart all.
pub(crate) fn may_restart_all(view: View<'_>) -> bool {
    let mut rules = view
        .declared()
        .flat_map(|(_, container)| container.restart_policy_rules.iter().flatten());
    rules.any(|rule| action_of(rule) == Some(Action::RestartAll))
}

/// Whether a container has ended so that all are to be restarted.
pub(crate) fn triggers_all(view: View<'_>, observed: &Observed) -> bool {
    view.declared().any(|(_, container)| {
        let end = observed.record(&container.name).and_then(Record::ended);
        end.is_some_and(|end| action(container, end.exit_code) == Some(Action::RestartAll))
    })
}

#[cfg(test)]
mod tests {
    use super::super::samples::pod;
    use super::*;
    use serde_json::{Value, json};

    /// Whether a main and an init container that end so start again.
    fn found(pod_policy: &str, own: Option<&str>, rules: &Value, code: i32) -> [bool; 2] {
        let mut main = json!({"name": "a", "image": "a:1", "restartPolicyRules": rules});
        let mut init = json!({"name": "i", "image": "i:1", "restartPolicyRules": rules});
        if let Some(own) = own {
            main["restartPolicy"] = json!(own);
        }
        if let Some(own) = own.filter(|own| *own != "Always") {
            init["restartPolicy"] = json!(own);
        }
        let pod = pod(json!({"restartPolicy": pod_policy, "containers": [main],
            "initContainers": [init]}));
        let view = View(&pod);
        [(Role::Main, "a"), (Role::Init, "i")].map(|(role, name)| {
            let (_, container) = view.container(name).expect("given");
            by_policy(view, role, container, code)
        })
    }

    #[test]
    fn rules_come_before_policies_and_the_container_s_before_the_pod_s() {
        let rule = |action: &str, operator: &str| json!([{"action": action, "exitCodes": {"operator": operator, "values": [42]}}]);
        let none = || json!([]);
        for (pod_policy, own, rules, code, wanted) in [
            ("Never", None, none(), 1, [false, false]),
            ("OnFailure", None, none(), 1, [true, true]),
            ("OnFailure", None, none(), 0, [false, false]),
            ("Always", None, none(), 0, [true, false]),
            ("Always", Some("Never"), none(), 1, [false, false]),
            ("Never", Some("OnFailure"), none(), 1, [true, true]),
            ("Never", Some("Always"), none(), 0, [true, false]),
            (
                "Never",
                Some("Never"),
                rule("Restart", "In"),
                42,
                [true, true],
            ),
            (
                "Never",
                Some("Never"),
                rule("Restart", "In"),
                41,
                [false, false],
            ),
            (
                "Never",
                Some("Never"),
                rule("Restart", "NotIn"),
                41,
                [true, true],
            ),
            (
                "Never",
                Some("Never"),
                rule("Restart", "NotIn"),
                0,
                [true, false],
            ),
            (
                "Never",
                Some("Never"),
                rule("RestartAllContainers", "NotIn"),
                0,
                [true, true],
            ),
            (
                "Never",
                Some("Never"),
                rule("Other", "In"),
                42,
                [false, false],
            ),
            // Rules need a policy beside them.
            ("Never", None, rule("Restart", "In"), 42, [false, false]),
        ] {
            let found = found(pod_policy, own, &rules, code);
            assert_eq!(found, wanted, "{pod_policy} {own:?} {rules} {code}");
        }
    }
}
