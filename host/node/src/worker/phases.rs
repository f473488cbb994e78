//! How long a pod's way to Running took: one line of the log for each pod.
//!
//! Owns the times since a worker took the pod on. Each phase keeps its newest
//! time until the API has taken a Running status; then the line is written,
//! once. Refuses half a line: a pod that an earlier `node` launched gives none.

use crate::pod::Observation;
use crate::pod::Pod;
use guest_protocol::Phase;
use k8s_openapi::api::core::v1::PodStatus;

/// Nanoseconds of CLOCK_MONOTONIC, each.
#[derive(Debug)]
pub(super) struct Phases {
    seen: u64,
    images: Option<u64>,
    launched: Option<u64>,
    agent: Option<u64>,
    set_up: Option<u64>,
    started: Option<u64>,
    /// The pod was Running once.
    done: bool,
}

impl Phases {
    pub(super) fn new(pod: &Pod, seen: u64) -> Self {
        Self {
            seen,
            images: None,
            launched: None,
            agent: None,
            set_up: None,
            started: None,
            done: pod.status.as_ref().is_some_and(running),
        }
    }

    /// `init` gave the machine's process.
    pub(super) fn launched(&mut self, at: u64) {
        self.launched = Some(at);
    }

    /// Takes an observation made at `now`. Gives the line when the pod has
    /// become Running; `first_run` is when its vmm entered the guest.
    pub(super) fn observe(
        &mut self,
        observation: &Observation,
        first_run: Option<u64>,
        now: u64,
    ) -> Option<String> {
        if self.done {
            return None;
        }
        match observation {
            Observation::ImageReady { .. } => self.images = Some(now),
            Observation::SessionUp { .. } => self.agent = Some(now),
            Observation::SetUpDone => self.set_up = Some(now),
            Observation::Container(news) if matches!(news.phase, Phase::Running { .. }) => {
                self.started = Some(now);
            }
            Observation::StatusWritten(status) if running(status) => {
                self.done = true;
                return self.line(first_run, now);
            }
            _ => {}
        }
        None
    }

    fn line(&self, first_run: Option<u64>, status: u64) -> Option<String> {
        let since = |at: u64| at.saturating_sub(self.seen) / 1000;
        let (images, launched) = (since(self.images?), since(self.launched?));
        let (first_run, agent) = (since(first_run?), since(self.agent?));
        let (set_up, started) = (since(self.set_up?), since(self.started?));
        let status = since(status);
        Some(format!(
            "phases_us seen=0 images={images} launched={launched} first_run={first_run} \
             agent={agent} set_up={set_up} started={started} status={status}"
        ))
    }
}

fn running(status: &PodStatus) -> bool {
    status.phase.as_deref() == Some("Running")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::observed::ImageInfo;
    use guest_protocol::ContainerState;
    use k8s_openapi::api::core::v1::Pod as ApiPod;

    fn written(phase: &str) -> Observation {
        Observation::StatusWritten(Box::new(PodStatus {
            phase: Some(phase.to_owned()),
            ..PodStatus::default()
        }))
    }

    fn image() -> Observation {
        Observation::ImageReady {
            image: "a".to_owned(),
            info: ImageInfo {
                name: "a".to_owned(),
                id: "a".to_owned(),
            },
            pull: None,
        }
    }

    fn started() -> Observation {
        Observation::Container(ContainerState {
            name: "a".to_owned(),
            attempt: 0,
            started_at_ns: 0,
            identity: None,
            phase: Phase::Running { pid: 2 },
        })
    }

    /// The lines of a pod that was seen at 5 us, with what came after.
    fn lines(pod: &Pod, launched: Option<u64>, news: Vec<(u64, Observation)>) -> Vec<String> {
        let mut phases = Phases::new(pod, 5_000);
        if let Some(at) = launched {
            phases.launched(at);
        }
        news.into_iter()
            .filter_map(|(now, news)| phases.observe(&news, Some(40_999), now))
            .collect()
    }

    #[test]
    fn a_pod_gives_one_line_when_it_runs() {
        let up = || Observation::SessionUp {
            set_up: false,
            containers: Vec::new(),
        };
        let way = || {
            vec![
                (10_000, image()),
                (15_000, image()),
                (16_000, written("Pending")),
                (50_000, up()),
                (60_000, Observation::SetUpDone),
                (70_000, started()),
                (80_000, written("Running")),
                (90_000, started()),
                (95_000, written("Running")),
            ]
        };
        let line = "phases_us seen=0 images=10 launched=25 first_run=35 agent=45 set_up=55 \
                    started=65 status=75";
        let fresh = Pod::from(ApiPod::default());
        assert_eq!(lines(&fresh, Some(30_000), way()), [line]);
        let adopted: [&str; 0] = [];
        assert_eq!(lines(&fresh, None, way()), adopted);
        let ran = Pod::from(ApiPod {
            status: Some(PodStatus {
                phase: Some("Running".to_owned()),
                ..PodStatus::default()
            }),
            ..ApiPod::default()
        });
        assert_eq!(lines(&ran, Some(30_000), way()), adopted);
    }
}
