//! Authorization: fixed roles until RBAC. `system:masters` may everything,
//! nodes what a node needs, everybody authenticated discovery, everybody
//! health and version.

use crate::route::{ResourceRoute, Route};
use crate::user::{AUTHENTICATED, MASTERS, NODES, User};
use api::status::{Qualified, Status};

const PUBLIC: &[&str] = &["/healthz", "/livez", "/readyz", "/version"];
const DISCOVERY: &[&str] = &["/api", "/apis", "/openapi", "/version"];

const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "update", "patch"];

/// What a node may: group, resource with subresource, verbs.
const NODE_RULES: &[(&str, &str, &[&str])] = &[
    ("", "nodes", READ),
    ("", "nodes", WRITE),
    ("", "nodes/status", WRITE),
    ("", "pods", READ),
    ("", "pods", &["create", "delete"]),
    ("", "pods/status", WRITE),
    ("", "pods/eviction", &["create"]),
    ("", "configmaps", READ),
    ("", "secrets", READ),
    ("", "serviceaccounts", READ),
    ("", "namespaces", READ),
    ("", "events", WRITE),
    ("events.k8s.io", "events", WRITE),
    ("coordination.k8s.io", "leases", READ),
    ("coordination.k8s.io", "leases", WRITE),
    ("coordination.k8s.io", "leases", &["delete"]),
];

pub(crate) fn authorize(user: &User, route: &Route) -> Result<(), Status> {
    if user.is_in(MASTERS) {
        return Ok(());
    }
    match route {
        Route::Other { verb, path } => {
            let under = |roots: &[&str]| {
                roots.iter().any(|r| {
                    path == r
                        || path
                            .strip_prefix(r)
                            .is_some_and(|rest| rest.starts_with('/'))
                })
            };
            let allowed = *verb == "get"
                && (under(PUBLIC) || (user.is_in(AUTHENTICATED) && under(DISCOVERY)));
            if allowed {
                return Ok(());
            }
            Err(Status::forbidden(
                Qualified {
                    group: "",
                    name: "",
                },
                "",
                &format!("User {:?} cannot {verb} path {path:?}", user.name),
            ))
        }
        Route::Resource(r) if user.is_in(NODES) && node_may(r) => Ok(()),
        // Service accounts have no rights on resources before RBAC.
        Route::Resource(r) => Err(refuse(user, r)),
    }
}

fn full_resource(r: &ResourceRoute) -> String {
    match r.subresource.as_str() {
        "" => r.resource.clone(),
        sub => format!("{}/{sub}", r.resource),
    }
}

fn node_may(r: &ResourceRoute) -> bool {
    let resource = full_resource(r);
    NODE_RULES.iter().any(|(group, name, verbs)| {
        *group == r.group && *name == resource && verbs.contains(&r.verb)
    })
}

fn refuse(user: &User, r: &ResourceRoute) -> Status {
    let resource = full_resource(r);
    let scope = match r.namespace.as_str() {
        "" => "at the cluster scope".to_owned(),
        ns => format!("in the namespace {ns:?}"),
    };
    Status::forbidden(
        Qualified {
            group: &r.group,
            name: &r.resource,
        },
        &r.name,
        &format!(
            "User {:?} cannot {} resource {resource:?} in API group {:?} {scope}",
            user.name, r.verb, r.group
        ),
    )
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::query::Query;
    use http::Method;

    fn check(user: &User, method: Method, path: &str) -> Result<(), Status> {
        authorize(
            user,
            &crate::route::route(&method, path, &Query::parse("")).unwrap(),
        )
    }

    #[test]
    fn roles() {
        let admin = User::new("root", [MASTERS.to_owned()]);
        let node = User::node("n");
        let nobody = User::new("bob", []);
        let anonymous = User::anonymous();
        assert!(check(&admin, Method::DELETE, "/api/v1/nodes/n").is_ok());
        assert!(check(&node, Method::PUT, "/api/v1/namespaces/d/pods/p/status").is_ok());
        assert!(check(&node, Method::DELETE, "/api/v1/nodes/n").is_err());
        assert!(check(&nobody, Method::GET, "/apis").is_ok());
        assert!(check(&anonymous, Method::GET, "/apis").is_err());
        assert!(check(&anonymous, Method::GET, "/readyz/ping").is_ok());
        assert!(check(&anonymous, Method::GET, "/readyzz").is_err());
        assert_eq!(
            check(&nobody, Method::GET, "/api/v1/namespaces/d/pods")
                .unwrap_err()
                .message,
            "pods is forbidden: User \"bob\" cannot list resource \"pods\" in API group \"\" in the namespace \"d\""
        );
        assert_eq!(
            check(&anonymous, Method::GET, "/").unwrap_err().message,
            "forbidden: User \"system:anonymous\" cannot get path \"/\""
        );
    }
}
