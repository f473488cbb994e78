//! The TLS transport against a server of its own, configured by a kubeconfig.

#![expect(clippy::unwrap_used, reason = "tests")]

use base64::Engine;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use reconcile::resource::core::PODS;
use reconcile::{Client, Kubeconfig, KubeconfigError, TlsTransport};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Certificate and key as PEM.
    fn issue(&self, name: &str) -> (String, KeyPair, rcgen::Certificate) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key, certificate)
    }
}

/// Answers with the protocol, whether the client has a certificate, and its
/// authorization. Ends each connection after `requests` of them.
async fn serve(authority: &Authority, alpn: &[&str]) -> u16 {
    let (_, key, certificate) = authority.issue("127.0.0.1");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(authority.0.der().clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
        .allow_unauthenticated()
        .build()
        .unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate.der().clone()], key.into())
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(tls) = acceptor.accept(tcp).await else {
                    return;
                };
                let known = tls.get_ref().1.peer_certificates().is_some();
                let service = service_fn(move |request: Request<Incoming>| async move {
                    let token = request.headers().get("authorization");
                    let body = serde_json::json!({
                        "http2": request.version() == http::Version::HTTP_2,
                        "certificate": known,
                        "path": request.uri().path(),
                        "token": token.map(|token| token.to_str().unwrap()),
                    });
                    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
                    if request.uri().path().ends_with("/last") {
                        response
                            .headers_mut()
                            .insert("connection", "close".parse().unwrap());
                    }
                    Ok::<_, Infallible>(response)
                });
                let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(TokioIo::new(tls), service).await;
            });
        }
    });
    port
}

fn kubeconfig(port: u16, ca: &str, user: &str) -> String {
    let ca = base64::engine::general_purpose::STANDARD.encode(ca);
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: main\n\
         clusters:\n- name: c\n  cluster:\n    server: https://127.0.0.1:{port}/base\n    \
         certificate-authority-data: {ca}\n\
         contexts:\n- name: main\n  context: {{cluster: c, user: u, namespace: n}}\n\
         users:\n- name: u\n  user: {user}\n"
    )
}

#[tokio::test]
async fn credentials_reach_the_server_over_either_protocol() {
    let authority = Authority::new();
    let ca = authority.0.pem();
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key, _) = authority.issue("client");
    std::fs::write(dir.path().join("c.pem"), certificate).unwrap();
    std::fs::write(dir.path().join("k.pem"), key.serialize_pem()).unwrap();
    std::fs::write(dir.path().join("t"), "from-file\n").unwrap();
    for (alpn, user, certificate, token) in [
        (
            &["h2", "http/1.1"][..],
            "{token: abc}",
            false,
            Some("Bearer abc"),
        ),
        (
            &["http/1.1"][..],
            "{tokenFile: t}",
            false,
            Some("Bearer from-file"),
        ),
        (
            &["h2"][..],
            "{client-certificate: c.pem, client-key: k.pem}",
            true,
            None,
        ),
        (&[][..], "{}", false, None),
    ] {
        let port = serve(&authority, alpn).await;
        let config = Kubeconfig::parse(&kubeconfig(port, &ca, user), dir.path()).unwrap();
        assert_eq!(config.namespace.as_deref(), Some("n"));
        let client = Client::new(Arc::new(TlsTransport::new(&config).unwrap()));
        // The second time over a kept connection, or a new one.
        for name in ["last", "next", "next"] {
            let seen = client.get(&PODS, Some("d"), name).await.unwrap();
            let what = format!("{alpn:?} {user} {seen}");
            assert_eq!(
                seen["path"],
                format!("/base/api/v1/namespaces/d/pods/{name}"),
                "{what}"
            );
            assert_eq!(seen["http2"], alpn.contains(&"h2"), "{what}");
            assert_eq!(seen["certificate"], certificate, "{what}");
            assert_eq!(seen["token"].as_str(), token, "{what}");
        }
    }
}

#[tokio::test]
async fn a_server_of_another_authority_is_refused() {
    let port = serve(&Authority::new(), &["h2"]).await;
    let other = Authority::new().0.pem();
    let config = Kubeconfig::parse(&kubeconfig(port, &other, "{}"), Path::new(".")).unwrap();
    let client = Client::new(Arc::new(TlsTransport::new(&config).unwrap()));
    let error = client.get(&PODS, Some("d"), "x").await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[test]
fn what_a_kubeconfig_lacks_or_asks_too_much_is_named() {
    let ca = Authority::new().0.pem();
    for (user, expected) in [
        ("{exec: {command: x}}", "exec is not supported"),
        ("{username: x, password: y}", "username is not supported"),
        ("{client-key-data: '!'}", "client-key-data is no base64"),
        (
            "{client-key-data: eA==}",
            "client-key needs client-certificate",
        ),
        ("{client-key: absent.pem}", "read ./absent.pem"),
    ] {
        let found = Kubeconfig::parse(&kubeconfig(1, &ca, user), Path::new("."))
            .err()
            .unwrap();
        assert!(found.to_string().contains(expected), "{found}");
    }
    let text = kubeconfig(1, &ca, "{}").replace("current-context: main", "current-context: x");
    let found = Kubeconfig::parse(&text, Path::new("."));
    assert!(matches!(
        found.err(),
        Some(KubeconfigError::Missing {
            list: "contexts",
            ..
        })
    ));
    assert!(matches!(
        Kubeconfig::parse("[", Path::new(".")).err(),
        Some(KubeconfigError::Yaml(_))
    ));
}
