use crate::kinds::group_tests::{defaults, faults, shows, updates};
use serde_json::{Value, json};

const GROUP: &str = "admissionregistration";

fn webhook() -> Value {
    json!({
        "name": "a.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": {"service": {"name": "s", "namespace": "d"}},
        "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
    })
}

fn with(patch: Value) -> Value {
    let mut of = webhook();
    crate::patch::merge(&mut of, patch);
    json!({"webhooks": [of]})
}

fn rule(patch: Value) -> Value {
    let mut of = webhook();
    crate::patch::merge(&mut of["rules"][0], patch);
    json!({"webhooks": [of]})
}

#[test]
fn webhooks_are_checked() {
    let cases = [
        (
            with(json!({"name": "a"})),
            "webhooks[0].name: Invalid value: \"a\": should be a domain with at least three segments separated by dots",
        ),
        (
            with(json!({"sideEffects": null})),
            "webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun",
        ),
        (
            with(json!({"sideEffects": "Some"})),
            "webhooks[0].sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\"",
        ),
        (
            with(json!({"timeoutSeconds": 31})),
            "webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
        ),
        (
            with(json!({"failurePolicy": "Shrug"})),
            "webhooks[0].failurePolicy: Unsupported value: \"Shrug\": supported values: \"Fail\", \"Ignore\"",
        ),
        (
            with(json!({"admissionReviewVersions": []})),
            "webhooks[0].admissionReviewVersions: Required value: must specify one of v1, v1beta1",
        ),
        (
            with(json!({"admissionReviewVersions": ["v9"]})),
            "webhooks[0].admissionReviewVersions: Invalid value: [\"v9\"]: must include at least one of v1, v1beta1",
        ),
        (
            with(json!({"clientConfig": {"url": "https://x"}})),
            "webhooks[0].clientConfig: Required value: exactly one of url or service is required",
        ),
        (
            with(json!({"clientConfig": {"service": null, "url": "https://x/y"}})),
            "",
        ),
        (
            with(json!({"clientConfig": {"service": null, "url": "http://x"}})),
            "webhooks[0].clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
        ),
        (
            with(json!({"clientConfig": {"service": null, "url": "https://u:p@x/?q#f"}})),
            "[webhooks[0].clientConfig.url: Invalid value: \"u:p\": user information is not permitted in the URL, webhooks[0].clientConfig.url: Invalid value: \"f\": fragments are not permitted in the URL, webhooks[0].clientConfig.url: Invalid value: \"q\": query parameters are not permitted in the URL]",
        ),
        (
            with(json!({"clientConfig": {"service": {"path": "/a//b"}}})),
            "webhooks[0].clientConfig.service.path: Invalid value: \"/a//b\": segment[1] may not be empty",
        ),
        (
            with(json!({"clientConfig": {"service": {"port": 0}}})),
            "webhooks[0].clientConfig.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive",
        ),
        (
            with(json!({"matchConditions": [{"name": "a", "expression": " "}]})),
            "webhooks[0].matchConditions[0].expression: Required value",
        ),
        (
            rule(json!({"operations": ["*", "CREATE"]})),
            "webhooks[0].rules[0].operations: Invalid value: [\"*\",\"CREATE\"]: if '*' is present, must not specify other operations",
        ),
        (
            rule(json!({"operations": ["PATCH"]})),
            "webhooks[0].rules[0].operations[0]: Unsupported value: \"PATCH\": supported values: \"*\", \"CONNECT\", \"CREATE\", \"DELETE\", \"UPDATE\"",
        ),
        (
            rule(json!({"resources": ["*", "pods"]})),
            "webhooks[0].rules[0].resources: Invalid value: [\"*\",\"pods\"]: if '*' is present, must not specify other resources without subresources",
        ),
        (
            rule(json!({"resources": ["pods/*", "pods/log"]})),
            "webhooks[0].rules[0].resources[1]: Invalid value: \"pods/log\": if 'pods/*' is present, must not specify pods/log",
        ),
        (
            rule(json!({"apiVersions": [""]})),
            "webhooks[0].rules[0].apiVersions[0]: Required value",
        ),
        (
            rule(json!({"scope": "Galaxy"})),
            "webhooks[0].rules[0].scope: Unsupported value: \"Galaxy\": supported values: \"*\", \"Cluster\", \"Namespaced\"",
        ),
        (
            json!({"webhooks": [webhook(), webhook()]}),
            "webhooks[1].name: Duplicate value: \"a.example.com\"",
        ),
    ];
    for plural in [
        "mutatingwebhookconfigurations",
        "validatingwebhookconfigurations",
    ] {
        faults(GROUP, plural, with(json!({})), &cases);
        for (path, wanted) in [
            ("/webhooks/0/failurePolicy", json!("Fail")),
            ("/webhooks/0/matchPolicy", json!("Equivalent")),
            ("/webhooks/0/timeoutSeconds", json!(10)),
            ("/webhooks/0/namespaceSelector", json!({})),
            ("/webhooks/0/rules/0/scope", json!("*")),
            ("/webhooks/0/clientConfig/service/port", json!(443)),
        ] {
            defaults(GROUP, plural, with(json!({})), path, wanted);
        }
        updates(
            GROUP,
            plural,
            with(json!({})),
            &[
                (json!({"metadata": {"labels": {"a": "b"}}}), "", 1),
                (with(json!({"timeoutSeconds": 5})), "", 2),
            ],
        );
        shows(GROUP, plural, with(json!({})), json!(["x", 1]));
    }
}

fn policy(more: Value) -> Value {
    let mut spec = json!({"matchConstraints": {"resourceRules": [
        {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]}});
    crate::patch::merge(&mut spec, more);
    json!({"spec": spec})
}

#[test]
fn policies_are_checked() {
    faults(
        GROUP,
        "validatingadmissionpolicies",
        policy(json!({"validations": [{"expression": "true"}]})),
        &[
            (
                json!({"spec": {"validations": null}}),
                "[spec.validations: Required value: validations or auditAnnotations must contain at least one item, spec.auditAnnotations: Required value: validations or auditAnnotations must contain at least one item]",
            ),
            (
                json!({"spec": {"validations": [{"expression": ""}]}}),
                "spec.validations[0].expression: Required value: expression is not specified",
            ),
            (
                json!({"spec": {"validations": [{"expression": "true", "reason": "Because"}]}}),
                "spec.validations[0].reason: Unsupported value: \"Because\": supported values: \"Forbidden\", \"Invalid\", \"RequestEntityTooLarge\", \"Unauthorized\"",
            ),
            (
                json!({"spec": {"matchConstraints": null}}),
                "spec.matchConstraints: Required value",
            ),
            (
                json!({"spec": {"matchConstraints": {"resourceRules": null}}}),
                "spec.matchConstraints.resourceRules: Required value",
            ),
            (
                json!({"spec": {"paramKind": {"apiVersion": "v1"}}}),
                "spec.paramKind.kind: Required value",
            ),
            (
                json!({"spec": {"variables": [{"name": "for", "expression": "1"}]}}),
                "spec.variables[0].name: Invalid value: \"for\": name is not a valid CEL identifier",
            ),
        ],
    );
    shows(
        GROUP,
        "validatingadmissionpolicies",
        policy(
            json!({"validations": [{"expression": "true"}], "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}}),
        ),
        json!(["x", 1, "v1/ConfigMap"]),
    );
    let mutation = json!({"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}});
    faults(
        GROUP,
        "mutatingadmissionpolicies",
        policy(json!({"mutations": [mutation], "reinvocationPolicy": "Never"})),
        &[
            (
                json!({"spec": {"reinvocationPolicy": null}}),
                "spec.reinvocationPolicy: Required value",
            ),
            (
                json!({"spec": {"mutations": [{"patchType": "JSONPatch"}]}}),
                "spec.mutations[0].jsonPatch: Required value: must be specified when patchType is JSONPatch",
            ),
            (
                json!({"spec": {"mutations": [{"patchType": "Magic"}]}}),
                "spec.mutations[0].patchType: Unsupported value: \"Magic\": supported values: \"ApplyConfiguration\", \"JSONPatch\"",
            ),
        ],
    );
}

#[test]
fn bindings_are_checked() {
    faults(
        GROUP,
        "validatingadmissionpolicybindings",
        json!({"spec": {"policyName": "p", "validationActions": ["Deny"]}}),
        &[
            (
                json!({"spec": {"policyName": null}}),
                "spec.policyName: Required value",
            ),
            (
                json!({"spec": {"validationActions": null}}),
                "spec.validationActions: Required value: at least one validation action is required",
            ),
            (
                json!({"spec": {"validationActions": ["Audit", "Audit"]}}),
                "spec.validationActions[1]: Duplicate value: \"Audit\"",
            ),
            (
                json!({"spec": {"paramRef": {"parameterNotFoundAction": "Deny"}}}),
                "spec.paramRef: Required value: one of name or selector must be specified",
            ),
            (
                json!({"spec": {"paramRef": {"name": "n"}}}),
                "spec.paramRef.parameterNotFoundAction: Required value",
            ),
        ],
    );
    shows(
        GROUP,
        "mutatingadmissionpolicybindings",
        json!({"spec": {"policyName": "p", "paramRef": {"name": "n", "parameterNotFoundAction": "Deny"}}}),
        json!(["x", "p", "*/n"]),
    );
}
