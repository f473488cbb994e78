//! Reviews: questions of who somebody is and what they may. Nothing is stored;
//! the answer is the question with a status.

use super::options::{self, Verb};
use super::{Answer, Call, body};
use crate::admission::Operation;
use crate::authz::{Attributes, Decision, selection};
use crate::respond;
use crate::user::User;
use api::meta;
use api::status::Status;
use api::{field::Errors, field::Path};
use serde_json::{Value, json};

/// Answers a kind of the groups `authentication.k8s.io`, `authorization.k8s.io`.
pub(crate) async fn answer(call: Call) -> Answer {
    if call.route.verb != "create" || !call.route.name.is_empty() {
        return Err(Status::method_not_allowed());
    }
    let options = options::read(&call, Verb::Create)?;
    let mut review = body::object(&call, &call.kind, options.strictness)?.object;
    call.mutate(Operation::Create, &mut review, None).await?;
    call.admit(Operation::Create, &review, None).await?;
    let status = match call.kind.plural() {
        "tokenreviews" => token(&call, &review).await?,
        "selfsubjectreviews" => json!({"userInfo": call.user.info()}),
        "selfsubjectrulesreviews" => rules(&call, &review)?,
        "selfsubjectaccessreviews" => access(&call, &call.user, &review)?,
        "subjectaccessreviews" => access(&call, &subject(&call, &review)?, &review)?,
        "localsubjectaccessreviews" => {
            let user = subject(&call, &review)?;
            is_local(&call, &review)?;
            let metadata = meta::ensure_metadata(&mut review);
            metadata.insert("namespace".to_owned(), call.route.namespace.clone().into());
            access(&call, &user, &review)?
        }
        _ => return Err(Status::no_such_path()),
    };
    review["status"] = status;
    if call.kind.plural() == "selfsubjectreviews" {
        let metadata = meta::ensure_metadata(&mut review);
        metadata.insert(
            "creationTimestamp".to_owned(),
            api::time::rfc3339(call.now).into(),
        );
    }
    Ok(respond::json(201, &review, call.accepted))
}

fn invalid(call: &Call, errors: &Errors) -> Status {
    Status::invalid(call.kind.qualified_kind(), "", errors)
}

fn texts(value: &Value, path: &[&str]) -> Vec<String> {
    meta::list(value, path)
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

async fn token(call: &Call, review: &Value) -> Result<Value, Status> {
    let token = meta::text(review, &["spec", "token"]);
    if token.is_empty() {
        return Err(Status::bad_request(
            "token is required for TokenReview in authentication",
        ));
    }
    let asked = match texts(review, &["spec", "audiences"]) {
        none if none.is_empty() => call.authenticator.audiences(),
        asked => asked,
    };
    let proven = call.authenticator.token(token, &asked, call.now).await;
    Ok(match proven {
        Ok(proven) => json!({
            "authenticated": true,
            "user": proven.user.info(),
            "audiences": proven.audiences,
        }),
        Err(why) => json!({"user": {}, "error": why}),
    })
}

/// Whom a review asks about.
fn subject(call: &Call, review: &Value) -> Result<User, Status> {
    let spec = &review["spec"];
    let user = User {
        name: meta::text(spec, &["user"]).to_owned(),
        uid: meta::text(spec, &["uid"]).to_owned(),
        groups: texts(spec, &["groups"]),
        extra: meta::members(spec, &["extra"])
            .map(|(key, _)| (key.clone(), texts(spec, &["extra", key])))
            .collect(),
    };
    if user.name.is_empty() && user.groups.is_empty() {
        let mut errors = Errors::default();
        let why = "at least one of user or group must be specified";
        errors.invalid(&Path::new("spec.user"), user.name.as_str(), why);
        return Err(invalid(call, &errors));
    }
    Ok(user)
}

/// Whether a review asks about its own namespace.
fn is_local(call: &Call, review: &Value) -> Result<(), Status> {
    let mut errors = Errors::default();
    let spec = Path::new("spec");
    if let Some(resource) = part(review, "resourceAttributes") {
        let namespace = meta::text(resource, &["namespace"]);
        if namespace != call.route.namespace {
            let path = spec.child("resourceAttributes").child("namespace");
            errors.invalid(&path, namespace, "must match metadata.namespace");
        }
    }
    if let Some(other) = part(review, "nonResourceAttributes") {
        let path = spec.child("nonResourceAttributes");
        errors.invalid(&path, other.clone(), "disallowed on this kind of request");
    }
    match errors.0.is_empty() {
        true => Ok(()),
        false => Err(invalid(call, &errors)),
    }
}

fn part<'a>(review: &'a Value, key: &str) -> Option<&'a Value> {
    review["spec"].get(key).filter(|v| v.is_object())
}

fn access(call: &Call, user: &User, review: &Value) -> Result<Value, Status> {
    let resource = part(review, "resourceAttributes");
    let (fields, passed_over) = selection::reviewed(resource.unwrap_or(&Value::Null));
    let a = Attributes {
        fields: &fields.0,
        ..asked(call, review)?
    };
    let (allowed, reason) = match call.authorizer.decide(user, &a) {
        Decision::Allowed(why) => (true, why),
        Decision::NoOpinion(why) => (false, why),
    };
    let mut status = json!({"allowed": allowed});
    if !reason.is_empty() {
        status["reason"] = reason.into();
    }
    if !passed_over.is_empty() {
        status["evaluationError"] = passed_over.into();
    }
    Ok(status)
}

/// What a review asks about, but for its selectors.
fn asked<'a>(call: &Call, review: &'a Value) -> Result<Attributes<'a>, Status> {
    let (resource, other) = (
        part(review, "resourceAttributes"),
        part(review, "nonResourceAttributes"),
    );
    let mut errors = Errors::default();
    let a = match (resource, other) {
        (Some(r), None) => Attributes {
            verb: meta::text(r, &["verb"]),
            group: meta::text(r, &["group"]),
            resource: meta::text(r, &["resource"]),
            subresource: meta::text(r, &["subresource"]),
            namespace: meta::text(r, &["namespace"]),
            name: meta::text(r, &["name"]),
            ..Attributes::default()
        },
        (None, Some(r)) => Attributes {
            verb: meta::text(r, &["verb"]),
            path: Some(meta::text(r, &["path"])),
            ..Attributes::default()
        },
        (Some(_), Some(other)) => {
            let path = Path::new("spec.nonResourceAttributes");
            let why = "cannot be specified in combination with resourceAttributes";
            errors.invalid(&path, other.clone(), why);
            Attributes::default()
        }
        (None, None) => {
            let path = Path::new("spec.resourceAttributes");
            let why =
                "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            errors.invalid(&path, Value::Null, why);
            Attributes::default()
        }
    };
    if let Some(resource) = resource {
        selection::validate(resource, &Path::new("spec.resourceAttributes"), &mut errors);
    }
    match errors.0.is_empty() {
        true => Ok(a),
        false => Err(invalid(call, &errors)),
    }
}

fn rules(call: &Call, review: &Value) -> Result<Value, Status> {
    let namespace = meta::text(review, &["spec", "namespace"]);
    if namespace.is_empty() {
        return Err(Status::bad_request(format!(
            "no namespace on request {:?}",
            call.user.name
        )));
    }
    call.authorizer.rules(&call.user, namespace)
}
