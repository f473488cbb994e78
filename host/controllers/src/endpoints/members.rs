//! The pods behind a Service, as Endpoints and EndpointSlices have them.

use crate::scheduler::is_over;
use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A port by which a pod serves, in the Service's words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) port: i32,
    pub(super) protocol: String,
    pub(super) app_protocol: Option<String>,
}

/// A pod that a Service's selector matches and that has an address.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Member {
    pub(super) ips: Vec<IpAddr>,
    pub(super) ports: Vec<Port>,
    pub(super) target: ObjectReference,
    pub(super) hostname: Option<String>,
    pub(super) node: Option<String>,
    pub(super) zone: Option<String>,
    pub(super) serving: bool,
    pub(super) terminating: bool,
    /// The Service wants it named though it isn't ready.
    pub(super) published: bool,
}

impl Member {
    pub(super) fn ready(&self) -> bool {
        self.published || (self.serving && !self.terminating)
    }
}

/// Whether its endpoints are those of the pods that its selector matches:
/// one without a selector, and an ExternalName, has none of its own.
pub(super) fn is_selecting(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    let external = spec.and_then(|s| s.type_.as_deref()) == Some("ExternalName");
    !external && spec.is_some_and(|s| s.selector.as_ref().is_some_and(|s| !s.is_empty()))
}

pub(super) fn selects(service: &Service, pod: &Pod) -> bool {
    let selector = service.spec.as_ref().and_then(|s| s.selector.as_ref());
    let labels = pod.metadata.labels.as_ref();
    selector.is_some_and(|selector| {
        let has = |(key, value)| labels.and_then(|l| l.get(key)) == Some(value);
        !selector.is_empty() && selector.iter().all(has)
    })
}

/// No cluster address of its own.
pub(super) fn is_headless(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    let ip = spec.and_then(|s| s.cluster_ip.as_deref());
    matches!(ip, None | Some("" | "None"))
}

/// In the order of `pods`; those that ended or have no address are left out.
pub(super) fn of<'a>(
    service: &Service,
    pods: impl Iterator<Item = &'a Pod>,
    zones: &BTreeMap<String, String>,
) -> Vec<Member> {
    pods.filter_map(|pod| member(service, pod, zones)).collect()
}

fn member(service: &Service, pod: &Pod, zones: &BTreeMap<String, String>) -> Option<Member> {
    let (wanted, status, spec) = (
        service.spec.as_ref()?,
        pod.status.as_ref()?,
        pod.spec.as_ref()?,
    );
    if is_over(pod) {
        return None;
    }
    let named = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    let mut ips: Vec<IpAddr> = named.filter_map(|ip| ip.parse().ok()).collect();
    if ips.is_empty() {
        let only = status.pod_ip.as_deref();
        ips.extend(only.and_then(|ip| ip.parse::<IpAddr>().ok()));
    }
    if ips.is_empty() {
        return None;
    }
    let metadata = &pod.metadata;
    let in_domain = spec.subdomain.as_deref() == service.metadata.name.as_deref();
    let node = spec.node_name.clone().filter(|n| !n.is_empty());
    let ready =
        |c: &k8s_openapi::api::core::v1::PodCondition| c.type_ == "Ready" && c.status == "True";
    Some(Member {
        ips,
        ports: ports(wanted.ports.as_deref().unwrap_or_default(), pod),
        target: ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone(),
            uid: metadata.uid.clone(),
            ..ObjectReference::default()
        },
        hostname: spec.hostname.clone().filter(|h| in_domain && !h.is_empty()),
        zone: node.as_ref().and_then(|n| zones.get(n).cloned()),
        node,
        serving: status.conditions.iter().flatten().any(ready),
        terminating: metadata.deletion_timestamp.is_some(),
        published: wanted.publish_not_ready_addresses == Some(true),
    })
}

/// Without those that the pod doesn't have.
fn ports(wanted: &[ServicePort], pod: &Pod) -> Vec<Port> {
    let port = |wanted: &ServicePort| {
        let protocol = wanted.protocol.as_deref().unwrap_or("TCP");
        Some(Port {
            name: wanted.name.clone().unwrap_or_default(),
            port: number(wanted, protocol, pod)?,
            protocol: protocol.to_owned(),
            app_protocol: wanted.app_protocol.clone(),
        })
    };
    wanted.iter().filter_map(port).collect()
}

/// The target port; one that is a name is looked for in the pod's containers,
/// sidecars among them.
fn number(wanted: &ServicePort, protocol: &str, pod: &Pod) -> Option<i32> {
    let name = match wanted.target_port.as_ref() {
        None | Some(IntOrString::Int(0)) => return Some(wanted.port),
        Some(IntOrString::Int(port)) => return Some(*port),
        Some(IntOrString::String(name)) => name,
    };
    let spec = pod.spec.as_ref()?;
    let inits = spec.init_containers.iter().flatten();
    let sidecars = inits.filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars);
    ports
        .flat_map(|c| c.ports.iter().flatten())
        .find(|p| {
            p.name.as_ref() == Some(name) && p.protocol.as_deref().unwrap_or("TCP") == protocol
        })
        .map(|p| p.container_port)
}
