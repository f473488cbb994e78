//! The paths of a group-version: which requests its kinds answer.

use crate::kinds::{KindRef, Subresource};
use serde_json::{Map, Value, json};

/// How one document names types and parameters.
pub(super) struct Dialect {
    /// What stands before a type's name in a reference.
    pub(super) references: &'static str,
    pub(super) v3: bool,
}

const OF_WRITES: &[(&str, &str)] = &[
    ("dryRun", "string"),
    ("fieldManager", "string"),
    ("fieldValidation", "string"),
    ("pretty", "string"),
];
const OF_PATCHES: &[(&str, &str)] = &[
    ("dryRun", "string"),
    ("fieldManager", "string"),
    ("fieldValidation", "string"),
    ("force", "boolean"),
    ("pretty", "string"),
];
const OF_LISTS: &[(&str, &str)] = &[
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];
const OF_DELETES: &[(&str, &str)] = &[
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("propagationPolicy", "string"),
];

/// Adds the paths of `kind`.
pub(super) fn add(out: &mut Map<String, Value>, kind: &KindRef, dialect: &Dialect) {
    let root = match kind.group() {
        "" => format!("/api/{}", kind.version()),
        group => format!("/apis/{group}/{}", kind.version()),
    };
    let scope = if kind.namespaced() {
        "/namespaces/{namespace}"
    } else {
        ""
    };
    let collection = format!("{root}{scope}/{}", kind.plural());
    let one = format!("{collection}/{{name}}");
    if kind.namespaced() && kind.verbs().contains(&"list") {
        let all = format!("{root}/{}", kind.plural());
        out.insert(all, item(kind, &["list"], &[], None, dialect));
    }
    let mut namespace: Vec<&str> = Vec::new();
    if kind.namespaced() {
        namespace.push("namespace");
    }
    out.insert(
        collection,
        item(
            kind,
            &["list", "create", "deletecollection"],
            &namespace,
            None,
            dialect,
        ),
    );
    namespace.push("name");
    if kind.verbs().contains(&"get") {
        out.insert(
            one.clone(),
            item(
                kind,
                &["get", "update", "patch", "delete"],
                &namespace,
                None,
                dialect,
            ),
        );
    }
    for sub in kind.subresources() {
        let verbs = sub.discovery().3;
        out.insert(
            format!("{one}/{}", sub.name()),
            item(kind, verbs, &namespace, Some(*sub), dialect),
        );
    }
}

fn item(
    kind: &KindRef,
    verbs: &[&str],
    in_path: &[&str],
    sub: Option<Subresource>,
    dialect: &Dialect,
) -> Value {
    let mut out = Map::new();
    for verb in verbs {
        if sub.is_none() && !kind.verbs().contains(verb) {
            continue;
        }
        let (method, action, parameters) = match *verb {
            "list" => ("get", "list", OF_LISTS),
            "get" => ("get", "get", &[("pretty", "string")] as &[_]),
            "create" => ("post", "post", OF_WRITES),
            "update" => ("put", "put", OF_WRITES),
            "patch" => ("patch", "patch", OF_PATCHES),
            "delete" => ("delete", "delete", OF_DELETES),
            "deletecollection" => ("delete", "deletecollection", OF_DELETES),
            _ => continue,
        };
        let operation = operation(kind, verb, action, parameters, sub, dialect);
        out.insert(method.to_owned(), operation);
    }
    let parameters: Vec<Value> = in_path
        .iter()
        .map(|name| parameter(name, "path", "string", dialect))
        .collect();
    if !parameters.is_empty() {
        out.insert("parameters".to_owned(), parameters.into());
    }
    Value::Object(out)
}

fn parameter(name: &str, place: &str, kind: &str, dialect: &Dialect) -> Value {
    let mut p = json!({"name": name, "in": place, "uniqueItems": true});
    if place == "path" {
        p["required"] = true.into();
    }
    if dialect.v3 {
        if let Some(map) = p.as_object_mut() {
            map.shift_remove("uniqueItems");
        }
        p["schema"] = json!({"type": kind, "uniqueItems": true});
    } else {
        p["type"] = kind.into();
    }
    p
}

fn operation(
    kind: &KindRef,
    verb: &str,
    action: &str,
    parameters: &[(&str, &str)],
    sub: Option<Subresource>,
    dialect: &Dialect,
) -> Value {
    let (group, version, name) = match sub.map(Subresource::discovery) {
        Some((g, v, k, _)) if !v.is_empty() => (g, v, k.unwrap_or(kind.kind())),
        Some((_, _, k, _)) => (kind.group(), kind.version(), k.unwrap_or(kind.kind())),
        None => (kind.group(), kind.version(), kind.kind()),
    };
    let type_name = match verb {
        "list" => super::list_type(kind),
        "delete" | "deletecollection" => SHARED_STATUS.to_owned(),
        _ => kind.type_name().to_owned(),
    };
    let schema = json!({"$ref": format!("{}{type_name}", dialect.references)});
    let mut query: Vec<Value> = parameters
        .iter()
        .map(|(name, kind)| parameter(name, "query", kind, dialect))
        .collect();
    let content = |schema: &Value| json!({"application/json": {"schema": schema}});
    let response = if dialect.v3 {
        json!({"description": "OK", "content": content(&schema)})
    } else {
        json!({"description": "OK", "schema": schema})
    };
    let mut out = json!({
        "operationId": operation_id(kind, verb, sub),
        "responses": {"200": response},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": name},
    });
    let body = match verb {
        "create" | "update" => Some(schema.clone()),
        "patch" => Some(json!({"type": "object"})),
        _ => None,
    };
    if let Some(body) = body {
        if dialect.v3 {
            out["requestBody"] = json!({"content": {"*/*": {"schema": body}}, "required": true});
        } else {
            query.push(json!({"name": "body", "in": "body", "required": true, "schema": body}));
        }
    }
    out["parameters"] = query.into();
    out
}

const SHARED_STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";

fn operation_id(kind: &KindRef, verb: &str, sub: Option<Subresource>) -> String {
    let group = kind.group().split('.').next().unwrap_or_default();
    let group = if group.is_empty() { "core" } else { group };
    let scope = if kind.namespaced() { "Namespaced" } else { "" };
    format!(
        "{verb}_{group}_{}_{scope}{}{}",
        kind.version(),
        kind.kind(),
        sub.map_or(String::new(), |s| format!("_{}", s.name()))
    )
}
