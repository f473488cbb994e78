//! How a webhook is reached: a URL, or a Service of the cluster
//! (`apiserver/pkg/util/webhook/validation.go`).

use crate::field::{Errors, Path};
use crate::{meta, names};
use serde_json::Value;

/// A `WebhookClientConfig`.
pub(super) fn validate(config: &Value, path: &Path, errors: &mut Errors) {
    let url = config.get("url").and_then(Value::as_str);
    match (url, config.get("service")) {
        (Some(url), None) => validate_url(url, &path.child("url"), errors),
        (None, Some(service)) => validate_service(service, &path.child("service"), errors),
        _ => errors.required(path, "exactly one of url or service is required"),
    }
}

fn validate_url(url: &str, path: &Path, errors: &mut Errors) {
    const FORM: &str = "; desired format: https://host[/path]";
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (scheme, rest),
        None => match url.split_once(':') {
            Some((scheme, _)) => (scheme, ""),
            None => ("", ""),
        },
    };
    if scheme != "https" {
        let why = format!("'https' is the only allowed URL scheme{FORM}");
        errors.invalid(path, scheme, why);
    }
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = rest.split('/').next().unwrap_or_default();
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    if host.is_empty() {
        errors.invalid(path, host, format!("host must be provided{FORM}"));
    }
    if let Some(user) = user {
        let why = "user information is not permitted in the URL";
        errors.invalid(path, user, why);
    }
    if !fragment.is_empty() {
        let why = "fragments are not permitted in the URL";
        errors.invalid(path, fragment, why);
    }
    if !query.is_empty() {
        let why = "query parameters are not permitted in the URL";
        errors.invalid(path, query, why);
    }
}

fn validate_service(service: &Value, path: &Path, errors: &mut Errors) {
    for (key, why) in [
        ("name", "service name is required"),
        ("namespace", "service namespace is required"),
    ] {
        if meta::text(service, &[key]).is_empty() {
            errors.required(&path.child(key), why);
        }
    }
    if let Some(port) = meta::int(service, &["port"]) {
        let wrong = names::port_number(port);
        if !wrong.is_empty() {
            let why = format!("port is not valid: {}", wrong.join(", "));
            errors.invalid(&path.child("port"), port, why);
        }
    }
    if let Some(url_path) = service.get("path").and_then(Value::as_str) {
        validate_path(url_path, &path.child("path"), errors);
    }
}

fn validate_path(text: &str, path: &Path, errors: &mut Errors) {
    match text {
        "" | "/" => return,
        "//" => return errors.invalid(path, text, "segment[0] may not be empty"),
        _ => {}
    }
    if !text.starts_with('/') {
        errors.invalid(path, text, "must start with a '/'");
    }
    let mut rest = text.chars();
    rest.next();
    let rest = rest.as_str();
    let steps = rest.strip_suffix('/').unwrap_or(rest).split('/');
    for (i, step) in steps.enumerate() {
        if step.is_empty() {
            errors.invalid(path, text, format!("segment[{i}] may not be empty"));
            continue;
        }
        for why in names::dns_subdomain(step) {
            errors.invalid(path, text, format!("segment[{i}]: {why}"));
        }
    }
}
