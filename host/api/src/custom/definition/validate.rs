//! What a CustomResourceDefinition may say (`apiextensions/validation`). As
//! upstream, what all versions say alike is named as if it stood once, at
//! `spec.validation`, `spec.subresources`, `spec.additionalPrinterColumns`.

use super::{dns_1035_label, schema, structural, versions};
use crate::field::{Errors, Path};
use crate::{meta, names};
use serde_json::Value;
use std::collections::BTreeSet;

/// The annotation by which the community approves of a group.
pub(super) const APPROVAL: &str = "api-approved.kubernetes.io";

const COLUMN_TYPES: &[&str] = &["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: &[&str] = &[
    "binary",
    "byte",
    "date",
    "date-time",
    "double",
    "float",
    "int32",
    "int64",
    "password",
];
const SELECTABLE_MAX: usize = 8;

pub(super) fn create(object: &Value, errors: &mut Errors) {
    let wanted = format!(
        "{}.{}",
        meta::text(object, &["spec", "names", "plural"]),
        meta::text(object, &["spec", "group"])
    );
    if meta::name(object) != wanted && !meta::name(object).is_empty() {
        let path = Path::new("metadata").child("name");
        let why = "must be spec.names.plural+\".\"+spec.group";
        errors.invalid(&path, meta::name(object), why);
    }
    spec(object, errors);
    names_of(
        &object["status"]["acceptedNames"],
        &Path::new("status").child("acceptedNames"),
        errors,
    );
    stored_versions(object, errors);
    approval(object, errors);
    if meta::flag(object, &["spec", "preserveUnknownFields"]) {
        errors.invalid(
            &Path::new("spec").child("preserveUnknownFields"),
            true,
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        );
    }
}

pub(super) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let mut keep = |keys: &[&str]| {
        let at = |object| meta::at(object, &["spec"]).and_then(|s| meta::at(s, keys).cloned());
        if at(new) != at(old) {
            let path = keys.iter().fold(path.clone(), |p, k| p.child(k));
            errors.invalid(&path, at(new).unwrap_or_default(), "field is immutable");
        }
    };
    if super::is_true(old, "Established") {
        keep(&["scope"]);
        keep(&["names", "kind"]);
    }
    keep(&["group"]);
    keep(&["names", "plural"]);
}

pub(super) fn status(new: &Value, _old: &Value, errors: &mut Errors) {
    names_of(
        &new["status"]["acceptedNames"],
        &Path::new("status").child("acceptedNames"),
        errors,
    );
}

fn joined(path: &Path, value: &str, faults: Vec<String>, errors: &mut Errors) {
    if !faults.is_empty() {
        errors.invalid(path, value, faults.join(","));
    }
}

fn spec(object: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let group = meta::text(object, &["spec", "group"]);
    let at = path.child("group");
    if group.is_empty() {
        errors.required(&at, "");
    } else if !names::dns_subdomain(group).is_empty() {
        joined(&at, group, names::dns_subdomain(group), errors);
    } else if !group.contains('.') {
        errors.invalid(&at, group, "should be a domain with at least one dot");
    }
    match meta::text(object, &["spec", "scope"]) {
        "" => errors.required(&path.child("scope"), ""),
        "Cluster" | "Namespaced" => {}
        other => errors.not_supported(&path.child("scope"), other, &["Cluster", "Namespaced"]),
    }
    for (i, version) in versions(object).iter().enumerate() {
        let name = meta::text(version, &["name"]);
        let at = path.child("versions").index(i);
        if meta::at(version, &["schema", "openAPIV3Schema"]).is_none() {
            errors.required(&at.child("schema").child("openAPIV3Schema"), "");
        }
        joined(&at.child("name"), name, dns_1035_label(name), errors);
        deprecation(version, &at, errors);
    }
    version_list(object, &path.child("versions"), errors);
    let names = &object["spec"]["names"];
    for key in ["plural", "singular", "kind", "listKind"] {
        if meta::text(names, &[key]).is_empty() {
            errors.required(&path.child("names").child(key), "");
        }
    }
    names_of(names, &path.child("names"), errors);
    parts(object, &path, errors);
    conversion(object, &path.child("conversion"), errors);
}

fn version_list(object: &Value, path: &Path, errors: &mut Errors) {
    let all = versions(object);
    let unique: BTreeSet<&str> = all.iter().map(|v| meta::text(v, &["name"])).collect();
    let shown: Value = all.into();
    if unique.len() < all.len() {
        errors.invalid(path, shown.clone(), "must contain unique version names");
    }
    if all.iter().filter(|v| meta::flag(v, &["storage"])).count() != 1 {
        let why = "must have exactly one version marked as storage version";
        errors.invalid(path, shown, why);
    }
}

fn deprecation(version: &Value, path: &Path, errors: &mut Errors) {
    let Some(text) = version.get("deprecationWarning").and_then(Value::as_str) else {
        return;
    };
    let path = path.child("deprecationWarning");
    if !meta::flag(version, &["deprecated"]) {
        errors.invalid(&path, text, "can only be set for deprecated versions");
        return;
    }
    if text.len() > 256 {
        errors.invalid(&path, text, "must be <= 256 characters long");
    }
    if text.is_empty() {
        errors.invalid(&path, text, "must not be an empty string");
    }
    if let Some(at) = text.find(|c: char| c.is_control()) {
        let why = format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {at}"
        );
        errors.invalid(&path, text, why);
    }
}

fn names_of(names: &Value, path: &Path, errors: &mut Errors) {
    for key in ["plural", "singular"] {
        let name = meta::text(names, &[key]);
        if !name.is_empty() {
            joined(&path.child(key), name, dns_1035_label(name), errors);
        }
    }
    for key in ["kind", "listKind"] {
        let name = meta::text(names, &[key]);
        let faults = dns_1035_label(&name.to_lowercase());
        if !name.is_empty() && !faults.is_empty() {
            let why = format!(
                "may have mixed case, but should otherwise match: {}",
                faults.join(",")
            );
            errors.invalid(&path.child(key), name, why);
        }
    }
    for key in ["shortNames", "categories"] {
        for (i, name) in meta::list(names, &[key]).iter().enumerate() {
            let name = name.as_str().unwrap_or_default();
            joined(
                &path.child(key).index(i),
                name,
                dns_1035_label(name),
                errors,
            );
        }
    }
    let kind = meta::text(names, &["kind"]);
    if !kind.is_empty() && kind == meta::text(names, &["listKind"]) {
        let why = "kind and listKind may not be the same";
        errors.invalid(&path.child("listKind"), kind, why);
    }
}

/// Schemas, subresources, columns and selectable fields, of each version or of
/// all alike.
fn parts(object: &Value, path: &Path, errors: &mut Errors) {
    let all = versions(object);
    let places = |key: &str, common: &str| -> Vec<(Path, usize)> {
        let alike = all.first().is_some_and(|first| {
            first.get(key).is_some() && all.iter().all(|v| v.get(key) == first.get(key))
        });
        if alike {
            return vec![(path.child(common), 0)];
        }
        (0..all.len())
            .map(|i| (path.child("versions").index(i).child(key), i))
            .collect()
    };
    for (at, i) in places("schema", "validation") {
        if let Some(of) = meta::at(&all[i], &["schema", "openAPIV3Schema"]) {
            let has_status = meta::at(&all[i], &["subresources", "status"]).is_some();
            whole_schema(of, has_status, &at.child("openAPIV3Schema"), errors);
        }
    }
    for (at, i) in places("subresources", "subresources") {
        if let Some(scale) = meta::at(&all[i], &["subresources", "scale"]) {
            scale_paths(scale, &at, errors);
        }
    }
    for (at, i) in places("additionalPrinterColumns", "additionalPrinterColumns") {
        let columns = meta::list(&all[i], &["additionalPrinterColumns"]);
        for (j, of) in columns.iter().enumerate() {
            column(of, &at.index(j), errors);
        }
    }
    for (at, i) in places("selectableFields", "selectableFields") {
        selectable(&all[i], &at, errors);
    }
}

fn whole_schema(of: &Value, has_status: bool, path: &Path, errors: &mut Errors) {
    let before = errors.0.len();
    if has_status {
        schema::root_with_status(of, path, errors);
    }
    if meta::flag(of, &["nullable"]) {
        errors.forbidden(
            &path.child("nullable"),
            "nullable cannot be true at the root",
        );
    }
    structural::validate(of, path, errors);
    if errors.0.len() == before {
        schema::defaults(of, path, errors);
    }
    let sound = errors.0.len() == before;
    schema::validate(of, path, sound, errors);
}

fn simple_path(text: &str, path: &Path, errors: &mut Errors) -> bool {
    if text.is_empty() {
        errors.required(path, "");
        return false;
    }
    if !text.starts_with('.') {
        errors.invalid(path, text, "must be a simple json path starting with .");
        return false;
    }
    true
}

fn scale_paths(scale: &Value, path: &Path, errors: &mut Errors) {
    for (key, under, why) in [
        (
            "specReplicasPath",
            &[".spec."] as &[&str],
            "should be a json path under .spec",
        ),
        (
            "statusReplicasPath",
            &[".status."],
            "should be a json path under .status",
        ),
        (
            "labelSelectorPath",
            &[".spec.", ".status."],
            "should be a json path under either .spec or .status",
        ),
    ] {
        let text = meta::text(scale, &[key]);
        let at = path.child(&format!("scale.{key}"));
        if text.is_empty() && key == "labelSelectorPath" {
            continue;
        }
        if simple_path(text, &at, errors) && !under.iter().any(|p| text.starts_with(p)) {
            errors.invalid(&at, text, why);
        }
    }
}

fn column(of: &Value, path: &Path, errors: &mut Errors) {
    if meta::text(of, &["name"]).is_empty() {
        errors.required(&path.child("name"), "");
    }
    let kind = meta::text(of, &["type"]);
    let why = format!("must be one of {}", COLUMN_TYPES.join(","));
    if kind.is_empty() {
        errors.required(&path.child("type"), why);
    } else if !COLUMN_TYPES.contains(&kind) {
        errors.invalid(&path.child("type"), kind, why);
    }
    let format = meta::text(of, &["format"]);
    if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
        let why = format!("must be one of {}", COLUMN_FORMATS.join(","));
        errors.invalid(&path.child("format"), format, why);
    }
    simple_path(
        meta::text(of, &["jsonPath"]),
        &path.child("JSONPath"),
        errors,
    );
}

fn selectable(version: &Value, path: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (i, field) in meta::list(version, &["selectableFields"])
        .iter()
        .enumerate()
    {
        let at = path.index(i).child("jsonPath");
        let text = meta::text(field, &["jsonPath"]);
        if text.is_empty() {
            errors.required(&at, "");
            continue;
        }
        let steps: Vec<&str> = text.trim_start_matches('.').split('.').collect();
        let root = &version["schema"]["openAPIV3Schema"];
        let found = steps
            .iter()
            .try_fold(root, |s, step| s["properties"].get(step));
        let Some(found) = found.filter(|_| text.starts_with('.')) else {
            let why = "is an invalid path: does not refer to a valid field";
            errors.invalid(&at, text, why);
            continue;
        };
        if steps.first() == Some(&"metadata") {
            errors.invalid(&at, text, "must not point to fields in metadata");
        }
        if !matches!(
            meta::text(found, &["type"]),
            "string" | "boolean" | "integer"
        ) {
            errors.invalid(
                &at,
                text,
                "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.",
            );
        }
        if !seen.insert(text) {
            errors.duplicate(&at, text);
        }
    }
    if seen.len() > SELECTABLE_MAX {
        errors.too_many(path, seen.len(), SELECTABLE_MAX);
    }
}

fn conversion(object: &Value, path: &Path, errors: &mut Errors) {
    let Some(of) = meta::at(object, &["spec", "conversion"]) else {
        return;
    };
    let webhook = of.get("webhook").filter(|w| !w.is_null());
    match meta::text(of, &["strategy"]) {
        "Webhook" => {
            let at = path.child("webhookClientConfig");
            let config = webhook.and_then(|w| w.get("clientConfig"));
            match config {
                None => errors.required(&at, "required when strategy is set to Webhook"),
                Some(c) if c.get("url").is_some() == c.get("service").is_some() => {
                    errors.required(&at, "exactly one of url or service is required");
                }
                Some(c) => client(c, &at, errors),
            }
            let empty = Value::Null;
            review_versions(
                webhook.unwrap_or(&empty),
                &path.child("conversionReviewVersions"),
                errors,
            );
        }
        "None" => {
            if webhook.is_some() {
                errors.forbidden(
                    &path.child("webhookClientConfig"),
                    "should not be set when strategy is not set to Webhook",
                );
            }
        }
        "" => errors.required(&path.child("strategy"), ""),
        other => errors.not_supported(&path.child("strategy"), other, &["None", "Webhook"]),
    }
}

/// Where a webhook is: an https URL without credentials, query or fragment, or
/// a Service.
fn client(config: &Value, path: &Path, errors: &mut Errors) {
    const FORM: &str = "; desired format: https://host[/path]";
    if let Some(url) = config.get("url").and_then(Value::as_str) {
        let at = path.child("url");
        match url.split_once("://") {
            Some(("https", rest)) => {
                let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
                if host.is_empty() {
                    errors.invalid(&at, "", format!("host must be specified{FORM}"));
                }
                if host.contains('@') {
                    let why = "user information is not permitted in the URL";
                    errors.invalid(&at, host, why);
                }
                if url.contains('#') {
                    errors.invalid(&at, url, "fragments are not permitted in the URL");
                }
                if url.contains('?') {
                    errors.invalid(&at, url, "query parameters are not permitted in the URL");
                }
            }
            Some((scheme, _)) => {
                let why = format!("'https' is the only allowed URL scheme{FORM}");
                errors.invalid(&at, scheme, why);
            }
            None => {
                let why = format!("'https' is the only allowed URL scheme{FORM}");
                errors.invalid(&at, "", why);
            }
        }
    }
    if let Some(service) = config.get("service") {
        let at = path.child("service");
        for key in ["name", "namespace"] {
            if meta::text(service, &[key]).is_empty() {
                errors.required(&at.child(key), format!("service {key} is required"));
            }
        }
        let port = meta::int(service, &["port"]).unwrap_or(443);
        for why in names::port_number(port) {
            errors.invalid(&at.child("port"), port, format!("port is not valid: {why}"));
        }
        let url_path = meta::text(service, &["path"]);
        if !url_path.is_empty() && !url_path.starts_with('/') {
            errors.invalid(&at.child("path"), url_path, "must start with a '/'");
        }
    }
}

fn review_versions(webhook: &Value, path: &Path, errors: &mut Errors) {
    let listed = meta::list(webhook, &["conversionReviewVersions"]);
    if listed.is_empty() {
        errors.required(path, "");
        return;
    }
    let mut seen = BTreeSet::new();
    for (i, version) in listed.iter().enumerate() {
        let text = version.as_str().unwrap_or_default();
        if !seen.insert(text) {
            errors.invalid(&path.index(i), text, "duplicate version");
            continue;
        }
        errors.invalid_each(&path.index(i), text, dns_1035_label(text));
    }
    if !seen.contains("v1") && !seen.contains("v1beta1") {
        errors.invalid(
            path,
            listed.to_vec(),
            "must include at least one of v1, v1beta1",
        );
    }
}

fn stored_versions(object: &Value, errors: &mut Errors) {
    let path = Path::new("status").child("storedVersions");
    let stored = meta::list(object, &["status", "storedVersions"]);
    if stored.is_empty() {
        errors.invalid(
            &path,
            stored.to_vec(),
            "must have at least one stored version",
        );
        return;
    }
    let known: Vec<&str> = versions(object)
        .iter()
        .map(|v| meta::text(v, &["name"]))
        .collect();
    for (i, version) in stored.iter().enumerate() {
        let v = version.as_str().unwrap_or_default();
        if !known.contains(&v) {
            let why = format!(
                "missing from spec.versions; {v} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {v} and removes {v} from status.storedVersions"
            );
            errors.invalid(&path.index(i), v, why);
        }
    }
}

/// Whether the group is the Kubernetes community's own.
pub(super) fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|own| group == *own || group.strip_suffix(own).is_some_and(|g| g.ends_with('.')))
}

fn approval(object: &Value, errors: &mut Errors) {
    if !is_protected(meta::text(object, &["spec", "group"])) {
        return;
    }
    const POLICY: &str = "see https://github.com/kubernetes/enhancements/pull/1111";
    let at = Path::new("metadata").child("annotations").key(APPROVAL);
    let found = meta::at(object, &["metadata", "annotations"])
        .and_then(|a| a.get(APPROVAL))
        .and_then(Value::as_str)
        .unwrap_or_default();
    match found {
        "" => errors.required(
            &at,
            format!("protected groups must have approval annotation {APPROVAL:?}, {POLICY}"),
        ),
        text if text.starts_with("unapproved") || text.contains("://") => {}
        text => errors.invalid(
            &at,
            text,
            format!("protected groups must have approval annotation {APPROVAL:?} with either a URL or a reason starting with \"unapproved\", {POLICY}"),
        ),
    }
}
