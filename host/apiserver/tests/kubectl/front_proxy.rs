//! Front proxies: who may name users in headers, and an Atoll that is the
//! extension server of another one.

use crate::aggregated;
use crate::others::Network;
use crate::session::{Session, config};
use apiserver::{Config, RequestHeader};
use base64::Engine as _;
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A CA, in this test's hands.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A chain and its key.
type Identity = (CertificateDer<'static>, PrivateKeyDer<'static>);

impl Authority {
    fn new() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "front");
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::from_ca_cert_pem(&pem, key).unwrap();
        Authority { issuer, pem }
    }

    fn certify(&self, name: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        (certificate.der().clone(), key)
    }
}

fn standard(ca: PathBuf, allowed: &[&str]) -> RequestHeader {
    let texts = |all: &[&str]| all.iter().map(|t| (*t).to_owned()).collect();
    RequestHeader {
        client_ca_file: ca,
        allowed_names: texts(allowed),
        username_headers: texts(&["X-Remote-User", "X-Other-User"]),
        uid_headers: texts(&["X-Remote-Uid"]),
        group_headers: texts(&["X-Remote-Group"]),
        extra_headers_prefix: texts(&["X-Remote-Extra-"]),
    }
}

fn fronted(dir: &Path, request_header: RequestHeader) -> Config {
    Config {
        request_header: Some(request_header),
        ..config(dir)
    }
}

/// What the server says to a request; `None` where TLS refuses.
fn whoami(s: &Session, identity: Option<Identity>, headers: &[(&str, &str)]) -> Option<Value> {
    let address = s.running().addresses()[0];
    let mut roots = rustls::RootCertStore::empty();
    let ca = std::fs::read(s.path("data/pki/ca.crt")).unwrap();
    roots
        .add(CertificateDer::from_pem_slice(&ca).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let tls = match identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder.with_client_auth_cert(vec![chain], key).unwrap(),
    };
    let mut request = Request::get("/apis/front.example.com/v1/namespaces/whoever")
        .header(header::HOST, address.to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    s.runtime().block_on(async {
        let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
        let tls = connector.connect(name, tcp).await.ok()?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls))
            .await
            .unwrap();
        tokio::spawn(connection);
        // TLS 1.3 refuses certificates when the handshake is over for the client.
        let answer = sender.send_request(request).await.ok()?;
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        Some(serde_json::from_slice(&body).unwrap())
    })
}

#[test]
fn only_front_proxies_name_users() {
    let (front, stranger) = (Authority::new(), Authority::new());
    let s = Session::configured(|dir| {
        let ca = dir.join("front.crt");
        std::fs::write(&ca, &front.pem).unwrap();
        fronted(dir, standard(ca, &["gate", "door"]))
    });
    let alice: &[(&str, &str)] = &[("x-remote-user", "alice")];
    let other: &[(&str, &str)] = &[("x-remote-user", ""), ("x-other-user", "carol")];
    let both: &[(&str, &str)] = &[
        ("x-remote-user", "alice"),
        ("authorization", "Bearer sesame"),
    ];
    let bearer: &[(&str, &str)] = &[("authorization", "Bearer sesame")];
    for (who, headers, wanted) in [
        (
            Some(front.certify("gate")),
            alice,
            "User \"alice\" cannot get",
        ),
        (
            Some(front.certify("door")),
            other,
            "User \"carol\" cannot get",
        ),
        (
            Some(front.certify("gate")),
            both,
            "User \"alice\" cannot get",
        ),
        (
            Some(front.certify("gate")),
            bearer,
            "User \"bob\" cannot get",
        ),
        (Some(front.certify("window")), alice, "Unauthorized"),
        (Some(front.certify("gate")), &[], "Unauthorized"),
        (None, alice, "User \"system:anonymous\" cannot get"),
        (None, both, "User \"bob\" cannot get"),
    ] {
        let said = whoami(&s, who, headers).unwrap();
        let message = said["message"].as_str().unwrap();
        assert!(
            message.contains(wanted),
            "{headers:?}: {message}, not {wanted}"
        );
    }
    let masters: &[(&str, &str)] = &[
        ("x-remote-user", "alice"),
        ("x-remote-group", "system:masters"),
    ];
    let said = whoami(&s, Some(front.certify("gate")), masters).unwrap();
    assert_eq!(said["reason"], "NotFound");
    // An administrator's certificate is one still; its headers are nothing.
    let pem = |name: &str| std::fs::read(s.path(&format!("data/pki/{name}"))).unwrap();
    let admin = (
        CertificateDer::from_pem_slice(&pem("admin.crt")).unwrap(),
        PrivateKeyDer::from_pem_slice(&pem("admin.key")).unwrap(),
    );
    assert_eq!(
        whoami(&s, Some(admin), alice).unwrap()["reason"],
        "NotFound"
    );
    assert_eq!(whoami(&s, Some(stranger.certify("gate")), alice), None);
    let name = "extension-apiserver-authentication";
    let path = "jsonpath={.data.requestheader-allowed-names}{.data.requestheader-username-headers}";
    s.run(&["-n", "kube-system", "get", "cm", name, "-o", path])
        .says(r#"["front-proxy-client","gate","door"]["X-Remote-User","X-Other-User"]"#);
}

const DEFINITION: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: notes.ext.example.com}
spec:
  group: ext.example.com
  names: {plural: notes, singular: note, kind: Note}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {text: {type: string}}}}
"#;

/// One server has the objects, the other the users.
#[test]
fn an_atoll_is_an_extension_server_of_another() {
    let network: Arc<Network> = Arc::default();
    let front = Session::dialing(None, network.clone());
    let ca = front.path("data/pki/front-proxy/ca.crt");
    let back = Session::configured(|dir| {
        let mut config = fronted(dir, standard(ca, &["front-proxy-client"]));
        config.server_names = vec!["ext.default.svc".to_owned()];
        config
    });
    back.run_with(&["apply", "-f", "-"], DEFINITION)
        .says("created");
    let crd = "crd/notes.ext.example.com";
    back.run(&["wait", "--for=condition=Established", crd])
        .says("met");
    network.lead("ext.default.svc:443", back.running().addresses()[0].port());
    let bundle = std::fs::read(back.path("data/pki/ca.crt")).unwrap();
    let bundle = base64::engine::general_purpose::STANDARD.encode(bundle);
    aggregated::serve(&front, &json!({"caBundle": bundle}));
    let note = "apiVersion: ext.example.com/v1\nkind: Note\nmetadata: {name: first}\ntext: hello\n";
    front
        .run_with(&["apply", "-f", "-"], note)
        .says("note.ext.example.com/first created");
    back.run(&["get", "notes", "first", "-o", "jsonpath={.text}"])
        .says("hello");
    front.run(&["get", "notes"]).says("NAME").says("first ");
    front
        .run(&["label", "note", "first", "a=b"])
        .says("labeled");
    front.run(&["explain", "note.text"]).says("text");
    for s in [&front, &back] {
        let rights = ["--verb=get,list", "--resource=notes.ext.example.com"];
        s.run_as("sesame", &["get", "notes"])
            .fails("User \"bob\" cannot list");
        front
            .run_as("sesame", &["get", "notes"])
            .fails("User \"bob\" cannot list resource \"notes\"");
        s.run(&["create", "role", "r", rights[0], rights[1]])
            .says("created");
        s.run(&["create", "rolebinding", "r", "--role=r", "--user=bob"])
            .says("created");
    }
    front.run_as("sesame", &["get", "notes"]).says("first ");
    front.run(&["delete", "note", "first"]).says("deleted");
    back.run(&["get", "note", "first"]).fails("not found");
}
