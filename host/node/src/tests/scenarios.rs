//! What a user sees of pods.

use super::api::{Api, DEADLINE};
use super::images::Shelf;
use super::init::{Init, Script};
use crate::metrics::{Collector, Sources};
use crate::roster::Directory;
use crate::server::{Gate, Surface};
use crate::{Config, Parts, Shutdown, serve};
use guest_protocol::End;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

pub(super) const POD: &str = "/api/v1/namespaces/default/pods/web";
pub(super) const UID: &str = "11111111-2222-3333-4444-555555555555";

pub(super) struct Stage {
    files: tempfile::TempDir,
    pub(super) images: Arc<Shelf>,
    /// `kubelet` of the node's configuration.
    pub(super) kubelet: Value,
    pub(super) static_pods: Value,
    directory: Directory,
    pub(super) api: Api,
    pub(super) init: Init,
}

/// A `node` that runs.
pub(super) struct Node {
    stop: oneshot::Sender<Shutdown>,
    thread: JoinHandle<Result<(), crate::Error>>,
}

impl Stage {
    pub(super) fn new(script: Script) -> Self {
        let files = tempfile::tempdir().unwrap();
        for name in ["kernel", "initramfs", "image.erofs"] {
            std::fs::write(files.path().join(name), name).unwrap();
        }
        let images = Arc::new(Shelf::new(&files.path().join("image.erofs")));
        Self {
            files,
            images,
            // Whatever the disk of this machine is like.
            kubelet: json!({"evictionHard": {"memory.available": "100Mi"},
                "imageGCHighThresholdPercent": 100}),
            static_pods: json!([]),
            directory: Directory::default(),
            api: Api::new(),
            init: Init::new(script),
        }
    }

    pub(super) fn path(&self) -> &Path {
        self.files.path()
    }

    fn sources(&self) -> Sources {
        Sources {
            proc: self.path().join("proc"),
            cgroup: self.path().join("cgroup"),
            machines: self.path().join("cgroup/vmm"),
        }
    }

    pub(super) fn node(&self) -> Node {
        let at = |name: &str| self.path().join(name);
        let config: Config = serde_json::from_value(json!({
            "nodeName": "n1", "kubeconfig": "/none", "dataDir": self.path(),
            "serving": {"certificate": "/none", "key": "/none", "clientCa": "/none"},
            "guest": {"kernel": at("kernel"), "initramfs": at("initramfs")},
            "kubelet": self.kubelet,
            "staticPods": self.static_pods,
        }))
        .unwrap();
        let (collector, metrics) = Collector::new(
            self.directory.clone(),
            "n1".to_owned(),
            self.path().to_owned(),
            self.sources(),
        );
        let parts = Parts {
            client: reconcile::Client::new(Arc::new(self.api.clone())),
            images: self.images.clone(),
            launch: self.init.socket(),
            directory: self.directory.clone(),
            metrics,
            sources: self.sources(),
        };
        let (stop, stopped) = oneshot::channel();
        let shutdown = async { stopped.await.unwrap_or(Shutdown::Restart) };
        // A runtime of its own, so that nothing of it outlives it.
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            runtime.spawn(collector.run());
            let result = runtime.block_on(serve(config, parts, shutdown));
            runtime.shutdown_timeout(DEADLINE);
            result
        });
        Node { stop, thread }
    }

    pub(super) fn apply(&self, mut spec: Value) {
        spec["nodeName"] = json!("n1");
        self.api.put(
            POD,
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "web", "namespace": "default", "uid": UID},
                "spec": spec, "status": {"phase": "Pending"},
            }),
        );
    }

    pub(super) async fn status(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.api
            .wait(what, |api| {
                let pod = api.get(POD)?;
                wanted(&pod["status"]).then(|| pod["status"].clone())
            })
            .await
    }

    /// Waits until the lines of a log, put together, are `wanted`.
    pub(super) async fn content(&self, container: &str, attempt: u32, wanted: &str) {
        let pod = self.path().join(format!("logs/default_web_{UID}"));
        let file = pod.join(format!("{container}/{attempt}.log"));
        let deadline = tokio::time::Instant::now() + DEADLINE;
        loop {
            let log = std::fs::read_to_string(&file).unwrap_or_default();
            let content: String = log
                .lines()
                .filter_map(|l| l.splitn(4, ' ').nth(3))
                .collect();
            if content == wanted {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "log is {log:?}");
            tokio::task::yield_now().await;
        }
    }

    /// Waits until the guest holds `files`, sent `times`.
    pub(super) async fn projected(&self, files: &BTreeMap<String, String>, times: u32) {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        loop {
            let found = self.init.files();
            if found == (files.clone(), times) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{found:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What the kubelet's surface answers an administrator.
    pub(super) async fn kubelet(&self, path: &str) -> (u16, String) {
        self.kubelet_as(None, path).await
    }

    /// What it answers somebody with these words in `Authorization`.
    pub(super) async fn kubelet_as(&self, token: Option<&str>, path: &str) -> (u16, String) {
        let (directory, data) = (self.directory.clone(), self.path().to_owned());
        let (collector, metrics) = Collector::new(
            directory.clone(),
            "n1".to_owned(),
            data.clone(),
            self.sources(),
        );
        tokio::spawn(collector.run());
        let client = reconcile::Client::new(Arc::new(self.api.clone()));
        let surface = Surface {
            directory,
            data,
            metrics,
            gate: Arc::new(Gate::new(client, "n1".to_owned())),
        };
        let response = match token {
            None => {
                let client = crate::server::administrator();
                let request = http::Request::get(path).body(()).unwrap();
                surface.answer(request, Some(&client)).await
            }
            Some(token) => {
                let request = http::Request::get(path).header("authorization", token);
                surface.answer(request.body(()).unwrap(), None).await
            }
        };
        let code = response.status().as_u16();
        let body = http_body_util::BodyExt::collect(response.into_body())
            .await
            .unwrap();
        (code, String::from_utf8(body.to_bytes().to_vec()).unwrap())
    }

    pub(super) fn set(&self, field: &str, value: Value) {
        let mut pod = self.api.get(POD).unwrap();
        pod["metadata"][field] = value;
        self.api.put(POD, pod);
    }
}

impl Node {
    pub(super) async fn stop(self, how: Shutdown) {
        self.stop.send(how).unwrap();
        let ended = tokio::task::spawn_blocking(|| self.thread.join());
        tokio::time::timeout(DEADLINE, ended)
            .await
            .unwrap()
            .unwrap()
            .unwrap()
            .unwrap();
    }
}

pub(super) fn one(policy: &str) -> Value {
    json!({"restartPolicy": policy, "containers": [{"name": "a", "image": "a:1"}]})
}

pub(super) fn running(status: &Value) -> bool {
    status["phase"] == "Running" && status["containerStatuses"][0]["ready"] == true
}

/// A pod whose one container mounts a token, a ConfigMap and the pod's labels.
fn with_files() -> Value {
    let mut spec = one("Always");
    spec["volumes"] = json!([{"name": "v", "projected": {"sources": [
        {"serviceAccountToken": {"path": "token"}},
        {"configMap": {"name": "settings"}},
        {"downwardAPI": {"items": [
            {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
    ]}}]);
    spec["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    spec
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volumes_are_filled_before_the_start_and_kept_up_to_date() {
    let stage = Stage::new(Script::default());
    let node = stage.node();
    stage.apply(with_files());
    let missing = "FailedMount: MountVolume.SetUp failed for volume \"v\" : \
        configmap \"settings\" not found";
    stage
        .api
        .wait("FailedMount", |api| {
            api.events().iter().any(|e| e == missing).then_some(())
        })
        .await;
    assert_eq!(stage.init.started(), []);
    let map = json!({"metadata": {"name": "settings"}, "data": {"color": "blue"}});
    let path = "/api/v1/namespaces/default/configmaps/settings";
    stage.api.put(path, map);
    stage.status("Running", running).await;
    let token = "token of /api/v1/namespaces/default/serviceaccounts/default/token";
    let file = |path: &str, content: &str| (path.to_owned(), content.to_owned());
    let mut files = BTreeMap::from([
        file("v/color", "blue"),
        file("v/labels", ""),
        file("v/token", token),
    ]);
    assert_eq!(stage.init.files(), (files.clone(), 1));
    stage.set("labels", json!({"tier": "web"}));
    files.extend([file("v/labels", "tier=\"web\"")]);
    stage.projected(&files, 2).await;
    // A new node knows nothing of what the guest holds.
    node.stop(Shutdown::Restart).await;
    let node = stage.node();
    stage.projected(&files, 3).await;
    stage.status("Running", running).await;
    assert_eq!(stage.init.started().len(), 1);
    node.stop(Shutdown::Restart).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_runs_logs_and_is_deleted() {
    let stage = Stage::new(Script {
        output: BTreeMap::from([("a".to_owned(), b"hello\nworld\n".to_vec())]),
        ..Script::default()
    });
    let node = stage.node();
    stage.apply(one("Always"));
    let status = stage.status("Running", running).await;
    let container = &status["containerStatuses"][0];
    assert_eq!(container["imageID"], "registry.test/library/a@sha256:00");
    assert_eq!(container["restartCount"], 0);
    assert!(
        container["containerID"]
            .as_str()
            .unwrap()
            .starts_with("atoll://")
    );
    assert_eq!(status["qosClass"], "BestEffort");
    let ready = status["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .find(|c| c["type"] == "Ready");
    assert_eq!(ready.unwrap()["status"], "True");
    stage.content("a", 0, "helloworld").await;
    stage
        .api
        .wait("Started", |api| {
            let events = api.events();
            events
                .iter()
                .any(|e| e == "Started: Container started")
                .then_some(())
        })
        .await;
    assert_eq!(
        stage.kubelet("/containerLogs/default/web/a").await,
        (200, "hello\nworld\n".into())
    );
    let tail = "/containerLogs/default/web/a?tailLines=1";
    assert_eq!(stage.kubelet(tail).await, (200, "world\n".into()));
    let previous = "previous terminated container \"a\" in pod \"web\" not found";
    let asked = stage
        .kubelet("/containerLogs/default/web/a?previous=true")
        .await;
    assert_eq!(asked, (400, previous.into()));
    let (code, pods) = stage.kubelet("/pods").await;
    assert!(
        code == 200 && pods.contains("\"phase\":\"Running\""),
        "{pods}"
    );
    stage.set("deletionGracePeriodSeconds", json!(1));
    stage.set("deletionTimestamp", json!("2026-11-21T08:00:00Z"));
    stage
        .api
        .wait("deletion", |api| api.get(POD).is_none().then_some(()))
        .await;
    let events = stage.api.events();
    assert!(
        events.contains(&"Killing: Stopping container a".to_owned()),
        "{events:?}"
    );
    assert_eq!(stage.init.known(), 0, "its machine is forgotten");
    node.stop(Shutdown::Restart).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_completed_pod_keeps_its_log_and_its_machine_goes() {
    let stage = Stage::new(Script {
        output: BTreeMap::from([("a".to_owned(), b"hello\nworld".to_vec())]),
        ends: BTreeMap::from([("a".to_owned(), End::Code(0))]),
        ..Script::default()
    });
    let node = stage.node();
    stage.apply(one("Never"));
    let status = stage
        .status("Succeeded", |s| s["phase"] == "Succeeded")
        .await;
    let terminated = &status["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(terminated["reason"], "Completed");
    let ready = |s: &Value| {
        let conditions = s["conditions"].as_array().unwrap();
        let sandbox = conditions
            .iter()
            .find(|c| c["type"] == "PodReadyToStartContainers");
        sandbox.unwrap()["status"] == "False"
    };
    stage.status("the machine's end", ready).await;
    assert_eq!(stage.init.running(), 0);
    stage.content("a", 0, "helloworld").await;
    node.stop(Shutdown::Restart).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_container_is_restarted_and_then_held_back() {
    let stage = Stage::new(Script {
        ends: BTreeMap::from([("a".to_owned(), End::Code(3))]),
        ..Script::default()
    });
    let node = stage.node();
    stage.apply(one("OnFailure"));
    let held =
        |s: &Value| s["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff";
    let status = stage.status("CrashLoopBackOff", held).await;
    let container = &status["containerStatuses"][0];
    assert_eq!(container["restartCount"], 1);
    assert_eq!(container["lastState"]["terminated"]["exitCode"], 3);
    let message = container["state"]["waiting"]["message"].as_str().unwrap();
    let wanted = format!("back-off 10s restarting failed container=a pod=web_default({UID})");
    assert_eq!(message, wanted);
    assert_eq!(status["phase"], "Running");
    let started: Vec<u32> = stage
        .init
        .started()
        .iter()
        .map(|(_, _, attempt)| *attempt)
        .collect();
    assert_eq!(started, [0, 1]);
    node.stop(Shutdown::Restart).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vmm_that_dies_is_told_and_replaced() {
    let stage = Stage::new(Script::default());
    let node = stage.node();
    stage.apply(one("Always"));
    stage.status("Running", running).await;
    stage.init.kill_all(31);
    let again = |s: &Value| running(s) && s["containerStatuses"][0]["restartCount"] == 1;
    let status = stage.status("Running again", again).await;
    let last = &status["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!(last["exitCode"], 255);
    assert_eq!(
        last["message"],
        "The micro-VM ended: the vmm was killed by signal 31 (SIGSYS)"
    );
    stage
        .api
        .wait("MachineFailed", |api| {
            api.events()
                .iter()
                .any(|e| e.starts_with("MachineFailed: "))
                .then_some(())
        })
        .await;
    let started = stage.init.started();
    assert_eq!(started, [(1, "a".to_owned(), 0), (2, "a".to_owned(), 1)]);
    node.stop(Shutdown::Restart).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_node_takes_over_and_starts_nothing_twice() {
    let stage = Stage::new(Script {
        output: BTreeMap::from([("a".to_owned(), b"one\ntwo\nthree\n".to_vec())]),
        ..Script::default()
    });
    let node = stage.node();
    stage.apply(one("Always"));
    stage.status("Running", running).await;
    node.stop(Shutdown::Restart).await;
    assert_eq!(stage.init.running(), 1, "pods go on without a node");
    let node = stage.node();
    stage.init.sessions(2).await;
    stage.init.end_container("a", End::Code(1));
    let again = |s: &Value| s["containerStatuses"][0]["restartCount"] == 1 && running(s);
    stage.status("a restart", again).await;
    let started = stage.init.started();
    assert_eq!(started, [(1, "a".to_owned(), 0), (1, "a".to_owned(), 1)]);
    stage.content("a", 0, "onetwothree").await;
    node.stop(Shutdown::PowerOff).await;
    assert_eq!(stage.init.running(), 0, "pods stop before the power");
    assert!(stage.api.get(POD).is_some(), "and come back after it");
    let node = stage.node();
    stage
        .status("Running after the power", |s| {
            running(s) && s["containerStatuses"][0]["restartCount"] == 2
        })
        .await;
    node.stop(Shutdown::Restart).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_run_says_why() {
    let stage = Stage::new(Script {
        missing: vec!["a".to_owned()],
        ..Script::default()
    });
    let node = stage.node();
    stage.apply(one("Never"));
    let status = stage.status("Failed", |s| s["phase"] == "Failed").await;
    let terminated = &status["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(terminated["reason"], "ContainerCannotRun");
    assert_eq!(terminated["exitCode"], 127);
    assert_eq!(terminated["message"], "exec: no such file");
    stage.api.remove(POD);
    let mut refused = one("Never");
    refused["hostNetwork"] = json!(true);
    let other = "99999999-2222-3333-4444-555555555555";
    refused["nodeName"] = json!("n1");
    stage.api.put(
        POD,
        json!({
            "apiVersion": "v1", "kind": "Pod", "spec": refused,
            "metadata": {"name": "web", "namespace": "default", "uid": other},
        }),
    );
    let status = stage
        .status("UnsupportedField", |s| s["reason"] == "UnsupportedField")
        .await;
    assert_eq!(status["phase"], "Failed");
    assert_eq!(
        status["message"],
        "Atoll does not support spec.hostNetwork yet"
    );
    node.stop(Shutdown::Restart).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_of_another_runtime_waits_for_its_class() {
    const CLASS: &str = "/apis/node.k8s.io/v1/runtimeclasses/r";
    let class = |handler: &str| json!({"metadata": {"name": "r"}, "handler": handler});
    let stage = Stage::new(Script::default());
    stage.api.put(CLASS, class("runc"));
    let node = stage.node();
    let mut spec = one("Never");
    spec["runtimeClassName"] = json!("r");
    stage.apply(spec);
    let waiting = |s: &Value| s["containerStatuses"][0]["state"]["waiting"].clone();
    let reason = "CreateContainerConfigError";
    let status = stage
        .status(reason, |s| waiting(s)["reason"] == reason)
        .await;
    let why = "RuntimeClass \"r\": no runtime for \"runc\" is configured, only \"atoll\"";
    assert_eq!(waiting(&status)["message"], why);
    stage.api.put(CLASS, class("atoll"));
    stage.status("Running", |s| s["phase"] == "Running").await;
    node.stop(Shutdown::Restart).await;
}
