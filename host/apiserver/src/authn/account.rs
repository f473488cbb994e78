//! Service account tokens: the claims that they carry, and whom they prove as
//! long as what they are bound to exists (KEP-1205, KEP-4193).

use crate::lookup;
use crate::user::User;
use api::meta;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use store::Store;

const OURS: &str = "kubernetes.io";
const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";
const LEGACY: &str = "kubernetes.io/serviceaccount/";
const EXTRA: &str = "authentication.kubernetes.io/";
/// How long a token outlives the deletion of what it is bound to.
const LEEWAY: i64 = 60;

/// An object by name and UID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) uid: String,
}

impl Named {
    pub(crate) fn of(object: &Value) -> Named {
        Named {
            name: meta::name(object).to_owned(),
            uid: meta::uid(object).to_owned(),
        }
    }

    fn claim(&self) -> Value {
        json!({"name": self.name, "uid": self.uid})
    }
}

/// What a token says.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(crate) namespace: String,
    pub(crate) account: Named,
    pub(crate) pod: Option<Named>,
    pub(crate) secret: Option<Named>,
    pub(crate) node: Option<Named>,
    pub(crate) audiences: Vec<String>,
    pub(crate) issued: Timestamp,
    /// Seconds of life.
    pub(crate) seconds: i64,
    /// A name for this very token.
    pub(crate) id: String,
}

pub(crate) fn claims(grant: &Grant, issuer: &str) -> Value {
    let mut own = Map::new();
    own.insert("namespace".into(), grant.namespace.clone().into());
    for (key, bound) in [
        ("node", &grant.node),
        ("pod", &grant.pod),
        ("secret", &grant.secret),
    ] {
        if let Some(bound) = bound {
            own.insert(key.into(), bound.claim());
        }
    }
    own.insert("serviceaccount".into(), grant.account.claim());
    let from = grant.issued.as_second();
    json!({
        "aud": grant.audiences,
        "exp": from.saturating_add(grant.seconds),
        "iat": from,
        "iss": issuer,
        "jti": grant.id,
        OURS: own,
        "nbf": from,
        "sub": format!("system:serviceaccount:{}:{}", grant.namespace, grant.account.name),
    })
}

/// Of a token in a Secret: no end, no audience.
pub(crate) fn legacy_claims(namespace: &str, account: &Named, secret: &str) -> Value {
    json!({
        "iss": LEGACY_ISSUER,
        "kubernetes.io/serviceaccount/namespace": namespace,
        "kubernetes.io/serviceaccount/secret.name": secret,
        "kubernetes.io/serviceaccount/service-account.name": account.name,
        "kubernetes.io/serviceaccount/service-account.uid": account.uid,
        "sub": format!("system:serviceaccount:{namespace}:{}", account.name),
    })
}

/// Whether the token of these claims was issued by a server like this one.
pub(crate) fn is_ours(claims: &Value, issuer: &str) -> bool {
    matches!(claims["iss"].as_str(), Some(i) if i == issuer || i == LEGACY_ISSUER)
}

pub(crate) fn audiences(claims: &Value) -> Vec<String> {
    match &claims["aud"] {
        Value::String(one) => vec![one.clone()],
        Value::Array(many) => many
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        _ => Vec::new(),
    }
}

/// The user whom verified `claims` prove at `now`, or why nobody.
pub(crate) fn user(store: &Store, claims: &Value, now: Timestamp) -> Result<User, String> {
    match claims["iss"].as_str() {
        Some(LEGACY_ISSUER) => legacy_user(store, claims),
        _ => bound_user(store, claims, now),
    }
}

fn bound_user(store: &Store, claims: &Value, now: Timestamp) -> Result<User, String> {
    let at = |key: &str| claims[key].as_i64();
    let second = now.as_second();
    if at("exp").is_none_or(|end| second >= end) {
        return Err("service account token has expired".to_owned());
    }
    if at("nbf").is_some_and(|from| second.saturating_add(LEEWAY) < from) {
        return Err("service account token is not valid yet".to_owned());
    }
    let own = &claims[OURS];
    let named = |key: &str| {
        own.get(key).map(|value| Named {
            name: meta::text(value, &["name"]).to_owned(),
            uid: meta::text(value, &["uid"]).to_owned(),
        })
    };
    let namespace = meta::text(own, &["namespace"]);
    let account = named("serviceaccount").ok_or("no service account in the token")?;
    if claims["sub"] != format!("system:serviceaccount:{namespace}:{}", account.name) {
        return Err("the subject isn't the service account".to_owned());
    }
    stands(store, "serviceaccounts", namespace, &account, second)?;
    let mut user = User::account(namespace, &account.name, &account.uid);
    let mut extra = |key: &str, value: &str| {
        user.extra
            .insert(format!("{EXTRA}{key}"), vec![value.to_owned()]);
    };
    if let Some(secret) = named("secret") {
        stands(store, "secrets", namespace, &secret, second)?;
    }
    if let Some(pod) = named("pod") {
        stands(store, "pods", namespace, &pod, second)?;
        extra("pod-name", &pod.name);
        extra("pod-uid", &pod.uid);
    }
    if let Some(node) = named("node") {
        // A pod's token names its node for information only.
        if named("pod").is_none() {
            stands(store, "nodes", "", &node, second)?;
        }
        extra("node-name", &node.name);
        extra("node-uid", &node.uid);
    }
    if let Some(id) = claims["jti"].as_str() {
        extra("credential-id", &format!("JTI={id}"));
    }
    Ok(user)
}

fn legacy_user(store: &Store, claims: &Value) -> Result<User, String> {
    let text = |key: &str| {
        claims[format!("{LEGACY}{key}")]
            .as_str()
            .unwrap_or_default()
    };
    let namespace = text("namespace");
    let account = Named {
        name: text("service-account.name").to_owned(),
        uid: text("service-account.uid").to_owned(),
    };
    if claims["sub"] != format!("system:serviceaccount:{namespace}:{}", account.name) {
        return Err("the subject isn't the service account".to_owned());
    }
    stands(store, "serviceaccounts", namespace, &account, i64::MIN)?;
    let secret = lookup::object(store, ("", "secrets"), namespace, text("secret.name"))
        .map_err(|_| "service account token has been invalidated")?;
    if meta::is_deleting(&secret) || meta::text(&secret, &["data", "token"]).is_empty() {
        return Err("service account token has been invalidated".to_owned());
    }
    Ok(User::account(namespace, &account.name, &account.uid))
}

/// The object is there, is the same, and wasn't deleted long ago.
fn stands(
    store: &Store,
    plural: &str,
    namespace: &str,
    named: &Named,
    second: i64,
) -> Result<(), String> {
    let gone = || Err("service account token has been invalidated".to_owned());
    let Ok(found) = lookup::object(store, ("", plural), namespace, &named.name) else {
        return gone();
    };
    if named.uid.is_empty() || meta::uid(&found) != named.uid {
        return gone();
    }
    let deleted: Option<Timestamp> = meta::text(&found, &["metadata", "deletionTimestamp"])
        .parse()
        .ok();
    match deleted {
        Some(at) if second == i64::MIN || at.as_second().saturating_add(LEEWAY) < second => gone(),
        _ => Ok(()),
    }
}
