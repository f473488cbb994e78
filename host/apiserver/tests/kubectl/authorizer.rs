//! What policies and webhooks ask about whoever sent a request.

use crate::hooks::Server;
use crate::policies::put;
use crate::webhooks::{answer, maps, register};
use crate::wire::{Client, MAPS, map};
use http::{Method, StatusCode};
use serde_json::{Value, json};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const REVIEWS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";

/// `jane` and `sam` may write config maps; `jane` and the service account `s`
/// may bless them, and nobody else.
fn people(c: &Client) {
    let role = |name: &str, rules: Value| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": name}, "rules": rules,
        })
    };
    let blesses = json!([
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["bless"]},
        {"nonResourceURLs": ["/altar"], "verbs": ["get"]},
    ]);
    let writes = json!([
        {"apiGroups": [""], "resources": ["configmaps", "secrets"], "verbs": ["create"]}]);
    let user =
        |name: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name});
    let account = json!({"kind": "ServiceAccount", "name": "s", "namespace": "default"});
    let binding = |role: &str, subjects: Value| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": role}, "subjects": subjects,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        })
    };
    let writers = json!([user("jane"), user("sam")]);
    let blessing = binding("blessing", json!([user("jane"), account]));
    for (plural, object) in [
        ("clusterroles", role("blessing", blesses)),
        ("clusterroles", role("writing", writes)),
        ("clusterrolebindings", blessing),
        ("clusterrolebindings", binding("writing", writers)),
    ] {
        let (code, made) = c.post(&format!("{RBAC}/{plural}"), &object);
        assert_eq!(code, StatusCode::CREATED, "{made}");
    }
}

fn make(c: &Client, user: &str, name: &str) -> (StatusCode, Value) {
    let body = serde_json::to_vec(&map(name)).unwrap();
    let headers = [
        ("content-type", "application/json"),
        ("impersonate-user", user),
    ];
    c.send(Method::POST, MAPS, &headers, &body)
}

#[test]
fn validations_ask_for_whom_the_request_is() {
    let c = Client::start();
    people(&c);
    for (i, (expression, jane, sam)) in [
        ("authorizer.requestResource.check('bless').allowed()", true, false),
        ("authorizer.requestResource.name('other').check('bless').allowed()", true, false),
        ("authorizer.group('').resource('configmaps').check('bless').allowed()", true, false),
        ("authorizer.group('').resource('secrets').namespace('default').check('create').allowed()", true, true),
        ("authorizer.group('').resource('nodes').check('create').allowed()", false, false),
        ("authorizer.path('/altar').check('get').allowed()", true, false),
        ("authorizer.path('/altar').check('post').allowed()", false, false),
        ("authorizer.serviceAccount('default', 's').group('').resource('configmaps').check('bless').allowed()", true, true),
        ("authorizer.serviceAccount('default', 't').group('').resource('configmaps').check('bless').allowed()", false, false),
        ("!authorizer.requestResource.check('get').errored()", true, true),
        (
            "authorizer.requestResource.check('bless').reason() == 'RBAC: allowed by ClusterRoleBinding \"blessing\" of ClusterRole \"blessing\" to User \"jane\"'",
            true,
            false,
        ),
        ("variables.may", true, false),
    ]
    .into_iter()
    .enumerate()
    {
        let spec = json!({
            "validations": [{"expression": expression}],
            "variables": [
                {"name": "may", "expression": "authorizer.requestResource.check('bless').allowed()"}],
        });
        put(&c, "Validating", "configmaps", spec, json!({}));
        for (user, allowed) in [("jane", jane), ("sam", sam)] {
            let (code, answer) = make(&c, user, &format!("{user}-{i}"));
            let wanted = match allowed {
                true => StatusCode::CREATED,
                false => StatusCode::UNPROCESSABLE_ENTITY,
            };
            assert_eq!(code, wanted, "{user} {expression}: {answer}");
        }
    }
}

/// A node may write config maps, too.
fn a_node_writes(c: &Client) {
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "nodes"},
        "subjects": [
            {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:node:n1"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "writing"},
    });
    let (code, made) = c.post(&format!("{RBAC}/clusterrolebindings"), &binding);
    assert_eq!(code, StatusCode::CREATED, "{made}");
}

#[test]
fn selectors_are_part_of_a_question() {
    let c = Client::start();
    people(&c);
    a_node_writes(&c);
    let node = [
        ("content-type", "application/json"),
        ("impersonate-user", "system:node:n1"),
        ("impersonate-group", "system:nodes"),
    ];
    for (i, (selectors, allowed)) in [
        ("", false),
        (".fieldSelector('spec.nodeName=n1')", true),
        (
            ".labelSelector('a=b').fieldSelector('status.phase!=Failed,spec.nodeName=n1')",
            true,
        ),
        (".fieldSelector('spec.nodeName=n2')", false),
        (".fieldSelector('spec.nodeName!=n1')", false),
        (".fieldSelector('spec.nodeName')", false),
    ]
    .into_iter()
    .enumerate()
    {
        let pods = format!("authorizer.group('').resource('pods'){selectors}");
        let expression = format!("{pods}.check('list').allowed()");
        let spec = json!({"validations": [{"expression": expression}]});
        put(&c, "Validating", "configmaps", spec, json!({}));
        let body = serde_json::to_vec(&map(&format!("n-{i}"))).unwrap();
        let (code, answer) = c.send(Method::POST, MAPS, &node, &body);
        let wanted = match allowed {
            true => StatusCode::CREATED,
            false => StatusCode::UNPROCESSABLE_ENTITY,
        };
        assert_eq!(code, wanted, "{expression}: {answer}");
    }
}

#[test]
fn reviews_ask_with_selectors() {
    let c = Client::start();
    let by =
        |operator: &str| json!([{"key": "spec.nodeName", "operator": operator, "values": ["n1"]}]);
    for (attributes, allowed, told) in [
        (json!({}), false, None),
        (
            json!({"fieldSelector": {"rawSelector": "spec.nodeName=n1"}}),
            true,
            None,
        ),
        (
            json!({"fieldSelector": {"requirements": by("In")}}),
            true,
            None,
        ),
        (
            json!({"fieldSelector": {"requirements": by("NotIn")}}),
            false,
            None,
        ),
        (
            json!({"fieldSelector": {"requirements": by("Like")}}),
            false,
            Some("spec.resourceAttributes.fieldSelector ignored due to parse error"),
        ),
    ] {
        let mut resource = json!({"verb": "list", "resource": "pods"});
        let more = attributes.as_object().unwrap().clone();
        resource.as_object_mut().unwrap().extend(more);
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {"user": "system:node:n1", "groups": ["system:nodes"],
                "resourceAttributes": resource},
        });
        let (code, answer) = c.post(REVIEWS, &review);
        assert_eq!(code, StatusCode::CREATED, "{answer}");
        let status = &answer["status"];
        assert_eq!(status["allowed"], allowed, "{answer}");
        assert_eq!(status["evaluationError"].as_str(), told, "{answer}");
    }
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {"user": "jane", "resourceAttributes": {"verb": "list", "fieldSelector": {}}},
    });
    let (code, refused) = c.post(REVIEWS, &review);
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{refused}");
}

#[test]
fn what_fails_of_a_question_refuses() {
    let c = Client::start();
    let check = "authorizer.path('/').check('get').allowed()";
    let thrice = [check; 3].join(" && ");
    for (expression, why) in [
        (
            "authorizer.path('').check('get').allowed()",
            "path must not be empty",
        ),
        (
            "authorizer.group('').resource(' ').check('get').allowed()",
            "resource must not be empty",
        ),
        (
            "authorizer.serviceAccount('a.b', 'c').path('/').check('get').allowed()",
            "Invalid service account namespace",
        ),
        (&thrice, "operation cancelled: actual cost limit exceeded"),
    ] {
        let spec = json!({"validations": [{"expression": expression}]});
        put(&c, "Validating", "configmaps", spec, json!({}));
        let (code, refused) = c.post(MAPS, &map("x"));
        assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{refused}");
        let message = refused["message"].as_str().unwrap();
        assert!(message.contains(why), "{message}");
    }
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "m"},
        "spec": {
            "matchConstraints": {"resourceRules": [{"operations": ["CREATE"], "apiGroups": [""],
                "apiVersions": ["v1"], "resources": ["configmaps"]}]},
            "validations": [{"expression": "true",
                "messageExpression": "authorizer.path('/').check('get').reason()"}],
        },
    });
    let path = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
    let (code, refused) = c.post(path, &policy);
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{refused}");
    let message = refused["message"].as_str().unwrap();
    let why = "undeclared reference to 'authorizer'";
    assert!(
        message.contains("spec.validations[0].messageExpression: Invalid value")
            && message.contains(why),
        "{message}"
    );
}

#[test]
fn mutations_and_conditions_ask_too() {
    let s = Server::start(answer);
    let c = Client::start();
    people(&c);
    let may = "authorizer.requestResource.check('bless').allowed()";
    let label = format!(
        "Object{{metadata: Object.metadata{{labels: {{'blessed': {may} ? 'yes' : 'no'}}}}}}"
    );
    let mutation = json!({"reinvocationPolicy": "Never", "mutations": [
        {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": label}}]});
    put(&c, "Mutating", "configmaps", mutation, json!({}));
    for (user, wanted) in [("jane", "yes"), ("sam", "no")] {
        let (code, made) = make(&c, user, &format!("{user}-m"));
        assert_eq!(code, StatusCode::CREATED, "{made}");
        assert_eq!(made["metadata"]["labels"]["blessed"], wanted, "{user}");
    }
    // A condition of a policy, then one of a webhook: both spare the blessed.
    let conditions = json!([{"name": "x", "expression": format!("!{may}")}]);
    let never = json!({"validations": [{"expression": "false"}], "matchConditions": conditions});
    put(&c, "Validating", "configmaps", never, json!({}));
    assert_eq!(make(&c, "jane", "jane-p").0, StatusCode::CREATED);
    assert_eq!(make(&c, "sam", "sam-p").0, StatusCode::UNPROCESSABLE_ENTITY);
    let passes = json!({"validations": [{"expression": "true"}]});
    put(&c, "Validating", "configmaps", passes, json!({}));
    let more = json!({"matchConditions": conditions});
    register(&c, false, "deny", &s.config("/deny"), &maps(), more);
    assert_eq!(make(&c, "jane", "jane-w").0, StatusCode::CREATED);
    assert_eq!(make(&c, "sam", "sam-w").0, StatusCode::FORBIDDEN);
}
