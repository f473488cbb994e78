use crate::kinds::group_tests::{defaults, faults, shows, updates};
use serde_json::json;

#[test]
fn roles_and_bindings() {
    faults(
        "rbac",
        "roles",
        json!({"metadata": {"name": "system:x"}, "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]}),
        &[
            (
                json!({"rules": [{"verbs": [], "apiGroups": [""], "resources": ["pods"]}]}),
                "rules[0].verbs: Required value: verbs must contain at least one value",
            ),
            (
                json!({"rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]}),
                "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs",
            ),
            (
                json!({"rules": [{"verbs": ["get"]}]}),
                "[rules[0].apiGroups: Required value: resource rules must supply at least one api group, rules[0].resources: Required value: resource rules must supply at least one resource]",
            ),
        ],
    );
    faults(
        "rbac",
        "clusterroles",
        json!({"rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]}),
        &[(
            json!({"aggregationRule": {}}),
            "aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if aggregationRule is non-nil",
        )],
    );
    let base = json!({"roleRef": {"kind": "ClusterRole", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}]});
    faults(
        "rbac",
        "clusterrolebindings",
        base.clone(),
        &[
            (
                json!({"roleRef": {"kind": "Role"}}),
                "roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\"",
            ),
            (
                json!({"subjects": [{"kind": "ServiceAccount", "name": "s"}]}),
                "subjects[0].namespace: Required value",
            ),
            (
                json!({"subjects": [{"kind": "Robot", "name": "s"}]}),
                "subjects[0].kind: Unsupported value: \"Robot\": supported values: \"ServiceAccount\", \"User\", \"Group\"",
            ),
        ],
    );
    let group = json!("rbac.authorization.k8s.io");
    defaults(
        "rbac",
        "rolebindings",
        base.clone(),
        "/subjects/0/apiGroup",
        group,
    );
    updates(
        "rbac",
        "rolebindings",
        base.clone(),
        &[(
            json!({"roleRef": {"name": "s"}}),
            "roleRef: Invalid value: {\"kind\":\"ClusterRole\",\"name\":\"s\",\"apiGroup\":\"rbac.authorization.k8s.io\"}: cannot change roleRef",
            0,
        )],
    );
    shows(
        "rbac",
        "rolebindings",
        base,
        json!(["x", "ClusterRole/r", "u", "", ""]),
    );
}
