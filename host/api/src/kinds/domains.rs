//! Names made of domains: of webhooks, signers, controllers
//! (`apimachinery/pkg/util/validation`).

use crate::field::{Errors, Path};
use crate::names;

/// `acme.io/foo`.
pub(super) fn domain_prefixed_path(text: &str, path: &Path, errors: &mut Errors) {
    let (domain, rest) = match text.split_once('/') {
        Some((domain, rest)) if !domain.is_empty() && !rest.is_empty() => (domain, rest),
        _ => {
            let why = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            return errors.invalid(path, text, why);
        }
    };
    errors.invalid_each(path, domain, names::dns_subdomain(domain));
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b);
    if !rest.bytes().all(fine) {
        let why = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
        errors.invalid(path, rest, why);
    }
}

/// A domain of at least three parts.
pub(super) fn fully_qualified_name(text: &str, path: &Path, errors: &mut Errors) {
    if text.is_empty() {
        return errors.required(path, "");
    }
    let wrong = names::dns_subdomain(text);
    if !wrong.is_empty() {
        return errors.invalid(path, text, wrong.join(","));
    }
    if text.split('.').count() < 3 {
        let why = "should be a domain with at least three segments separated by dots";
        errors.invalid(path, text, why);
    }
}

/// A domain of at least two parts; a dot may end it.
pub(super) fn fully_qualified_domain(text: &str, path: &Path, errors: &mut Errors) {
    if text.is_empty() {
        return errors.required(path, "");
    }
    let text = text.strip_suffix('.').unwrap_or(text);
    let wrong = names::dns_subdomain(text);
    if !wrong.is_empty() {
        return errors.invalid(path, text, wrong.join(","));
    }
    if text.split('.').count() < 2 {
        let why = "should be a domain with at least two segments separated by dots";
        return errors.invalid(path, text, why);
    }
    for label in text.split('.') {
        let wrong = names::dns_label(label);
        if !wrong.is_empty() {
            return errors.invalid(path, label, wrong.join(","));
        }
    }
}
