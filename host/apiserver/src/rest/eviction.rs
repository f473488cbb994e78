//! Eviction: a deletion that disruption budgets may refuse. What a budget
//! allows is counted down in the budget's own status, by compare-and-swap, so
//! that no more pods go than it allows, however many ask at once. What is to go
//! says so in its status first.

use super::delete::{self, DeleteOptions};
use super::update::ATTEMPTS;
use super::{Answer, Call, body};
use crate::admission::Operation;
use crate::registry::{self, Along, Stored, Written};
use crate::respond;
use api::custom::definition::conditions;
use api::kinds::{self, KindRef};
use api::status::{self, Status};
use api::{label_selector, meta};
use serde_json::{Value, json};
use store::Range;

const FACTS: &str = "io.k8s.api.policy.v1.Eviction";
/// Pods that a budget remembers as going before its controller has seen them.
const DISRUPTED_MAX: usize = 2000;

pub(crate) async fn evict(call: Call) -> Answer {
    let mut parsed = body::parse(&call, FACTS)?;
    api::decode::conform(&mut parsed.value, FACTS, &mut Vec::new()).map_err(Status::bad_request)?;
    call.trail.request(&parsed.value);
    let named = meta::name(&parsed.value);
    if !named.is_empty() && named != call.route.name {
        return Err(Status::bad_request(
            "name in URL does not match name in Eviction object",
        ));
    }
    let eviction = &mut parsed.value;
    call.mutate(Operation::Create, eviction, None).await?;
    call.admit(Operation::Create, eviction, None).await?;
    let options = parsed.value.get("deleteOptions").cloned();
    let mut options = delete::from_value(&call, &options.unwrap_or_default())?;
    let pod = call.current()?;
    delete::preconditions(&call.kind, &pod, &options)?;
    if !is_exempt(&pod.object) {
        spend(&call, &pod.object, &mut options).await?;
    }
    if !options.dry_run {
        announce(&call, pod, &mut options).await?;
    }
    let (namespace, name) = (&call.route.namespace, &call.route.name);
    let kind = &call.kind;
    delete::delete_object(&call.store, kind, namespace, name, &options, None, call.now).await?;
    Ok(respond::json(201, &status::success(None), call.accepted))
}

/// A pod that serves nobody, or is on its way out already.
fn is_exempt(pod: &Value) -> bool {
    kinds::pod_is_terminal(pod)
        || meta::is_deleting(pod)
        || matches!(meta::text(pod, &["status", "phase"]), "Pending" | "")
}

fn is_ready(pod: &Value) -> bool {
    meta::list(pod, &["status", "conditions"])
        .iter()
        .any(|c| meta::text(c, &["type"]) == "Ready" && meta::text(c, &["status"]) == "True")
}

/// The budgets of the namespace that count the pod.
fn budgets(call: &Call, kind: &KindRef, pod: &Value) -> Result<Vec<Stored>, Status> {
    let prefix = registry::prefix(kind, &call.route.namespace);
    let found = call
        .store
        .range(&Range::prefix(prefix))
        .map_err(registry::store_status)?;
    let labels = meta::at(pod, &["metadata", "labels"]).unwrap_or(&Value::Null);
    let mut out = Vec::new();
    for item in found.items {
        let object = registry::decode(kind, &item.value, item.mod_revision)?;
        if label_selector::selects(&object["spec"]["selector"], labels) {
            out.push(Stored {
                object,
                revision: item.mod_revision,
                bytes: item.value,
            });
        }
    }
    Ok(out)
}

/// Takes one disruption from the pod's budget, or says why there is none.
async fn spend(call: &Call, pod: &Value, options: &mut DeleteOptions) -> Result<(), Status> {
    let Some(kind) = kinds::by_resource("policy", "v1", "poddisruptionbudgets") else {
        return Ok(());
    };
    for _ in 0..ATTEMPTS {
        let mut budgets = budgets(call, &kind, pod)?;
        if budgets.len() > 1 {
            return Err(Status::internal(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            ));
        }
        let Some(budget) = budgets.pop() else {
            return Ok(());
        };
        // An unready pod that no budget protects: it goes as it was seen.
        if !is_ready(pod) && may_go_unready(&budget.object) {
            let seen = meta::resource_version(pod).to_owned();
            options.resource_version.get_or_insert(seen);
            return Ok(());
        }
        let spent = count_down(&budget.object, meta::name(pod), call.now)?;
        if options.dry_run {
            return Ok(());
        }
        let key = registry::key(&kind, &call.route.namespace, meta::name(&budget.object));
        let value = registry::encode(&kind, &spent)?;
        let along = Along::default();
        match registry::update(&call.store, key, value, budget.revision, along).await? {
            Written::At(_) => return Ok(()),
            Written::Lost(_) => {}
        }
    }
    Err(Status::too_many_requests(
        "Cannot evict pod as it would violate the pod's disruption budget.",
        0,
    ))
}

/// Says in the pod's status why it goes (KEP-3329), before it is deleted.
async fn announce(call: &Call, mut pod: Stored, options: &mut DeleteOptions) -> Result<(), Status> {
    for _ in 0..ATTEMPTS {
        delete::preconditions(&call.kind, &pod, options)?;
        let (reason, message) = ("EvictionByEvictionAPI", "Eviction API: evicting");
        let status = &mut pod.object["status"];
        conditions::set(
            status,
            "DisruptionTarget",
            "True",
            reason,
            message,
            call.now,
        );
        let key = registry::key(&call.kind, &call.route.namespace, &call.route.name);
        let value = registry::encode(&call.kind, &pod.object)?;
        let along = Along::default();
        match registry::update(&call.store, key, value, pod.revision, along).await? {
            // The precondition is about the pod as it was before this.
            Written::At(revision) => {
                if let Some(wanted) = &mut options.resource_version {
                    *wanted = revision.to_string();
                }
                return Ok(());
            }
            Written::Lost(_) => pod = call.current()?,
        }
    }
    Err(Status::timeout(registry::TIMED_OUT))
}

fn may_go_unready(budget: &Value) -> bool {
    let status = |key| meta::int(budget, &["status", key]).unwrap_or(0);
    match meta::text(budget, &["spec", "unhealthyPodEvictionPolicy"]) {
        "AlwaysAllow" => true,
        _ => status("currentHealthy") >= status("desiredHealthy") && status("desiredHealthy") > 0,
    }
}

/// The budget after one more disruption.
fn count_down(budget: &Value, pod: &str, now: jiff::Timestamp) -> Result<Value, Status> {
    let name = meta::name(budget);
    let status = |key| meta::int(budget, &["status", key]).unwrap_or(0);
    let violated = |cause: String, wait: u32| {
        let mut refusal = Status::too_many_requests(
            "Cannot evict pod as it would violate the pod's disruption budget.",
            wait,
        );
        refusal.details = Some(json!({
            "causes": [{"reason": "DisruptionBudget", "message": cause}],
            "retryAfterSeconds": wait,
        }));
        if wait == 0 {
            refusal.details = Some(json!({
                "causes": [{"reason": "DisruptionBudget", "message": cause}],
            }));
        }
        refusal
    };
    let generation = meta::int(budget, &["metadata", "generation"]).unwrap_or(0);
    if status("observedGeneration") < generation {
        let cause = format!("The disruption budget {name} is still being processed by the server.");
        return Err(violated(cause, 10));
    }
    let allowed = status("disruptionsAllowed");
    if allowed < 0 {
        return Err(Status::forbidden(
            status::Qualified {
                group: "policy",
                name: "poddisruptionbudget",
            },
            name,
            "pdb disruptions allowed is negative",
        ));
    }
    let disrupted = meta::members(budget, &["status", "disruptedPods"]).count();
    if disrupted > DISRUPTED_MAX {
        return Err(Status::forbidden(
            status::Qualified {
                group: "policy",
                name: "poddisruptionbudget",
            },
            name,
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        ));
    }
    if allowed == 0 {
        let cause = format!(
            "The disruption budget {name} needs {} healthy pods and has {} currently",
            status("desiredHealthy"),
            status("currentHealthy")
        );
        return Err(violated(cause, 0));
    }
    let mut spent = budget.clone();
    let status = meta::ensure(&mut spent, "status");
    status.insert("disruptionsAllowed".to_owned(), (allowed - 1).into());
    let pods = status.entry("disruptedPods").or_insert_with(|| json!({}));
    pods[pod] = api::time::rfc3339(now).into();
    Ok(spent)
}
