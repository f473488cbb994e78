//! Admission policies: expressions that judge or change requests, put in force
//! by bindings (`apiserver/pkg/admission/plugin/policy`).
//!
//! ```text
//! policy matches -> binding matches -> parameters -> one step for each of them
//!    steps: validating: all judge, the first refusal counts
//!           mutating:   one after the other, twice if asked for
//! ```
//! What is misconfigured, and what fails, refuses as the policy's failurePolicy
//! says.

mod composition;
mod findings;
mod mutation;
mod params;
mod policy;
mod typing;
mod validation;

pub(super) use policy::{Binding, Policy};
pub(crate) use typing::warnings;

use super::conditions::Bound;
use super::reinvocation::Reinvocation;
use super::scene::Scene;
use crate::kinds::Kinds;
use api::kinds::KindRef;
use api::meta;
use api::status::Status;
use findings::Findings;
use mutation::Failure;
use policy::Action;
use serde_json::{Value, json};
use std::sync::Arc;
use store::Store;
use validation::{Judgement, Refusal};

/// A policy with what puts it in force, by name.
#[derive(Clone, Debug)]
pub(super) struct InForce {
    pub(super) policy: Arc<Policy>,
    pub(super) bindings: Vec<Arc<Binding>>,
}

pub(super) struct Policies {
    store: Store,
    kinds: Arc<Kinds>,
}

/// What a policy is asked about, or why it can't be.
enum Step<'a> {
    Ask(Ask<'a>),
    Broken {
        policy: &'a Policy,
        binding: Option<&'a Binding>,
        why: String,
    },
}

struct Ask<'a> {
    policy: &'a Policy,
    binding: &'a Binding,
    /// As which it knows the request.
    kind: &'a KindRef,
    /// Null: none.
    param: Value,
}

impl Ask<'_> {
    fn key(&self) -> String {
        let param = &self.param;
        let (policy, binding) = (&self.policy.name, &self.binding.name);
        let (namespace, name) = (meta::namespace(param), meta::name(param));
        format!("{policy}/{binding}/{namespace}/{name}")
    }

    /// What expressions see, but namespace and variables.
    fn bind(&self, scene: &Scene<'_>, objects: (&Value, &Value)) -> Bound {
        let mut bound = scene.bind(objects, self.kind);
        if self.policy.params.is_some() {
            bound.push(("params", expressions::from_json(&self.param)));
        }
        bound
    }
}

fn with_namespace(mut bound: Bound, namespace: &Value) -> Bound {
    bound.retain(|(name, _)| *name != "namespaceObject");
    bound.push(("namespaceObject", expressions::from_json(namespace)));
    bound
}

/// Reviews and bindings are no business of policies.
fn is_excluded(kind: &KindRef) -> bool {
    let named = (kind.group(), kind.plural());
    named == ("", "bindings")
        || matches!(
            named,
            ("authentication.k8s.io" | "authorization.k8s.io", plural) if plural.ends_with("reviews")
        )
}

impl Policies {
    pub(super) fn new(store: Store, kinds: Arc<Kinds>) -> Policies {
        Policies { store, kinds }
    }

    /// What is to be asked about a request, in order.
    fn steps<'a>(
        &self,
        in_force: &'a [InForce],
        scene: &'a Scene<'_>,
        objects: (&'a Value, &'a Value),
    ) -> Vec<Step<'a>> {
        let mut steps = Vec::new();
        for InForce { policy, bindings } in in_force {
            let broken = |why: String| Step::Broken {
                policy,
                binding: None,
                why: format!("failed to configure policy: {why}"),
            };
            let kind = match scene.matched(&policy.criteria, objects) {
                Ok(Some(kind)) => kind,
                Ok(None) => continue,
                Err(status) => {
                    steps.push(broken(status.message));
                    continue;
                }
            };
            let table = self.kinds.table();
            let params = policy.params.as_ref();
            let params = match params.map(|of| params::resolve(of, &table)).transpose() {
                Ok(params) => params,
                Err(why) => {
                    steps.push(broken(why));
                    continue;
                }
            };
            for binding in bindings {
                match self.params(scene, objects, binding, params) {
                    Ok(found) => steps.extend(found.into_iter().map(|param| {
                        Step::Ask(Ask {
                            policy,
                            binding,
                            kind,
                            param,
                        })
                    })),
                    Err(why) => steps.push(Step::Broken {
                        policy,
                        binding: Some(binding),
                        why: format!("failed to configure binding: {why}"),
                    }),
                }
            }
        }
        steps
    }

    /// The parameters with which a binding asks: none if it doesn't match,
    /// null if there are none to be had.
    fn params(
        &self,
        scene: &Scene<'_>,
        objects: (&Value, &Value),
        binding: &Binding,
        kind: Option<&KindRef>,
    ) -> Result<Vec<Value>, String> {
        let matched = scene.matched(&binding.criteria, objects);
        if matched.map_err(|status| status.message)?.is_none() {
            return Ok(Vec::new());
        }
        match (kind, &binding.params) {
            (Some(kind), Some(of)) => params::collect(&self.store, kind, of, scene.a.namespace),
            (None, _) | (_, None) => Ok(vec![Value::Null]),
        }
    }

    /// Lets validating policies judge; the first refusal counts.
    pub(super) fn validate(
        &self,
        in_force: &[InForce],
        scene: &Scene<'_>,
        objects: (&Value, &Value),
        warnings: &mut Vec<String>,
    ) -> Result<(), Status> {
        let mut denied = None;
        let mut namespace = None;
        let mut findings = Findings::default();
        if is_excluded(scene.a.kind) {
            return Ok(());
        }
        for step in self.steps(in_force, scene, objects) {
            let ask = match step {
                Step::Ask(ask) => ask,
                Step::Broken {
                    policy,
                    binding,
                    why,
                } => {
                    if policy.fails {
                        denied.get_or_insert_with(|| {
                            denial(scene, policy, binding, &Refusal::failed(&why))
                        });
                    }
                    continue;
                }
            };
            if namespace.is_none() {
                namespace = Some(scene.namespace_object()?);
            }
            let namespace = namespace.as_ref().unwrap_or(&Value::Null);
            let object = scene.versioned(objects.0, ask.kind)?;
            let old = scene.versioned(objects.1, ask.kind)?;
            let judged = expressions::isolated(|| {
                let bound = ask.bind(scene, (&object, &old));
                validation::judge(ask.policy, bound, namespace)
            });
            let judged = judged.unwrap_or_else(|| Judgement {
                refusals: vec![Refusal::failed("the evaluation of the policy failed")],
                ..Judgement::default()
            });
            if let Some(status) = settle(scene, &ask, &judged, (warnings, &mut findings)) {
                denied.get_or_insert(status);
            }
        }
        findings.publish(scene.a.trail);
        denied.map_or(Ok(()), Err)
    }

    /// Lets mutating policies change the object; whether any did.
    pub(super) fn mutate(
        &self,
        in_force: &[InForce],
        scene: &Scene<'_>,
        (object, old): (&mut Value, &Value),
        (rounds, second): (&mut Reinvocation, bool),
    ) -> Result<bool, Status> {
        if object.is_null() || is_excluded(scene.a.kind) {
            return Ok(false);
        }
        if second {
            rounds.begin(Some(object));
        }
        let first = object.clone();
        let mut faults: Vec<String> = Vec::new();
        for step in self.steps(in_force, scene, (&first, old)) {
            match step {
                Step::Ask(ask) => {
                    if second && !rounds.is_due(&ask.key()) {
                        continue;
                    }
                    let before = object.clone();
                    let asked = change(scene, &ask, (&mut *object, old))?;
                    let Some(found) = asked else {
                        continue;
                    };
                    faults.extend(found);
                    if *object != before {
                        rounds.changed();
                    }
                    if ask.policy.reinvoked {
                        rounds.asked(&ask.key());
                    }
                }
                Step::Broken {
                    policy,
                    binding,
                    why,
                } => {
                    if policy.fails {
                        faults.push(fault(policy, binding, &why));
                    }
                }
            }
        }
        rounds.end(Some(object));
        match faults.first() {
            None => Ok(*object != first),
            Some(message) => {
                let mut status = scene.a.forbid("");
                status.message.clone_from(message);
                status.reason = "Invalid".into();
                add_causes(&mut status, &faults);
                Err(status)
            }
        }
    }
}

/// What a fault of a mutating policy is called.
fn fault(policy: &Policy, binding: Option<&Binding>, why: &str) -> String {
    let policy = &policy.name;
    match binding {
        Some(binding) => {
            let binding = &binding.name;
            format!("policy '{policy}' with binding '{binding}' denied request: {why}")
        }
        None => format!("policy {policy:?} denied request: {why}"),
    }
}

fn add_causes(status: &mut Status, messages: &[String]) {
    let causes: Vec<Value> = messages.iter().map(|m| json!({"message": m})).collect();
    let details = status.details.get_or_insert_with(|| json!({}));
    details["causes"] = causes.into();
}

/// Runs one policy's mutations; what failed and counts. `None`: its conditions
/// don't hold.
fn change(
    scene: &Scene<'_>,
    ask: &Ask<'_>,
    (object, old): (&mut Value, &Value),
) -> Result<Option<Vec<String>>, Status> {
    let namespace = scene.namespace_object()?;
    let old = scene.versioned(old, ask.kind)?;
    let mut its = scene.versioned(object, ask.kind)?;
    let failed = |why: &str| match ask.policy.fails {
        true => vec![fault(ask.policy, Some(ask.binding), why)],
        false => Vec::new(),
    };
    let held = expressions::isolated(|| {
        let bound = ask.bind(scene, (&its, &old));
        ask.policy.conditions.hold(&bound, ask.policy.fails)
    });
    match held {
        Some(Ok(true)) => {}
        Some(Ok(false)) => return Ok(None),
        Some(Err(why)) => return Ok(Some(failed(&why))),
        None => return Ok(Some(failed("the evaluation of the policy failed"))),
    }
    let mut faults = Vec::new();
    for mutation in &ask.policy.mutations {
        let made = expressions::isolated(|| {
            let bound = with_namespace(ask.bind(scene, (&its, &old)), &namespace);
            mutation::evaluate(ask.policy, mutation, bound)
        });
        let made = made.unwrap_or_else(|| Err("the evaluation of the policy failed".to_owned()));
        let changed = made
            .map_err(Failure::Policy)
            .and_then(|made| mutation::apply(scene, ask.kind, mutation, &its, made));
        match changed {
            Ok(changed) => its = changed,
            Err(Failure::Policy(why)) => faults.extend(failed(&why)),
            Err(Failure::Refused(status)) => return Err(status),
        }
    }
    *object = scene.back(&its, ask.kind)?;
    Ok(Some(faults))
}

/// What a binding makes of a judgement: the refusal, or warnings.
fn settle(
    scene: &Scene<'_>,
    ask: &Ask<'_>,
    judged: &Judgement,
    (warnings, findings): (&mut Vec<String>, &mut Findings),
) -> Option<Status> {
    let (policy, binding) = (&ask.policy.name, &ask.binding.name);
    for (key, value) in &judged.annotations {
        findings.annotate(key, value);
    }
    let mut denied = None;
    for refusal in &judged.refusals {
        let message = &refusal.message;
        let actions = match refusal.is_actionable {
            true => ask.binding.actions.as_slice(),
            false => &[Action::Deny],
        };
        for action in actions {
            match action {
                Action::Deny => {
                    denied.get_or_insert_with(|| {
                        denial(scene, ask.policy, Some(ask.binding), refusal)
                    });
                }
                Action::Warn => warnings.push(format!(
                    "Validation failed for ValidatingAdmissionPolicy '{policy}' with binding '{binding}': {message}"
                )),
                Action::Audit => findings.fail(ask, refusal),
            }
        }
    }
    denied
}

fn denial(
    scene: &Scene<'_>,
    policy: &Policy,
    binding: Option<&Binding>,
    refusal: &Refusal,
) -> Status {
    let (name, why) = (&policy.name, &refusal.message);
    let message = match binding {
        Some(binding) => format!(
            "ValidatingAdmissionPolicy '{name}' with binding '{}' denied request: {why}",
            binding.name
        ),
        None => format!("ValidatingAdmissionPolicy '{name}' denied request: {why}"),
    };
    let mut status = scene.a.forbid(&message);
    let (code, reason) = match refusal.reason.as_str() {
        "Forbidden" => (403, "Forbidden"),
        "Unauthorized" => (401, "Unauthorized"),
        "RequestEntityTooLarge" => (413, "RequestEntityTooLarge"),
        _ => (422, "Invalid"),
    };
    status.code = code;
    status.reason = reason.into();
    add_causes(&mut status, &[message]);
    status
}
