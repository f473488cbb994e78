//! Impersonation: `Impersonate-User`, `-Group`, `-Uid`, `-Extra-KEY`, each
//! authorized by itself; what follows is done as, and said of, the other user.

use crate::audit::Trail;
use crate::authz::{Attributes, Authorizer};
use crate::query::percent_decode;
use crate::user::{ACCOUNTS, ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, User, account_of};
use api::status::Status;
use http::HeaderMap;
use std::collections::BTreeMap;

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
const AUTHENTICATION: &str = "authentication.k8s.io";

struct Wanted {
    user: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

fn text(value: &http::HeaderValue) -> Result<String, Status> {
    let bad = |_| Status::bad_request("an impersonation header is no text");
    value.to_str().map(str::to_owned).map_err(bad)
}

fn wanted(headers: &HeaderMap) -> Result<Option<Wanted>, Status> {
    let one = |key: &str| headers.get(key).map(text).transpose();
    let mut wanted = Wanted {
        user: one(USER)?.unwrap_or_default(),
        uid: one(UID)?.unwrap_or_default(),
        groups: headers
            .get_all(GROUP)
            .iter()
            .map(text)
            .collect::<Result<_, _>>()?,
        extra: BTreeMap::new(),
    };
    for (name, value) in headers {
        if let Some(key) = name.as_str().strip_prefix(EXTRA) {
            let key = percent_decode(key).unwrap_or_else(|| key.to_owned());
            wanted.extra.entry(key).or_default().push(text(value)?);
        }
    }
    let more = !(wanted.groups.is_empty() && wanted.extra.is_empty() && wanted.uid.is_empty());
    match (wanted.user.is_empty(), more) {
        (true, false) => Ok(None),
        (true, true) => Err(Status::internal(
            "requested groups, uid or extra without impersonating a user",
        )),
        (false, _) => Ok(Some(wanted)),
    }
}

/// Whom `user` acts as: the impersonated one, or itself.
pub(crate) fn acting(
    authorizer: &Authorizer,
    user: User,
    headers: &HeaderMap,
    trail: &Trail,
) -> Result<User, Status> {
    let Some(wanted) = wanted(headers)? else {
        return Ok(user);
    };
    let check = |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| {
        let a = Attributes {
            verb: "impersonate",
            group,
            resource,
            subresource,
            namespace,
            name,
            ..Attributes::default()
        };
        authorizer.authorize(&user, &a)
    };
    let account = account_of(&wanted.user);
    match account {
        Some((namespace, name)) => check("", "serviceaccounts", "", namespace, name)?,
        None => check("", "users", "", "", &wanted.user)?,
    }
    for group in &wanted.groups {
        check("", "groups", "", "", group)?;
    }
    if !wanted.uid.is_empty() {
        check(AUTHENTICATION, "uids", "", "", &wanted.uid)?;
    }
    for (key, values) in &wanted.extra {
        for value in values {
            check(AUTHENTICATION, "userextras", key, "", value)?;
        }
    }
    let mut groups = wanted.groups.clone();
    if let (Some((namespace, _)), true) = (account, groups.is_empty()) {
        groups = vec![ACCOUNTS.to_owned(), format!("{ACCOUNTS}:{namespace}")];
    }
    let known = |g: &String| g == AUTHENTICATED || g == UNAUTHENTICATED;
    if wanted.user == ANONYMOUS {
        if !groups.iter().any(known) {
            groups.push(UNAUTHENTICATED.to_owned());
        }
    } else if !groups.iter().any(known) {
        groups.push(AUTHENTICATED.to_owned());
    }
    let acting = User {
        name: wanted.user,
        uid: wanted.uid,
        groups,
        extra: wanted.extra,
    };
    trail.impersonated(&acting);
    Ok(acting)
}
