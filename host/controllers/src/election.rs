//! Of several processes on one store, one leads and the others wait: a Lease
//! says who, as client-go's `leaderelection` does.
//!
//! A holder is believed for the duration of the lease since its last change was
//! *seen*, by this process's own clock; the times in the Lease are for people.
//! A leader that can't renew stops before others may take over.

use api::time::rfc3339_micro;
use jiff::Timestamp;
use reconcile::resource::core::LEASES;
use reconcile::{Client, ClientError};
use serde_json::{Value, json};
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

pub(crate) const NAMESPACE: &str = "kube-system";
/// Attempts to give a lease back.
const RELEASES: usize = 5;

/// How patient everybody is; client-go's defaults.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// For how long a holder that was seen is believed.
    pub lease: Duration,
    /// A leader that couldn't renew for so long gives up; less than `lease`.
    pub renew: Duration,
    /// Between two attempts to get or renew it.
    pub retry: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            lease: Duration::from_secs(15),
            renew: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// Who stands for election, and how.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// `spec.holderIdentity`: no other process has the same.
    pub identity: String,
    pub timing: Timing,
}

impl Candidate {
    /// This process: the machine's name and a number of its own.
    pub fn here() -> Candidate {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let number = RandomState::new().hash_one(std::process::id());
        Candidate {
            identity: format!("{}_{number:016x}", host.trim()),
            timing: Timing::default(),
        }
    }
}

/// What to do about the Lease.
#[derive(Debug, PartialEq)]
enum Step {
    Create(Value),
    /// With the version that was seen, so that one candidate succeeds.
    Update(Value),
    /// Somebody else holds it.
    Wait,
}

pub(crate) struct Election {
    client: Client,
    /// The Lease's name.
    name: &'static str,
    candidate: Candidate,
    /// The `spec` that was seen last, and since when it has been the same.
    seen: Option<(Value, Instant)>,
    /// Whether the last attempt made or left us the holder.
    leads: bool,
}

impl Election {
    pub(crate) fn new(client: Client, name: &'static str, candidate: Candidate) -> Election {
        let client = client.with_timeout(candidate.timing.renew);
        Election {
            client,
            name,
            candidate,
            seen: None,
            leads: false,
        }
    }

    /// Runs what `work` makes while this process leads, again each time that it
    /// does; what it was doing when the lead is lost is dropped.
    pub(crate) async fn lead<F: Future<Output = ()>>(&mut self, work: impl Fn() -> F) {
        loop {
            self.acquire().await;
            log::info!("{} leads {}", self.candidate.identity, self.name);
            let work = Box::pin(work());
            tokio::select! {
                () = work => return,
                () = self.renew() => log::warn!("the lead of {} is lost", self.name),
            }
        }
    }

    async fn acquire(&mut self) {
        while !self.attempt().await {
            sleep(
                self.candidate
                    .timing
                    .retry
                    .mul_f64(1.0 + reconcile::random() * 1.2),
            )
            .await;
        }
    }

    /// Ends when the lead is lost.
    async fn renew(&mut self) {
        let Timing { renew, retry, .. } = self.candidate.timing;
        let mut renewed = Instant::now();
        loop {
            sleep(retry).await;
            let began = Instant::now();
            let left = (renewed + renew).saturating_duration_since(began);
            match timeout(left, self.attempt()).await {
                Ok(true) => renewed = began,
                Ok(false) if self.held_by_another() => break,
                Ok(false) if began.elapsed() < left => {}
                _ => break,
            }
        }
        self.leads = false;
    }

    fn held_by_another(&self) -> bool {
        let holder = self.seen.as_ref().map(|(spec, _)| holder(spec));
        holder.is_some_and(|holder| !holder.is_empty() && holder != self.candidate.identity)
    }

    /// Whether we hold it now.
    async fn attempt(&mut self) -> bool {
        match self.try_attempt().await {
            Ok(leads) => self.leads = leads,
            Err(error) => {
                log::debug!("lease {}: {error}", self.name);
                return false;
            }
        }
        self.leads
    }

    async fn try_attempt(&mut self) -> Result<bool, ClientError> {
        let found = self.client.get(&LEASES, Some(NAMESPACE), self.name).await;
        let found = match found {
            Ok(lease) => Some(lease),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        let now = Instant::now();
        let spec = found.as_ref().map(|lease| lease["spec"].clone());
        match spec {
            Some(spec) if self.seen.as_ref().is_none_or(|(seen, _)| *seen != spec) => {
                self.seen = Some((spec, now));
            }
            _ => {}
        }
        let written = match self.step(found.as_ref(), now, Timestamp::now()) {
            Step::Wait => return Ok(false),
            Step::Create(lease) => self.client.create(&LEASES, Some(NAMESPACE), &lease).await?,
            Step::Update(lease) => self.client.update(&LEASES, Some(NAMESPACE), &lease).await?,
        };
        self.seen = Some((written["spec"].clone(), now));
        Ok(true)
    }

    fn step(&self, found: Option<&Value>, at: Instant, now: Timestamp) -> Step {
        let Candidate { identity, timing } = &self.candidate;
        let stamp = rfc3339_micro(now);
        let mut spec = json!({
            "holderIdentity": identity,
            "leaseDurationSeconds": timing.lease.as_secs().max(1),
            "acquireTime": stamp,
            "renewTime": stamp,
            "leaseTransitions": 0,
        });
        let Some(lease) = found else {
            return Step::Create(json!({
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": self.name, "namespace": NAMESPACE},
                "spec": spec,
            }));
        };
        let old = &lease["spec"];
        let ours = holder(old) == identity;
        let since = self.seen.as_ref().map_or(at, |(_, since)| *since);
        if !ours && !holder(old).is_empty() && at < since + timing.lease {
            return Step::Wait;
        }
        let transitions = old["leaseTransitions"].as_i64().unwrap_or_default();
        match ours {
            true => {
                spec["acquireTime"] = old["acquireTime"].clone();
                spec["leaseTransitions"] = json!(transitions);
            }
            false => spec["leaseTransitions"] = json!(transitions.saturating_add(1)),
        }
        let mut lease = lease.clone();
        lease["spec"] = spec;
        Step::Update(lease)
    }

    /// Gives the lead back, so that nobody has to wait for it.
    pub(crate) async fn release(mut self) {
        if !self.leads {
            return;
        }
        for _ in 0..RELEASES {
            match self.try_release().await {
                Ok(()) => return,
                // A renewal that was under way when it was dropped.
                Err(error) if error.is_conflict() => {}
                Err(error) => return log::info!("lease {} is kept: {error}", self.name),
            }
        }
    }

    async fn try_release(&mut self) -> Result<(), ClientError> {
        let mut lease = self.client.get(&LEASES, Some(NAMESPACE), self.name).await?;
        if holder(&lease["spec"]) != self.candidate.identity {
            return Ok(());
        }
        let stamp = rfc3339_micro(Timestamp::now());
        lease["spec"] = json!({
            "holderIdentity": "",
            "leaseDurationSeconds": 1,
            "acquireTime": stamp,
            "renewTime": stamp,
            "leaseTransitions": lease["spec"]["leaseTransitions"],
        });
        let written = self.client.update(&LEASES, Some(NAMESPACE), &lease).await;
        written.map(drop)
    }
}

fn holder(spec: &Value) -> &str {
    spec["holderIdentity"].as_str().unwrap_or_default()
}

#[cfg(test)]
#[path = "election_tests.rs"]
mod tests;
