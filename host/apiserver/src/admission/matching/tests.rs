//! Which requests rules and selectors take.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use api::kinds::by_resource;
use serde_json::json;

fn kind(plural: &str) -> KindRef {
    let groups = ["", "apps", "autoscaling", "events.k8s.io"];
    groups
        .iter()
        .find_map(|group| by_resource(group, "v1", plural))
        .unwrap()
}

/// `OPERATION RESOURCE[/SUBRESOURCE] [NAMESPACE]`.
fn takes(criteria: &Criteria, request: &str) -> Option<String> {
    let mut words = request.split(' ');
    let operation = match words.next().unwrap() {
        "CREATE" => Operation::Create,
        "UPDATE" => Operation::Update,
        "DELETE" => Operation::Delete,
        _ => Operation::Connect,
    };
    let resource = words.next().unwrap();
    let (plural, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let kind = kind(plural);
    let subject = Subject {
        operation,
        kind: &kind,
        subresource,
        namespace: words.next().unwrap_or_default(),
        name: "x",
        object: &json!({"metadata": {"labels": {"a": "b"}}}),
        old: &Value::Null,
    };
    let others: Vec<KindRef> = match plural {
        "horizontalpodautoscalers" => vec![by_resource("autoscaling", "v2", plural).unwrap()],
        "events" => vec![by_resource("events.k8s.io", "v1", plural).unwrap()],
        _ => Vec::new(),
    };
    let others: Vec<&KindRef> = others.iter().collect();
    let namespace = || Ok(json!({"metadata": {"labels": {"team": subject.namespace}}}));
    let found = criteria.matched(&subject, &others, namespace).unwrap();
    found.map(|k| format!("{}/{}", k.api_version(), k.plural()))
}

fn check(criteria: &Criteria, request: &str, wanted: Option<&str>) {
    let found = takes(criteria, request);
    assert_eq!(found.as_deref(), wanted, "{request} of {criteria:?}");
}

fn rule(operations: &str, group: &str, resources: &str, scope: &str) -> Value {
    json!({"operations": operations.split(' ').collect::<Vec<_>>(), "apiGroups": [group],
        "apiVersions": ["v1"], "resources": resources.split(' ').collect::<Vec<_>>(), "scope": scope})
}

#[test]
fn rules_name_operations_resources_and_scopes() {
    for (rule, request, taken) in [
        (rule("CREATE", "", "pods", "*"), "CREATE pods n", true),
        (rule("CREATE", "", "pods", "*"), "UPDATE pods n", false),
        (rule("*", "*", "*", "*"), "DELETE deployments n", true),
        (rule("*", "*", "*", "*"), "UPDATE pods/status n", false),
        (rule("*", "*", "*/*", "*"), "UPDATE pods/status n", true),
        (rule("*", "", "*/status", "*"), "UPDATE pods/status n", true),
        (rule("*", "", "pods/*", "*"), "CONNECT pods/exec n", true),
        (rule("*", "", "pods/*", "*"), "CREATE pods n", true),
        (rule("*", "", "pods/exec", "*"), "CREATE pods n", false),
        (
            rule("CONNECT", "", "pods/exec", "*"),
            "CONNECT pods/exec n",
            true,
        ),
        (rule("*", "apps", "pods", "*"), "CREATE pods n", false),
        (rule("*", "", "*", "Cluster"), "CREATE pods n", false),
        (rule("*", "", "*", "Cluster"), "CREATE nodes", true),
        (rule("*", "", "*", "Cluster"), "UPDATE namespaces n", true),
        (
            rule("*", "", "*", "Namespaced"),
            "UPDATE namespaces n",
            false,
        ),
        (rule("*", "", "*", "Namespaced"), "CREATE pods n", true),
    ] {
        let criteria = Criteria::of_webhook(&json!({"rules": [rule]}));
        assert_eq!(
            takes(&criteria, request).is_some(),
            taken,
            "{request} of {rule}"
        );
    }
}

#[test]
fn equivalent_versions_are_matched_unless_exactness_is_asked_for() {
    let rule = json!({"operations": ["*"], "apiGroups": ["autoscaling"], "apiVersions": ["v2"],
        "resources": ["horizontalpodautoscalers"]});
    let equivalent = Criteria::of_webhook(&json!({"rules": [rule]}));
    let request = "CREATE horizontalpodautoscalers n";
    let wanted = "autoscaling/v2/horizontalpodautoscalers";
    check(&equivalent, request, Some(wanted));
    let exact = Criteria::of_webhook(&json!({"rules": [rule], "matchPolicy": "Exact"}));
    check(&exact, request, None);
    // Its own version comes first, wherever its rule stands.
    let own =
        json!({"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["v1"], "resources": ["*"]});
    let both = Criteria::of_webhook(&json!({"rules": [rule, own]}));
    check(
        &both,
        request,
        Some("autoscaling/v1/horizontalpodautoscalers"),
    );
}

#[test]
fn selectors_look_at_labels_of_objects_and_namespaces() {
    let rules = json!([rule("*", "*", "*", "*")]);
    let with = |key: &str, label: &str, value: &str| {
        Criteria::of_webhook(&json!({"rules": rules, key: {"matchLabels": {label: value}}}))
    };
    for (criteria, request, taken) in [
        (with("objectSelector", "a", "b"), "CREATE pods n", true),
        (with("objectSelector", "a", "c"), "CREATE pods n", false),
        (
            with("namespaceSelector", "team", "n"),
            "CREATE pods n",
            true,
        ),
        (
            with("namespaceSelector", "team", "n"),
            "CREATE pods m",
            false,
        ),
        (with("namespaceSelector", "team", "n"), "CREATE nodes", true),
        // A namespace that is written is looked at as it will be.
        (
            with("namespaceSelector", "a", "b"),
            "UPDATE namespaces n",
            true,
        ),
        (
            with("namespaceSelector", "team", "n"),
            "UPDATE namespaces n",
            false,
        ),
        (
            with("namespaceSelector", "team", "n"),
            "DELETE namespaces n",
            true,
        ),
    ] {
        assert_eq!(
            takes(&criteria, request).is_some(),
            taken,
            "{request} of {criteria:?}"
        );
    }
}

#[test]
fn policies_exclude_and_name() {
    let policy = json!({"resourceRules": [rule("*", "", "*", "*")],
        "excludeResourceRules": [rule("*", "", "secrets", "*")]});
    let criteria = Criteria::of_policy(&policy);
    check(&criteria, "CREATE pods n", Some("v1/pods"));
    check(&criteria, "CREATE secrets n", None);
    let mut named = rule("*", "", "*", "*");
    for (name, taken) in [("x", Some("v1/pods")), ("y", None)] {
        named["resourceNames"] = json!([name]);
        let criteria = Criteria::of_policy(&json!({"resourceRules": [named]}));
        check(&criteria, "CREATE pods n", taken);
    }
    check(
        &Criteria::of_policy(&Value::Null),
        "CREATE pods n",
        Some("v1/pods"),
    );
}
