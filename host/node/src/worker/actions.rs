//! Probes and hooks of a pod that runs. Without a machine nothing is reported:
//! its end is news enough.

use super::Worker;
use crate::actions;
use crate::pod::Observation;
use crate::pod::action::{Action, of_hook, of_probe};
use crate::pod::health::{Outcome, ProbeKind, timeout};
use crate::pod::view::{View, post_start, pre_stop};
use k8s_openapi::api::core::v1::{Container, LifecycleHandler};
use std::time::Duration;

impl Worker {
    pub(super) fn probe(&self, container: String, attempt: u32, kind: ProbeKind) {
        let view = View(&self.pod);
        let found = view.container(&container).map(|(_, own)| own);
        let Some((own, probe)) = found.and_then(|own| Some((own, kind.of(own)?))) else {
            return;
        };
        let (action, timeout) = (of_probe(view, own, probe), timeout(probe));
        let control = self.running.as_ref().map(|r| r.control.clone());
        self.spawn(async move {
            let outcome = match action {
                Ok(action) => actions::probe(&control?, &container, &action, timeout).await,
                Err(message) => Outcome::Error(message),
            };
            Some(Observation::Probed {
                container,
                attempt,
                kind,
                outcome,
            })
        });
    }

    pub(super) fn post_start(&self, container: String, attempt: u32) {
        let hook = self.hook(&container, post_start);
        let control = self.running.as_ref().map(|r| r.control.clone());
        let label = View(&self.pod).label();
        self.spawn(async move {
            let result = match hook {
                Some(Ok(hook)) => actions::hook(&control?, &container, &hook, None).await,
                Some(Err(error)) => Err(error),
                None => Ok(()),
            };
            if let Err(error) = &result {
                log::info!("postStart hook of {container} in pod {label}: {error}");
            }
            Some(Observation::PostStartDone {
                container,
                attempt,
                failed: result.is_err(),
            })
        });
    }

    pub(super) fn pre_stop(&self, container: String, attempt: u32, left_ms: u64) {
        let hook = self.hook(&container, pre_stop);
        let control = self.running.as_ref().map(|r| r.control.clone());
        let label = View(&self.pod).label();
        let left = Some(Duration::from_millis(left_ms));
        self.spawn(async move {
            let result = match hook {
                Some(Ok(hook)) => actions::hook(&control?, &container, &hook, left).await,
                Some(Err(error)) => Err(error),
                None => Ok(()),
            };
            if let Err(error) = &result {
                log::info!("preStop hook of {container} in pod {label}: {error}");
            }
            Some(Observation::PreStopDone {
                container,
                attempt,
                failed: result.is_err(),
            })
        });
    }

    fn hook(
        &self,
        container: &str,
        pick: impl Fn(&Container) -> Option<&LifecycleHandler>,
    ) -> Option<Result<Action, String>> {
        let view = View(&self.pod);
        let (_, own) = view.container(container)?;
        Some(of_hook(view, own, pick(own)?))
    }
}
