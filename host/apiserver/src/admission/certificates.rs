//! Who may decide on CertificateSigningRequests, and for whom none is taken:
//! upstream's plugins CertificateApproval, CertificateSigning and
//! CertificateSubjectRestriction.
//!
//! | endpoint | asks of the user |
//! | --- | --- |
//! | approval | verb `approve` on `signers`, named by the request's signer |
//! | status, where certificate or conditions change | verb `sign` on the same |
//! | create for `kubernetes.io/kube-apiserver-client` | not for `system:masters` |
//!
//! A right on `DOMAIN/*` is one on every signer of that domain.

use super::{Attributes, Operation};
use crate::authz::{Attributes as Asked, Authorizer, Decision};
use crate::user::{MASTERS, User};
use api::kinds::SigningRequest;
use api::meta;
use api::status::Status;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

const GROUP: &str = "certificates.k8s.io";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

pub(super) fn check(
    authorizer: &Authorizer,
    a: &Attributes<'_>,
    object: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    if a.kind.group() != GROUP || a.kind.plural() != "certificatesigningrequests" {
        return Ok(());
    }
    match (a.operation, a.subresource) {
        (Operation::Create, "") => check_subject(a, object),
        (Operation::Update, "approval") => {
            let signer = signer(old.unwrap_or(object));
            may(authorizer, a, "approve", signer)
        }
        (Operation::Update, "status") => {
            let old = old.unwrap_or(&Value::Null);
            let part = |object, key| meta::at(object, &["status", key]).cloned();
            let same = |key| part(object, key) == part(old, key);
            if same("certificate") && same("conditions") {
                return Ok(());
            }
            may(authorizer, a, "sign", signer(old))
        }
        _ => Ok(()),
    }
}

fn signer(object: &Value) -> &str {
    meta::text(object, &["spec", "signerName"])
}

/// `verb` is `approve` or `sign`.
fn may(
    authorizer: &Authorizer,
    a: &Attributes<'_>,
    verb: &'static str,
    signer: &str,
) -> Result<(), Status> {
    let domain = signer.split('/').next().unwrap_or_default();
    if holds(authorizer, a.user, verb, signer)
        || holds(authorizer, a.user, verb, &format!("{domain}/*"))
    {
        return Ok(());
    }
    Err(a.forbid(&format!(
        "user not permitted to {verb} requests with signerName {signer:?}"
    )))
}

fn holds(authorizer: &Authorizer, user: &User, verb: &str, signer: &str) -> bool {
    let asked = Asked {
        verb,
        group: GROUP,
        resource: "signers",
        name: signer,
        ..Asked::default()
    };
    matches!(authorizer.decide(user, &asked), Decision::Allowed(_))
}

/// Nobody becomes `system:masters` by a request.
fn check_subject(a: &Attributes<'_>, object: &Value) -> Result<(), Status> {
    if signer(object) != CLIENT_SIGNER {
        return Ok(());
    }
    let request = parse(object).map_err(|why| a.forbid(&format!("failed to parse CSR: {why}")))?;
    if request.organizations.iter().any(|o| o == MASTERS) {
        return Err(a.forbid(&format!(
            "use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed"
        )));
    }
    Ok(())
}

/// The request that an object carries.
pub(super) fn parse(object: &Value) -> Result<SigningRequest, &'static str> {
    let bytes = STANDARD.decode(meta::text(object, &["spec", "request"]));
    let text = String::from_utf8(bytes.unwrap_or_default()).unwrap_or_default();
    SigningRequest::parse(&text)
}
