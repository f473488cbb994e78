//! Admission policies at work: what they refuse, warn of and change.

use crate::custom::establish_things;
use crate::wire::{Client, MAPS, map};
use http::{Method, StatusCode};
use serde_json::{Value, json};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const MERGE: &[(&str, &str)] = &[("content-type", "application/merge-patch+json")];

fn rules(resource: &str) -> Value {
    json!({"resourceRules": [{"operations": ["CREATE", "UPDATE", "DELETE"], "apiGroups": ["*"],
        "apiVersions": ["*"], "resources": [resource]}]})
}

/// Makes a policy named `p` about `resource`, and its binding `b`; what stood
/// there before goes.
pub(crate) fn put(c: &Client, sort: &str, resource: &str, spec: Value, binding: Value) {
    let lower = sort.to_lowercase();
    for (suffix, name) in [("policies", "p"), ("policybindings", "b")] {
        let path = format!("{GROUP}/{lower}admission{suffix}/{name}");
        c.send(Method::DELETE, &path, &[], b"");
    }
    let mut policy = json!({"matchConstraints": rules(resource)});
    policy
        .as_object_mut()
        .unwrap()
        .extend(spec.as_object().unwrap().clone());
    let mut bound = json!({"policyName": "p"});
    if sort == "Validating" {
        bound["validationActions"] = json!(["Deny"]);
    }
    bound
        .as_object_mut()
        .unwrap()
        .extend(binding.as_object().unwrap().clone());
    for (suffix, kind, name, spec) in [
        ("policies", "Policy", "p", policy),
        ("policybindings", "PolicyBinding", "b", bound),
    ] {
        let object = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": format!("{sort}Admission{kind}"), "metadata": {"name": name}, "spec": spec,
        });
        let (code, made) = c.post(&format!("{GROUP}/{lower}admission{suffix}"), &object);
        assert_eq!(code, StatusCode::CREATED, "{made}");
    }
}

fn validating(c: &Client, spec: Value, binding: Value) {
    put(c, "Validating", "configmaps", spec, binding);
}

fn with_data(name: &str, data: &Value) -> Value {
    let mut object = map(name);
    object["data"] = data.clone();
    object
}

#[test]
fn a_policy_refuses_with_message_and_reason() {
    let c = Client::start();
    let denied = "configmaps \"m\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: ";
    let rule = "!has(object.data) || size(object.data) < 2";
    let fault = "expression 'object.data.n == \"1\"' resulted in error: no such key: n";
    for (validation, code, reason, message) in [
        (
            json!({"expression": rule}),
            422,
            "Invalid",
            format!("failed expression: {rule}"),
        ),
        (
            json!({"expression": rule, "message": " too much ", "reason": "Forbidden"}),
            403,
            "Forbidden",
            "too much".to_owned(),
        ),
        (
            json!({"expression": rule, "message": "m", "reason": "RequestEntityTooLarge",
                "messageExpression": "'has ' + string(size(object.data)) + ' in ' + namespaceObject.metadata.name"}),
            413,
            "RequestEntityTooLarge",
            "has 2 in default".to_owned(),
        ),
        (
            json!({"expression": "object.data.n == \"1\""}),
            422,
            "Invalid",
            fault.to_owned(),
        ),
    ] {
        validating(&c, json!({"validations": [validation]}), json!({}));
        let (_, refused) = c.post(MAPS, &with_data("m", &json!({"a": "1", "b": "2"})));
        assert_eq!(refused["message"], format!("{denied}{message}"));
        assert_eq!(
            (&refused["code"], &refused["reason"]),
            (&json!(code), &json!(reason))
        );
        assert_eq!(
            refused["details"]["causes"][0]["message"].as_str(),
            refused["message"]
                .as_str()
                .and_then(|m| m.split_once("forbidden: "))
                .map(|(_, m)| m)
        );
    }
    // What fails may be ignored, what doesn't hold may not.
    let lenient = json!({"failurePolicy": "Ignore", "validations": [
        {"expression": "object.data.n == \"1\""}]});
    validating(&c, lenient, json!({}));
    let (code, made) = c.post(MAPS, &with_data("m", &json!({"a": "1"})));
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let (code, _) = c.post(MAPS, &with_data("n", &json!({"n": "2"})));
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY);
    // Deletions are judged by what stands.
    let kept = json!({"validations": [{"expression": "object != null || oldObject.metadata.name != 'm'"}]});
    validating(&c, kept, json!({}));
    let (code, refused) = c.send(Method::DELETE, &format!("{MAPS}/m"), &[], b"");
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{refused}");
    let (code, refused) = c.send(Method::DELETE, MAPS, &[], b"");
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{refused}");
}

#[test]
fn bindings_warn_instead_and_narrow() {
    let c = Client::start();
    let spec = json!({"validations": [{"expression": "false", "message": "never"}]});
    validating(
        &c,
        spec.clone(),
        json!({"validationActions": ["Warn", "Audit"]}),
    );
    let (code, warnings, _) = c.warned(MAPS, &map("a"));
    assert_eq!(code, StatusCode::CREATED);
    assert_eq!(
        warnings,
        ["299 - \"Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': never\""]
    );
    let narrow = json!({"matchResources": {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}});
    validating(&c, spec.clone(), narrow);
    assert_eq!(c.post(MAPS, &map("b")).0, StatusCode::CREATED);
    let system = "/api/v1/namespaces/kube-system/configmaps";
    assert_eq!(
        c.post(system, &map("b")).0,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    let mut conditional = spec;
    conditional["matchConditions"] = json!([
        {"name": "u", "expression": "request.userInfo.username != 'root'"}]);
    validating(&c, conditional, json!({}));
    assert_eq!(c.post(MAPS, &map("c")).0, StatusCode::CREATED);
    // Without its binding a policy is nothing.
    validating(
        &c,
        json!({"validations": [{"expression": "false"}]}),
        json!({"policyName": "other"}),
    );
    assert_eq!(c.post(MAPS, &map("d")).0, StatusCode::CREATED);
}

#[test]
fn variables_are_evaluated_when_they_are_used() {
    let c = Client::start();
    let variables = json!([
        {"name": "broken", "expression": "object.no.such"},
        {"name": "size", "expression": "size(object.data)"},
        {"name": "twice", "expression": "variables.size * 2"},
    ]);
    let judged = |expression: &str| {
        let spec = json!({"variables": variables, "validations": [{"expression": expression}]});
        validating(&c, spec, json!({}));
        let (_, answer) = c.post(
            &format!("{MAPS}?dryRun=All"),
            &with_data("m", &json!({"a": "1"})),
        );
        answer["message"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(judged("variables.twice == 2"), "");
    assert_eq!(judged("variables.size == 1 || variables.broken"), "");
    let refused = judged("variables.broken == 1");
    assert!(
        refused.ends_with("expression 'variables.broken == 1' resulted in error: composited variable \"broken\" fails to evaluate: no such key: no"),
        "{refused}"
    );
    let unknown = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "q"},
        "spec": {"matchConstraints": rules("configmaps"), "variables": variables,
            "validations": [{"expression": "variables.unknown"}, {"expression": "'text'"}, {"expression": "params.x"}]},
    });
    let (_, refused) = c.post(&format!("{GROUP}/validatingadmissionpolicies"), &unknown);
    let causes: Vec<String> = refused["details"]["causes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cause| format!("{} {}", cause["field"], cause["message"]))
        .collect();
    for (i, wanted) in [
        "undefined field 'unknown'",
        "must evaluate to bool",
        "undeclared reference to 'params'",
    ]
    .into_iter()
    .enumerate()
    {
        assert!(
            causes[i].contains(&format!("validations[{i}].expression"))
                && causes[i].contains(wanted),
            "{causes:?}"
        );
    }
}

#[test]
fn parameters_come_from_objects_that_bindings_name() {
    let c = Client::start();
    let spec = json!({
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConditions": [{"name": "checked", "expression": "object.metadata.name.startsWith('x')"}],
        "validations": [{"expression": "params == null || object.data.n != params.data.forbidden",
            "messageExpression": "'not ' + params.data.forbidden"}],
    });
    let limit = |name: &str, forbidden: &str| {
        let mut object = with_data(name, &json!({"forbidden": forbidden}));
        object["metadata"]["labels"] = json!({"limit": "yes"});
        assert_eq!(c.post(MAPS, &object).0, StatusCode::CREATED);
    };
    let judged = |n: &str| {
        let object = with_data("x", &json!({"n": n}));
        let (_, answer) = c.post(&format!("{MAPS}?dryRun=All"), &object);
        let message = answer["message"].as_str().unwrap_or_default();
        message
            .rsplit("denied request: ")
            .next()
            .unwrap()
            .to_owned()
    };
    let named =
        |action: &str| json!({"paramRef": {"name": "one", "parameterNotFoundAction": action}});
    validating(&c, spec.clone(), named("Deny"));
    assert_eq!(
        judged("1"),
        "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"
    );
    validating(&c, spec.clone(), named("Allow"));
    assert_eq!(judged("1"), "");
    limit("one", "1");
    assert_eq!(judged("1"), "not 1");
    assert_eq!(judged("2"), "");
    limit("two", "2");
    let selected = json!({"paramRef": {"selector": {"matchLabels": {"limit": "yes"}},
        "namespace": "default", "parameterNotFoundAction": "Deny"}});
    validating(&c, spec.clone(), selected);
    assert_eq!(
        (judged("1"), judged("2"), judged("3")),
        ("not 1".to_owned(), "not 2".to_owned(), String::new())
    );
    validating(&c, spec.clone(), json!({}));
    assert_eq!(judged("1"), "");
    let mut unknown = spec;
    unknown["paramKind"] = json!({"apiVersion": "example.com/v1", "kind": "Limit"});
    validating(&c, unknown, named("Deny"));
    assert_eq!(
        judged("1"),
        "failed to configure policy: failed to find resource referenced by paramKind: 'example.com/v1, Kind=Limit'"
    );
}

fn mutating(c: &Client, resource: &str, mutations: Value, more: Value) {
    let mut spec = json!({"reinvocationPolicy": "Never", "mutations": mutations});
    spec.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    put(c, "Mutating", resource, spec, json!({}));
}

fn apply(expression: &str) -> Value {
    json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}})
}

fn patch(expression: &str) -> Value {
    json!({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}})
}

const PODS: &str = "/api/v1/namespaces/default/pods";

#[test]
fn policies_change_objects_by_configurations_and_patches() {
    let c = Client::start();
    let side = "Object{metadata: Object.metadata{labels: {'by': request.userInfo.username}}, spec: Object.spec{containers: [Object.spec.containers{name: 'side', image: variables.image}]}}";
    let ports = "[JSONPatch{op: 'test', path: '/spec/containers/0/name', value: 'c'}, JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b'), value: string(size(object.spec.containers))}]";
    let more =
        json!({"variables": [{"name": "image", "expression": "'side:' + object.metadata.name"}]});
    mutating(&c, "pods", json!([apply(side), patch(ports)]), more);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let (code, made) = c.post(PODS, &pod);
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let containers = made["spec"]["containers"].as_array().unwrap();
    let names: Vec<&Value> = containers.iter().map(|c| &c["name"]).collect();
    assert_eq!(names, ["c", "side"]);
    assert_eq!(containers[1]["image"], "side:web");
    // Defaults come to what a policy adds, and so does what plugins add.
    assert_eq!(containers[1]["terminationMessagePolicy"], "File");
    let mounts = |i: usize| containers[i]["volumeMounts"].as_array().map_or(0, Vec::len);
    assert_eq!([mounts(0), mounts(1)], [1, 1]);
    assert_eq!(
        made["metadata"]["labels"],
        json!({"by": "root", "a/b": "2"})
    );
    // A test that fails undoes its patch, and nothing else.
    let test = "[JSONPatch{op: 'add', path: '/metadata/labels/y', value: 'y'}, JSONPatch{op: 'test', path: '/metadata/name', value: 'other'}]";
    mutating(&c, "configmaps", json!([patch(test)]), json!({}));
    let (code, made) = c.post(MAPS, &map("t"));
    assert_eq!(code, StatusCode::CREATED, "{made}");
    assert_eq!(made["metadata"]["labels"], json!({"n": "t"}));
}

#[test]
fn a_policy_is_asked_again_if_it_wants_to_be() {
    let c = Client::start();
    let count =
        "Object{metadata: Object.metadata{labels: {'seen': string(size(object.metadata.labels))}}}";
    let again = json!({"reinvocationPolicy": "IfNeeded"});
    mutating(&c, "configmaps", json!([apply(count)]), again);
    // Another one, later by name, that adds a label.
    let add = apply("Object{metadata: Object.metadata{labels: {'late': 'x'}}}");
    for (suffix, kind, spec) in [
        (
            "policies",
            "Policy",
            json!({"matchConstraints": rules("configmaps"), "reinvocationPolicy": "Never", "mutations": [add]}),
        ),
        (
            "policybindings",
            "PolicyBinding",
            json!({"policyName": "q"}),
        ),
    ] {
        let object = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": format!("MutatingAdmission{kind}"), "metadata": {"name": "q"}, "spec": spec,
        });
        let (code, made) = c.post(&format!("{GROUP}/mutatingadmission{suffix}"), &object);
        assert_eq!(code, StatusCode::CREATED, "{made}");
    }
    let (code, made) = c.post(MAPS, &map("m"));
    assert_eq!(code, StatusCode::CREATED, "{made}");
    // First it saw one label, then three: its own and the late one too.
    assert_eq!(
        made["metadata"]["labels"],
        json!({"n": "m", "seen": "3", "late": "x"})
    );
}

#[test]
fn what_a_mutation_may_not_do_is_refused() {
    let c = Client::start();
    let denied = "policy 'p' with binding 'b' denied request: ";
    for (resource, mutation, why) in [
        (
            "configmaps",
            patch("[JSONPatch{op: 'remove', path: '/data/no'}]"),
            "JSON Patch: ",
        ),
        (
            "configmaps",
            apply("Object{data: {'x': object.data.y}}"),
            "expression 'Object{data: {'x': object.data.y}}' resulted in error: no such key: y",
        ),
        (
            "configmaps",
            apply("Object{wrong: 1}"),
            "error applying patch: failed to convert patch object to typed object: .wrong: field not declared in schema",
        ),
    ] {
        mutating(&c, resource, json!([mutation]), json!({}));
        let (code, refused) = c.post(MAPS, &with_data("m", &json!({"a": "1"})));
        let message = refused["message"].as_str().unwrap();
        assert!(message.starts_with(&format!("{denied}{why}")), "{message}");
        assert_eq!(
            (code, &refused["reason"]),
            (StatusCode::FORBIDDEN, &json!("Invalid"))
        );
        mutating(
            &c,
            resource,
            json!([mutation]),
            json!({"failurePolicy": "Ignore"}),
        );
        let (code, _) = c.post(
            &format!("{MAPS}?dryRun=All"),
            &with_data("m", &json!({"a": "1"})),
        );
        assert_eq!(code, StatusCode::CREATED);
    }
    // What doesn't fit is seen when it is written.
    let bad = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": "bad"},
        "spec": {"matchConstraints": rules("pods"), "reinvocationPolicy": "Never",
            "mutations": [apply("Object{spec: Object.status{}}")]},
    });
    let (code, refused) = c.post(&format!("{GROUP}/mutatingadmissionpolicies"), &bad);
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY);
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.contains("spec.mutations[0].applyConfiguration.expression")
            && message.contains("Object.status"),
        "{message}"
    );
}

#[test]
fn policies_reach_custom_objects_and_their_parameters() {
    let c = Client::start();
    establish_things(&c);
    let path = "/apis/example.com/v1/namespaces/default/things";
    let thing = |name: &str, spec: Value| json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": name}, "spec": spec});
    assert_eq!(
        c.post(path, &thing("most", json!({"size": 5}))).0,
        StatusCode::CREATED
    );
    put(
        &c,
        "Validating",
        "things",
        json!({"paramKind": {"apiVersion": "example.com/v1", "kind": "Thing"},
            "validations": [{"expression": "object.spec.size <= params.spec.size"}]}),
        json!({"paramRef": {"name": "most", "parameterNotFoundAction": "Deny"}}),
    );
    mutating(
        &c,
        "things",
        json!([apply(
            "Object{spec: Object.spec{size: object.spec.size + 1}}"
        )]),
        json!({"matchConditions": [{"name": "small", "expression": "object.spec.size < 5"}]}),
    );
    let (code, made) = c.post(path, &thing("a", json!({"size": 4})));
    assert_eq!(code, StatusCode::CREATED, "{made}");
    assert_eq!(made["spec"], json!({"size": 5, "color": "red"}));
    let (code, refused) = c.post(path, &thing("b", json!({"size": 6})));
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{refused}");
}

#[test]
fn owners_are_those_who_wrote_not_those_who_changed() {
    let c = Client::start();
    // As upstream: who owns what is settled before admission changes it.
    mutating(
        &c,
        "configmaps",
        json!([apply("Object{data: {'added': 'x'}}")]),
        json!({}),
    );
    let (_, made) = c.post(
        &format!("{MAPS}?fieldManager=me"),
        &with_data("m", &json!({"own": "y"})),
    );
    assert_eq!(made["data"], json!({"added": "x", "own": "y"}));
    let owned = &made["metadata"]["managedFields"][0];
    assert_eq!(owned["manager"], "me");
    assert_eq!(owned["fieldsV1"]["f:data"], json!({".": {}, "f:own": {}}));
    // Managers that can't be read don't stay.
    let broken =
        "[JSONPatch{op: 'replace', path: '/metadata/managedFields/0/operation', value: 'Other'}]";
    mutating(&c, "configmaps", json!([patch(broken)]), json!({}));
    let (code, warnings, made) = c.warned(MAPS, &map("w"));
    assert_eq!(code, StatusCode::CREATED, "{made}");
    assert!(
        warnings[0].contains(".metadata.managedFields was in an invalid state after admission"),
        "{warnings:?}"
    );
    assert_eq!(made["metadata"]["managedFields"][0]["operation"], "Update");
    let path = format!("{MAPS}/w");
    let (code, _) = c.send(Method::PATCH, &path, MERGE, br#"{"data":{"k":"v"}}"#);
    assert_eq!(code, StatusCode::OK);
}
