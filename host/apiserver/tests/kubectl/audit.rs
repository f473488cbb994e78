//! The audit log, as whoever reads its file sees it.

use crate::hooks::{Reply, Server};
use crate::policies;
use crate::session::{self, Session};
use crate::webhooks;
use crate::wire::{Client, MAPS, map};
use apiserver::{AuditConfig, User};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(30);
const MERGE: &str = "application/merge-patch+json";

pub(crate) struct Audited {
    pub(crate) client: Client,
    pub(crate) log: PathBuf,
}

pub(crate) fn configured(dir: &Path, rules: &str) -> AuditConfig {
    let policy_file = dir.join("policy.yaml");
    let policy = format!("apiVersion: audit.k8s.io/v1\nkind: Policy\n{rules}");
    fs::write(&policy_file, policy).unwrap();
    AuditConfig {
        policy_file,
        log_path: dir.join("log/audit.log"),
        max_size: 1,
        max_backup: 0,
        max_age: 0,
    }
}

pub(crate) fn start(rules: &str) -> Audited {
    let session = Session::configured(|dir| apiserver::Config {
        audit: Some(configured(dir, rules)),
        ..session::config(dir)
    });
    let log = session.path("log/audit.log");
    Audited {
        client: Client::of(session),
        log,
    }
}

fn read(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines = text.split_inclusive('\n').filter(|l| l.ends_with('\n'));
    lines.map(|l| serde_json::from_str(l).unwrap()).collect()
}

/// The stages of these events.
pub(crate) fn stages(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .map(|e| e["stage"].as_str().unwrap())
        .collect()
}

impl Audited {
    /// The events that `of` is about, once the last one is at `stage`.
    #[track_caller]
    fn events(&self, stage: &str, of: impl Fn(&Value) -> bool) -> Vec<Value> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let all = read(&self.log);
            let found: Vec<Value> = all.iter().filter(|e| of(e)).cloned().collect();
            if found.last().is_some_and(|e| e["stage"] == stage) {
                return found;
            }
            assert!(Instant::now() < deadline, "no {stage} in {all:#?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[track_caller]
    pub(crate) fn of_id(&self, id: &str, stage: &str) -> Vec<Value> {
        self.events(stage, |e| e["auditID"] == id)
    }

    /// The completion of the request that this sends.
    #[track_caller]
    fn complete(&self, id: &str, method: Method, path: &str, body: &Value) -> (StatusCode, Value) {
        let content = match method {
            Method::PATCH => MERGE,
            _ => "application/json",
        };
        let headers = [
            ("audit-id", id),
            ("user-agent", "tester/1"),
            ("content-type", content),
        ];
        let text = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let (code, _) = self.client.send(method, path, &headers, text.as_bytes());
        let events = self.of_id(id, "ResponseComplete");
        (code, events.last().unwrap().clone())
    }
}

const LEVELS: &str = "
omitManagedFields: true
rules:
- {level: None, namespaces: [kube-node-lease]}
- {level: Metadata, namespaces: [kube-system]}
- {level: Request, namespaces: [kube-public]}
- {level: RequestResponse, namespaces: [default]}
";

#[test]
fn each_level_records_what_it_says() {
    let a = start(LEVELS);
    let path = |ns: &str| format!("/api/v1/namespaces/{ns}/configmaps");
    let silent = [("audit-id", "silent")];
    let body = map("m").to_string();
    let none = path("kube-node-lease");
    let (code, _) = a.client.send(Method::POST, &none, &silent, body.as_bytes());
    assert_eq!(code, StatusCode::CREATED);
    for (ns, level) in [
        ("kube-system", "Metadata"),
        ("kube-public", "Request"),
        ("default", "RequestResponse"),
    ] {
        let (code, mut event) = a.complete(level, Method::POST, &path(ns), &map("m"));
        assert_eq!(code, StatusCode::CREATED);
        let members = event.as_object_mut().unwrap();
        let times = ["requestReceivedTimestamp", "stageTimestamp"].map(|key| {
            let time = members.shift_remove(key).unwrap();
            let time = time.as_str().unwrap().to_owned();
            assert_eq!(time.len(), "2026-01-02T03:04:05.000006Z".len(), "{time}");
            time
        });
        assert!(times[0] <= times[1], "{times:?}");
        let (sent, answered) = (
            members.shift_remove("requestObject"),
            members.shift_remove("responseObject"),
        );
        let wanted = json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": level, "auditID": level,
            "stage": "ResponseComplete", "requestURI": path(ns), "verb": "create",
            "user": {"username": "root", "groups": ["system:masters", "system:authenticated"]},
            "userAgent": "tester/1",
            "objectRef": {"resource": "configmaps", "namespace": ns, "name": "m",
                "apiVersion": "v1"},
            "responseStatus": {"metadata": {}, "code": 201},
            "annotations": {"authorization.k8s.io/decision": "allow",
                "authorization.k8s.io/reason": ""},
        });
        assert_eq!(event, wanted);
        assert_eq!(sent.is_some(), level != "Metadata", "{level}");
        assert!(sent.is_none_or(|s| s["metadata"]["name"] == "m"), "{level}");
        assert_eq!(answered.is_some(), level == "RequestResponse", "{level}");
        if let Some(answered) = answered {
            assert_eq!(answered["kind"], "ConfigMap");
            assert!(answered["metadata"]["uid"].is_string(), "{answered}");
            assert!(answered["metadata"].get("managedFields").is_none());
        }
        assert_eq!(
            stages(&a.of_id(level, "ResponseComplete")),
            ["RequestReceived", "ResponseComplete"]
        );
    }
    let all = read(&a.log);
    assert!(all.iter().all(|e| e["auditID"] != "silent"), "{all:#?}");
}

#[test]
fn answers_are_recorded_in_whatever_form_they_go_out() {
    let a = start(LEVELS);
    for i in 0..40 {
        let mut large = map(&format!("m{i}"));
        large["data"]["k"] = "x".repeat(8 << 10).into();
        assert_eq!(a.client.post(MAPS, &large).0, StatusCode::CREATED);
    }
    for (id, accept, encoding, kind) in [
        ("json", "application/json", "identity", "ConfigMapList"),
        ("gzip", "application/json", "gzip", "ConfigMapList"),
        ("yaml", "application/yaml", "identity", "ConfigMapList"),
        (
            "protobuf",
            "application/vnd.kubernetes.protobuf",
            "identity",
            "ConfigMapList",
        ),
        (
            "table",
            "application/json;as=Table;v=v1;g=meta.k8s.io",
            "identity",
            "Table",
        ),
    ] {
        let headers = [
            ("audit-id", id),
            ("accept", accept),
            ("accept-encoding", encoding),
        ];
        a.client.raw(Method::GET, MAPS, &headers, b"");
        let events = a.of_id(id, "ResponseComplete");
        let answered = &events.last().unwrap()["responseObject"];
        assert_eq!(answered["kind"], kind, "{id}");
        let items = answered["items"].as_array();
        let rows = answered["rows"].as_array();
        let items = items.or(rows).unwrap();
        assert!(items.len() >= 40, "{id}");
        assert!(!answered.to_string().contains("managedFields"), "{id}");
    }
    // A patch as it is, options of a deletion, and the status that answers it.
    let patch = json!({"data": {"k": "v"}});
    let (_, event) = a.complete("patch", Method::PATCH, &format!("{MAPS}/m0"), &patch);
    assert_eq!(event["requestObject"], patch);
    assert_eq!(event["responseObject"]["data"]["k"], "v");
    let options = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
    let (_, event) = a.complete("delete", Method::DELETE, &format!("{MAPS}/m0"), &options);
    assert_eq!(event["requestObject"], options);
    assert_eq!(event["responseStatus"]["status"], "Success");
    assert_eq!(event["responseStatus"]["details"]["name"], "m0");
}

#[test]
fn a_watch_is_recorded_when_it_starts_and_when_it_ends() {
    let a = start("rules: [{level: RequestResponse}]");
    let session = a.client.session();
    let root = User::new("root", ["system:masters".to_owned()]);
    let transport = session.running().server().local_transport(root);
    let request = Request::get(format!("{MAPS}?watch=true")).header("audit-id", "w");
    let request = request.body(Bytes::new()).unwrap();
    let watching = session.runtime().block_on(transport.send(request)).unwrap();
    assert_eq!(watching.headers()["audit-id"], "w");
    let events = a.of_id("w", "ResponseStarted");
    assert_eq!(stages(&events), ["RequestReceived", "ResponseStarted"]);
    assert_eq!(events[1]["responseStatus"]["code"], 200);
    drop(watching);
    let events = a.of_id("w", "ResponseComplete");
    assert_eq!(
        stages(&events),
        ["RequestReceived", "ResponseStarted", "ResponseComplete"]
    );
    assert_eq!(events[2]["verb"], "watch");
    assert!(events[2].get("responseObject").is_none());
    // One that is refused has all its stages too.
    let bad = format!("{MAPS}?watch=true&fieldSelector=x");
    a.client
        .send(Method::GET, &bad, &[("audit-id", "bad")], b"");
    let events = a.of_id("bad", "ResponseComplete");
    assert_eq!(
        stages(&events),
        ["RequestReceived", "ResponseStarted", "ResponseComplete"]
    );
    assert_eq!(events[1]["responseStatus"]["reason"], "BadRequest");
}

#[test]
fn refusals_are_recorded_with_whom_and_why() {
    let a = start("omitStages: [RequestReceived]\nrules: [{level: Metadata}]");
    let s = a.client.session();
    s.run_as("sesame", &["get", "--raw", MAPS])
        .fails("forbidden");
    let found = a.events("ResponseComplete", |e| e["user"]["username"] == "bob");
    let event = found.last().unwrap();
    assert_eq!(stages(&found[found.len() - 1..]), ["ResponseComplete"]);
    assert_eq!(event["sourceIPs"], json!(["127.0.0.1"]));
    assert_eq!(event["responseStatus"]["code"], 403);
    assert_eq!(event["responseStatus"]["reason"], "Forbidden");
    assert_eq!(
        event["annotations"]["authorization.k8s.io/decision"],
        "forbid"
    );
    // Who can't be authenticated is nobody; as upstream, there is one stage.
    s.run_as("wrong", &["get", "--raw", MAPS]).fails("");
    let found = a.events("ResponseStarted", |e| e["responseStatus"]["code"] == 401);
    let event = &found[0];
    assert_eq!(event["user"], json!({}));
    assert_eq!(event["responseStatus"]["reason"], "Unauthorized");
    assert_eq!(event["verb"], "get");
    assert!(event.get("annotations").is_none());
    let id = event["auditID"].as_str().unwrap();
    assert_eq!(stages(&a.of_id(id, "ResponseStarted")), ["ResponseStarted"]);
}

#[test]
fn who_acts_as_another_is_recorded_as_both() {
    let a = start("rules: [{level: Metadata, users: [root]}]");
    let headers = [
        ("audit-id", "as"),
        ("impersonate-user", "eve"),
        ("impersonate-group", "devs"),
    ];
    let (code, _) = a.client.send(Method::GET, MAPS, &headers, b"");
    assert_eq!(code, StatusCode::FORBIDDEN);
    let events = a.of_id("as", "ResponseComplete");
    let event = events.last().unwrap();
    assert_eq!(event["user"]["username"], "root");
    let eve = json!({"username": "eve", "groups": ["devs", "system:authenticated"]});
    assert_eq!(event["impersonatedUser"], eve);
    assert_eq!(event["responseStatus"]["code"], 403);
}

#[test]
fn stages_can_be_left_out_and_ids_are_the_clients() {
    let a = start(
        "
omitStages: [RequestReceived]
rules:
- {level: Metadata, verbs: [list], omitStages: [ResponseComplete]}
- {level: Metadata, verbs: [get, create]}
",
    );
    let send = |method: Method, path: &str, id: &str| {
        let headers = [("audit-id", id)];
        let body = map("m").to_string();
        let body = if method == Method::POST { &body } else { "" };
        a.client.send(method, path, &headers, body.as_bytes())
    };
    send(Method::GET, MAPS, "silent");
    send(Method::POST, MAPS, "made");
    let (code, _) = send(Method::GET, "/healthz", "well");
    assert_eq!(code, StatusCode::OK);
    assert_eq!(
        stages(&a.of_id("made", "ResponseComplete")),
        ["ResponseComplete"]
    );
    let well = a.of_id("well", "ResponseComplete");
    assert_eq!(well[0]["requestURI"], "/healthz");
    assert!(well[0].get("objectRef").is_none());
    let all = read(&a.log);
    assert!(all.iter().all(|e| e["auditID"] != "silent"), "{all:#?}");
    // Without a word of the client, every request has an id of its own.
    let made = a.client.post(MAPS, &map("n")).0;
    assert_eq!(made, StatusCode::CREATED);
    let found = a.events("ResponseComplete", |e| e["objectRef"]["name"] == "n");
    assert_eq!(found[0]["auditID"].as_str().unwrap().len(), 36);
    let (_, _, metrics) = a.client.raw(Method::GET, "/metrics", &[], b"");
    let metrics = String::from_utf8(metrics.to_vec()).unwrap();
    assert!(metrics.contains("\napiserver_audit_error_total{plugin=\"log\"} 0\n"));
    let counted = metrics
        .lines()
        .find_map(|l| l.strip_prefix("apiserver_audit_event_total "));
    assert!(counted.unwrap().parse::<u64>().unwrap() >= 3, "{metrics}");
}

#[test]
fn a_full_log_is_put_aside() {
    let a = start("rules: [{level: Request, namespaces: [default], verbs: [create]}]");
    let dir = a.log.parent().unwrap();
    let (mut sent, deadline) = (0, Instant::now() + DEADLINE);
    let logs = || fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    while logs().count() < 2 {
        assert!(Instant::now() < deadline, "{sent} sent");
        let mut large = map(&format!("m{sent}"));
        large["data"]["k"] = "x".repeat(128 << 10).into();
        a.client.post(&format!("{MAPS}?dryRun=All"), &large);
        sent += 1;
    }
    a.complete("last", Method::POST, MAPS, &map("last"));
    let completed: usize = logs()
        .map(|path| {
            let events = read(&path);
            stages(&events)
                .iter()
                .filter(|s| **s == "ResponseComplete")
                .count()
        })
        .sum();
    assert_eq!(completed, sent + 1);
    for path in logs().filter(|path| *path != a.log) {
        let size = fs::metadata(&path).unwrap().len();
        assert!(size <= 1 << 20, "{size}");
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(
            name.starts_with("audit-20") && name.ends_with(".log"),
            "{name}"
        );
    }
}

fn answer(path: &str, review: &Value) -> Reply {
    match path {
        "/broken" => Reply::Refuse(500, "oops"),
        _ => webhooks::respond(
            review,
            json!({"auditAnnotations": {"seen": path, "bad key": ""}}),
        ),
    }
}

#[test]
fn admission_adds_its_annotations() {
    let a = start("rules: [{level: Metadata}]");
    let c = &a.client;
    let spec = json!({
        "validations": [{"expression": "true"}, {"expression": "false", "message": "no"}],
        "auditAnnotations": [{"key": "who", "valueExpression": "'by ' + request.userInfo.username"}],
    });
    let binding = json!({"validationActions": ["Audit"]});
    policies::put(c, "Validating", "configmaps", spec, binding);
    let server = Server::start(answer);
    let ignore = json!({"failurePolicy": "Ignore"});
    for (name, path, mutating) in [("a", "/hello", true), ("b", "/broken", false)] {
        let config = server.config(path);
        webhooks::register(
            c,
            mutating,
            name,
            &config,
            &webhooks::maps(),
            ignore.clone(),
        );
    }
    let (code, event) = a.complete("admitted", Method::POST, MAPS, &map("m"));
    assert_eq!(code, StatusCode::CREATED);
    let said = &event["annotations"];
    assert_eq!(said["p/who"], "by root");
    let failures = said["validation.policy.admission.k8s.io/validation_failure"].as_str();
    let failures: Value = serde_json::from_str(failures.unwrap()).unwrap();
    let wanted = json!([{"message": "no", "policy": "p", "binding": "b", "expressionIndex": 1,
        "validationActions": ["Audit"]}]);
    assert_eq!(failures, wanted);
    assert_eq!(said["a.example.com/seen"], "/hello");
    assert!(said.get("a.example.com/bad key").is_none(), "{said}");
    assert_eq!(
        said["mutation.webhook.admission.k8s.io/round_0_index_0"],
        "{\"configuration\":\"a\",\"webhook\":\"a.example.com\",\"mutated\":false}"
    );
    assert_eq!(
        said["failed-open.validating.webhook.admission.k8s.io/round_0_index_0"],
        "b.example.com"
    );
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let pods = "/api/v1/namespaces/default/pods";
    let label = json!({"metadata": {"labels": {"pod-security.kubernetes.io/audit": "restricted"}}});
    a.complete("label", Method::PATCH, "/api/v1/namespaces/default", &label);
    let (code, event) = a.complete("pod", Method::POST, pods, &pod);
    assert_eq!(code, StatusCode::CREATED, "{event}");
    let said = &event["annotations"];
    assert_eq!(
        said["pod-security.kubernetes.io/enforce-policy"],
        "privileged:latest"
    );
    let violations = said["pod-security.kubernetes.io/audit-violations"]
        .as_str()
        .unwrap();
    assert!(violations.starts_with("would violate PodSecurity \"restricted:latest\": "));
}

#[test]
fn a_server_with_a_bad_policy_does_not_start() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for (rules, wanted) in [
        (
            "rules: [{level: All}]",
            "rules[0].level: Unsupported value: \"All\"",
        ),
        ("rules: []", "rules: Required value"),
        ("rules: [", "audit policy "),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let config = apiserver::Config {
            audit: Some(configured(dir.path(), rules)),
            ..session::config(dir.path())
        };
        let refused = runtime.block_on(apiserver::run(config)).err().unwrap();
        let why = refused.to_string();
        assert!(why.contains(wanted) && why.contains("policy.yaml"), "{why}");
    }
}
