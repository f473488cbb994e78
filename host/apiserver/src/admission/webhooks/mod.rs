//! Admission webhooks: who is asked about a request, in which order, and what
//! becomes of the answers (`apiserver/pkg/admission/plugin/webhook`).
//!
//! ```text
//! matched, conditions hold --mutating--> one after the other, patches applied
//!                          \-validating-> all at once, the first refusal counts
//! ```
//! A call that fails is refused or forgiven as the webhook's failurePolicy says;
//! a refusal by the webhook is never forgiven.

mod annotations;
mod hook;
mod review;

pub(super) use hook::Hook;

use self::annotations::Annotator;
use super::reinvocation::Reinvocation;
use super::scene::Scene;
use crate::webhook::Client;
use api::kinds::KindRef;
use api::patch::json_patch;
use api::status::Status;
use futures_util::future::join_all;
use review::Verdict;
use serde_json::Value;
use std::sync::Arc;

pub(super) struct Webhooks {
    client: Arc<Client>,
}

/// Why a webhook has no verdict in favour.
enum Failure {
    /// It wasn't understood, or not even reached.
    Calling(String),
    Refused(Status),
}

/// Whether the hook is asked, and as whom it knows the request.
fn wanted<'b>(
    hook: &Hook,
    scene: &'b Scene<'_>,
    objects: (&'b Value, &'b Value),
) -> Result<Option<&'b KindRef>, Status> {
    let Some(kind) = scene.matched(&hook.criteria, objects)? else {
        return Ok(None);
    };
    if hook.conditions.is_empty() {
        return Ok(Some(kind));
    }
    let object = scene.versioned(objects.0, kind)?;
    let old = scene.versioned(objects.1, kind)?;
    let held = expressions::isolated(|| {
        let bound = scene.bind((&object, &old), kind);
        hook.conditions.hold(&bound, !hook.ignores_failures)
    });
    match held {
        Some(Ok(held)) => Ok(held.then_some(kind)),
        Some(Err(why)) => Err(scene.a.forbid(&why)),
        None => Err(Status::internal(
            "the evaluation of match conditions failed",
        )),
    }
}

impl Webhooks {
    pub(super) fn new(client: Arc<Client>) -> Webhooks {
        Webhooks { client }
    }

    async fn ask(
        &self,
        hook: &Hook,
        scene: &Scene<'_>,
        kind: &KindRef,
        objects: (&Value, &Value),
        mutating: bool,
    ) -> Result<Verdict, Failure> {
        let name = &hook.name;
        if scene.a.is_dry_run() && !hook.supports_dry_run {
            let why = format!("admission webhook {name:?} does not support dry run");
            return Err(Failure::Refused(Status::bad_request(why)));
        }
        let uid = uuid::Uuid::new_v4().to_string();
        let review = review::review(&hook.reviews, &uid, &scene.a.request(kind), objects)
            .ok_or("could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)")
            .map_err(|why| Failure::Calling(why.to_owned()))?;
        let target = hook.target.as_ref().ok_or_else(|| {
            Failure::Calling("could not get REST client: no target is configured".to_owned())
        })?;
        let query = format!("timeout={}s", hook.timeout.as_secs());
        let asked = self
            .client
            .post(target, &hook.ca, &query, &review, hook.timeout);
        let answer = asked
            .await
            .map_err(|e| Failure::Calling(format!("failed to call webhook: {e}")))?;
        review::verdict(&review, &answer, mutating)
            .map_err(|e| Failure::Calling(format!("received invalid webhook response: {e}")))
    }

    /// What a failure means for the request; `None`: it is forgiven.
    fn settle(hook: &Hook, failure: Failure) -> Option<Status> {
        match failure {
            Failure::Refused(status) => Some(status),
            Failure::Calling(why) => {
                let why = format!("failed calling webhook {:?}: {why}", hook.name);
                if hook.ignores_failures {
                    log::warn!("{why}; the request passes");
                    return None;
                }
                Some(Status::internal(why))
            }
        }
    }

    /// Asks mutating webhooks in their order; whether any changed the object.
    pub(super) async fn mutate(
        &self,
        hooks: &[Arc<Hook>],
        scene: &Scene<'_>,
        (object, old): (&mut Value, &Value),
        (rounds, second): (&mut Reinvocation, bool),
        warnings: &mut Vec<String>,
    ) -> Result<bool, Status> {
        if second {
            rounds.begin(Some(object));
        }
        let mut any = false;
        for (i, hook) in hooks.iter().enumerate() {
            let annotator = Annotator::new(scene.a.trail, hook, (usize::from(second), i));
            let before = object.clone();
            let Some(kind) = wanted(hook, scene, (&before, old))? else {
                continue;
            };
            if second && !rounds.is_due(&hook.key) {
                continue;
            }
            let its = scene.versioned(object, kind)?;
            let its_old = scene.versioned(old, kind)?;
            let asked = self.ask(hook, scene, kind, (&its, &its_old), true).await;
            let outcome = asked.and_then(|verdict| {
                annotator.answered(&verdict);
                let patched = patched(hook, scene, kind, &its, &verdict);
                if matches!(patched, Ok(Some(_))) {
                    annotator.patched(&verdict);
                }
                warnings.extend(verdict.warnings);
                patched
            });
            annotator.mutated(matches!(&outcome, Ok(Some(patched)) if *patched != its));
            match outcome {
                Ok(Some(patched)) => {
                    *object = scene.back(&patched, kind)?;
                    if *object != before {
                        any = true;
                        rounds.changed();
                    }
                }
                Ok(None) => {}
                Err(failure) => {
                    if let Some(status) = Webhooks::settle(hook, failure) {
                        return Err(status);
                    }
                    annotator.failed_open("mutation");
                }
            }
            if hook.reinvoked {
                rounds.asked(&hook.key);
            }
        }
        rounds.end(Some(object));
        Ok(any)
    }

    /// Asks validating webhooks at once; one refusal is enough.
    pub(super) async fn validate(
        &self,
        hooks: &[Arc<Hook>],
        scene: &Scene<'_>,
        objects: (&Value, &Value),
        warnings: &mut Vec<String>,
    ) -> Result<(), Status> {
        let mut asking = Vec::new();
        for (i, hook) in hooks.iter().enumerate() {
            if let Some(kind) = wanted(hook, scene, objects)? {
                let object = scene.versioned(objects.0, kind)?;
                let old = scene.versioned(objects.1, kind)?;
                asking.push(async move {
                    let asked = self.ask(hook, scene, kind, (&object, &old), false);
                    (i, hook, asked.await)
                });
            }
        }
        let mut refused = None;
        for (i, hook, asked) in join_all(asking).await {
            let annotator = Annotator::new(scene.a.trail, hook, (0, i));
            let outcome = asked.and_then(|verdict| {
                annotator.answered(&verdict);
                warnings.extend(verdict.warnings);
                match verdict.allowed {
                    true => Ok(()),
                    false => Err(Failure::Refused(review::refusal(
                        &hook.name,
                        &verdict.result,
                    ))),
                }
            });
            if let Err(failure) = outcome {
                let settled = Webhooks::settle(hook, failure);
                if settled.is_none() {
                    annotator.failed_open("validating");
                }
                refused = refused.or(settled);
            }
        }
        refused.map_or(Ok(()), Err)
    }
}

/// The object as a verdict in favour leaves it; `None`: as it was.
fn patched(
    hook: &Hook,
    scene: &Scene<'_>,
    kind: &KindRef,
    object: &Value,
    verdict: &Verdict,
) -> Result<Option<Value>, Failure> {
    if !verdict.allowed {
        let status = review::refusal(&hook.name, &verdict.result);
        return Err(Failure::Refused(status));
    }
    if verdict.patch.is_empty() {
        return Ok(None);
    }
    let patch: Value = serde_json::from_slice(&verdict.patch).map_err(|e| {
        Failure::Calling(format!(
            "received undecodable patch in webhook response: {e}"
        ))
    })?;
    if patch.as_array().is_some_and(Vec::is_empty) {
        return Ok(None);
    }
    let internal = |why: &dyn std::fmt::Display| Failure::Refused(Status::internal(why));
    if object.is_null() {
        return Err(internal(&format!(
            "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
            hook.name
        )));
    }
    if verdict.patch_type != "JSONPatch" {
        let why = format!("unsupported patch type {:?}", verdict.patch_type);
        return Err(Failure::Calling(why));
    }
    let mut patched = object.clone();
    json_patch(&mut patched, patch).map_err(|e| internal(&e))?;
    scene
        .a
        .settle(&mut patched, kind)
        .map_err(|e| internal(&e))?;
    Ok(Some(patched))
}
