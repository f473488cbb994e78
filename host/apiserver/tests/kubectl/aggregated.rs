//! Aggregated APIs: an extension server in this process, registered by an
//! APIService, used with kubectl.

use crate::others::{Network, Server, full, tls};
use crate::session::{Lines, Session, kubectls};
use crate::wire::Client;
use base64::Engine as _;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use reconcile::Body;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

const GROUP: &str = "ext.example.com";
pub(crate) const NOTES: &str = "/apis/ext.example.com/v1/namespaces/default/notes";
const TYPE: &str = "com.example.ext.v1.Note";

fn note(name: &str) -> Value {
    json!({"apiVersion": "ext.example.com/v1", "kind": "Note",
        "metadata": {"name": name, "namespace": "default", "uid": name}})
}

fn answered(value: &Value) -> Response<Body> {
    Response::builder()
        .header("content-type", "application/json")
        .body(full(value.to_string()))
        .unwrap()
}

fn resources() -> Value {
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "ext.example.com/v1",
    "resources": [
        {"name": "notes", "singularName": "note", "namespaced": true, "kind": "Note",
            "verbs": ["create", "get", "list", "watch"], "shortNames": ["nt"]},
        {"name": "notes/whoami", "singularName": "", "namespaced": true, "kind": "Note",
            "verbs": ["get"]},
    ]})
}

/// What OpenAPI says, of version 2 with its own way to refer.
fn described(v3: bool) -> Value {
    let root = if v3 {
        "#/components/schemas/"
    } else {
        "#/definitions/"
    };
    let gvk = json!([{"group": GROUP, "version": "v1", "kind": "Note"}]);
    let schema = json!({TYPE: {
        "type": "object", "description": "A thing to remember.",
        "x-kubernetes-group-version-kind": gvk,
        "properties": {
            "apiVersion": {"type": "string"}, "kind": {"type": "string"},
            "text": {"type": "string", "description": "What to remember."}},
    }});
    let to = json!({"$ref": format!("{root}{TYPE}")});
    let path = format!("/apis/{GROUP}/v1/namespaces/{{namespace}}/notes/{{name}}");
    let get = |answer: Value| {
        json!({path.clone(): {"get": {
            "responses": {"200": answer}, "x-kubernetes-action": "get",
            "x-kubernetes-group-version-kind": gvk[0]}}})
    };
    if v3 {
        let content = json!({"application/json": {"schema": to}});
        return json!({"openapi": "3.0.0", "info": {"title": "x", "version": "1"},
            "paths": get(json!({"description": "OK", "content": content})),
            "components": {"schemas": schema}});
    }
    json!({"swagger": "2.0", "info": {"title": "x", "version": "1"},
        "paths": get(json!({"description": "OK", "schema": to})), "definitions": schema})
}

/// Two events, and a watch that goes on.
fn events() -> Response<Body> {
    let frames = futures_util::stream::unfold(0, |n: u8| async move {
        if n == 2 {
            std::future::pending::<()>().await;
        }
        let line = json!({"type": "ADDED", "object": note(&format!("n{n}"))});
        let frame = Frame::data(Bytes::from(format!("{line}\n")));
        Some((Ok::<_, reconcile::TransportError>(frame), n + 1))
    });
    Response::builder()
        .header("content-type", "application/json")
        .body(StreamBody::new(frames).boxed_unsync())
        .unwrap()
}

async fn answer(request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default();
    let path = parts.uri.path();
    match (parts.method.as_str(), path.trim_start_matches(NOTES)) {
        (_, "/apis/ext.example.com/v1") => answered(&resources()),
        (_, "/openapi/v2") => answered(&described(false)),
        (_, "/openapi/v3") => answered(&json!({"paths": {"apis/ext.example.com/v1": {
            "serverRelativeURL": "/openapi/v3/apis/ext.example.com/v1?hash=1"}}})),
        (_, "/openapi/v3/apis/ext.example.com/v1") => answered(&described(true)),
        ("GET", "") if query.contains("watch=") => events(),
        ("GET", "") => answered(
            &json!({"apiVersion": "ext.example.com/v1", "kind": "NoteList",
            "metadata": {"resourceVersion": "1"}, "items": [note("a"), note("b")]}),
        ),
        ("POST", "") => {
            let body = body.collect().await.unwrap().to_bytes();
            let mut response = answered(&serde_json::from_slice(&body).unwrap());
            *response.status_mut() = StatusCode::CREATED;
            response
        }
        (_, "/a/whoami") => {
            // HTTP/2 has the host elsewhere.
            let host = parts.uri.host().map(|host| format!("host={host}"));
            let mut seen: Vec<String> = host.into_iter().collect();
            for (name, value) in &parts.headers {
                seen.push(format!("{name}={}", value.to_str().unwrap()));
            }
            answered(&json!({"seen": seen, "query": query}))
        }
        _ => Response::builder().status(404).body(full("")).unwrap(),
    }
}

pub(crate) struct Scene {
    pub(crate) session: Session,
    network: Arc<Network>,
    pub(crate) server: Server,
    bundle: String,
}

impl Scene {
    pub(crate) fn start(kubectl: Option<&std::path::Path>) -> Scene {
        let network: Arc<Network> = Arc::default();
        let session = Session::dialing(kubectl, network.clone());
        let ca = std::fs::read(session.path("data/pki/front-proxy/ca.crt")).unwrap();
        let (acceptor, pem) = tls(&["ext.default.svc"], Some(&ca));
        Scene {
            session,
            network,
            server: Server::start(Some(acceptor), answer),
            bundle: base64::engine::general_purpose::STANDARD.encode(pem),
        }
    }

    /// All that makes the server available.
    pub(crate) fn serve(&self) {
        self.network.lead("ext.default.svc:443", self.server.port);
        serve(&self.session, &json!({"caBundle": self.bundle}));
    }

    #[track_caller]
    fn wait(&self, wanted: &str) -> String {
        wait(&self.session, wanted)
    }
}

/// Registers what answers as the Service `ext`; it is there already.
pub(crate) fn serve(s: &Session, trust: &Value) {
    register(s, trust);
    service(s, 443);
    endpoints(s, true);
    wait(s, "True Passed");
}

fn apply(s: &Session, object: &Value) {
    s.run_with(&["apply", "-f", "-"], &object.to_string())
        .says("");
}

fn register(s: &Session, trust: &Value) {
    let mut service = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": "v1.ext.example.com"},
        "spec": {
            "group": GROUP, "version": "v1",
            "groupPriorityMinimum": 17_995, "versionPriority": 10,
            "service": {"namespace": "default", "name": "ext"},
        },
    });
    let spec = service["spec"].as_object_mut().unwrap();
    spec.extend(trust.as_object().unwrap().clone());
    apply(s, &service);
}

fn service(s: &Session, port: u16) {
    apply(
        s,
        &json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "ext"},
        "spec": {"clusterIP": "10.96.0.77", "ports": [{"name": "tls", "port": port}]}}),
    );
}

fn endpoints(s: &Session, ready: bool) {
    apply(
        s,
        &json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "ext-1", "labels": {"kubernetes.io/service-name": "ext"}},
            "addressType": "IPv4", "ports": [{"name": "tls", "port": 8443}],
            "endpoints": [{"addresses": ["10.9.9.9"], "conditions": {"ready": ready}}],
        }),
    );
}

/// Until the condition `Available` has this status and reason; its message.
#[track_caller]
fn wait(s: &Session, wanted: &str) -> String {
    let path = "jsonpath={range .status.conditions[*]}{.status} {.reason}|{.message}{end}";
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let args = ["get", "apiservice", "v1.ext.example.com", "-o", path];
        let said = s.run(&args).out();
        match said.split_once('|') {
            Some((found, message)) if found == wanted => return message.to_owned(),
            _ => assert!(Instant::now() < deadline, "{said:?}, not {wanted}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_server_is_available_when_all_is_there() {
    let scene = Scene::start(None);
    let s = &scene.session;
    register(s, &json!({"caBundle": scene.bundle}));
    let why = scene.wait("False ServiceNotFound");
    assert_eq!(why, r#"service/ext in "default" is not present"#);
    s.run(&["get", "--raw", NOTES])
        .fails("the server is currently unable to handle the request");
    service(s, 444);
    let why = scene.wait("False ServicePortError");
    assert_eq!(
        why,
        r#"service/ext in "default" is not listening on port 443"#
    );
    service(s, 443);
    let why = scene.wait("False EndpointsNotFound");
    assert_eq!(
        why,
        r#"cannot find endpointslices for service/ext in "default""#
    );
    endpoints(s, false);
    let why = scene.wait("False MissingEndpoints");
    let wanted = r#"service/ext in "default" have no addresses with port name "tls""#;
    assert!(why.ends_with(wanted), "{why}");
    endpoints(s, true);
    let why = scene.wait("False FailedDiscoveryCheck");
    let wanted =
        "failing or missing response from https://10.96.0.77:443/apis/ext.example.com/v1: ";
    assert!(why.starts_with(wanted), "{why}");
    s.run(&["get", "apiservice", "v1.ext.example.com"])
        .says("default/ext")
        .says("False (FailedDiscoveryCheck)");
    scene.network.lead("ext.default.svc:443", scene.server.port);
    assert_eq!(scene.wait("True Passed"), "all checks passed");
    s.run(&["get", "--raw", NOTES]).says("NoteList");
    // Whom nobody certified, unless that is no matter.
    let (_, other) = tls(&["ext.default.svc"], None);
    let other = base64::engine::general_purpose::STANDARD.encode(other);
    register(s, &json!({"caBundle": other}));
    scene.wait("False FailedDiscoveryCheck");
    register(s, &json!({"caBundle": null, "insecureSkipTLSVerify": true}));
    scene.wait("True Passed");
    s.run(&["delete", "apiservice", "v1.ext.example.com"])
        .says("deleted");
    let c = Client::of(scene.session);
    let deadline = Instant::now() + Duration::from_secs(60);
    while c.get(NOTES).0 != StatusCode::NOT_FOUND {
        assert!(
            Instant::now() < deadline,
            "what nobody serves is still served"
        );
    }
}

#[test]
fn its_kinds_are_used_like_any_by_every_kubectl() {
    for kubectl in kubectls() {
        let scene = Scene::start(Some(&kubectl));
        let s = &scene.session;
        scene.serve();
        s.run(&["api-resources"]).says("notes").says("nt");
        s.run(&["get", "notes"]).says("a ").says("b ");
        s.run(&["get", "nt", "-o", "name"])
            .says("note.ext.example.com/a");
        s.run_with(
            &["create", "--validate=false", "-f", "-"],
            &note("new").to_string(),
        )
        .says("note.ext.example.com/new created");
        s.run(&["explain", "notes"]).says("A thing to remember.");
        s.run(&["explain", "notes.text"]).says("What to remember.");
        let url = format!("{NOTES}?watch=1");
        let mut lines = Lines::of(s.command(&["get", "--raw", &url]));
        lines.wait_for("\"n0\"");
        lines.wait_for("\"n1\"");
    }
}

#[test]
fn the_server_is_told_who_asks() {
    let scene = Scene::start(None);
    let s = &scene.session;
    scene.serve();
    let url = format!("{NOTES}/a/whoami?a=b&c");
    s.run_as("sesame", &["get", "--raw", &url])
        .fails(r#"cannot get resource "notes/whoami" in API group "ext.example.com""#);
    let rights = ["--verb=get", "--resource=notes.ext.example.com/whoami"];
    s.run(&["create", "role", "r", rights[0], rights[1]])
        .says("created");
    s.run(&["create", "rolebinding", "r", "--role=r", "--user=bob"])
        .says("created");
    s.run_as("sesame", &["get", "--raw", &url])
        .says("x-remote-user=bob\"")
        .says("x-remote-group=system:authenticated\"")
        .says("audit-id=")
        .says("\"host=ext.default.svc\"")
        .silent_of("authorization")
        .silent_of("sesame");
    let masters = "--as-group=system:masters";
    s.run(&["get", "--raw", &url, "--as=eve", masters])
        .says("x-remote-user=eve\"")
        .says("x-remote-group=system:masters\"")
        .silent_of("impersonate");
    let c = Client::of(scene.session);
    let forged = [("x-remote-user", "mallory"), ("x-remote-extra-a", "b")];
    let (code, seen) = c.send(Method::GET, &url, &forged, b"");
    assert_eq!(code, StatusCode::OK);
    let seen = seen["seen"].to_string();
    assert!(seen.contains("x-remote-user=root"), "{seen}");
    assert!(seen.contains("x-remote-group=system:masters"), "{seen}");
    assert!(
        !seen.contains("mallory") && !seen.contains("x-remote-extra-a"),
        "{seen}"
    );
}

#[test]
fn documents_tell_of_it_in_its_place() {
    let scene = Scene::start(None);
    scene.serve();
    let s = &scene.session;
    s.run(&["get", "--raw", "/openapi/v3/apis/ext.example.com/v1?hash=1"])
        .says("A thing to remember.");
    let network = scene.network.clone();
    let c = Client::of(scene.session);
    let groups = c.get("/apis").1;
    let names: Vec<&str> = groups["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|g| g["name"].as_str().unwrap())
        .collect();
    // 17995 is more than any other group has, but for the first.
    assert_eq!(names[..2], ["apiregistration.k8s.io", GROUP]);
    let own = c.get("/apis/ext.example.com").1;
    assert_eq!(
        own["preferredVersion"]["groupVersion"],
        "ext.example.com/v1"
    );
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let aggregated = || {
        let (_, list) = c.send(Method::GET, "/apis", &[("accept", accept)], b"");
        let items = list["items"].as_array().unwrap();
        let found = items
            .iter()
            .find(|g| g["metadata"]["name"] == GROUP)
            .cloned();
        found.unwrap()["versions"][0].clone()
    };
    let version = aggregated();
    assert_eq!(version["freshness"], "Current");
    assert_eq!(version["resources"][0]["resource"], "notes");
    assert_eq!(
        version["resources"][0]["subresources"][0]["subresource"],
        "whoami"
    );
    let v2 = c.get("/openapi/v2").1;
    assert_eq!(v2["definitions"][TYPE]["type"], "object");
    let path = format!("/apis/{GROUP}/v1/namespaces/{{namespace}}/notes/{{name}}");
    assert!(v2["paths"].get(&path).is_some());
    assert!(
        v2["paths"]
            .get("/api/v1/namespaces/{namespace}/pods")
            .is_some()
    );
    let index = c.get("/openapi/v3").1;
    let url = &index["paths"]["apis/ext.example.com/v1"]["serverRelativeURL"];
    assert_eq!(url, "/openapi/v3/apis/ext.example.com/v1?hash=1");
    // Away: its kinds are still told of, as they were.
    network.cut("ext.default.svc:443");
    let touched = json!({"metadata": {"labels": {"a": "b"}}}).to_string();
    let merge = [("content-type", "application/merge-patch+json")];
    let service = "/apis/apiregistration.k8s.io/v1/apiservices/v1.ext.example.com";
    c.send(Method::PATCH, service, &merge, touched.as_bytes());
    let deadline = Instant::now() + Duration::from_secs(60);
    while aggregated()["freshness"] != "Stale" {
        assert!(Instant::now() < deadline, "{}", aggregated());
    }
    assert_eq!(aggregated()["resources"][0]["resource"], "notes");
    let (code, _, text) = c.raw(Method::GET, NOTES, &[], b"");
    assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(text, "service unavailable\n");
}

#[test]
fn extension_servers_learn_whom_to_trust() {
    let s = Session::first();
    let name = "extension-apiserver-authentication";
    let config = s.run(&["-n", "kube-system", "get", "cm", name, "-o", "json"]);
    let config: Value = serde_json::from_str(&config.out()).unwrap();
    let data = &config["data"];
    for (key, wanted) in [
        ("requestheader-allowed-names", r#"["front-proxy-client"]"#),
        ("requestheader-username-headers", r#"["X-Remote-User"]"#),
        ("requestheader-group-headers", r#"["X-Remote-Group"]"#),
        (
            "requestheader-extra-headers-prefix",
            r#"["X-Remote-Extra-"]"#,
        ),
    ] {
        assert_eq!(data[key], wanted);
    }
    let ca = std::fs::read_to_string(s.path("data/pki/front-proxy/ca.crt")).unwrap();
    assert_eq!(data["requestheader-client-ca-file"], ca);
    assert_ne!(data["client-ca-file"], ca);
}
