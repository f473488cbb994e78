//! The listener itself: HTTP/2 and HTTP/1.1 on one port, the limit of bodies,
//! anonymous clients.

use crate::session::Session;
use bytes::Bytes;
use http::{Request, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) async fn connect(s: &Session, alpn: &[u8]) -> TlsStream<TcpStream> {
    let ca = std::fs::read(s.path("data/pki/ca.crt")).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(&ca).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let tcp = TcpStream::connect(s.running().addresses()[0])
        .await
        .unwrap();
    let name = ServerName::try_from("kubernetes.default.svc").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
        .unwrap()
}

async fn send(s: &Session, alpn: &[u8], request: Request<Full<Bytes>>) -> http::Response<Incoming> {
    let io = TokioIo::new(connect(s, alpn).await);
    if alpn == b"h2" {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
                .await
                .unwrap();
        tokio::spawn(connection);
        return sender.send_request(request).await.unwrap();
    }
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    sender.send_request(request).await.unwrap()
}

fn get(path: &str) -> http::request::Builder {
    Request::get(format!("https://localhost{path}")).header("host", "localhost")
}

#[test]
fn both_versions_of_http_are_served() {
    let s = Session::first();
    s.runtime().block_on(async {
        for (alpn, version) in [
            (&b"h2"[..], Version::HTTP_2),
            (b"http/1.1", Version::HTTP_11),
        ] {
            let request = get("/readyz").body(Full::default()).unwrap();
            let response = send(&s, alpn, request).await;
            assert_eq!(
                (response.status(), response.version()),
                (StatusCode::OK, version)
            );
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, "ok");
            let request = get("/metrics").body(Full::default()).unwrap();
            assert_eq!(
                send(&s, alpn, request).await.status(),
                StatusCode::FORBIDDEN
            );
            let request = get("/version")
                .header("authorization", "Bearer nonsense")
                .body(Full::default())
                .unwrap();
            assert_eq!(
                send(&s, alpn, request).await.status(),
                StatusCode::UNAUTHORIZED
            );
        }
    });
}

#[test]
fn a_body_over_the_limit_is_refused() {
    let s = Session::first();
    s.runtime().block_on(async {
        let review = "https://localhost/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let request = Request::post(review)
            .header("authorization", "Bearer sesame")
            .body(Full::new(Bytes::from(vec![b' '; 4 << 20])))
            .unwrap();
        let response = send(&s, b"h2", request).await;
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    });
}
