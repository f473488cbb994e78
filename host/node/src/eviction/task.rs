//! Carries out what was decided: every 10 s a look, every five minutes a
//! garbage collection of images.
//!
//! At most one pod ends for each look; the next look waits until it is gone, at
//! most 30 s. Guests are asked for their figures only when pods are to be
//! ranked, or while one has a limit that sums are held to.

use super::decision::{Decision, Threshold, Verdict};
use super::rank::{Candidate, is_critical, rank};
use super::signals::{Observations, observe};
use super::{Pressure, REASON, Resource, local, words};
use crate::Config;
use crate::images::{Policy, SweepError, Sweeper};
use crate::logs;
use crate::metrics::{Metrics, PodFigures, Sample, Sources};
use crate::pod::observed::{Machine, Note, Rejection};
use crate::pod::view::{View, is_terminal};
use crate::roster::Directory;
use crate::worker::{Shared, Shown, Update};
use jiff::Timestamp;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio::time::Instant;

const PERIOD: Duration = Duration::from_secs(10);
/// Upstream's `ImageGCPeriod`.
const SWEEP_PERIOD: Duration = Duration::from_secs(300);
/// How long an evicted pod may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a hard threshold leaves to a pod (upstream's
/// `immediateEvictionGracePeriodSeconds`).
const IMMEDIATE: Duration = Duration::from_secs(1);

/// The task.
pub(crate) struct Evictor {
    shared: Arc<Shared>,
    node_name: String,
    directory: Directory,
    metrics: Metrics,
    sources: Sources,
    decision: Decision,
    soft_grace: Duration,
    sweeper: Sweeper,
    sweep_failed: bool,
    pressure: watch::Sender<Pressure>,
}

/// Why a pod ends, and how fast.
struct Eviction {
    words: words::Words,
    grace: Duration,
    /// Pressure, not a limit of the pod's own: the condition DisruptionTarget.
    disrupted: bool,
}

impl Evictor {
    pub(crate) fn new(
        config: &Config,
        shared: &Arc<Shared>,
        directory: &Directory,
        (metrics, sources): (Metrics, Sources),
        pressure: watch::Sender<Pressure>,
    ) -> Self {
        let kubelet = &config.kubelet;
        Self {
            node_name: config.node_name.clone(),
            directory: directory.clone(),
            metrics,
            sources,
            decision: Decision::new(kubelet.thresholds(), kubelet.transition_period()),
            soft_grace: kubelet.soft_grace(),
            sweeper: Sweeper::new(shared.images.clone(), Policy::of(kubelet)),
            sweep_failed: false,
            pressure,
            shared: shared.clone(),
        }
    }

    /// Runs until it is dropped.
    pub(crate) async fn run(mut self) {
        // Before, nobody knows which images pods have.
        self.directory.listed().await;
        let mut look = tokio::time::interval(PERIOD);
        let mut sweep = tokio::time::interval(SWEEP_PERIOD);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = look.tick() => {
                    // What ended may not have been enough.
                    while let Some(uid) = self.look().await {
                        self.gone(&uid).await;
                    }
                }
                _ = sweep.tick() => self.sweep().await,
            }
        }
    }

    /// The pod that ends, if one does.
    async fn look(&mut self) -> Option<String> {
        let seen = observe(&self.sources, &self.shared.data);
        let verdict = self.decision.look(&seen, Instant::now());
        self.pressure.send_if_modified(|pressure| {
            let changed = *pressure != verdict.pressure;
            *pressure = verdict.pressure;
            changed
        });
        let pods: Vec<Shown> = self.directory.all().into_iter().filter(is_active).collect();
        if let Some(uid) = self.hold_to_limits(&pods).await {
            return Some(uid);
        }
        let threshold = *verdict.starved.first()?;
        let resource = threshold.resource();
        let text = format!("Attempting to reclaim {}", resource.name());
        self.tell_node(Note::warning("EvictionThresholdMet", text));
        if self.reclaim(resource).await {
            log::info!(
                "eviction: {} is enough again, no pod was evicted",
                resource.name()
            );
            return None;
        }
        self.evict_one(&pods, threshold, &verdict, &seen).await
    }

    /// Frees what no pod needs; whether that is enough.
    async fn reclaim(&mut self, resource: Resource) -> bool {
        match resource {
            Resource::Memory | Resource::Pids => return false,
            Resource::Storage | Resource::Inodes => {}
        }
        let pods = self.directory.all();
        for shown in pods.iter().filter(|shown| !is_active(shown)) {
            self.remove_logs(shown);
        }
        let freed = self.sweeper.free(&pods, u64::MAX, SystemTime::now()).await;
        if let Err(error) = freed {
            log::warn!("eviction: {error}");
        }
        let seen = observe(&self.sources, &self.shared.data);
        self.decision.satisfied(&seen)
    }

    fn remove_logs(&self, shown: &Shown) {
        let view = View(&shown.pod);
        if shown.observed.machine != Machine::Absent {
            return;
        }
        logs::remove(&self.shared.data, view.namespace(), view.name(), view.uid());
    }

    async fn evict_one(
        &self,
        pods: &[Shown],
        threshold: Threshold,
        verdict: &Verdict,
        seen: &Observations,
    ) -> Option<String> {
        let sample = self.metrics.sample().await;
        let resource = threshold.resource();
        let mut candidates: Vec<Candidate> = pods
            .iter()
            .filter(|shown| !is_critical(View(&shown.pod)))
            .map(|shown| {
                let view = View(&shown.pod);
                let figures = of_pod(sample.as_deref(), view);
                let scratch = self.shared.scratch(view, shown.observed.size);
                Candidate::new(view, figures, &scratch)
            })
            .collect();
        rank(&mut candidates, resource);
        for candidate in candidates {
            let mut pods = pods.iter();
            let Some(shown) = pods.find(|shown| View(&shown.pod).uid() == candidate.uid) else {
                continue;
            };
            let view = View(&shown.pod);
            let figures = of_pod(sample.as_deref(), view);
            let grace = match threshold.is_hard() {
                true => IMMEDIATE,
                false => self.soft_grace,
            };
            let eviction = Eviction {
                words: words::low(resource, view, figures, &verdict.starved, seen),
                grace,
                disrupted: true,
            };
            if self.evict(view, eviction).await {
                return Some(candidate.uid);
            }
        }
        log::warn!(
            "eviction: {} is low, and no pod can be evicted",
            resource.name()
        );
        None
    }

    /// Ends a pod that passed a limit of its own.
    async fn hold_to_limits(&self, pods: &[Shown]) -> Option<String> {
        let limited = |shown: &&Shown| {
            let view = View(&shown.pod);
            local::limited(view) && !is_critical(view)
        };
        let limited: Vec<View<'_>> = pods
            .iter()
            .filter(limited)
            .map(|shown| View(&shown.pod))
            .collect();
        if limited.is_empty() {
            return None;
        }
        let sample = self.metrics.sample().await?;
        for view in limited {
            let figures = of_pod(Some(&sample), view);
            let Some(message) = figures.and_then(|figures| local::exceeded(view, figures)) else {
                continue;
            };
            let eviction = Eviction {
                words: words::Words {
                    message,
                    ..words::Words::default()
                },
                grace: IMMEDIATE,
                disrupted: false,
            };
            if self.evict(view, eviction).await {
                return Some(view.uid().to_owned());
            }
        }
        None
    }

    /// Whether the pod was still there to be told.
    async fn evict(&self, view: View<'_>, eviction: Eviction) -> bool {
        let Eviction {
            words,
            grace,
            disrupted,
        } = eviction;
        log::warn!("eviction: pod {}: {}", view.label(), words.message);
        let note = Note {
            annotations: words.annotations,
            ..Note::warning(REASON, words.message.clone())
        };
        let rejection = Rejection {
            reason: REASON.to_owned(),
            message: words.message,
            grace_ms: u64::try_from(grace.as_millis()).ok(),
            disrupted,
        };
        let note = Some(note);
        self.directory
            .tell(view.uid(), Update::End { rejection, note })
            .await
    }

    /// Waits until nothing of the pod runs.
    async fn gone(&self, uid: &str) {
        let Some(mut shown) = self.directory.follow(uid) else {
            return;
        };
        let ended =
            shown.wait_for(|shown| !is_active(shown) && shown.observed.machine == Machine::Absent);
        if tokio::time::timeout(PATIENCE, ended).await.is_err() {
            log::warn!("eviction: the pod {uid} is still there after {PATIENCE:?}");
        }
    }

    async fn sweep(&mut self) {
        let pods = self.directory.all();
        let disk = self.sources.disk(&self.shared.data);
        let result = self.sweeper.sweep(&pods, disk, SystemTime::now()).await;
        let Err(error) = result else {
            self.sweep_failed = false;
            return;
        };
        let text = error.to_string();
        log::warn!("images: {text}");
        let reason = match error {
            SweepError::NoDisk => Some("InvalidDiskCapacity"),
            SweepError::TooLittle { .. } => Some("FreeDiskSpaceFailed"),
            SweepError::Images(_) => None,
        };
        if let Some(reason) = reason {
            self.tell_node(Note::warning(reason, text.clone()));
        }
        // As upstream, only from the second failure on.
        if self.sweep_failed {
            self.tell_node(Note::warning("ImageGCFailed", text));
        }
        self.sweep_failed = true;
    }

    fn tell_node(&self, note: Note) {
        let now = Timestamp::now();
        self.shared.events.about_node(&self.node_name, note, now);
    }
}

fn of_pod<'a>(sample: Option<&'a Sample>, view: View<'_>) -> Option<&'a PodFigures> {
    let mut pods = sample?.pods.iter().map(AsRef::as_ref);
    pods.find(|pod: &&PodFigures| pod.uid == view.uid())
}

/// Not over, and not on its way out already.
fn is_active(shown: &Shown) -> bool {
    !is_terminal(&shown.status) && shown.observed.rejected.is_none()
}
