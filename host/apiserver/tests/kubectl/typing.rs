//! What the status of a policy says of its expressions.

use crate::custom::{establish_things, until};
use crate::wire::Client;
use http::{Method, StatusCode};
use serde_json::{Value, json};

const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
const MERGE: &[(&str, &str)] = &[("content-type", "application/merge-patch+json")];

/// The policy, once its status is of this generation.
fn observed(c: &Client, generation: i64) -> Value {
    until(|| {
        let (_, policy) = c.get(&format!("{POLICIES}/p"));
        (policy["status"]["observedGeneration"] == generation).then_some(policy)
    })
}

fn change(c: &Client, spec: &Value) {
    let patch = json!({"spec": spec}).to_string();
    let path = format!("{POLICIES}/p");
    let (code, changed) = c.send(Method::PATCH, &path, MERGE, patch.as_bytes());
    assert_eq!(code, StatusCode::OK, "{changed}");
}

#[test]
fn a_policy_is_told_what_is_doubtful_of_it() {
    let c = Client::start();
    establish_things(&c);
    let session = c.session();
    session.runtime().spawn(session.running().policy_status());
    let rule = |group: &str, resource: &str| json!({"operations": ["*"], "apiGroups": [group], "apiVersions": ["v1"], "resources": [resource]});
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "p"},
        "spec": {
            "paramKind": {"apiVersion": "example.com/v1", "kind": "Thing"},
            "matchConstraints": {"resourceRules": [rule("apps", "deployments")]},
            "validations": [
                {"expression": "object.spec.replicas > 1"},
                {"expression": "object.replicas > params.spec.weight", "messageExpression": "params.spec.color"},
            ],
        },
    });
    let (code, made) = c.post(POLICIES, &policy);
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let checked = observed(&c, 1);
    let expression = "object.replicas > params.spec.weight";
    let warning = format!(
        "apps/v1, Kind=Deployment: ERROR: <input>:1:7: undefined field 'replicas'\n | {expression}\n | ......^\n\
         ERROR: <input>:1:30: undefined field 'weight'\n | {expression}\n | .............................^\n"
    );
    let wanted = json!({"expressionWarnings": [
        {"fieldRef": "spec.validations[1].expression", "warning": warning}]});
    assert_eq!(checked["status"]["typeChecking"], wanted);
    let managed = checked["metadata"]["managedFields"].as_array().unwrap();
    let manager = "validatingadmissionpolicy-status-controller";
    assert!(
        managed.iter().any(|m| m["manager"] == manager
            && m["operation"] == "Apply"
            && m["subresource"] == "status"),
        "{managed:?}"
    );
    change(
        &c,
        &json!({"validations": [{"expression": "object.spec.replicas > params.spec.size"}]}),
    );
    let sound = observed(&c, 2);
    let told = &sound["status"]["typeChecking"]["expressionWarnings"];
    assert!(told.is_null(), "{sound}");
    change(
        &c,
        &json!({
            "matchConstraints": {"resourceRules": [rule("example.com", "things")]},
            "validations": [{"expression": "object.spec.size == 'x'"}],
        }),
    );
    let custom = observed(&c, 3);
    let warnings = &custom["status"]["typeChecking"]["expressionWarnings"];
    let warning = warnings[0]["warning"].as_str().unwrap();
    let wanted = "example.com/v1, Kind=Thing: ERROR: <input>:1:18: found no matching overload for '_==_' applied to '(int, string)'";
    assert!(warning.starts_with(wanted), "{warning}");
}
