use super::*;
use rcgen::{CertificateParams, DnType, KeyPair};
use reconcile::Write;
use serde_json::Value;

fn pem(common_name: &str, organization: &str) -> String {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params
        .distinguished_name
        .push(DnType::OrganizationName, organization);
    let request = params.serialize_request(&key).expect("a request");
    request.pem().expect("PEM")
}

fn authority() -> Authority {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(Vec::new()).expect("parameters");
    let certificate = params.self_signed(&key).expect("a certificate").pem();
    Authority::open(&certificate, &key.serialize_pem()).expect("an authority")
}

fn csr(signer: &str, user: &str, pem: &str, conditions: &[&str]) -> CertificateSigningRequest {
    let conditions: Vec<Value> = conditions
        .iter()
        .map(|c| json!({"type": c, "status": "True", "lastUpdateTime": "2026-01-01T00:00:00Z"}))
        .collect();
    let mut csr: CertificateSigningRequest = serde_json::from_value(json!({
        "metadata": {"name": "c", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"request": "", "signerName": format!("kubernetes.io/{signer}"), "username": user,
            "usages": ["client auth", "digital signature"]},
        "status": {"conditions": conditions},
    }))
    .expect("a fixture");
    csr.spec.request.0 = pem.as_bytes().to_vec();
    csr
}

const CLIENT: &str = "kube-apiserver-client";
const KUBELET: &str = "kube-apiserver-client-kubelet";

#[test]
fn only_kubelets_are_approved_by_rights() {
    let node = pem("system:node:a", "system:nodes");
    let other = pem("admin", "system:nodes");
    for (csr, rights) in [
        (
            csr(KUBELET, "system:node:a", &node, &[]),
            &["selfnodeclient", "nodeclient"][..],
        ),
        (
            csr(KUBELET, "system:bootstrap:x", &node, &[]),
            &["nodeclient"],
        ),
        (csr(KUBELET, "system:node:a", &node, &["Denied"]), &[]),
        (csr(KUBELET, "system:node:a", &node, &["Approved"]), &[]),
        (csr(KUBELET, "admin", &other, &[]), &[]),
        (csr(CLIENT, "system:node:a", &node, &[]), &[]),
    ] {
        let found: Vec<&str> = approvable(&csr).iter().map(|(right, _)| *right).collect();
        assert_eq!(found, rights, "{csr:?}");
    }
}

// Table: requests and what they are settled with.
#[test]
fn approved_requests_are_settled() {
    let authority = authority();
    let user = pem("u", "g");
    let settled = |csr: &CertificateSigningRequest| {
        let now = "2026-01-01T00:00:00Z".parse().expect("a time");
        match settle(csr, &authority, [1; 16], now).expect("no error") {
            None => "nothing".to_owned(),
            Some(Write::UpdateStatus { object, .. }) => match &object["status"]["certificate"] {
                Value::String(_) => "issued".to_owned(),
                _ => object["status"]["conditions"][1]["message"].to_string(),
            },
            Some(other) => format!("{other:?}"),
        }
    };
    for (csr, outcome) in [
        (csr(CLIENT, "u", &user, &["Approved"]), "issued"),
        (csr(CLIENT, "u", &user, &[]), "nothing"),
        (csr(CLIENT, "u", &user, &["Denied"]), "nothing"),
        (csr(CLIENT, "u", &user, &["Approved", "Failed"]), "nothing"),
        (csr("another", "u", &user, &["Approved"]), "nothing"),
        (
            csr(KUBELET, "u", &user, &["Approved"]),
            "\"subject organization is not system:nodes\"",
        ),
    ] {
        assert_eq!(settled(&csr), outcome, "{csr:?}");
    }
    let mut done = csr(CLIENT, "u", &user, &["Approved"]);
    done.status.get_or_insert_default().certificate = Some(ByteString(b"x".to_vec()));
    assert_eq!(settled(&done), "nothing");
}

#[test]
fn lives_are_within_bounds() {
    for (asked, seconds) in [
        (None, 365 * 86_400),
        (Some(-1), 600),
        (Some(700), 700),
        (Some(i32::MAX), 365 * 86_400),
    ] {
        assert_eq!(life(asked).as_secs(), seconds, "{asked:?}");
    }
}

// Table: what is old after how many seconds.
#[test]
fn old_requests_go() {
    let user = pem("u", "g");
    let authority = authority();
    let made: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
    let with = |conditions: &[&str], certificate: Option<&str>| {
        let mut csr = csr(CLIENT, "u", &user, conditions);
        let status = csr.status.get_or_insert_default();
        status.certificate = certificate.map(|c| ByteString(c.as_bytes().to_vec()));
        csr
    };
    let request = SigningRequest::parse(&user).expect("a request");
    let short = authority.sign(&request, &[], Duration::from_secs(600), [1; 16], made);
    let short = short.expect("a certificate");
    for (csr, after) in [
        (with(&[], None), Some(86_400)),
        (with(&["Denied"], None), Some(3600)),
        (with(&["Approved", "Failed"], None), Some(3600)),
        (with(&["Approved"], None), None),
        (with(&["Approved"], Some("x")), Some(3600)),
        (with(&["Approved"], Some(&short)), Some(600)),
    ] {
        let gone = |seconds: i64| {
            let now = Timestamp::from_second(made.as_second() + seconds).expect("a time");
            clean::plan([&csr].into_iter(), now).len() == 1
        };
        let conditions = csr.status.as_ref().and_then(|s| s.conditions.as_ref());
        match after {
            None => assert!(!gone(1_000_000), "{conditions:?}"),
            Some(after) => {
                assert!(!gone(after), "{conditions:?}");
                assert!(gone(after + 1), "{conditions:?}");
            }
        }
    }
}
