//! Reviews: questions of who somebody is and what they may. Nothing is stored;
//! the answer is the question with a status.

use super::options::{self, Verb};
use super::{Answer, Call, body};
use crate::admission::Operation;
use crate::authz::{Attributes, Decision};
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
            let namespace = meta::text(&review, &["spec", "resourceAttributes", "namespace"]);
            if namespace != call.route.namespace {
                let mut errors = Errors::default();
                let path = Path::new("spec.resourceAttributes.namespace");
                errors.invalid(&path, namespace, "must match metadata.namespace");
                return Err(invalid(&call, &errors));
            }
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

fn access(call: &Call, user: &User, review: &Value) -> Result<Value, Status> {
    let spec = &review["spec"];
    let part = |key: &str| spec.get(key).filter(|v| v.is_object());
    let a = match (part("resourceAttributes"), part("nonResourceAttributes")) {
        (Some(r), None) => Attributes {
            verb: meta::text(r, &["verb"]),
            group: meta::text(r, &["group"]),
            resource: meta::text(r, &["resource"]),
            subresource: meta::text(r, &["subresource"]),
            namespace: meta::text(r, &["namespace"]),
            name: meta::text(r, &["name"]),
            path: None,
        },
        (None, Some(r)) => Attributes {
            verb: meta::text(r, &["verb"]),
            path: Some(meta::text(r, &["path"])),
            ..Attributes::default()
        },
        (both, _) => {
            let mut errors = Errors::default();
            let why = match both {
                Some(_) => "cannot be specified in combination with resourceAttributes",
                None => {
                    "exactly one of nonResourceAttributes or resourceAttributes must be specified"
                }
            };
            let (path, value) = match both {
                Some(_) => ("spec.nonResourceAttributes", &spec["nonResourceAttributes"]),
                None => ("spec.resourceAttributes", &Value::Null),
            };
            errors.invalid(&Path::new(path), value.clone(), why);
            return Err(invalid(call, &errors));
        }
    };
    let (allowed, reason) = match call.authorizer.decide(user, &a) {
        Decision::Allowed(why) => (true, why),
        Decision::NoOpinion(why) => (false, why),
    };
    let mut status = json!({"allowed": allowed});
    if !reason.is_empty() {
        status["reason"] = reason.into();
    }
    Ok(status)
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
