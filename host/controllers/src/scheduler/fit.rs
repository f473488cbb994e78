//! Whether a pod may go to a node, and upstream's words for why not.
//!
//! The order of filters is upstream's, and so is that only the first failing
//! one speaks.

use super::requests::{Amounts, allocatable, host_ports};
use k8s_openapi::api::core::v1::{
    Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Taint, Toleration,
};
use std::collections::BTreeMap;

/// A node with what is on it.
#[derive(Clone, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) node: &'a Node,
    pub(crate) used: Amounts,
    pub(crate) pods: usize,
    pub(crate) ports: Vec<(String, String, i32)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reasons: Vec<String>,
    /// Whether it would fit if other pods went away.
    pub(crate) preemption_helps: bool,
}

impl Refusal {
    fn never(reason: &str) -> Refusal {
        Refusal {
            reasons: vec![reason.to_owned()],
            preemption_helps: false,
        }
    }
}

pub(crate) const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
pub(crate) const NOT_READY: &str = "node.kubernetes.io/not-ready";

impl<'a> Place<'a> {
    pub(crate) fn new(node: &'a Node) -> Place<'a> {
        Place {
            node,
            used: Amounts::default(),
            pods: 0,
            ports: Vec::new(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        self.node.metadata.name.as_deref().unwrap_or_default()
    }

    pub(crate) fn refuses(&self, pod: &Pod, requests: &Amounts) -> Option<Refusal> {
        let spec = pod.spec.as_ref()?;
        let tolerations = spec.tolerations.as_deref().unwrap_or_default();
        let node_spec = self.node.spec.as_ref();
        if node_spec.and_then(|s| s.unschedulable) == Some(true)
            && !tolerated(&no_schedule(UNSCHEDULABLE), tolerations)
        {
            return Some(Refusal::never("node(s) were unschedulable"));
        }
        let taints = node_spec
            .and_then(|s| s.taints.as_deref())
            .unwrap_or_default();
        let hard = |taint: &&Taint| matches!(&*taint.effect, "NoSchedule" | "NoExecute");
        // The node life cycle's taint may not be there yet.
        let unready = (!is_ready(self.node)).then(|| no_schedule(NOT_READY));
        if taints
            .iter()
            .filter(hard)
            .chain(&unready)
            .any(|taint| !tolerated(taint, tolerations))
        {
            return Some(Refusal::never("node(s) had untolerated taint(s)"));
        }
        if !selected(spec, self.node) {
            return Some(Refusal::never(
                "node(s) didn't match Pod's node affinity/selector",
            ));
        }
        if host_ports(pod)
            .iter()
            .any(|port| self.ports.iter().any(|taken| clash(port, taken)))
        {
            let reason = "node(s) didn't have free ports for the requested pod ports".to_owned();
            return Some(Refusal {
                reasons: vec![reason],
                preemption_helps: true,
            });
        }
        self.lacks(requests)
    }

    fn lacks(&self, requests: &Amounts) -> Option<Refusal> {
        let total = allocatable(self.node);
        let mut reasons = Vec::new();
        let mut preemption_helps = true;
        let room = total.0.get("pods").copied().unwrap_or(i128::MAX);
        if self.pods as i128 + 1 > room {
            reasons.push("Too many pods".to_owned());
        }
        for (name, amount) in &requests.0 {
            if *amount > 0 && *amount > total.get(name) - self.used.get(name) {
                reasons.push(format!("Insufficient {name}"));
                preemption_helps &= *amount <= total.get(name);
            }
        }
        (!reasons.is_empty()).then_some(Refusal {
            reasons,
            preemption_helps,
        })
    }

    /// Higher is better: the share of CPU and memory that would stay free.
    pub(crate) fn score(&self, requests: &Amounts) -> i128 {
        let total = allocatable(self.node);
        let free = |name| {
            let all = total.get(name).max(1);
            (all - self.used.get(name) - requests.get(name)).saturating_mul(1000) / all
        };
        free("cpu") + free("memory")
    }
}

pub(crate) fn no_schedule(key: &str) -> Taint {
    Taint {
        key: key.to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    }
}

pub(crate) fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a str> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|c| c.type_ == kind)
        .map(|c| &*c.status)
}

fn is_ready(node: &Node) -> bool {
    condition(node, "Ready") == Some("True")
}

fn tolerated(taint: &Taint, tolerations: &[Toleration]) -> bool {
    let empty = |text: &Option<String>| text.as_deref().unwrap_or_default().is_empty();
    let same = |text: &Option<String>, other: &str| text.as_deref().unwrap_or_default() == other;
    tolerations.iter().any(|t| {
        let exists = t.operator.as_deref() == Some("Exists");
        let effect = empty(&t.effect) || same(&t.effect, &taint.effect);
        let key = same(&t.key, &taint.key) || (empty(&t.key) && exists);
        let value = t.value.as_deref().unwrap_or_default();
        effect && key && (exists || value == taint.value.as_deref().unwrap_or_default())
    })
}

fn clash(one: &(String, String, i32), other: &(String, String, i32)) -> bool {
    let any = |address: &str| address == "0.0.0.0" || address == "::";
    let same = one.0 == other.0 || any(&one.0) || any(&other.0);
    same && one.1 == other.1 && one.2 == other.2
}

fn selected(spec: &PodSpec, node: &Node) -> bool {
    let none = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&none);
    let wanted = spec.node_selector.as_ref().unwrap_or(&none);
    if !wanted
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
    {
        return false;
    }
    let affinity = spec
        .affinity
        .as_ref()
        .and_then(|a| a.node_affinity.as_ref());
    let required = affinity.and_then(|a| {
        a.required_during_scheduling_ignored_during_execution
            .as_ref()
    });
    let name = node.metadata.name.as_deref().unwrap_or_default();
    required.is_none_or(|s| {
        s.node_selector_terms
            .iter()
            .any(|t| term_matches(t, labels, name))
    })
}

/// A term without requirements matches nothing.
fn term_matches(term: &NodeSelectorTerm, labels: &BTreeMap<String, String>, name: &str) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let label = |r: &NodeSelectorRequirement| matches(r, labels.get(&r.key).map(|v| &**v));
    let field = |r: &NodeSelectorRequirement| r.key == "metadata.name" && matches(r, Some(name));
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(label)
        && fields.iter().all(field)
}

fn matches(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|value| values.iter().any(|v| v == value));
    let number = |text: &str| text.parse::<i64>().ok();
    let bound = values.first().and_then(|bound| number(bound));
    let compare = || Some((value.and_then(number)?, bound?));
    match &*requirement.operator {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare().is_some_and(|(value, bound)| value > bound),
        "Lt" => compare().is_some_and(|(value, bound)| value < bound),
        _ => false,
    }
}
