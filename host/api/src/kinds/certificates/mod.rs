//! certificates.k8s.io: CertificateSigningRequest, with the PKCS #10 request
//! that it carries.

mod request;
mod signature;
mod status;

pub use request::SigningRequest;
pub use status::stamp_conditions;

use super::{Kind, Subresource};
use crate::field::{Errors, Path};
use crate::print::{AGE, Cells, Column, NAME, age, or_none, text};
use crate::{meta, names};
use jiff::Timestamp;
use serde_json::Value;

pub(super) static KIND: Kind = Kind {
    group: "certificates.k8s.io",
    kind: "CertificateSigningRequest",
    plural: "certificatesigningrequests",
    singular: "certificatesigningrequest",
    short_names: &["csr"],
    namespaced: false,
    type_name: "io.k8s.api.certificates.v1.CertificateSigningRequest",
    storage: "certificates.k8s.io/certificatesigningrequests",
    subresources: &[Subresource::Approval, Subresource::Status],
    // Any name that a path can hold.
    name: |_| Vec::new(),
    selectable: &["spec.signerName"],
    columns: COLUMNS,
    cells,
    default: |object| {
        meta::ensure(object, "spec");
        meta::ensure(object, "status");
    },
    validate,
    validate_update: |new, old, errors| {
        status::validate_update(new, old, status::Endpoint::Main, errors);
    },
    validate_status: |new, old, errors| {
        validate(new, errors);
        status::validate_update(new, old, status::Endpoint::Status, errors);
    },
    validate_approval: |new, old, errors| {
        validate(new, errors);
        status::validate_update(new, old, status::Endpoint::Approval, errors);
    },
    prepare_create: super::strategy::drop_status,
    prepare_update: |new, old| {
        meta::keep(new, old, "spec");
        meta::keep(new, old, "status");
    },
    prepare_status: status::prepare,
    prepare_approval: status::prepare_approval,
    ..Kind::BASE
};

const COLUMNS: &[Column] = &[
    NAME,
    AGE,
    text("SignerName", 0, "Who shall sign it."),
    text("Requestor", 0, "Who asks for it."),
    text("RequestedDuration", 0, "How long it shall be valid."),
    text("Condition", 0, "How far it has come."),
];

fn cells(object: &Value, now: Timestamp) -> Cells {
    let spec = |key| meta::text(object, &["spec", key]);
    let duration = match meta::int(object, &["spec", "expirationSeconds"]) {
        None => "<none>".to_owned(),
        Some(seconds) => crate::time::human_duration(seconds),
    };
    vec![
        meta::name(object).into(),
        age(object, now),
        or_none(spec("signerName")),
        spec("username").into(),
        duration.into(),
        condition(object).into(),
    ]
}

fn condition(object: &Value) -> String {
    let has = |wanted| !status::conditions(object, wanted).is_empty();
    let mut words = vec![match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (false, true) => "Approved",
        (false, false) => "Pending",
    }];
    if has("Failed") {
        words.push("Failed");
    }
    if !meta::text(object, &["status", "certificate"]).is_empty() {
        words.push("Issued");
    }
    words.join(",")
}

/// As X.509 and extended key usages are called here, sorted.
const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";
const LEAST_SECONDS: i64 = 600;

fn validate(object: &Value, errors: &mut Errors) {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let request = meta::text(spec, &["request"]);
    if let Err(why) = request::check(request) {
        errors.invalid(&path.child("request"), request, why);
    }
    let at = path.child("usages");
    let usages = meta::list(spec, &["usages"]);
    if usages.is_empty() {
        errors.required(&at, "");
    }
    for (i, usage) in usages.iter().enumerate() {
        let text = usage.as_str().unwrap_or_default();
        if !USAGES.contains(&text) {
            errors.not_supported(&at.index(i), text, USAGES);
        }
        if usages[..i].contains(usage) {
            errors.duplicate(&at.index(i), text);
        }
    }
    let at = path.child("signerName");
    match meta::text(spec, &["signerName"]) {
        LEGACY_SIGNER => {
            let why = "the legacy signerName is not allowed via this API version";
            errors.invalid(&at, LEGACY_SIGNER, why);
        }
        name => validate_signer(name, &at, errors),
    }
    if let Some(seconds) = meta::int(spec, &["expirationSeconds"])
        && seconds < LEAST_SECONDS
    {
        let why = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.invalid(&path.child("expirationSeconds"), seconds, why);
    }
    status::validate(object, errors);
}

fn validate_signer(name: &str, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        return errors.required(path, "");
    }
    let (domain, rest) = match name.split('/').collect::<Vec<&str>>().as_slice() {
        [domain, rest] => (*domain, *rest),
        _ => {
            let why =
                "must be a fully qualified domain and path of the form 'example.com/signer-name'";
            return errors.invalid(path, name, why);
        }
    };
    if domain.len() > names::SUBDOMAIN_MAX {
        errors.too_long(path, names::SUBDOMAIN_MAX);
    }
    let labels: Vec<&str> = domain.split('.').collect();
    let first_wrong = |labels: &[&str], check: fn(&str) -> Vec<String>| {
        labels
            .iter()
            .map(|label| (label.to_string(), check(label)))
            .find(|(_, wrong)| !wrong.is_empty())
    };
    if let Some((label, wrong)) = first_wrong(&labels, names::dns_label) {
        for why in wrong {
            errors.invalid(path, domain, format!("validating label {label:?}: {why}"));
        }
    }
    if labels.len() < 2 {
        let why = "should be a domain with at least two segments separated by dots";
        errors.invalid(path, domain, why);
    }
    let parts: Vec<&str> = rest.split('.').collect();
    if let Some((label, wrong)) = first_wrong(&parts, names::dns_subdomain) {
        for why in wrong {
            errors.invalid(path, rest, format!("validating label {label:?}: {why}"));
        }
    }
    const LONGEST: usize = names::SUBDOMAIN_MAX + 1 + names::SUBDOMAIN_MAX + 1 + names::LABEL_MAX;
    if name.len() > LONGEST {
        errors.too_long(path, LONGEST);
    }
}

/// Writes who asks, a `UserInfo`; what a client says of itself is dropped.
pub fn stamp_requester(object: &mut Value, user: &Value) {
    let spec = meta::ensure(object, "spec");
    for key in ["username", "uid", "groups", "extra"] {
        spec.shift_remove(key);
        if let Some(said) = user.get(key) {
            spec.insert(key.to_owned(), said.clone());
        }
    }
}

#[cfg(test)]
mod tests;
