//! A URL's path and method to what is asked: upstream's request info.
//!
//! Paths: `/api/v1/…`, `/apis/GROUP/VERSION/…`, below them
//! `[namespaces/NS/]RESOURCE[/NAME[/SUBRESOURCE]]`; everything else is a
//! non-resource path. A path that fits nothing is refused with 404.

use crate::query::{Query, percent_decode};
use http::Method;

/// A request as authorization and dispatch see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Resource(ResourceRoute),
    /// Discovery, health, documents: verb and path.
    Other {
        verb: &'static str,
        path: String,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResourceRoute {
    pub(crate) verb: &'static str,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) namespace: String,
    pub(crate) resource: String,
    pub(crate) name: String,
    pub(crate) subresource: String,
    /// What follows the subresource, decoded: empty, or with a slash before
    /// each word and where the whole path ends in one.
    pub(crate) path: String,
}

impl ResourceRoute {
    /// Watches and streams last; they are bounded by connections instead.
    pub(crate) fn is_long(&self) -> bool {
        self.verb == "watch"
            || matches!(
                self.subresource.as_str(),
                "log" | "exec" | "attach" | "portforward" | "proxy"
            )
    }
}

/// `None` for a path that isn't even well formed.
pub(crate) fn route(method: &Method, path: &str, query: &Query) -> Option<Route> {
    let segments: Option<Vec<String>> = path
        .split('/')
        .filter(|s| !s.is_empty())
        .map(percent_decode)
        .collect();
    let segments = segments?;
    let words: Vec<&str> = segments.iter().map(String::as_str).collect();
    let (group, version, rest) = match words.as_slice() {
        ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
        ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
        _ => {
            return Some(Route::Other {
                verb: plain_verb(method)?,
                path: path.to_owned(),
            });
        }
    };
    let (namespace, rest) = match rest {
        // The subresources of a namespace itself.
        ["namespaces", _, "status" | "finalize"] | ["namespaces"] | ["namespaces", _] => ("", rest),
        ["namespaces", ns, rest @ ..] => (*ns, rest),
        _ => ("", rest),
    };
    let (resource, name, subresource, below) = match rest {
        [resource] => (*resource, "", "", &[] as &[&str]),
        [resource, name] => (*resource, *name, "", &[] as &[&str]),
        [resource, name, sub, below @ ..] => (*resource, *name, *sub, below),
        [] => return None,
    };
    let known = &segments[..segments.len() - below.len()];
    if known.iter().any(|s| s.contains('/') || s.contains('\0')) {
        return None;
    }
    let mut info = ResourceRoute {
        verb: match *method {
            // As upstream: a verb that only rules for all verbs allow.
            Method::OPTIONS => "",
            _ => plain_verb(method)?,
        },
        group: group.to_owned(),
        version: version.to_owned(),
        namespace: namespace.to_owned(),
        resource: resource.to_owned(),
        name: name.to_owned(),
        subresource: subresource.to_owned(),
        path: below_of(below, !subresource.is_empty() && path.ends_with('/')),
    };
    if group.is_empty() && resource == "namespaces" && !name.is_empty() {
        info.namespace = name.to_owned();
    }
    info.verb = match (info.verb, name.is_empty()) {
        ("get", true) if query.flag("watch") => "watch",
        ("get", true) => "list",
        ("delete", true) => "deletecollection",
        // A watch of one object by its name, as old clients ask for it.
        ("get", false) if subresource.is_empty() && query.flag("watch") => "watch",
        (verb, _) => verb,
    };
    Some(Route::Resource(info))
}

/// The path below a subresource (upstream's `getRequestOptions`).
fn below_of(words: &[&str], slash: bool) -> String {
    let mut path = String::new();
    for word in words {
        path.push('/');
        path.push_str(word);
    }
    if slash && !path.ends_with('/') {
        path.push('/');
    }
    path
}

fn plain_verb(method: &Method) -> Option<&'static str> {
    Some(match *method {
        Method::GET | Method::HEAD => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// A resource's route in one line.
    fn found(method: &str, url: &str) -> String {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let method: Method = method.parse().unwrap();
        let Some(Route::Resource(r)) = route(&method, path, &Query::parse(query)) else {
            panic!("{url}");
        };
        format!(
            "{} {} {} {} {} {} {}{}",
            r.verb, r.group, r.version, r.namespace, r.resource, r.name, r.subresource, r.path
        )
    }

    #[test]
    fn paths_are_understood() {
        for (method, url, wanted) in [
            ("GET", "/api/v1/pods", "list  v1  pods  "),
            ("GET", "/api/v1/namespaces", "list  v1  namespaces  "),
            ("GET", "/api/v1/namespaces/a", "get  v1 a namespaces a "),
            (
                "PUT",
                "/api/v1/namespaces/a/finalize",
                "update  v1 a namespaces a finalize",
            ),
            ("GET", "/api/v1/namespaces/a/pods", "list  v1 a pods  "),
            (
                "GET",
                "/api/v1/namespaces/a/pods?watch=1",
                "watch  v1 a pods  ",
            ),
            (
                "GET",
                "/api/v1/namespaces/a/pods/p/log",
                "get  v1 a pods p log",
            ),
            (
                "DELETE",
                "/apis/g/v1/namespaces/a/things",
                "deletecollection g v1 a things  ",
            ),
            (
                "POST",
                "/api/v1/namespaces/a/pods/p/binding",
                "create  v1 a pods p binding",
            ),
        ] {
            assert_eq!(found(method, url), wanted, "{url}");
        }
        let q = Query::parse("");
        assert!(matches!(
            route(&Method::GET, "/api", &q),
            Some(Route::Other { .. })
        ));
        assert!(matches!(
            route(&Method::GET, "/api/v1", &q),
            Some(Route::Other { .. })
        ));
        assert_eq!(route(&Method::GET, "/api/v1/pods/%zz", &q), None);
        assert_eq!(route(&Method::GET, "/api/v1/pods/a%2fb", &q), None);
    }

    #[test]
    fn what_follows_a_subresource_stays_together() {
        for (method, url, wanted) in [
            (
                "OPTIONS",
                "/api/v1/namespaces/a/pods/https:p:1/proxy/b%2Fc//d/",
                "  v1 a pods https:p:1 proxy/b/c/d/",
            ),
            (
                "GET",
                "/api/v1/nodes/n/proxy/?watch=1",
                "get  v1  nodes n proxy/",
            ),
            ("GET", "/api/v1/pods/a/b/c/d", "get  v1  pods a b/c/d"),
        ] {
            assert_eq!(found(method, url), wanted, "{url}");
        }
    }
}
