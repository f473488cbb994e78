//! What the paths of the API are made of: a resource, a key, options.
//! Every part of a path or query is escaped here and nowhere else.

use serde_json::Value;
use std::borrow::Cow;
use std::fmt::{self, Write};

/// A kind's place in the API.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Resource {
    /// Empty for the core group.
    pub group: Cow<'static, str>,
    pub version: Cow<'static, str>,
    pub plural: Cow<'static, str>,
    pub namespaced: bool,
}

impl Resource {
    pub const fn namespaced(
        group: &'static str,
        version: &'static str,
        plural: &'static str,
    ) -> Resource {
        Resource {
            group: Cow::Borrowed(group),
            version: Cow::Borrowed(version),
            plural: Cow::Borrowed(plural),
            namespaced: true,
        }
    }

    pub const fn cluster(
        group: &'static str,
        version: &'static str,
        plural: &'static str,
    ) -> Resource {
        Resource {
            group: Cow::Borrowed(group),
            version: Cow::Borrowed(version),
            plural: Cow::Borrowed(plural),
            namespaced: false,
        }
    }

    /// `namespace` is left out of a cluster-wide resource's path; `None` is
    /// all namespaces.
    pub(crate) fn path(&self, namespace: Option<&str>, parts: &[&str]) -> String {
        let mut path = match self.group.is_empty() {
            true => format!("/api/{}", self.version),
            false => format!("/apis/{}/{}", self.group, self.version),
        };
        if let (true, Some(namespace)) = (self.namespaced, namespace) {
            path.push_str("/namespaces/");
            escape(&mut path, namespace);
        }
        path.push('/');
        path.push_str(&self.plural);
        for part in parts {
            path.push('/');
            escape(&mut path, part);
        }
        path
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.group.is_empty() {
            true => f.write_str(&self.plural),
            false => write!(f, "{}.{}", self.plural, self.group),
        }
    }
}

/// Resources that several callers name.
pub mod core {
    use super::Resource;
    pub const NAMESPACES: Resource = Resource::cluster("", "v1", "namespaces");
    pub const NODES: Resource = Resource::cluster("", "v1", "nodes");
    pub const PODS: Resource = Resource::namespaced("", "v1", "pods");
    pub const EVENTS: Resource = Resource::namespaced("", "v1", "events");
    pub const CONFIG_MAPS: Resource = Resource::namespaced("", "v1", "configmaps");
    pub const SECRETS: Resource = Resource::namespaced("", "v1", "secrets");
    pub const SERVICE_ACCOUNTS: Resource = Resource::namespaced("", "v1", "serviceaccounts");
    pub const RUNTIME_CLASSES: Resource = Resource::cluster("node.k8s.io", "v1", "runtimeclasses");
    pub const LEASES: Resource = Resource::namespaced("coordination.k8s.io", "v1", "leases");
}

/// An object's name within its resource; the namespace is empty for
/// cluster-wide ones.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    pub namespace: String,
    pub name: String,
}

impl ObjectKey {
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> ObjectKey {
        ObjectKey {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// From the object's metadata; `None` without a name.
    pub fn of(object: &Value) -> Option<ObjectKey> {
        let metadata = object.get("metadata")?;
        let text = |field| metadata.get(field).and_then(Value::as_str);
        Some(ObjectKey::new(
            text("namespace").unwrap_or_default(),
            text("name")?,
        ))
    }

    /// For the client's `namespace` argument.
    pub fn namespace(&self) -> Option<&str> {
        (!self.namespace.is_empty()).then_some(&*self.namespace)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.is_empty() {
            true => f.write_str(&self.name),
            false => write!(f, "{}/{}", self.namespace, self.name),
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    pub label_selector: Option<String>,
    pub field_selector: Option<String>,
    /// Empty or absent: the newest. `"0"`: any that the server has at hand.
    pub resource_version: Option<String>,
    /// Objects a page; absent: all in one.
    pub limit: Option<u32>,
    pub continue_token: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct WatchOptions {
    pub label_selector: Option<String>,
    pub field_selector: Option<String>,
    /// Events after this; absent: begins with what exists.
    pub resource_version: Option<String>,
    pub bookmarks: bool,
    /// Begins with what exists, and a bookmark behind it (with `bookmarks`).
    pub initial_events: bool,
    /// After how many seconds the server ends the watch.
    pub timeout_seconds: Option<u32>,
}

pub(crate) fn list_query(options: &ListOptions) -> String {
    let limit = options.limit.map(|limit| limit.to_string());
    query(&[
        ("labelSelector", options.label_selector.as_deref()),
        ("fieldSelector", options.field_selector.as_deref()),
        ("resourceVersion", options.resource_version.as_deref()),
        ("limit", limit.as_deref()),
        ("continue", options.continue_token.as_deref()),
    ])
}

pub(crate) fn watch_query(options: &WatchOptions) -> String {
    let timeout = options.timeout_seconds.map(|seconds| seconds.to_string());
    query(&[
        ("watch", Some("true")),
        ("labelSelector", options.label_selector.as_deref()),
        ("fieldSelector", options.field_selector.as_deref()),
        ("resourceVersion", options.resource_version.as_deref()),
        ("allowWatchBookmarks", options.bookmarks.then_some("true")),
        (
            "sendInitialEvents",
            options.initial_events.then_some("true"),
        ),
        (
            "resourceVersionMatch",
            options.initial_events.then_some("NotOlderThan"),
        ),
        ("timeoutSeconds", timeout.as_deref()),
    ])
}

pub(crate) fn apply_query(manager: &str, force: bool) -> String {
    query(&[
        ("fieldManager", Some(manager)),
        ("force", force.then_some("true")),
    ])
}

/// With its question mark; empty when nothing is set.
fn query(fields: &[(&str, Option<&str>)]) -> String {
    let mut query = String::new();
    for (name, value) in fields {
        if let Some(value) = value {
            query.push(if query.is_empty() { '?' } else { '&' });
            query.push_str(name);
            query.push('=');
            escape(&mut query, value);
        }
    }
    query
}

/// RFC 3986, 2.3: all but unreserved characters.
fn escape(into: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                into.push(char::from(byte));
            }
            _ => {
                write!(into, "%{byte:02X}").expect("writing to a string can't fail");
            }
        }
    }
}
