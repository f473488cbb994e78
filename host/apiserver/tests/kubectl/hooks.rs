//! A webhook's server: a real one, over TLS, in this process.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What it answers.
pub(crate) enum Reply {
    Json(Value),
    Refuse(u16, &'static str),
    Never,
}

type Answer = dyn Fn(&str, &str, &Value) -> Reply + Send + Sync;

/// Answers each question by its path, and keeps the questions.
pub(crate) struct Server {
    url: String,
    ca: String,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
    _runtime: tokio::runtime::Runtime,
}

async fn serve(
    request: Request<Incoming>,
    url: &str,
    answer: Arc<Answer>,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let question: Value = match body.is_empty() {
        true => Value::Null,
        false => serde_json::from_slice(&body).unwrap(),
    };
    asked.lock().unwrap().push((path.clone(), question.clone()));
    let full = |text: String| Full::new(Bytes::from(text));
    Ok(match answer(url, &path, &question) {
        Reply::Json(value) => Response::new(full(value.to_string())),
        Reply::Refuse(code, text) => Response::builder()
            .status(code)
            .body(full(text.to_owned()))
            .unwrap(),
        Reply::Never => std::future::pending().await,
    })
}

impl Server {
    pub(crate) fn start(answer: impl Fn(&str, &Value) -> Reply + Send + Sync + 'static) -> Server {
        Server::start_named(move |_, path, question| answer(path, question))
    }

    /// The answers may depend on the server's own URL, the first argument.
    pub(crate) fn start_named(
        answer: impl Fn(&str, &str, &Value) -> Reply + Send + Sync + 'static,
    ) -> Server {
        let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
        let (answer, kept): (Arc<Answer>, _) = (Arc::new(answer), asked.clone());
        let url = format!("https://127.0.0.1:{port}");
        let own_url = url.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, answer, kept) = (acceptor.clone(), answer.clone(), kept.clone());
                let url = own_url.clone();
                tokio::spawn(async move {
                    let Ok(tls) = acceptor.accept(stream).await else {
                        return;
                    };
                    let service =
                        service_fn(|request| serve(request, &url, answer.clone(), kept.clone()));
                    let serving = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(tls), service);
                    let _ = serving.await;
                });
            }
        });
        Server {
            url,
            ca: own.cert.pem(),
            asked,
            _runtime: runtime,
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What vouches for it, in PEM.
    pub(crate) fn ca(&self) -> &str {
        &self.ca
    }

    /// The `clientConfig` that leads to `path`.
    pub(crate) fn config(&self, path: &str) -> Value {
        use base64::Engine as _;
        let ca = base64::engine::general_purpose::STANDARD.encode(&self.ca);
        json!({"url": format!("{}{path}", self.url), "caBundle": ca})
    }

    /// The questions since the last call, with their paths.
    pub(crate) fn asked(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}
