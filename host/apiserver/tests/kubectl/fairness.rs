//! Priority and fairness, as clients see it.

use crate::hooks::{Reply, Server};
use crate::session::Session;
use crate::wire::{MAPS, map};
use apiserver::User;
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use reconcile::Transport;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(30);

/// Of 600 seats three, and none borrowed; everything of bob's.
const TINY: &str = r#"
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: PriorityLevelConfiguration
metadata: {name: tiny}
spec:
  type: Limited
  limited:
    nominalConcurrencyShares: 1
    borrowingLimitPercent: 0
    limitResponse: {type: Reject}
---
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: FlowSchema
metadata: {name: bobs}
spec:
  priorityLevelConfiguration: {name: tiny}
  matchingPrecedence: 500
  distinguisherMethod: {type: ByUser}
  rules:
  - subjects: [{kind: User, user: {name: bob}}]
    resourceRules: [{verbs: ["*"], apiGroups: ["*"], resources: ["*"], clusterScope: true, namespaces: ["*"]}]
"#;

struct Answered {
    code: u16,
    headers: HeaderMap,
    body: Bytes,
}

fn get(s: &Session, transport: &Arc<dyn Transport>, path: &str) -> Answered {
    let request = Request::get(path).body(Bytes::new()).unwrap();
    s.runtime().block_on(async {
        let response = transport.send(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Answered {
            code: parts.status.as_u16(),
            headers: parts.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    })
}

fn uid(s: &Session, resource: &str, name: &str) -> String {
    let of = format!("{resource}.flowcontrol.apiserver.k8s.io");
    s.run(&["get", &of, name, "-o", "jsonpath={.metadata.uid}"])
        .out()
}

fn flow(answered: &Answered) -> (&str, &str) {
    let header = |name: &str| answered.headers[name].to_str().unwrap();
    (
        header("x-kubernetes-pf-flowschema-uid"),
        header("x-kubernetes-pf-prioritylevel-uid"),
    )
}

/// Waits for what `kubectl get` says of a schema's level being missing.
fn until(s: &Session, schema: &str, missing: &str) {
    let start = Instant::now();
    loop {
        let said = s
            .run(&["get", "flowschemas.flowcontrol.apiserver.k8s.io"])
            .out();
        let line = said.lines().find(|line| line.starts_with(schema));
        if line.is_some_and(|line| line.trim_end().ends_with(missing)) {
            return;
        }
        assert!(start.elapsed() < DEADLINE, "{schema} {missing}: {said}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn what_every_cluster_has_is_kept() {
    let s = Session::first();
    let schemas = "flowschemas.flowcontrol.apiserver.k8s.io";
    let levels = "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io";
    until(&s, "exempt", "False");
    s.run_with(&["apply", "-f", "-"], TINY).says("created");
    s.run(&["delete", levels, "tiny"]).says("deleted");
    until(&s, "bobs", "True");
    let wrong = r#"{"spec": {"matchingPrecedence": 7777}}"#;
    s.run(&[
        "patch",
        schemas,
        "system-nodes",
        "--type=merge",
        "-p",
        wrong,
    ])
    .says("patched");
    s.run(&["delete", schemas, "exempt"]).says("deleted");
    until(&s, "exempt", "False");
    let start = Instant::now();
    while s
        .run(&["get", schemas, "system-nodes"])
        .out()
        .contains("7777")
    {
        assert!(start.elapsed() < DEADLINE);
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn who_fills_his_level_gets_429_and_nobody_else_does() {
    let hooks = Server::start(|_, _| Reply::Never);
    let s = Session::first();
    s.run_with(&["apply", "-f", "-"], TINY).says("bobs created");
    s.run(&[
        "create",
        "clusterrolebinding",
        "bob",
        "--clusterrole=cluster-admin",
        "--user=bob",
    ])
    .says("created");
    let webhook = json!({"apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration", "metadata": {"name": "slow"}, "webhooks": [{
            "name": "slow.example.com", "clientConfig": hooks.config("/slow"), "timeoutSeconds": 30,
            "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
                "resources": ["configmaps"]}]}]});
    s.run_with(&["apply", "-f", "-"], &webhook.to_string())
        .says("created");
    until(&s, "bobs", "False");
    let user = |name: &str, groups: &[&str]| {
        let groups = groups.iter().map(|g| (*g).to_owned());
        let user = User::new(name, groups);
        s.running().server().local_transport(user)
    };
    let (bob, root) = (user("bob", &[]), user("root", &["system:masters"]));
    let pods = "/api/v1/namespaces/default/pods";
    let own = (
        uid(&s, "flowschemas", "bobs"),
        uid(&s, "prioritylevelconfigurations", "tiny"),
    );
    let answered = get(&s, &bob, pods);
    assert_eq!(answered.code, 200);
    assert_eq!(flow(&answered), (own.0.as_str(), own.1.as_str()));

    let slow: Vec<_> = (0..3)
        .map(|n| {
            let body = map(&format!("m{n}")).to_string();
            let request = Request::post(MAPS).body(Bytes::from(body)).unwrap();
            let bob = bob.clone();
            s.runtime()
                .spawn(async move { bob.send(request).await.is_ok() })
        })
        .collect();
    let start = Instant::now();
    let mut asked = 0;
    while asked < 3 {
        asked += hooks.asked().len();
        assert!(start.elapsed() < DEADLINE, "{asked}");
        std::thread::sleep(Duration::from_millis(10));
    }
    let refused = get(&s, &bob, pods);
    assert_eq!(refused.code, 429);
    assert_eq!(
        &refused.body[..],
        b"Too many requests, please try again later.\n"
    );
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(flow(&refused), (own.0.as_str(), own.1.as_str()));

    // What goes on for long needs no seat, and others have theirs.
    let watch = Request::get(format!("{pods}?watch=1"))
        .body(Bytes::new())
        .unwrap();
    let watched = s.runtime().block_on(bob.send(watch)).unwrap();
    assert_eq!(watched.status(), 200);
    assert!(
        !watched
            .headers()
            .contains_key("x-kubernetes-pf-flowschema-uid")
    );
    let exempt = get(&s, &root, pods);
    assert_eq!(exempt.code, 200);
    assert_eq!(flow(&exempt).0, uid(&s, "flowschemas", "exempt"));
    let jane = get(&s, &user("jane", &[]), pods);
    assert_eq!(jane.code, 403);
    assert_eq!(
        flow(&jane).1,
        uid(&s, "prioritylevelconfigurations", "global-default")
    );
    s.run(&["get", "--raw", "/metrics"]).says(
        "rejected_requests_total{flow_schema=\"bobs\",priority_level=\"tiny\",reason=\"concurrency-limit\"} 1",
    );

    // Who is gone holds no seat.
    for task in slow {
        task.abort();
        let _ = s.runtime().block_on(task);
    }
    assert_eq!(get(&s, &bob, pods).code, 200);
    let changed: Value = json!({"spec": {"rules": []}});
    s.run(&[
        "patch",
        "flowschema",
        "bobs",
        "--type=merge",
        "-p",
        &changed.to_string(),
    ])
    .says("patched");
    assert_ne!(flow(&get(&s, &bob, pods)).0, own.0);
}
