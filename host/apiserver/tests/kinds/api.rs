//! One server, and requests to it.

use apiserver::{Config, Running, User};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::BodyExt;
use reconcile::Transport;
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) struct Api {
    runtime: tokio::runtime::Runtime,
    running: Option<Running>,
    ending: Option<tokio::task::JoinHandle<Result<(), apiserver::RunError>>>,
    transport: Arc<dyn Transport>,
    _dir: tempfile::TempDir,
}

pub(crate) const MERGE: &str = "application/merge-patch+json";
pub(crate) const STRATEGIC: &str = "application/strategic-merge-patch+json";

/// An answer: its code and its object.
pub(crate) type Answer = (u16, Value);

impl Api {
    pub(crate) fn start() -> Api {
        Api::with_ranges(&["10.96.0.0/16"])
    }

    pub(crate) fn with_ranges(ranges: &[&str]) -> Api {
        Api::with(&json!({"serviceCidrs": ranges}))
    }

    pub(crate) fn on_etcd(url: &str) -> Api {
        Api::with(&json!({"etcd": {"servers": [url]}}))
    }

    pub(crate) fn with(options: &Value) -> Api {
        let dir = tempfile::tempdir().unwrap();
        let mut config = options.clone();
        config["listen"] = json!(["127.0.0.1:0"]);
        config["dataDir"] = json!(dir.path().join("data"));
        let config: Config = serde_json::from_value(config).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let running = runtime.block_on(apiserver::run(config)).unwrap();
        let root = User::new("root", ["system:masters".to_owned()]);
        Api {
            transport: running.server().local_transport(root),
            running: Some(running),
            ending: None,
            runtime,
            _dir: dir,
        }
    }

    /// All requests at once.
    pub(crate) fn together(&self, requests: Vec<Request<Bytes>>) -> Vec<Answer> {
        self.runtime.block_on(async {
            let tasks: Vec<_> = requests
                .into_iter()
                .map(|request| {
                    let transport = self.transport.clone();
                    tokio::spawn(async move {
                        let response = transport.send(request).await.unwrap();
                        let code = response.status().as_u16();
                        let bytes = response.into_body().collect().await.unwrap().to_bytes();
                        (code, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
                    })
                })
                .collect();
            let mut answers = Vec::new();
            for task in tasks {
                answers.push(task.await.unwrap());
            }
            answers
        })
    }

    /// Tells the server to end; it still answers.
    pub(crate) fn begin_to_end(&mut self) {
        let running = self.running.take().unwrap();
        self.ending = Some(self.runtime.spawn(running.stop()));
    }

    /// What a user gets: code and bytes.
    pub(crate) fn raw(&self, user: User, path: &str) -> (u16, Bytes) {
        let server = self.running.as_ref().unwrap().server();
        let request = request("GET", path, "", &Value::Null);
        self.runtime.block_on(async {
            let answer = server.local_transport(user).send(request).await.unwrap();
            let code = answer.status().as_u16();
            (code, answer.into_body().collect().await.unwrap().to_bytes())
        })
    }

    /// What an administrator gets that is no object.
    pub(crate) fn text(&self, path: &str) -> (u16, String) {
        let request = request("GET", path, "", &Value::Null);
        self.runtime.block_on(async {
            let answer = self.transport.send(request).await.unwrap();
            let code = answer.status().as_u16();
            let bytes = answer.into_body().collect().await.unwrap().to_bytes();
            (code, String::from_utf8(bytes.to_vec()).unwrap())
        })
    }

    pub(crate) fn send(&self, method: &str, path: &str, media: &str, body: &Value) -> Answer {
        let request = request(method, path, media, body);
        self.together(vec![request]).pop().unwrap()
    }

    #[track_caller]
    pub(crate) fn create(&self, path: &str, body: &Value) -> Value {
        let (code, object) = self.send("POST", path, "application/json", body);
        assert_eq!(code, 201, "{object:#}");
        object
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Value {
        let (code, object) = self.send("GET", path, "", &Value::Null);
        assert_eq!(code, 200, "{path}: {object:#}");
        object
    }

    #[track_caller]
    pub(crate) fn patch(&self, path: &str, media: &str, body: &Value) -> Value {
        let (code, object) = self.send("PATCH", path, media, body);
        assert_eq!(code, 200, "{path}: {object:#}");
        object
    }

    #[track_caller]
    pub(crate) fn update(&self, path: &str, body: &Value) -> Value {
        let (code, object) = self.send("PUT", path, "application/json", body);
        assert_eq!(code, 200, "{path}: {object:#}");
        object
    }

    #[track_caller]
    pub(crate) fn delete(&self, path: &str) -> Value {
        let (code, object) = self.send("DELETE", path, "", &Value::Null);
        assert_eq!(code, 200, "{path}: {object:#}");
        object
    }

    /// It is refused, with this code and in these words.
    #[track_caller]
    pub(crate) fn refuses(&self, method: &str, path: &str, body: &Value, code: u16, words: &str) {
        let media = match method {
            "PATCH" => MERGE,
            _ => "application/json",
        };
        let (found, status) = self.send(method, path, media, body);
        let message = status["message"].as_str().unwrap_or_default();
        assert_eq!(found, code, "{status:#}");
        assert!(message.contains(words), "no {words:?} in {message:?}");
    }
}

pub(crate) fn request(method: &str, path: &str, media: &str, body: &Value) -> Request<Bytes> {
    let method: Method = method.parse().unwrap();
    let mut request = Request::builder().method(method).uri(path);
    if !media.is_empty() {
        request = request.header("content-type", media);
    }
    let bytes = match body {
        Value::Null => Bytes::new(),
        body => body.to_string().into(),
    };
    request.body(bytes).unwrap()
}

impl Drop for Api {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            self.ending = Some(self.runtime.spawn(running.stop()));
        }
        if let Some(ending) = self.ending.take() {
            let ended = self.runtime.block_on(ending).unwrap();
            if !std::thread::panicking() {
                ended.unwrap();
            }
        }
    }
}
