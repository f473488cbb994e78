//! What a pod asks for and what a node has, in numbers: CPU in thousandths,
//! everything else in whole units.

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, Node, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amounts(pub(crate) BTreeMap<String, i128>);

type Texts = BTreeMap<String, Text>;

impl Amounts {
    /// What can't be parsed counts as nothing: the API server refused it.
    pub(crate) fn parse(texts: Option<&Texts>) -> Amounts {
        let parse = |(name, text): (&String, &Text)| {
            let quantity = Quantity::parse(&text.0).ok()?;
            let amount = if name == "cpu" {
                quantity.milli()
            } else {
                quantity.whole()
            };
            Some((name.clone(), amount))
        };
        Amounts(texts.into_iter().flatten().filter_map(parse).collect())
    }

    pub(crate) fn get(&self, name: &str) -> i128 {
        self.0.get(name).copied().unwrap_or(0)
    }

    pub(crate) fn add(&mut self, other: &Amounts) {
        for (name, amount) in &other.0 {
            let sum = self.0.entry(name.clone()).or_default();
            *sum = sum.saturating_add(*amount);
        }
    }

    fn max(&mut self, other: &Amounts) {
        for (name, amount) in &other.0 {
            let most = self.0.entry(name.clone()).or_default();
            *most = (*most).max(*amount);
        }
    }
}

/// What a container asks for; while it is resized (KEP-1287), also what it was
/// given and what it runs with, whichever is most. What is infeasible it doesn't
/// get.
fn of_container(pod: &Pod, container: &Container) -> Amounts {
    let requests = |resources: &Option<ResourceRequirements>| {
        Amounts::parse(resources.as_ref().and_then(|r| r.requests.as_ref()))
    };
    let asked = requests(&container.resources);
    let lists = pod.status.iter().flat_map(|status| {
        let lists = [&status.container_statuses, &status.init_container_statuses];
        lists.into_iter().flatten().flatten()
    });
    let Some(own) = lists
        .filter(|own| own.name == container.name)
        .find(|own| own.resources.is_some() || own.allocated_resources.is_some())
    else {
        return asked;
    };
    let mut most = requests(&own.resources);
    most.max(&Amounts::parse(own.allocated_resources.as_ref()));
    if !is_infeasible(pod) {
        most.max(&asked);
    }
    most
}

fn is_infeasible(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten());
    let mut pending = conditions.filter(|own| own.type_ == "PodResizePending");
    pending.any(|own| own.reason.as_deref() == Some("Infeasible"))
}

/// KEP-753: an init container that restarts always runs beside all that
/// follow; another runs alone beside those before it.
pub(crate) fn of_pod(pod: &Pod) -> Amounts {
    let Some(spec) = &pod.spec else {
        return Amounts::default();
    };
    let of = |container: &Container| of_container(pod, container);
    let mut sidecars = Amounts::default();
    let mut starting = Amounts::default();
    for container in spec.init_containers.iter().flatten() {
        let mut need = of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars.add(&need);
            need = sidecars.clone();
        } else {
            need.add(&sidecars);
        }
        starting.max(&need);
    }
    let mut running = sidecars;
    spec.containers
        .iter()
        .for_each(|container| running.add(&of(container)));
    running.max(&starting);
    let whole_pod = Amounts::parse(spec.resources.as_ref().and_then(|r| r.requests.as_ref()));
    running.0.extend(whole_pod.0);
    running.add(&Amounts::parse(spec.overhead.as_ref()));
    running
}

pub(crate) fn allocatable(node: &Node) -> Amounts {
    let status = node.status.as_ref();
    Amounts::parse(status.and_then(|s| s.allocatable.as_ref().or(s.capacity.as_ref())))
}

/// Host ports that a pod takes: address, protocol, port.
pub(crate) fn host_ports(pod: &Pod) -> Vec<(String, String, i32)> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    let taken = ports.filter_map(|port| {
        let host_port = port.host_port.filter(|number| *number > 0)?;
        let address = port.host_ip.clone().filter(|ip| !ip.is_empty());
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
        Some((
            address.unwrap_or_else(|| "0.0.0.0".into()),
            protocol,
            host_port,
        ))
    });
    taken.collect()
}
