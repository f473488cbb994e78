//! Services and IPAddresses that don't name each other (upstream's
//! `ipallocator/controller/repairip.go`): an address that nobody holds goes, one
//! that a Service holds without an object is made; events tell of both.

use super::prefix::containing;
use super::{ADDRESSES, FAMILY, MANAGED_BY, MANAGER, is_managed};
use crate::recorder::{Report, Reporter};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::networking::v1::{IPAddress, ParentReference, ServiceCIDR};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use reconcile::{
    Backoff, Cache, Client, ClientError, DeleteOptions, ObjectKey, Queue, Reflector, Requeue,
    Target, Write, work,
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::time::Duration;

/// A Service may still be on its way when its address is there.
const GRACE: SignedDuration = SignedDuration::from_secs(60);
/// How often all are looked at.
const RESYNC: Duration = Duration::from_secs(180);
const CAPACITY: usize = 100_000;
const BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(5),
    max: Duration::from_secs(82),
};

/// Of a Service only what it holds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Holder {
    metadata: ObjectMeta,
    spec: Held,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Held {
    #[serde(rename = "type")]
    kind: String,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Vec<String>,
}

impl Holder {
    fn ips(&self) -> &[String] {
        match self.spec.kind.as_str() {
            "ExternalName" => &[],
            _ => &self.spec.cluster_ips,
        }
    }

    fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }
}

/// Something that is told of an object.
#[derive(Debug, PartialEq)]
struct Telling {
    reason: &'static str,
    action: &'static str,
    message: String,
}

/// What an address that a Service holds needs.
#[derive(Debug, PartialEq)]
enum Remedy {
    Nothing,
    Tell(Telling),
    Create(Telling),
    /// Something else has its name.
    Replace(Option<Telling>),
}

fn family(ip: IpAddr) -> &'static str {
    if ip.is_ipv6() { "IPv6" } else { "IPv4" }
}

fn parent(address: &IPAddress) -> &ParentReference {
    &address.spec.parent_ref
}

fn is_of_service(parent: &ParentReference) -> bool {
    parent.group.as_deref().unwrap_or_default().is_empty() && parent.resource == "services"
}

/// `other` is the Service that the address names, if there is one.
fn of_service(
    service: &Holder,
    ip: IpAddr,
    in_range: bool,
    address: Option<&IPAddress>,
    other: Option<&Holder>,
) -> Remedy {
    let family = family(ip);
    let (namespace, name) = (service.namespace(), service.name());
    let tell = |reason, message| Telling {
        reason,
        action: "ClusterIPAllocation",
        message,
    };
    if !in_range {
        return Remedy::Tell(tell(
            "ClusterIPOutOfRange",
            format!(
                "Cluster IP [{family}]: {ip} is not within any configured Service CIDR; please recreate service"
            ),
        ));
    }
    let Some(address) = address else {
        let message = format!("Cluster IP [{family}]: {ip} is not allocated; repairing");
        return Remedy::Create(tell("ClusterIPNotAllocated", message));
    };
    let wrong = || {
        let message = format!(
            "the ClusterIP [{family}]: {ip} for Service {namespace}/{name} has a wrong reference; repairing"
        );
        Remedy::Replace(Some(tell("ClusterIPNotAllocated", message)))
    };
    let parent = parent(address);
    if !is_of_service(parent) {
        return wrong();
    }
    let is_own = parent.namespace.as_deref() == Some(namespace) && parent.name == name;
    match other {
        _ if is_own => {}
        None => return wrong(),
        Some(other) if other.ips().contains(&ip.to_string()) => {
            return Remedy::Tell(tell(
                "ClusterIPAlreadyAllocated",
                format!(
                    "Cluster IP [{family}]:{ip} was assigned to multiple services; please recreate service"
                ),
            ));
        }
        // The look at the address sees to that.
        Some(_) => {}
    }
    let labels = address.metadata.labels.as_ref();
    let named = labels.and_then(|l| l.get(FAMILY)).map(String::as_str);
    match named == Some(family) && is_managed(address) {
        true => Remedy::Nothing,
        false => Remedy::Replace(None),
    }
}

/// What becomes of an address that the API server has given out.
#[derive(Debug, PartialEq)]
enum Fate {
    Stays,
    /// Its Service may come yet.
    Waits(SignedDuration),
    Goes(Telling),
}

fn of_address(address: &IPAddress, service: Option<&Holder>, now: Timestamp) -> Fate {
    let ip = address.metadata.name.as_deref().unwrap_or_default();
    let tell = |reason, message| {
        Fate::Goes(Telling {
            reason,
            action: "IPAddressAllocation",
            message,
        })
    };
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let parent = parent(address);
    let (namespace, name) = (text(&parent.namespace), &parent.name);
    if !is_of_service(parent) {
        let group = text(&parent.group);
        let shown = format!("&{{{group} {} {namespace} {name}}}", parent.resource);
        let message = format!(
            "IPAddress {ip} appears to have been modified, not referencing a Service {shown}: cleaning up"
        );
        return tell("IPAddressNotAllocated", message);
    }
    let Some(service) = service else {
        let made = address.metadata.creation_timestamp.as_ref();
        let age = made.map_or(GRACE * 2, |made| now.duration_since(made.0));
        if age <= GRACE {
            return Fate::Waits(GRACE - age);
        }
        let message = format!(
            "IPAddress: {ip} for Service {namespace}/{name} appears to have leaked: cleaning up"
        );
        return tell("IPAddressNotAllocated", message);
    };
    if service.ips().iter().any(|held| held == ip) {
        return Fate::Stays;
    }
    let message = format!(
        "IPAddress: {ip} for Service {namespace}/{name} has a wrong reference; cleaning up"
    );
    tell("IPAddressWrongReference", message)
}

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Key {
    Service(ObjectKey),
    Address(String),
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Key::Service(key) => write!(f, "service {key}"),
            Key::Address(ip) => write!(f, "address {ip}"),
        }
    }
}

pub(super) struct Repair {
    client: Client,
    reporter: Reporter,
    queue: Queue<Key>,
    cidrs: Cache<ServiceCIDR>,
    addresses: Cache<IPAddress>,
    services: Cache<Holder>,
}

type Caches = (Cache<ServiceCIDR>, Cache<IPAddress>, Cache<Holder>);

impl Repair {
    pub(super) fn new(client: &Client, instance: &str, caches: Caches) -> Repair {
        let (cidrs, addresses, services) = caches;
        Repair {
            client: client.clone(),
            reporter: Reporter {
                component: "ipallocator-repair-controller",
                instance: instance.to_owned(),
            },
            queue: Queue::new(CAPACITY, BACKOFF),
            cidrs,
            addresses,
            services,
        }
    }

    pub(super) fn feed(
        &self,
        addresses: Reflector<IPAddress>,
        services: Reflector<Holder>,
    ) -> (Reflector<IPAddress>, Reflector<Holder>) {
        let (to, known) = (self.queue.clone(), self.services.clone());
        let addresses = addresses.on_change(move |change| {
            to.add(Key::Address(change.key.name.clone()));
            for address in [&change.old, &change.new].into_iter().flatten() {
                let key = of(parent(address));
                if known.get(&key).is_some() {
                    to.add(Key::Service(key));
                }
            }
        });
        let to = self.queue.clone();
        let services = services.on_change(move |change| {
            to.add(Key::Service(change.key.clone()));
            let held = change.old.iter().flat_map(|s| s.ips().iter().cloned());
            for ip in held.filter(|ip| ip != "None") {
                to.add(Key::Address(ip));
            }
        });
        (addresses, services)
    }

    pub(super) async fn run(&self) {
        tokio::join!(
            self.cidrs.synced(),
            self.addresses.synced(),
            self.services.synced()
        );
        let resync = async {
            loop {
                for key in self.services.keys() {
                    self.queue.add(Key::Service(key));
                }
                for key in self.addresses.keys() {
                    self.queue.add(Key::Address(key.name));
                }
                tokio::time::sleep(RESYNC).await;
            }
        };
        let working = work("service addresses", &self.queue, 2, |key| {
            self.reconcile(key)
        });
        tokio::join!(resync, working);
    }

    async fn reconcile(&self, key: Key) -> Result<Requeue, ClientError> {
        match key {
            Key::Service(key) => self.service(&key).await,
            Key::Address(ip) => self.address(&ip).await,
        }
    }

    async fn service(&self, key: &ObjectKey) -> Result<Requeue, ClientError> {
        let Some(cached) = self.services.get(key) else {
            return Ok(Requeue::Never);
        };
        let ips = cached.ips().iter().filter(|ip| *ip != "None");
        for ip in ips.filter_map(|ip| ip.parse::<IpAddr>().ok()) {
            let address = self.addresses.get(&ObjectKey::new("", ip.to_string()));
            let address = address.as_deref();
            let other = address.and_then(|a| self.services.get(&of(parent(a))));
            if self.remedy(&cached, ip, address, other.as_deref()) == Remedy::Nothing {
                continue;
            }
            // The caches may be behind one another.
            let Some(service) = self.current(key).await? else {
                return Ok(Requeue::Never);
            };
            if !service.ips().contains(&ip.to_string()) {
                continue;
            }
            let address = self.current_address(&ip.to_string()).await?;
            let other = match address.as_ref().map(parent) {
                Some(parent) => self.current(&of(parent)).await?,
                None => None,
            };
            let remedy = self.remedy(&service, ip, address.as_ref(), other.as_ref());
            self.carry_out(&service, ip, address, remedy).await?;
        }
        Ok(Requeue::Never)
    }

    fn remedy(
        &self,
        service: &Holder,
        ip: IpAddr,
        address: Option<&IPAddress>,
        other: Option<&Holder>,
    ) -> Remedy {
        let in_range = !containing(&self.cidrs.list(), ip).is_empty();
        of_service(service, ip, in_range, address, other)
    }

    async fn carry_out(
        &self,
        service: &Holder,
        ip: IpAddr,
        address: Option<IPAddress>,
        remedy: Remedy,
    ) -> Result<(), ClientError> {
        let telling = match remedy {
            Remedy::Nothing => return Ok(()),
            Remedy::Tell(telling) => {
                self.tell_of(service, &telling).await;
                return Ok(());
            }
            Remedy::Create(telling) => Some(telling),
            Remedy::Replace(telling) => telling,
        };
        if let Some(telling) = &telling {
            self.tell_of(service, telling).await;
        }
        if let Some(address) = address {
            self.delete(&address).await?;
        }
        let object = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
            "metadata": {
                "name": ip.to_string(),
                "labels": {FAMILY: family(ip), MANAGED_BY: MANAGER},
            },
            "spec": {"parentRef": {
                "resource": "services",
                "namespace": service.namespace(), "name": service.name(),
            }},
        });
        self.client
            .create(&ADDRESSES, None, &object)
            .await
            .map(drop)
    }

    async fn address(&self, ip: &str) -> Result<Requeue, ClientError> {
        let Some(cached) = self.addresses.get(&ObjectKey::new("", ip)) else {
            return Ok(Requeue::Never);
        };
        if !is_managed(&cached) {
            return Ok(Requeue::Never);
        }
        let now = Timestamp::now();
        let service = self.services.get(&of(parent(&cached)));
        if of_address(&cached, service.as_deref(), now) == Fate::Stays {
            return Ok(Requeue::Never);
        }
        let Some(address) = self.current_address(ip).await?.filter(is_managed) else {
            return Ok(Requeue::Never);
        };
        let service = self.current(&of(parent(&address))).await?;
        match of_address(&address, service.as_ref(), now) {
            Fate::Stays => {}
            Fate::Waits(left) => {
                let left = Duration::try_from(left).unwrap_or_default();
                return Ok(Requeue::After(left + Duration::from_secs(1)));
            }
            Fate::Goes(telling) => {
                let kind = ("networking.k8s.io/v1", "IPAddress");
                self.tell(kind, &address.metadata, &telling).await;
                self.delete(&address).await?;
            }
        }
        Ok(Requeue::Never)
    }

    async fn get<T: for<'a> Deserialize<'a>>(&self, path: &str) -> Result<Option<T>, ClientError> {
        let object: Value = match self.client.get_path(path).await {
            Ok(object) => object,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        let read = serde_json::from_value(object);
        read.map(Some).map_err(|e| ClientError::Malformed {
            operation: format!("reading {path}"),
            what: e.to_string(),
        })
    }

    async fn current(&self, key: &ObjectKey) -> Result<Option<Holder>, ClientError> {
        let ObjectKey { namespace, name } = key;
        self.get(&format!("/api/v1/namespaces/{namespace}/services/{name}"))
            .await
    }

    async fn current_address(&self, ip: &str) -> Result<Option<IPAddress>, ClientError> {
        self.get(&format!("/apis/networking.k8s.io/v1/ipaddresses/{ip}"))
            .await
    }

    /// As it was read; another one of its name stays.
    async fn delete(&self, address: &IPAddress) -> Result<(), ClientError> {
        let write = Write::Delete {
            target: Target {
                resource: ADDRESSES,
                namespace: None,
                name: address.metadata.name.clone().unwrap_or_default(),
            },
            options: DeleteOptions {
                uid: address.metadata.uid.clone(),
                resource_version: address.metadata.resource_version.clone(),
                ..DeleteOptions::default()
            },
        };
        match self.client.write(&write).await {
            Err(error) if !error.is_not_found() => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    async fn tell_of(&self, service: &Holder, telling: &Telling) {
        self.tell(("v1", "Service"), &service.metadata, telling)
            .await;
    }

    async fn tell(&self, kind: (&str, &str), object: &ObjectMeta, telling: &Telling) {
        let report = Report {
            api_version: kind.0,
            kind: kind.1,
            object,
            warning: true,
            reason: telling.reason,
            action: telling.action,
            message: &telling.message,
        };
        let event = self.reporter.event(&report, Timestamp::now());
        if let Err(error) = self.client.write(&event).await {
            log::warn!("service addresses: {error}");
        }
    }
}

/// The Service that an address names.
fn of(parent: &ParentReference) -> ObjectKey {
    ObjectKey::new(
        parent.namespace.clone().unwrap_or_default(),
        parent.name.clone(),
    )
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn service(name: &str, ips: &[&str]) -> Holder {
        let object = json!({"metadata": {"name": name, "namespace": "n"},
            "spec": {"type": "ClusterIP", "clusterIPs": ips}});
        serde_json::from_value(object).unwrap()
    }

    fn address(resource: &str, name: &str, label: &str) -> IPAddress {
        let object = json!({
            "metadata": {"name": "10.0.0.7", "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {FAMILY: label, MANAGED_BY: MANAGER}},
            "spec": {"parentRef": {"resource": resource, "namespace": "n", "name": name}},
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn what_a_service_holds_has_an_object_that_names_it() {
        let own = service("own", &["10.0.0.7"]);
        let ip: IpAddr = "10.0.0.7".parse().unwrap();
        let short = |remedy| match remedy {
            Remedy::Nothing => "",
            Remedy::Tell(telling) => telling.reason,
            Remedy::Create(_) => "create",
            Remedy::Replace(_) => "replace",
        };
        for (what, found, other, wanted) in [
            (
                "fine",
                Some(address("services", "own", "IPv4")),
                Some(&own),
                "",
            ),
            ("absent", None, None, "create"),
            (
                "a Gateway's",
                Some(address("gateways", "own", "IPv4")),
                None,
                "replace",
            ),
            (
                "nobody's",
                Some(address("services", "gone", "IPv4")),
                None,
                "replace",
            ),
            (
                "another's, too",
                Some(address("services", "twin", "IPv4")),
                Some(&service("twin", &["10.0.0.7"])),
                "ClusterIPAlreadyAllocated",
            ),
            (
                "mislabelled",
                Some(address("services", "own", "IPv6")),
                Some(&own),
                "replace",
            ),
        ] {
            let remedy = of_service(&own, ip, true, found.as_ref(), other);
            assert_eq!(short(remedy), wanted, "{what}");
        }
        assert_eq!(
            short(of_service(&own, ip, false, None, None)),
            "ClusterIPOutOfRange"
        );
    }

    #[test]
    fn addresses_that_nobody_holds_go_after_a_while() {
        let own = service("own", &["10.0.0.7"]);
        let other = service("own", &["10.0.0.8"]);
        let (early, late) = ("2026-01-01T00:00:59Z", "2026-01-01T00:01:01Z");
        let short = |fate| match fate {
            Fate::Stays => "stays".to_owned(),
            Fate::Waits(left) => left.as_secs().to_string(),
            Fate::Goes(telling) => format!("{}: {}", telling.reason, telling.message),
        };
        for (address, service, now, wanted) in [
            (
                address("services", "own", "IPv4"),
                Some(&own),
                late,
                "stays",
            ),
            (address("services", "own", "IPv4"), None, early, "1"),
            (
                address("services", "own", "IPv4"),
                None,
                late,
                "IPAddressNotAllocated: IPAddress: 10.0.0.7 for Service n/own appears to have leaked: cleaning up",
            ),
            (
                address("services", "own", "IPv4"),
                Some(&other),
                early,
                "IPAddressWrongReference: IPAddress: 10.0.0.7 for Service n/own has a wrong reference; cleaning up",
            ),
            (
                address("gateways", "own", "IPv4"),
                None,
                early,
                "IPAddressNotAllocated: IPAddress 10.0.0.7 appears to have been modified, not referencing a Service &{ gateways n own}: cleaning up",
            ),
        ] {
            let fate = of_address(&address, service, now.parse().unwrap());
            assert_eq!(short(fate), wanted);
        }
    }
}
