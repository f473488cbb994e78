//! `serviceaccounts/NAME/token`: a token for a service account, bound to a
//! pod, a secret or a node if it is so asked (KEP-1205).

use super::{Answer, Call, body};
use crate::admission::Operation;
use crate::authn::account::{Grant, Named, claims};
use crate::lookup;
use crate::respond;
use api::field::{Errors, Path};
use api::meta;
use api::status::{Qualified, Status};
use jiff::SignedDuration;
use serde_json::{Value, json};

const FACTS: &str = "io.k8s.api.authentication.v1.TokenRequest";
const KIND: Qualified<'static> = Qualified {
    group: "authentication.k8s.io",
    name: "TokenRequest",
};
const DEFAULT_SECONDS: i64 = 3600;
const MIN_SECONDS: i64 = 600;
const MAX_SECONDS: i64 = 1 << 32;

pub(crate) async fn create(call: Call) -> Answer {
    let mut parsed = body::parse(&call, FACTS)?;
    api::decode::conform(&mut parsed.value, FACTS, &mut Vec::new()).map_err(Status::bad_request)?;
    let mut wanted = parsed.value;
    wanted["kind"] = KIND.name.into();
    wanted["apiVersion"] = "authentication.k8s.io/v1".into();
    call.trail.request(&wanted);
    call.mutate(Operation::Create, &mut wanted, None).await?;
    call.admit(Operation::Create, &wanted, None).await?;
    let account = call.current()?.object;
    let name = meta::name(&account).to_owned();
    let named = meta::name(&wanted);
    if !named.is_empty() && named != name {
        return Err(Status::bad_request(
            "the name of the object does not match the name on the URL",
        ));
    }
    let uid = meta::uid(&wanted);
    if !uid.is_empty() && uid != meta::uid(&account) {
        let why = format!(
            "the UID in the token request ({uid}) does not match the UID of the service account"
        );
        return Err(Status::conflict(call.kind.resource(), &name, &why));
    }
    let mut audiences: Vec<String> = meta::list(&wanted, &["spec", "audiences"])
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    if audiences.is_empty() {
        audiences = call.authenticator.audiences();
    }
    let seconds = meta::int(&wanted, &["spec", "expirationSeconds"]).unwrap_or(DEFAULT_SECONDS);
    check_seconds(seconds, meta::name(&wanted))?;
    let mut grant = Grant {
        namespace: call.route.namespace.clone(),
        account: Named::of(&account),
        pod: None,
        secret: None,
        node: None,
        audiences,
        issued: call.now,
        seconds,
        id: uuid::Uuid::new_v4().hyphenated().to_string(),
    };
    bind(&call, &wanted["spec"]["boundObjectRef"], &mut grant)?;
    let token = match call.query.dry_run()? {
        // Nothing is kept: a dry run differs in giving nothing away.
        true => String::new(),
        false => call
            .authenticator
            .keys
            .sign(&claims(&grant, &call.authenticator.issuer))?,
    };
    Ok(respond::json(
        201,
        &answer(&wanted, &grant, &token),
        call.accepted,
    ))
}

fn check_seconds(seconds: i64, name: &str) -> Result<(), Status> {
    let mut errors = Errors::default();
    let path = Path::new("spec").child("expirationSeconds");
    if seconds < MIN_SECONDS {
        errors.invalid(
            &path,
            seconds,
            "may not specify a duration less than 10 minutes",
        );
    }
    if seconds > MAX_SECONDS {
        errors.invalid(
            &path,
            seconds,
            "may not specify a duration larger than 2^32 seconds",
        );
    }
    match errors.is_empty() {
        true => Ok(()),
        false => Err(Status::invalid(KIND, name, &errors)),
    }
}

/// Binds the token to the object that the request names.
fn bind(call: &Call, reference: &Value, grant: &mut Grant) -> Result<(), Status> {
    if !reference.is_object() {
        return Ok(());
    }
    let text = |key: &str| meta::text(reference, &[key]);
    let (version, kind, name) = (text("apiVersion"), text("kind"), text("name"));
    let plural = match (version, kind) {
        ("v1", "Pod") => "pods",
        ("v1", "Secret") => "secrets",
        ("v1", "Node") => "nodes",
        _ => {
            return Err(Status::bad_request(format!(
                "cannot bind token to object of type {version}, Kind={kind}"
            )));
        }
    };
    let namespace = match plural {
        "nodes" => "",
        _ => grant.namespace.as_str(),
    };
    let found = lookup::object(&call.store, ("", plural), namespace, name)?;
    let uid = text("uid");
    if !uid.is_empty() && uid != meta::uid(&found) {
        let resource = Qualified {
            group: "",
            name: plural,
        };
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(Status::conflict(resource, name, &why));
    }
    let bound = Some(Named::of(&found));
    match plural {
        "pods" => {
            let account = &grant.account.name;
            if meta::text(&found, &["spec", "serviceAccountName"]) != account {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
                )));
            }
            grant.pod = bound;
            let node = meta::text(&found, &["spec", "nodeName"]);
            if !node.is_empty()
                && let Ok(node) = lookup::object(&call.store, ("", "nodes"), "", node)
            {
                grant.node = Some(Named::of(&node));
            }
        }
        "secrets" => grant.secret = bound,
        _ => grant.node = bound,
    }
    Ok(())
}

fn answer(wanted: &Value, grant: &Grant, token: &str) -> Value {
    let end = grant
        .issued
        .checked_add(SignedDuration::from_secs(grant.seconds))
        .unwrap_or(jiff::Timestamp::MAX);
    // Null is what upstream says of a token that is bound to nothing.
    let spec = json!({
        "audiences": grant.audiences,
        "expirationSeconds": grant.seconds,
        "boundObjectRef": wanted["spec"]["boundObjectRef"],
    });
    json!({
        "kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1",
        "metadata": {
            "name": grant.account.name, "namespace": grant.namespace,
            "creationTimestamp": api::time::rfc3339(grant.issued),
        },
        "spec": spec,
        "status": {"token": token, "expirationTimestamp": api::time::rfc3339(end)},
    })
}
