use super::{Authority, Usage, validity};
use api::kinds::SigningRequest;
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose, PublicKeyData,
};
use std::time::Duration;
use x509_parser::extensions::{GeneralName, ParsedExtension};

const HOUR: u64 = 3600;

fn ca(algorithm: &'static rcgen::SignatureAlgorithm) -> (Authority, String) {
    let key = KeyPair::generate_for(algorithm).expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "the CA");
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let certificate = params.self_signed(&key).expect("a certificate").pem();
    let authority = Authority::open(&certificate, &key.serialize_pem());
    (authority.expect("an authority"), certificate)
}

fn request() -> SigningRequest {
    let key = KeyPair::generate().expect("a key");
    SigningRequest {
        common_name: "ü".to_owned(),
        organizations: vec!["b".to_owned(), "a".to_owned()],
        others: vec![
            (vec![0x55, 4, 6], "CH".to_owned()),
            (vec![0x55, 4, 99], "unknown".to_owned()),
        ],
        dns_names: vec!["x.example".to_owned()],
        addresses: vec![vec![127, 0, 0, 1]],
        public_key: key.subject_public_key_info(),
        ..SigningRequest::default()
    }
}

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().expect("a time")
}

#[test]
fn a_certificate_says_what_was_judged_and_its_ca_vouches() {
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ED25519,
    ] {
        let (authority, ca) = ca(algorithm);
        let request = request();
        let usages = [
            Usage::DigitalSignature,
            Usage::KeyEncipherment,
            Usage::ClientAuth,
        ];
        let life = Duration::from_secs(HOUR);
        let pem = authority
            .sign(&request, &usages, life, [0xff; 16], now())
            .expect("a certificate");
        let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).expect("PEM");
        let made = block.parse_x509().expect("X.509");
        let (_, block) = x509_parser::pem::parse_x509_pem(ca.as_bytes()).expect("PEM");
        let ca = block.parse_x509().expect("X.509");
        made.verify_signature(Some(ca.public_key()))
            .expect("the CA's signature");
        assert_eq!(made.issuer().as_raw(), ca.subject().as_raw());
        assert_eq!(made.public_key().raw, request.public_key);
        assert_eq!(made.subject().to_string(), "C=CH, O=a + O=b, CN=ü");
        let from = now().as_second();
        assert_eq!(made.validity().not_before.timestamp(), from - 300);
        assert_eq!(made.validity().not_after.timestamp(), from + 3600);
        assert!(!made.is_ca());
        let usage = made.key_usage().expect("well formed").expect("there");
        assert_eq!(
            usage.value.to_string(),
            "Digital Signature, Key Encipherment"
        );
        let purposes = made
            .extended_key_usage()
            .expect("well formed")
            .expect("there");
        assert!(purposes.value.client_auth && !purposes.value.server_auth);
        let names = made.subject_alternative_name().expect("well formed");
        assert_eq!(
            names.expect("there").value.general_names,
            [
                GeneralName::DNSName("x.example"),
                GeneralName::IPAddress(&[127, 0, 0, 1])
            ]
        );
        let knows = |e: &ParsedExtension<'_>| matches!(e, ParsedExtension::AuthorityKeyIdentifier(id) if id.key_identifier.is_some());
        assert!(
            made.extensions()
                .iter()
                .any(|e| knows(e.parsed_extension()))
        );
    }
}

#[test]
fn a_use_of_the_key_is_said_only_if_there_is_one() {
    let (authority, _) = ca(&rcgen::PKCS_ECDSA_P256_SHA256);
    for (usages, said) in [
        (&[Usage::ClientAuth][..], None),
        (
            &[Usage::ClientAuth, Usage::DigitalSignature],
            Some("Digital Signature"),
        ),
    ] {
        let life = Duration::from_secs(HOUR);
        let made = authority.sign(&request(), usages, life, [1; 16], now());
        let pem = made.expect("a certificate");
        let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).expect("PEM");
        let made = block.parse_x509().expect("X.509");
        let usage = made.key_usage().expect("well formed");
        let found = usage.map(|usage| usage.value.to_string());
        assert_eq!(found.as_deref(), said);
    }
}

// Table: lives and ends of the CA, in seconds from now.
#[test]
fn a_certificate_ends_with_its_ca() {
    let at = |seconds: i64| Timestamp::from_second(now().as_second() + seconds).expect("a time");
    for (life, ca, from, to) in [
        (600, 1_000_000, -300, 600),
        (8 * HOUR, 1_000_000, -300, 8 * 3600 - 300),
        (600, 500, -300, 500),
    ] {
        let found = validity(Duration::from_secs(life), now(), at(ca)).expect("alive");
        assert_eq!((found.from, found.to), (at(from), at(to)), "{life} {ca}");
    }
    let ended = validity(Duration::from_secs(600), now(), at(0));
    assert!(ended.is_err(), "{ended:?}");
}

#[test]
fn years_after_2049_have_four_digits() {
    let at: Timestamp = "2050-01-02T03:04:05Z".parse().expect("a time");
    let made = super::der::time(at).expect("a time");
    assert_eq!(made, [&[0x18, 15][..], b"20500102030405Z"].concat());
}
