//! Admission webhooks at work: who is asked what, and what becomes of answers.

use crate::custom::establish_things;
use crate::hooks::{Reply, Server};
use crate::wire::{Client, MAPS, map};
use base64::Engine as _;
use http::{Method, StatusCode};
use serde_json::{Value, json};

const MERGE: &[(&str, &str)] = &[("content-type", "application/merge-patch+json")];

/// An answer to `review` with `with` in it.
pub(crate) fn respond(review: &Value, with: Value) -> Reply {
    let mut response = json!({"uid": review["request"]["uid"], "allowed": true});
    response
        .as_object_mut()
        .unwrap()
        .extend(with.as_object().unwrap().clone());
    Reply::Json(json!({
        "apiVersion": review["apiVersion"], "kind": "AdmissionReview", "response": response,
    }))
}

fn patch(review: &Value, operations: &Value) -> Reply {
    let patch = base64::engine::general_purpose::STANDARD.encode(operations.to_string());
    respond(review, json!({"patchType": "JSONPatch", "patch": patch}))
}

/// `/allow`, `/deny`, `/hang`, `/broken`, `/label/KEY`, `/warn`, `/other`.
pub(crate) fn answer(path: &str, review: &Value) -> Reply {
    let words: Vec<&str> = path.split('/').skip(1).collect();
    match words.as_slice() {
        ["deny"] => respond(
            review,
            json!({"allowed": false, "warnings": ["think again"],
                "status": {"code": 403, "reason": "NotToday", "message": "not today"}}),
        ),
        ["bare"] => respond(review, json!({"allowed": false})),
        ["hang"] => Reply::Never,
        ["broken"] => Reply::Refuse(500, "oops"),
        ["warn"] => respond(review, json!({"warnings": ["mind the gap"]})),
        ["other"] => respond(review, json!({"uid": "other"})),
        ["label", key] => {
            let labels = &review["request"]["object"]["metadata"]["labels"];
            // How many labels it saw.
            let seen = labels
                .as_object()
                .map_or(0, serde_json::Map::len)
                .to_string();
            patch(
                review,
                &json!([{"op": "add", "path": format!("/metadata/labels/{key}"), "value": seen}]),
            )
        }
        ["junk"] => patch(review, &json!([{"op": "remove", "path": "/no/such"}])),
        ["size"] => patch(
            review,
            &json!([{"op": "add", "path": "/spec", "value": {"size": 3, "x": 1}}]),
        ),
        ["replicas"] => patch(
            review,
            &json!([{"op": "replace", "path": "/spec/maxReplicas", "value": 7}]),
        ),
        ["list"] => patch(
            review,
            &json!([{"op": "replace", "path": "", "value": [1]}]),
        ),
        _ => respond(review, json!({})),
    }
}

fn rule(operations: &[&str], group: &str, resource: &str) -> Value {
    json!({"operations": operations, "apiGroups": [group], "apiVersions": ["*"], "resources": [resource]})
}

fn all() -> Value {
    rule(&["*"], "*", "*/*")
}

/// Registers one webhook, named after its configuration.
pub(crate) fn register(
    c: &Client,
    mutating: bool,
    name: &str,
    config: &Value,
    rule: &Value,
    more: Value,
) {
    let kind = if mutating { "Mutating" } else { "Validating" };
    let mut webhook = json!({
        "name": format!("{name}.example.com"), "sideEffects": "None",
        "admissionReviewVersions": ["v1"], "clientConfig": config, "rules": [rule],
    });
    webhook
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let path = format!(
        "/apis/admissionregistration.k8s.io/v1/{}webhookconfigurations",
        kind.to_lowercase()
    );
    let object = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": format!("{kind}WebhookConfiguration"),
        "metadata": {"name": name}, "webhooks": [webhook],
    });
    let (code, made) = c.post(&path, &object);
    assert_eq!(code, StatusCode::CREATED, "{made}");
}

fn unregister(c: &Client, mutating: bool, name: &str) {
    let kind = if mutating { "mutating" } else { "validating" };
    let path = format!("/apis/admissionregistration.k8s.io/v1/{kind}webhookconfigurations/{name}");
    let (code, gone) = c.send(Method::DELETE, &path, &[], b"");
    assert_eq!(code, StatusCode::OK, "{gone}");
}

pub(crate) fn maps() -> Value {
    rule(&["CREATE", "UPDATE"], "", "configmaps")
}

#[test]
fn a_refusal_is_the_webhooks_with_code_reason_and_warnings() {
    let s = Server::start(answer);
    let c = Client::start();
    register(&c, false, "deny", &s.config("/deny"), &maps(), json!({}));
    let (code, warnings, refused) = c.warned(MAPS, &map("a"));
    assert_eq!(code, StatusCode::FORBIDDEN);
    assert_eq!(warnings, ["299 - \"think again\""]);
    assert_eq!(refused["reason"], "NotToday");
    assert_eq!(
        refused["message"],
        "admission webhook \"deny.example.com\" denied the request: not today"
    );
    unregister(&c, false, "deny");
    register(&c, true, "bare", &s.config("/bare"), &maps(), json!({}));
    let (code, refused) = c.post(MAPS, &map("a"));
    assert_eq!(code, StatusCode::BAD_REQUEST);
    assert_eq!(
        refused["message"],
        "admission webhook \"bare.example.com\" denied the request without explanation"
    );
    unregister(&c, true, "bare");
    register(&c, false, "warn", &s.config("/warn"), &maps(), json!({}));
    let (code, warnings, _) = c.warned(MAPS, &map("a"));
    assert_eq!(code, StatusCode::CREATED);
    assert_eq!(warnings, ["299 - \"mind the gap\""]);
}

#[test]
fn a_webhook_is_told_what_is_asked_and_by_whom() {
    let s = Server::start(answer);
    let c = Client::start();
    c.post(MAPS, &map("a"));
    register(
        &c,
        false,
        "see",
        &s.config("/allow"),
        &all(),
        json!({"sideEffects": "NoneOnDryRun"}),
    );
    let path = format!("{MAPS}/a?dryRun=All&fieldManager=me");
    let (code, _) = c.send(Method::PATCH, &path, MERGE, br#"{"data":{"k":"v"}}"#);
    assert_eq!(code, StatusCode::OK);
    let asked = s.asked();
    let [(_, review)] = asked.as_slice() else {
        panic!("{asked:?}");
    };
    let request = &review["request"];
    assert_eq!(review["apiVersion"], "admission.k8s.io/v1");
    for (key, wanted) in [
        (
            "kind",
            json!({"group": "", "version": "v1", "kind": "ConfigMap"}),
        ),
        (
            "requestKind",
            json!({"group": "", "version": "v1", "kind": "ConfigMap"}),
        ),
        (
            "resource",
            json!({"group": "", "version": "v1", "resource": "configmaps"}),
        ),
        ("name", json!("a")),
        ("namespace", json!("default")),
        ("operation", json!("UPDATE")),
        ("dryRun", json!(true)),
        (
            "options",
            json!({"kind": "UpdateOptions", "apiVersion": "meta.k8s.io/v1",
                "dryRun": ["All"], "fieldManager": "me"}),
        ),
    ] {
        assert_eq!(request[key], wanted, "{key}: {request}");
    }
    assert_eq!(request["userInfo"]["username"], "root");
    assert_eq!(request["object"]["data"], json!({"k": "v"}));
    assert_eq!(request["oldObject"]["data"], Value::Null);
    assert!(request["uid"].as_str().is_some_and(|uid| uid.len() == 36));
}

#[test]
fn mutations_follow_names_and_later_ones_call_for_earlier_ones_again() {
    let s = Server::start(answer);
    let c = Client::start();
    let again = json!({"reinvocationPolicy": "IfNeeded"});
    for (name, more) in [("b", &json!({})), ("c", &json!({})), ("a", &again)] {
        let config = s.config(&format!("/label/{name}"));
        register(&c, true, name, &config, &maps(), more.clone());
    }
    let (code, made) = c.post(MAPS, &map("m"));
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let paths: Vec<String> = s.asked().into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["/label/a", "/label/b", "/label/c", "/label/a"]);
    // The second time it sees what the others added.
    assert_eq!(
        made["metadata"]["labels"],
        json!({"n": "m", "a": "4", "b": "2", "c": "3"})
    );
    let (_, stored) = c.get(&format!("{MAPS}/m"));
    assert_eq!(stored["metadata"]["labels"], made["metadata"]["labels"]);
}

#[test]
fn a_failed_call_fails_the_request_unless_it_may_be_ignored() {
    let s = Server::start(answer);
    let c = Client::start();
    let nowhere = json!({"url": "https://127.0.0.1:1/x"});
    for (i, (mutating, config, why)) in [
        (true, nowhere.clone(), "failed to call webhook: Post \"https://127.0.0.1:1/x?timeout=1s\": dial tcp 127.0.0.1:1: connect: connection refused"),
        (false, nowhere, "failed to call webhook: Post"),
        (true, s.config("/hang"), "/hang?timeout=1s\": context deadline exceeded"),
        (false, s.config("/broken"), "failed to call webhook: an error on the server (\"oops\") has prevented the request from succeeding"),
        (false, s.config("/other"), "received invalid webhook response: expected response.uid="),
        (false, s.config("/label/x"), "received invalid webhook response: validating webhook may not return response.patch"),
    ]
    .into_iter()
    .enumerate()
    {
        let timeout = json!({"timeoutSeconds": 1});
        register(&c, mutating, "w", &config, &maps(), timeout.clone());
        let name = format!("m{i}");
        let (code, refused) = c.post(MAPS, &map(&name));
        assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR, "{refused}");
        let message = refused["message"].as_str().unwrap();
        let prefix = "Internal error occurred: failed calling webhook \"w.example.com\": ";
        assert!(message.starts_with(prefix) && message.contains(why), "{message}");
        unregister(&c, mutating, "w");
        let ignored = json!({"timeoutSeconds": 1, "failurePolicy": "Ignore"});
        register(&c, mutating, "w", &config, &maps(), ignored);
        let (code, made) = c.post(MAPS, &map(&name));
        assert_eq!(code, StatusCode::CREATED, "{made}");
        unregister(&c, mutating, "w");
    }
    // A patch that can't be applied is nobody's failed call.
    register(
        &c,
        true,
        "w",
        &s.config("/junk"),
        &maps(),
        json!({"failurePolicy": "Ignore"}),
    );
    let (code, _) = c.post(MAPS, &map("junk"));
    assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR);
}

#[test]
fn conditions_and_selectors_spare_requests() {
    let s = Server::start(answer);
    let c = Client::start();
    let expression = "object.metadata.name.startsWith('x') && request.operation == 'CREATE'";
    let more = json!({
        "matchConditions": [{"name": "x", "expression": expression}],
        "objectSelector": {"matchExpressions": [{"key": "spared", "operator": "DoesNotExist"}]},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}},
    });
    register(&c, false, "deny", &s.config("/deny"), &maps(), more);
    let mut spared = map("x2");
    spared["metadata"]["labels"] = json!({"spared": ""});
    let system = "/api/v1/namespaces/kube-system/configmaps";
    for (path, object, wanted) in [
        (MAPS, map("a"), StatusCode::CREATED),
        (MAPS, map("x"), StatusCode::FORBIDDEN),
        (MAPS, spared, StatusCode::CREATED),
        (system, map("x"), StatusCode::CREATED),
    ] {
        let (code, answer) = c.post(path, &object);
        assert_eq!(code, wanted, "{path} {answer}");
    }
    unregister(&c, false, "deny");
    // A condition that fails is a refusal; one that can't be is no condition.
    let failing = json!({"matchConditions": [{"name": "x", "expression": "object.spec.y == 1"}]});
    register(&c, false, "deny", &s.config("/allow"), &maps(), failing);
    let (code, refused) = c.post(MAPS, &map("f"));
    assert_eq!(code, StatusCode::FORBIDDEN);
    assert_eq!(
        refused["message"],
        "configmaps \"f\" is forbidden: expression 'object.spec.y == 1' resulted in error: no such key: spec"
    );
    for (expression, why) in [
        ("nothing == 1", "undeclared reference to 'nothing'"),
        ("'text'", "must evaluate to bool"),
    ] {
        let object = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "bad"},
            "webhooks": [{
                "name": "bad.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
                "clientConfig": s.config("/allow"), "rules": [maps()],
                "matchConditions": [{"name": "x", "expression": expression}],
            }],
        });
        let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
        let (code, refused) = c.post(path, &object);
        assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{refused}");
        let message = refused["message"].as_str().unwrap();
        assert!(
            message.contains("webhooks[0].matchConditions[0].expression: Invalid value")
                && message.contains(why),
            "{message}"
        );
    }
}

#[test]
fn a_webhook_sees_the_version_that_it_knows() {
    let s = Server::start(answer);
    let c = Client::start();
    let mut rule = rule(&["*"], "autoscaling", "horizontalpodautoscalers");
    rule["apiVersions"] = json!(["v2"]);
    register(&c, true, "v2", &s.config("/replicas"), &rule, json!({}));
    let path = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";
    let object = json!({
        "apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
        "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}},
    });
    let (code, made) = c.post(path, &object);
    assert_eq!(code, StatusCode::CREATED, "{made}");
    assert_eq!(made["apiVersion"], "autoscaling/v1");
    assert_eq!(made["spec"]["maxReplicas"], 7);
    assert_eq!(made["spec"]["targetCPUUtilizationPercentage"], 50);
    let asked = s.asked();
    let request = &asked[0].1["request"];
    assert_eq!(request["kind"]["version"], "v2");
    assert_eq!(request["requestKind"]["version"], "v1");
    assert_eq!(request["object"]["apiVersion"], "autoscaling/v2");
    assert_eq!(request["object"]["spec"]["metrics"][0]["type"], "Resource");
}

#[test]
fn what_a_webhook_makes_of_a_custom_object_conforms_to_its_schema() {
    let s = Server::start(answer);
    let c = Client::start();
    establish_things(&c);
    register(
        &c,
        true,
        "size",
        &s.config("/size"),
        &rule(&["CREATE"], "example.com", "things"),
        json!({}),
    );
    let object =
        json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "t"}});
    let (code, made) = c.post("/apis/example.com/v1/namespaces/default/things", &object);
    assert_eq!(code, StatusCode::CREATED, "{made}");
    assert_eq!(made["spec"], json!({"size": 3, "color": "red"}));
}

#[test]
fn configurations_are_nobodys_business_but_their_own() {
    let s = Server::start(answer);
    let c = Client::start();
    register(&c, false, "all", &s.config("/deny"), &all(), json!({}));
    register(&c, true, "too", &s.config("/deny"), &all(), json!({}));
    assert_eq!(c.post(MAPS, &map("a")).0, StatusCode::FORBIDDEN);
    unregister(&c, false, "all");
    unregister(&c, true, "too");
    assert_eq!(c.post(MAPS, &map("a")).0, StatusCode::CREATED);
}

#[test]
fn a_patch_cannot_replace_the_object_by_something_else() {
    let s = Server::start(answer);
    let c = Client::start();
    let all = rule(&["*"], "*", "*/*");
    register(
        &c,
        true,
        "list",
        &s.config("/list"),
        &all,
        json!({"failurePolicy": "Ignore"}),
    );
    let token = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let request =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    for (path, object) in [(MAPS, map("a")), (token, request)] {
        let (code, refused) = c.post(path, &object);
        assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR, "{refused}");
        assert_eq!(
            refused["message"],
            "Internal error occurred: replace operation does not apply: doc is missing path: : missing value"
        );
    }
}

const PODS: &str = "/api/v1/namespaces/default/pods";

fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

/// What the only question since the last look was about.
fn seen(s: &Server) -> String {
    let asked = s.asked();
    let lines: Vec<String> = asked
        .iter()
        .map(|(_, review)| {
            let request = &review["request"];
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            format!(
                "{} {}/{} {} {} {}->{}",
                text(&request["operation"]),
                text(&request["resource"]["resource"]),
                text(&request["subResource"]),
                text(&request["kind"]["kind"]),
                text(&request["name"]),
                text(&request["oldObject"]["kind"]),
                text(&request["object"]["kind"]),
            )
        })
        .collect();
    lines.join("; ")
}

#[test]
fn deletions_evictions_bindings_and_connections_are_seen() {
    let s = Server::start(answer);
    let c = Client::start();
    for name in ["a", "b", "e"] {
        assert_eq!(c.post(PODS, &pod(name)).0, StatusCode::CREATED);
    }
    register(
        &c,
        false,
        "see",
        &s.config("/allow"),
        &rule(&["*"], "*", "*/*"),
        json!({}),
    );
    let delete = |path: &str| c.send(Method::DELETE, path, &[], b"");
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "b"},
        "target": {"kind": "Node", "name": "n"}});
    let (code, bound) = c.post(&format!("{PODS}/b/binding"), &binding);
    assert_eq!(code, StatusCode::CREATED, "{bound}");
    assert_eq!(seen(&s), "CREATE pods/binding Binding b ->Binding");
    let eviction =
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "e"}});
    let (code, evicted) = c.post(&format!("{PODS}/e/eviction"), &eviction);
    assert_eq!(code, StatusCode::CREATED, "{evicted}");
    assert_eq!(seen(&s), "CREATE pods/eviction Eviction e ->Eviction");
    let token = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let request =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    assert_eq!(c.post(token, &request).0, StatusCode::CREATED);
    assert_eq!(
        seen(&s),
        "CREATE serviceaccounts/token TokenRequest default ->TokenRequest"
    );
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let (code, _) = c.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &review);
    assert_eq!(code, StatusCode::CREATED);
    assert_eq!(
        seen(&s),
        "CREATE selfsubjectreviews/ SelfSubjectReview  ->SelfSubjectReview"
    );
    assert_eq!(delete(&format!("{PODS}/a")).0, StatusCode::OK);
    assert_eq!(seen(&s), "DELETE pods/ Pod a Pod->");
    assert_eq!(delete(PODS).0, StatusCode::OK);
    assert_eq!(seen(&s), "DELETE pods/ Pod  Pod->");
    // The pod goes with grace: it is there to connect to.
    let exec = format!("{PODS}/b/exec?command=ls&stdout=1");
    let (code, refused) = c.get(&exec);
    assert_ne!(code, StatusCode::OK, "there is no node: {refused}");
    assert_eq!(
        seen(&s),
        "CONNECT pods/exec PodExecOptions b ->PodExecOptions"
    );
    unregister(&c, false, "see");
    register(
        &c,
        false,
        "deny",
        &s.config("/deny"),
        &rule(&["DELETE", "CONNECT"], "*", "*/*"),
        json!({}),
    );
    c.post(MAPS, &map("m"));
    for (code, refused) in [c.get(&exec), delete(&format!("{MAPS}/m")), delete(MAPS)] {
        assert_eq!(code, StatusCode::FORBIDDEN, "{refused}");
        assert_eq!(refused["reason"], "NotToday");
    }
    assert_eq!(c.get(&format!("{MAPS}/m")).0, StatusCode::OK);
}

#[test]
fn a_scale_is_judged_as_a_scale() {
    let s = Server::start(answer);
    let c = Client::start();
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}},
    });
    assert_eq!(c.post(path, &object).0, StatusCode::CREATED);
    register(
        &c,
        false,
        "see",
        &s.config("/allow"),
        &rule(&["*"], "apps", "deployments/scale"),
        json!({}),
    );
    let scale = format!("{path}/d/scale");
    let (code, scaled) = c.send(Method::PATCH, &scale, MERGE, br#"{"spec":{"replicas":4}}"#);
    assert_eq!(code, StatusCode::OK, "{scaled}");
    let asked = s.asked();
    let request = &asked[0].1["request"];
    assert_eq!(
        request["kind"],
        json!({"group": "autoscaling", "version": "v1", "kind": "Scale"})
    );
    assert_eq!(request["oldObject"]["spec"]["replicas"], 1);
    assert_eq!(request["object"]["spec"]["replicas"], 4);
    let (_, found) = c.get(&format!("{path}/d"));
    assert_eq!(found["spec"]["replicas"], 4);
}
