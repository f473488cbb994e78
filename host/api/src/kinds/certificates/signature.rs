//! Whether the holder of a request's key signed it: what the parser verifies,
//! and the curves and digests of ECDSA that Go's `x509` takes beside those.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA512_ASN1, ECDSA_P384_SHA512_ASN1, ECDSA_P521_SHA256_ASN1, ECDSA_P521_SHA384_ASN1,
    ECDSA_P521_SHA512_ASN1, EcdsaVerificationAlgorithm, UnparsedPublicKey,
};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_SIG_ECDSA_WITH_SHA256,
    OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ECDSA_WITH_SHA512,
};

/// The algorithm of a request that the parser doesn't know.
fn algorithm(
    request: &X509CertificationRequest<'_>,
) -> Option<&'static EcdsaVerificationAlgorithm> {
    let key = &request.certification_request_info.subject_pki.algorithm;
    let curve = key.parameters.as_ref()?.as_oid().ok()?;
    let digest = &request.signature_algorithm.algorithm;
    let is = |c, d| curve == c && *digest == d;
    if is(OID_EC_P256, OID_SIG_ECDSA_WITH_SHA512) {
        Some(&ECDSA_P256_SHA512_ASN1)
    } else if is(OID_NIST_EC_P384, OID_SIG_ECDSA_WITH_SHA512) {
        Some(&ECDSA_P384_SHA512_ASN1)
    } else if is(OID_NIST_EC_P521, OID_SIG_ECDSA_WITH_SHA256) {
        Some(&ECDSA_P521_SHA256_ASN1)
    } else if is(OID_NIST_EC_P521, OID_SIG_ECDSA_WITH_SHA384) {
        Some(&ECDSA_P521_SHA384_ASN1)
    } else if is(OID_NIST_EC_P521, OID_SIG_ECDSA_WITH_SHA512) {
        Some(&ECDSA_P521_SHA512_ASN1)
    } else {
        None
    }
}

pub(super) fn is_valid(request: &X509CertificationRequest<'_>) -> bool {
    let Some(algorithm) = algorithm(request) else {
        return request.verify_signature().is_ok();
    };
    let info = &request.certification_request_info;
    let key = UnparsedPublicKey::new(algorithm, &info.subject_pki.subject_public_key.data);
    key.verify(info.raw, &request.signature_value.data).is_ok()
}
