//! Which requests are old: upstream's `csrcleaner`, and its times.

use super::{APPROVED, DENIED, FAILED, REQUESTS, condition, issued};
use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use reconcile::{DeleteOptions, Target, Write};

/// Seconds after which what is decided goes, and what nobody decides.
const DECIDED: i64 = 3600;
const PENDING: i64 = 86_400;

/// Deletions of what is old at `now`.
pub(super) fn plan<'a>(
    requests: impl Iterator<Item = &'a CertificateSigningRequest>,
    now: Timestamp,
) -> Vec<Write> {
    let delete = |csr: &CertificateSigningRequest| Write::Delete {
        target: Target {
            resource: REQUESTS,
            namespace: None,
            name: csr.metadata.name.clone().unwrap_or_default(),
        },
        options: DeleteOptions {
            uid: csr.metadata.uid.clone(),
            ..DeleteOptions::default()
        },
    };
    requests
        .filter(|csr| is_old(csr, now))
        .map(delete)
        .collect()
}

fn is_old(csr: &CertificateSigningRequest, now: Timestamp) -> bool {
    let older = |at: Option<Timestamp>, seconds| {
        at.is_some_and(|at| now.as_second().saturating_sub(at.as_second()) > seconds)
    };
    let since = |kind| {
        let updated = condition(csr, kind).and_then(|c| c.last_update_time.as_ref());
        updated.map(|time| time.0)
    };
    let status = csr.status.as_ref();
    let undecided = status.is_none_or(|s| s.conditions.as_ref().is_none_or(Vec::is_empty));
    let made = csr.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let ended = condition(csr, APPROVED).is_some() && end(csr).is_some_and(|end| now > end);
    (undecided && older(made, PENDING))
        || older(since(DENIED), DECIDED)
        || older(since(FAILED), DECIDED)
        || (issued(csr).is_some() && older(since(APPROVED), DECIDED))
        || ended
}

/// When the certificate ends.
fn end(csr: &CertificateSigningRequest) -> Option<Timestamp> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(issued(csr)?).ok()?;
    let end = pem.parse_x509().ok()?.validity().not_after.timestamp();
    Timestamp::from_second(end).ok()
}
