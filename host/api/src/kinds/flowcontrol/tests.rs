use crate::kinds::group_tests::{defaults, faults, row, shows, updates};
use serde_json::{Value, json};

const GROUP: &str = "flowcontrol";

fn schema(rule: Value) -> Value {
    let mut of = json!({
        "subjects": [{"kind": "User", "user": {"name": "u"}}],
        "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}]});
    crate::patch::merge(&mut of, rule);
    json!({"spec": {"priorityLevelConfiguration": {"name": "l"}, "matchingPrecedence": 5, "rules": [of]}})
}

#[test]
fn flow_schemas_are_checked() {
    let spec = |patch: Value| json!({"spec": patch});
    faults(
        GROUP,
        "flowschemas",
        schema(json!({})),
        &[
            (
                spec(json!({"matchingPrecedence": 1})),
                "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1",
            ),
            (
                spec(json!({"matchingPrecedence": 10001})),
                "spec.matchingPrecedence: Invalid value: 10001: must not be greater than 10000",
            ),
            (
                spec(json!({"priorityLevelConfiguration": {"name": ""}})),
                "spec.priorityLevelConfiguration.name: Required value: must reference a priority level",
            ),
            (
                spec(json!({"distinguisherMethod": {"type": "ByMood"}})),
                "spec.distinguisherMethod.type: Unsupported value: \"ByMood\": supported values: \"ByNamespace\", \"ByUser\"",
            ),
            (
                schema(json!({"subjects": null})),
                "spec.rules[0].subjects: Required value: subjects must contain at least one value",
            ),
            (
                schema(json!({"subjects": [{"kind": "Group"}]})),
                "spec.rules[0].subjects[0].group: Required value: group is required when subject kind is 'Group'",
            ),
            (
                schema(
                    json!({"subjects": [{"kind": "User", "user": {"name": "u"}, "group": {"name": "g"}}]}),
                ),
                "spec.rules[0].subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group'",
            ),
            (
                schema(json!({"resourceRules": null})),
                "spec.rules[0]: Required value: at least one of resourceRules and nonResourceRules has to be non-empty",
            ),
            (
                schema(json!({"nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["x"]}]})),
                "spec.rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: \"x\": must start with slash",
            ),
        ],
    );
    defaults(
        GROUP,
        "flowschemas",
        json!({}),
        "/spec/matchingPrecedence",
        json!(1000),
    );
    updates(
        GROUP,
        "flowschemas",
        schema(json!({})),
        &[
            (
                json!({"status": {"conditions": [{"type": "Dangling"}]}}),
                "",
                1,
            ),
            (json!({"spec": {"matchingPrecedence": 6}}), "", 2),
        ],
    );
    shows(
        GROUP,
        "flowschemas",
        schema(json!({})),
        json!(["x", "l", 5, "<none>", "?"]),
    );
}

fn limited(queuing: Value) -> Value {
    json!({"spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": queuing}}}})
}

#[test]
fn priority_levels_are_checked() {
    let plural = "prioritylevelconfigurations";
    faults(
        GROUP,
        plural,
        limited(json!({})),
        &[
            (
                json!({"spec": {"type": "Some"}}),
                "spec.type: Unsupported value: \"Some\": supported values: \"Exempt\", \"Limited\"",
            ),
            (
                json!({"spec": {"limited": null}}),
                "spec.limited: Required value: must not be empty when type is Limited",
            ),
            (
                json!({"spec": {"limited": {"limitResponse": {"queuing": null}}}}),
                "spec.limited.limitResponse.queuing: Required value: must not be empty if limited.limitResponse.type is Limited",
            ),
            (
                limited(json!({"queues": 4})),
                "spec.limited.limitResponse.queuing.handSize: Invalid value: 8: should not be greater than queues (4)",
            ),
            (
                limited(json!({"queues": 512, "handSize": 8})),
                "spec.limited.limitResponse.queuing.handSize: Invalid value: 8: required entropy bits of deckSize 512 and handSize 8 should not be greater than 60",
            ),
        ],
    );
    for (path, wanted) in [("handSize", 8), ("queues", 64), ("queueLengthLimit", 50)] {
        let path = format!("/spec/limited/limitResponse/queuing/{path}");
        defaults(GROUP, plural, limited(json!({})), &path, json!(wanted));
    }
    shows(
        GROUP,
        plural,
        limited(json!({})),
        json!(["x", "Limited", 30, 64, 8, 50]),
    );
}

#[test]
fn mandatory_objects_stay_as_they_are() {
    for (plural, objects) in [
        ("flowschemas", super::flow_schemas()),
        ("prioritylevelconfigurations", super::priority_levels()),
    ] {
        let k = row(GROUP, plural);
        for mut object in objects {
            let fixed = matches!(crate::meta::name(&object), "exempt" | "catch-all");
            let before = object.clone();
            (k.default)(&mut object);
            assert_eq!(object["spec"], before["spec"], "defaults change it");
            object["spec"]["extra"] = 1.into();
            let mut errors = crate::field::Errors::default();
            (k.validate)(&object, &mut errors);
            let said = errors.aggregate().contains("must equal the fixed value");
            assert_eq!(said, fixed, "{}", crate::meta::name(&object));
        }
    }
}
