//! What the mutations of a policy make of an object: a configuration that is
//! applied to it, or a JSON patch (`policy/mutating/patch`).

use super::composition::Composition;
use super::policy::{Mutation, Policy};
use crate::admission::conditions::Bound;
use crate::admission::scene::Scene;
use api::kinds::KindRef;
use api::managed;
use api::patch::{PatchError, json_patch_if};
use api::status::Status;
use expressions::Value as Cel;
use serde_json::{Map, Value};

/// Why a mutation has no result.
#[derive(Debug)]
pub(super) enum Failure {
    /// The policy's own: its failurePolicy says what follows.
    Policy(String),
    Refused(Status),
}

/// What a mutation's expression comes to. Call it within
/// [`expressions::isolated`].
pub(super) fn evaluate(
    policy: &Policy,
    mutation: &Mutation,
    bound: Bound,
) -> Result<Value, String> {
    let mut composition = Composition::new(policy, bound);
    let (Mutation::Apply(expression) | Mutation::Patch(expression)) = mutation;
    let made = composition.evaluate(expression);
    let made = made.map_err(|fault| fault.text().to_owned())?;
    match (mutation, &made) {
        (Mutation::Apply(_), Cel::Map(_)) | (Mutation::Patch(_), Cel::List(_)) => {}
        (Mutation::Apply(_), _) => {
            return Err("unsupported return type from ApplyConfiguration expression".to_owned());
        }
        (Mutation::Patch(_), _) => {
            let why = "type mismatch: JSONPatchType.expression should evaluate to array";
            return Err(why.to_owned());
        }
    }
    expressions::to_json(&made)
}

/// The object after `made` of a mutation.
pub(super) fn apply(
    scene: &Scene<'_>,
    kind: &KindRef,
    mutation: &Mutation,
    object: &Value,
    made: Value,
) -> Result<Value, Failure> {
    let mut changed = match mutation {
        Mutation::Apply(_) => applied(scene, kind, object, made).map_err(Failure::Policy)?,
        Mutation::Patch(_) => match patched(object, &made)? {
            Some(patched) => patched,
            None => return Ok(object.clone()),
        },
    };
    scene
        .a
        .settle(&mut changed, kind)
        .map_err(|e| Failure::Refused(Status::internal(e)))?;
    Ok(changed)
}

fn applied(
    scene: &Scene<'_>,
    kind: &KindRef,
    object: &Value,
    mut made: Value,
) -> Result<Value, String> {
    for key in ["apiVersion", "kind"] {
        made[key] = object[key].clone();
    }
    managed::overlay(kind, scene.a.own_type_name(), object, &made)
        .map_err(|why| format!("error applying patch: {why}"))
}

/// `None`: a test of the patch failed, so nothing is to be done.
fn patched(object: &Value, made: &Value) -> Result<Option<Value>, Failure> {
    let operations = made.as_array().into_iter().flatten();
    let operations: Value = operations.map(operation).collect();
    let mut patched = object.clone();
    match json_patch_if(&mut patched, operations) {
        Ok(true) => Ok(Some(patched)),
        Ok(false) => Ok(None),
        Err(
            PatchError::Malformed(why) | PatchError::Inapplicable(why) | PatchError::TooLarge(why),
        ) => Err(Failure::Policy(format!("JSON Patch: {why}"))),
    }
}

/// One operation without what it leaves empty.
fn operation(of: &Value) -> Value {
    let members = of.as_object().into_iter().flatten();
    let kept = members.filter(|(key, value)| *key != "from" || *value != "");
    let kept: Map<String, Value> = kept.map(|(k, v)| (k.clone(), v.clone())).collect();
    Value::Object(kept)
}
