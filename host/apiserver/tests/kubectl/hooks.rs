//! A webhook's server: a real one, over TLS, in this process.

use crate::others;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use reconcile::Body;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, OnceLock};

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
    server: others::Server,
}

async fn serve(
    request: Request<Incoming>,
    url: &str,
    answer: Arc<Answer>,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let question: Value = match body.is_empty() {
        true => Value::Null,
        false => serde_json::from_slice(&body).unwrap(),
    };
    asked.lock().unwrap().push((path.clone(), question.clone()));
    match answer(url, &path, &question) {
        Reply::Json(value) => Response::new(others::full(value.to_string())),
        Reply::Refuse(code, text) => Response::builder()
            .status(code)
            .body(others::full(text))
            .unwrap(),
        Reply::Never => std::future::pending().await,
    }
}

impl Server {
    pub(crate) fn start(answer: impl Fn(&str, &Value) -> Reply + Send + Sync + 'static) -> Server {
        Server::start_named(move |_, path, question| answer(path, question))
    }

    /// The answers may depend on the server's own URL, the first argument.
    pub(crate) fn start_named(
        answer: impl Fn(&str, &str, &Value) -> Reply + Send + Sync + 'static,
    ) -> Server {
        let (acceptor, ca) = others::tls(&["127.0.0.1"], None);
        let asked: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
        let url: Arc<OnceLock<String>> = Arc::default();
        let (answer, kept): (Arc<Answer>, _) = (Arc::new(answer), asked.clone());
        let own = url.clone();
        let server = others::Server::start(Some(acceptor), move |request| {
            let (own, answer, kept) = (own.clone(), answer.clone(), kept.clone());
            async move { serve(request, own.wait(), answer, kept).await }
        });
        let url = url.get_or_init(|| format!("https://127.0.0.1:{}", server.port));
        Server {
            url: url.clone(),
            ca,
            asked,
            server,
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn accepted(&self) -> usize {
        self.server.accepted()
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
