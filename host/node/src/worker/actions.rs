//! Probes and hooks of a pod that runs. Without a machine nothing is reported:
//! its end is news enough.

use super::Worker;
use crate::actions;
use crate::machine::Control;
use crate::pod::Observation;
use crate::pod::action::{Action, of_hook, of_probe};
use crate::pod::health::{Act, Acted, Outcome, ProbeKind, timeout};
use crate::pod::view::{View, post_start, pre_stop};
use k8s_openapi::api::core::v1::Container;
use std::time::Duration;

impl Worker {
    pub(super) fn act(&self, container: String, attempt: u32, act: Act) {
        let view = View(&self.pod);
        let Some((_, own)) = view.container(&container) else {
            return;
        };
        let doing = Doing::of(view, own, act);
        let control = self.running.as_ref().map(|r| r.control.clone());
        let label = view.label();
        self.spawn(async move {
            let acted = doing.carry_out(&control?, &container, &label).await;
            Some(Observation::Acted {
                container,
                attempt,
                acted,
            })
        });
    }
}

/// An act with all that it needs of the pod.
struct Doing {
    act: Act,
    action: Result<Action, String>,
    timeout: Option<Duration>,
}

impl Doing {
    fn of(view: View<'_>, container: &Container, act: Act) -> Self {
        let gone = || "the container has none any more".to_owned();
        let hook = |hook: Option<_>| of_hook(view, container, hook.ok_or_else(gone)?);
        let (action, timeout) = match act {
            Act::Probe(kind) => {
                let probe = kind.of(container);
                let action = probe.ok_or_else(gone);
                (
                    action.and_then(|probe| of_probe(view, container, probe)),
                    probe.map(timeout),
                )
            }
            Act::PostStart => (hook(post_start(container)), None),
            Act::PreStop { left_ms } => (
                hook(pre_stop(container)),
                Some(Duration::from_millis(left_ms)),
            ),
        };
        Self {
            act,
            action,
            timeout,
        }
    }

    async fn carry_out(self, control: &Control, container: &str, label: &str) -> Acted {
        match self.act {
            Act::Probe(kind) => self.probe(control, container, kind).await,
            Act::PostStart => Acted::PostStart {
                failed: self.hook(control, container, label).await,
            },
            Act::PreStop { .. } => Acted::PreStop {
                failed: self.hook(control, container, label).await,
            },
        }
    }

    async fn probe(self, control: &Control, container: &str, kind: ProbeKind) -> Acted {
        let timeout = self.timeout.unwrap_or_default();
        let outcome = match self.action {
            Ok(action) => actions::probe(control, container, &action, timeout).await,
            Err(message) => Outcome::Error(message),
        };
        Acted::Probe(kind, outcome)
    }

    /// Whether it failed; why is for the log alone, as it may tell secrets.
    async fn hook(self, control: &Control, container: &str, label: &str) -> bool {
        let result = match self.action {
            Ok(action) => actions::hook(control, container, &action, self.timeout).await,
            Err(error) => Err(error),
        };
        if let Err(error) = &result {
            log::info!("{:?} hook of {container} in pod {label}: {error}", self.act);
        }
        result.is_err()
    }
}
