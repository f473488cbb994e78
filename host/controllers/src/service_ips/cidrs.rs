//! ServiceCIDRs (upstream's `pkg/controller/servicecidrs`): each has a finalizer
//! and says that it is ready; one that is deleted goes when no address would be
//! left without a range.

use super::prefix::{containing, name, prefixes};
use super::{CIDRS, is_managed};
use api::time::rfc3339;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use reconcile::{
    Backoff, Cache, Client, ClientError, ObjectKey, Patch, Queue, Reflector, Requeue, Target,
    Write, work,
};
use serde_json::json;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
/// What may have been given out while the deletion was on its way to whom gives
/// out addresses (upstream's `deletionGracePeriod`).
const GRACE: SignedDuration = SignedDuration::from_secs(10);
const CAPACITY: usize = 100_000;
const BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(5),
    max: Duration::from_secs(82),
};
const READY: &str = "Kubernetes Service CIDR is ready";
const HELD: &str = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";

/// What a range needs.
#[derive(Debug, PartialEq)]
enum Step {
    Patch(Option<&'static str>, Patch),
    /// After so long; an address or another range may change it before.
    Wait(SignedDuration),
    Nothing,
}

fn finalizers(cidr: &ServiceCIDR) -> &[String] {
    cidr.metadata.finalizers.as_deref().unwrap_or_default()
}

/// Another condition `Ready`, unless it is as wanted.
fn ready(cidr: &ServiceCIDR, state: &str, reason: &str, message: &str, now: Timestamp) -> Step {
    let conditions = cidr
        .status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten());
    let old = conditions.into_iter().find(|c| c.type_ == "Ready");
    if old.is_some_and(|c| (&*c.status, &*c.reason, &*c.message) == (state, reason, message)) {
        return Step::Nothing;
    }
    let since = match old {
        Some(old) if old.status == state => json!(old.last_transition_time),
        _ => rfc3339(now).into(),
    };
    let condition = json!({
        "type": "Ready", "status": state, "reason": reason, "message": message,
        "lastTransitionTime": since,
    });
    let patch = json!({"status": {"conditions": [condition]}});
    Step::Patch(Some("status"), Patch::Strategic(patch))
}

/// Finalizers, if nobody else has changed them.
fn finalize(cidr: &ServiceCIDR, wanted: Vec<&str>) -> Step {
    let version = &cidr.metadata.resource_version;
    let metadata = json!({"resourceVersion": version, "finalizers": wanted});
    Step::Patch(None, Patch::Merge(json!({"metadata": metadata})))
}

fn step(
    cidr: &ServiceCIDR,
    all: &[Arc<ServiceCIDR>],
    addresses: &[Arc<IPAddress>],
    now: Timestamp,
) -> Step {
    let has = finalizers(cidr).iter().any(|f| f == FINALIZER);
    let Some(deleted) = &cidr.metadata.deletion_timestamp else {
        if !has {
            let own = finalizers(cidr).iter().map(String::as_str);
            return finalize(cidr, own.chain([FINALIZER]).collect());
        }
        return ready(cidr, "True", "", READY, now);
    };
    if !has {
        return Step::Nothing;
    }
    if !may_go(cidr, all, addresses) {
        return ready(cidr, "False", "Terminating", HELD, now);
    }
    let left = GRACE - now.duration_since(deleted.0);
    if left.is_positive() {
        return Step::Wait(left);
    }
    let others = finalizers(cidr).iter().filter(|f| *f != FINALIZER);
    finalize(cidr, others.map(String::as_str).collect())
}

/// Whether no address needs this range.
fn may_go(cidr: &ServiceCIDR, all: &[Arc<ServiceCIDR>], addresses: &[Arc<IPAddress>]) -> bool {
    let own = name(cidr);
    let others: Vec<&Arc<ServiceCIDR>> = all.iter().filter(|c| name(c) != own).collect();
    let is_within = |prefix| {
        let mut larger = others.iter().flat_map(|c| prefixes(c));
        larger.any(|p| p.covers(prefix))
    };
    if prefixes(cidr).iter().all(is_within) {
        return true;
    }
    let ips = addresses.iter().filter(|a| is_managed(a));
    let ips = ips.filter_map(|a| a.metadata.name.as_ref()?.parse::<IpAddr>().ok());
    let mut ips = ips;
    !ips.any(|ip| containing(all, ip) == [own])
}

pub(super) struct Keeper {
    client: Client,
    queue: Queue<ObjectKey>,
    cidrs: Cache<ServiceCIDR>,
    addresses: Cache<IPAddress>,
}

impl Keeper {
    pub(super) fn new(
        client: &Client,
        cidrs: &Cache<ServiceCIDR>,
        addresses: &Cache<IPAddress>,
    ) -> Keeper {
        Keeper {
            client: client.clone(),
            queue: Queue::new(CAPACITY, BACKOFF),
            cidrs: cidrs.clone(),
            addresses: addresses.clone(),
        }
    }

    /// A range concerns itself and those it may hold up or set free; an address
    /// that goes, the ranges with it.
    pub(super) fn feed(
        &self,
        cidrs: Reflector<ServiceCIDR>,
        addresses: Reflector<IPAddress>,
    ) -> (Reflector<ServiceCIDR>, Reflector<IPAddress>) {
        let (queue, known) = (self.queue.clone(), self.cidrs.clone());
        let cidrs = cidrs.on_change(move |change| {
            queue.add(change.key.clone());
            for other in known.list() {
                if other.metadata.deletion_timestamp.is_some() {
                    queue.add(ObjectKey::new("", name(&other)));
                }
            }
        });
        let (queue, known) = (self.queue.clone(), self.cidrs.clone());
        let addresses = addresses.on_change(move |change| {
            let Ok(ip) = change.key.name.parse::<IpAddr>() else {
                return;
            };
            if change.new.is_none() || change.old.is_none() {
                for name in containing(&known.list(), ip) {
                    queue.add(ObjectKey::new("", name));
                }
            }
        });
        (cidrs, addresses)
    }

    pub(super) async fn run(&self) {
        tokio::join!(self.cidrs.synced(), self.addresses.synced());
        work("service cidrs", &self.queue, 1, |key| self.reconcile(key)).await;
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue, ClientError> {
        let Some(cidr) = self.cidrs.get(&key) else {
            return Ok(Requeue::Never);
        };
        let (all, addresses) = (self.cidrs.list(), self.addresses.list());
        let (subresource, patch) = match step(&cidr, &all, &addresses, Timestamp::now()) {
            Step::Nothing => return Ok(Requeue::Never),
            Step::Wait(left) => {
                let left = Duration::try_from(left).unwrap_or_default();
                return Ok(Requeue::After(left));
            }
            Step::Patch(subresource, patch) => (subresource, patch),
        };
        let write = Write::Patch {
            target: Target {
                resource: CIDRS,
                namespace: None,
                name: key.name,
            },
            subresource,
            patch,
        };
        match self.client.write(&write).await {
            Err(error) if !error.is_not_found() => Err(error),
            Ok(_) | Err(_) => Ok(Requeue::Never),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde_json::Value;

    fn cidr(name: &str, range: &str, more: Value) -> Arc<ServiceCIDR> {
        let mut metadata = json!({"name": name, "finalizers": [FINALIZER]});
        let more = more.as_object().unwrap().clone();
        metadata.as_object_mut().unwrap().extend(more);
        let object = json!({"metadata": metadata, "spec": {"cidrs": [range]}});
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn address(ip: &str) -> Arc<IPAddress> {
        let object = json!({"metadata": {"name": ip, "labels": {super::super::MANAGED_BY: "ipallocator.k8s.io"}},
            "spec": {"parentRef": {"resource": "services", "name": "s", "namespace": "n"}}});
        Arc::new(serde_json::from_value(object).unwrap())
    }

    /// What becomes of `own`, 10.0.0.0/24, that was deleted `ago` seconds ago,
    /// beside another range and with the addresses `ips`.
    fn end(ago: i64, other: Option<&str>, ips: &[&str]) -> &'static str {
        let now: Timestamp = "2026-01-01T00:00:10Z".parse().unwrap();
        let deleted = rfc3339(now - SignedDuration::from_secs(ago));
        let own = cidr("own", "10.0.0.0/24", json!({"deletionTimestamp": deleted}));
        let mut all = vec![own.clone()];
        all.extend(other.map(|range| cidr("other", range, json!({}))));
        let ips: Vec<_> = ips.iter().map(|ip| address(ip)).collect();
        let found = step(&own, &all, &ips, now);
        if found == finalize(&own, vec![]) {
            return "goes";
        }
        if found == ready(&own, "False", "Terminating", HELD, now) {
            return "held";
        }
        assert_eq!(found, Step::Wait(SignedDuration::from_secs(10 - ago)));
        "waits"
    }

    #[test]
    fn a_range_goes_when_its_addresses_have_another() {
        let inside = &["10.0.0.7"][..];
        for (what, ago, other, ips, wanted) in [
            ("nobody in it", 10, None, &[][..], "goes"),
            ("just now", 4, None, &[], "waits"),
            ("somebody in it", 10, None, inside, "held"),
            ("a larger one", 10, Some("10.0.0.0/16"), inside, "goes"),
            ("the same one", 10, Some("10.0.0.0/24"), inside, "goes"),
            ("a part with it", 10, Some("10.0.0.0/28"), inside, "goes"),
            ("a part without", 10, Some("10.0.0.128/28"), inside, "held"),
            ("elsewhere", 10, None, &["10.1.0.7"], "goes"),
        ] {
            assert_eq!(end(ago, other, ips), wanted, "{what}");
        }
    }

    #[test]
    fn a_new_range_gets_its_finalizer_and_then_is_ready() {
        let now: Timestamp = "2026-01-01T00:00:10Z".parse().unwrap();
        let new = cidr("new", "10.0.0.0/24", json!({"finalizers": ["a/b"]}));
        assert_eq!(
            step(&new, &[], &[], now),
            finalize(&new, vec!["a/b", FINALIZER])
        );
        let new = cidr("new", "10.0.0.0/24", json!({}));
        let Step::Patch(Some("status"), Patch::Strategic(patch)) = step(&new, &[], &[], now) else {
            panic!("no status");
        };
        let mut told = (*new).clone();
        told.status = serde_json::from_value(patch["status"].clone()).unwrap();
        assert_eq!(step(&told, &[], &[], now), Step::Nothing);
    }
}
