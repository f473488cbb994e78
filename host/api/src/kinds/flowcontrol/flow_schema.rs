//! FlowSchema: which requests belong to which priority level.

use super::{GROUP, bootstrap};
use crate::field::{Errors, Path};
use crate::kinds::{Kind, Subresource, strategy};
use crate::print::{AGE, Cells, Column, NAME, age, or_none, text};
use crate::{meta, names};
use jiff::Timestamp;
use serde_json::Value;
use std::cmp::Ordering;

pub(in crate::kinds) static KIND: Kind = Kind {
    group: GROUP,
    kind: "FlowSchema",
    plural: "flowschemas",
    singular: "flowschema",
    namespaced: false,
    type_name: "io.k8s.api.flowcontrol.v1.FlowSchema",
    storage: "flowcontrol.apiserver.k8s.io/flowschemas",
    subresources: &[Subresource::Status],
    columns: COLUMNS,
    cells,
    order,
    default: |object| {
        meta::ensure(object, "status");
        let spec = meta::ensure(object, "spec");
        match spec.get("matchingPrecedence").and_then(Value::as_i64) {
            None | Some(0) => {
                spec.insert("matchingPrecedence".to_owned(), 1000.into());
            }
            Some(_) => {}
        }
    },
    validate,
    validate_status: |new, _, errors| super::validate_conditions(new, errors),
    prepare_create: strategy::create_spec_status,
    prepare_update: strategy::update_spec_status,
    ..Kind::BASE
};

const COLUMNS: &[Column] = &[
    NAME,
    text("PriorityLevel", 0, "The level of its requests."),
    text("MatchingPrecedence", 0, "Lower ones are asked first."),
    text("DistinguisherMethod", 0, "What tells its flows apart."),
    AGE,
    text("MissingPL", 0, "Whether the level is missing."),
];

/// As they are asked (`FlowSchemaSequence`).
fn order(a: &Value, b: &Value) -> Ordering {
    let precedence = |o: &Value| meta::int(o, &["spec", "matchingPrecedence"]).unwrap_or(0);
    let by_precedence = precedence(a).cmp(&precedence(b));
    by_precedence.then_with(|| meta::name(a).cmp(meta::name(b)))
}

fn cells(object: &Value, now: Timestamp) -> Cells {
    let spec = &object["spec"];
    let dangling = meta::list(object, &["status", "conditions"])
        .iter()
        .find(|c| meta::text(c, &["type"]) == "Dangling");
    vec![
        meta::name(object).into(),
        meta::text(spec, &["priorityLevelConfiguration", "name"]).into(),
        meta::int(spec, &["matchingPrecedence"]).unwrap_or(0).into(),
        or_none(meta::text(spec, &["distinguisherMethod", "type"])),
        age(object, now),
        dangling.map_or("?", |c| meta::text(c, &["status"])).into(),
    ]
}

const MAX_PRECEDENCE: i64 = 10_000;

fn validate(object: &Value, errors: &mut Errors) {
    const METHODS: &[&str] = &["ByNamespace", "ByUser"];
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let at = path.child("matchingPrecedence");
    let precedence = meta::int(spec, &["matchingPrecedence"]).unwrap_or(0);
    if precedence <= 0 {
        errors.invalid(&at, precedence, "must be a positive value");
    }
    if precedence > MAX_PRECEDENCE {
        let why = format!("must not be greater than {MAX_PRECEDENCE}");
        errors.invalid(&at, precedence, why);
    }
    if precedence == 1 && meta::name(object) != "exempt" {
        let why = "only the schema named 'exempt' may have matchingPrecedence 1";
        errors.invalid(&at, precedence, why);
    }
    if let Some(method) = spec.get("distinguisherMethod") {
        let kind = meta::text(method, &["type"]);
        if !METHODS.contains(&kind) {
            let at = path.child("distinguisherMethod").child("type");
            errors.not_supported(&at, kind, METHODS);
        }
    }
    let at = path.child("priorityLevelConfiguration").child("name");
    match meta::text(spec, &["priorityLevelConfiguration", "name"]) {
        "" => errors.required(&at, "must reference a priority level"),
        name => errors.invalid_each(&at, name, names::dns_subdomain(name)),
    }
    for (i, rule) in meta::list(spec, &["rules"]).iter().enumerate() {
        validate_rule(rule, &path.child("rules").index(i), errors);
    }
    super::validate_mandatory(object, &bootstrap::mandatory_schemas(), errors);
    super::validate_conditions(object, errors);
}

fn validate_rule(rule: &Value, path: &Path, errors: &mut Errors) {
    let subjects = meta::list(rule, &["subjects"]);
    if subjects.is_empty() {
        let why = "subjects must contain at least one value";
        errors.required(&path.child("subjects"), why);
    }
    for (i, subject) in subjects.iter().enumerate() {
        validate_subject(subject, &path.child("subjects").index(i), errors);
    }
    let resources = meta::list(rule, &["resourceRules"]);
    let others = meta::list(rule, &["nonResourceRules"]);
    if resources.is_empty() && others.is_empty() {
        let why = "at least one of resourceRules and nonResourceRules has to be non-empty";
        errors.required(path, why);
    }
    for (i, rule) in resources.iter().enumerate() {
        validate_resources(rule, &path.child("resourceRules").index(i), errors);
    }
    for (i, rule) in others.iter().enumerate() {
        let at = path.child("nonResourceRules").index(i);
        validate_verbs(rule, &at, errors);
        validate_urls(rule, &at.child("nonResourceURLs"), errors);
    }
}

/// The kinds of subjects and the member that holds each.
const SUBJECTS: &[(&str, &str)] = &[
    ("Group", "group"),
    ("ServiceAccount", "serviceAccount"),
    ("User", "user"),
];

fn validate_subject(subject: &Value, path: &Path, errors: &mut Errors) {
    let kind = meta::text(subject, &["kind"]);
    let Some((_, member)) = SUBJECTS.iter().find(|(k, _)| *k == kind) else {
        let kinds: Vec<&str> = SUBJECTS.iter().map(|(k, _)| *k).collect();
        return errors.not_supported(&path.child("kind"), kind, &kinds);
    };
    let at = path.child(member);
    match subject.get(*member) {
        None => {
            let why = format!("{member} is required when subject kind is '{kind}'");
            errors.required(&at, why);
        }
        Some(of) => validate_holder(of, kind, &at, errors),
    }
    for (other, member) in SUBJECTS.iter().filter(|(k, _)| *k != kind) {
        if subject.get(*member).is_some() {
            let why = format!("{member} is forbidden when subject kind is not '{other}'");
            errors.forbidden(&path.child(member), why);
        }
    }
}

fn validate_holder(of: &Value, kind: &str, path: &Path, errors: &mut Errors) {
    let name = meta::text(of, &["name"]);
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    }
    if kind != "ServiceAccount" {
        return;
    }
    if !name.is_empty() && name != "*" {
        errors.invalid_each(&path.child("name"), name, names::dns_subdomain(name));
    }
    let at = path.child("namespace");
    match meta::text(of, &["namespace"]) {
        "" => errors.required(&at, "must specify namespace for service account"),
        namespace => errors.invalid_each(&at, namespace, names::dns_label(namespace)),
    }
}

fn texts<'a>(of: &'a Value, key: &str) -> Vec<&'a str> {
    meta::list(of, &[key])
        .iter()
        .map(|v| v.as_str().unwrap_or_default())
        .collect()
}

fn validate_verbs(rule: &Value, path: &Path, errors: &mut Errors) {
    const VERBS: &[&str] = &[
        "create",
        "delete",
        "deletecollection",
        "get",
        "list",
        "patch",
        "proxy",
        "update",
        "watch",
    ];
    let verbs = texts(rule, "verbs");
    let at = path.child("verbs");
    if verbs.is_empty() {
        errors.required(&at, "verbs must contain at least one value");
    } else if verbs.contains(&"*") {
        if verbs.len() > 1 {
            let why = "if '*' is present, must not specify other verbs";
            errors.invalid(&at, verbs, why);
        }
    } else if let Some(verb) = verbs.iter().find(|v| !VERBS.contains(v)) {
        errors.not_supported(&at, verb, VERBS);
    }
}

fn validate_urls(rule: &Value, path: &Path, errors: &mut Errors) {
    let urls = texts(rule, "nonResourceURLs");
    if urls.is_empty() {
        let why = "nonResourceURLs must contain at least one value";
        return errors.required(path, why);
    }
    if urls.contains(&"*") {
        if urls.len() > 1 {
            let why = "if '*' is present, must not specify other non-resource URLs";
            errors.invalid(path, urls, why);
        }
        return;
    }
    for (i, url) in urls.iter().enumerate() {
        let why = match *url {
            "/" => continue,
            "" => "must not be empty",
            u if !u.starts_with('/') => "must start with slash",
            u if u.contains(' ') => "must not contain white-space",
            u if u.contains("//") => "must not contain double slash",
            u if u.contains('*') && !(u.ends_with("/*") && u.matches('*').count() == 1) => {
                "wildcard can only do suffix matching"
            }
            _ => continue,
        };
        errors.invalid(&path.index(i), *url, why);
    }
}

fn validate_resources(rule: &Value, path: &Path, errors: &mut Errors) {
    validate_verbs(rule, path, errors);
    for (key, one, many) in [
        ("apiGroups", "api group", "api groups"),
        ("resources", "resource", "resources"),
    ] {
        let listed = texts(rule, key);
        let at = path.child(key);
        if listed.is_empty() {
            let why = format!("resource rules must supply at least one {one}");
            errors.required(&at, why);
        } else if listed.len() > 1 && listed.contains(&"*") {
            let why = format!("if '*' is present, must not specify other {many}");
            errors.invalid(&at, listed, why);
        }
    }
    let at = path.child("namespaces");
    let namespaces = texts(rule, "namespaces");
    if namespaces.is_empty() && !meta::flag(rule, &["clusterScope"]) {
        let why = "resource rules that are not cluster scoped must supply at least one namespace";
        errors.required(&at, why);
    } else if namespaces.contains(&"*") {
        if namespaces.len() > 1 {
            let why = "if '*' is present, must not specify other namespaces";
            errors.invalid(&at, namespaces, why);
        }
    } else {
        for (i, namespace) in namespaces.iter().enumerate() {
            for why in names::dns_label(namespace) {
                let why =
                    format!("each member of this list must be '*' or a DNS-1123 label; {why}");
                errors.invalid(&at.index(i), *namespace, why);
            }
        }
    }
}
