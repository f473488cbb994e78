//! What can be said of a policy's expressions before any request: they are
//! checked against the types of the kinds that the policy names and of its
//! parameters (`policy/validating/typechecking.go`). Only validations are looked
//! at, and rules without wildcards.

use super::policy::ParamKind;
use crate::admission::conditions::REQUEST;
use crate::admission::matching::texts;
use crate::kinds::Table;
use api::kinds::KindRef;
use api::{declared, meta};
use expressions::{Program, Type};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most kinds that one rule names.
const MOST_KINDS: usize = 10;

/// The policy's `expressionWarnings`.
pub(crate) fn warnings(policy: &Value, table: &Table) -> Vec<Value> {
    let spec = &policy["spec"];
    let params = spec.get("paramKind").map(|of| of_params(of, table));
    let typed = kinds(spec, table);
    let typed: Vec<(String, Type)> = typed
        .into_iter()
        .filter_map(|kind| Some((shown(kind), declared::of(kind)?)))
        .collect();
    let mut out = Vec::new();
    for (i, validation) in meta::list(spec, &["validations"]).iter().enumerate() {
        for key in ["expression", "messageExpression"] {
            let text = meta::text(validation, &[key]);
            if text.is_empty() {
                continue;
            }
            let found = typed.iter().filter_map(|(name, of)| {
                let why = check(spec, text, of, params.as_ref())?;
                Some(format!("{name}: {why}\n"))
            });
            let found: Vec<String> = found.collect();
            if !found.is_empty() {
                out.push(json!({
                    "fieldRef": format!("spec.validations[{i}].{key}"),
                    "warning": found.join("\n"),
                }));
            }
        }
    }
    out
}

/// Group, version and kind in Go's words for them.
fn shown(kind: &KindRef) -> String {
    let (group, version, kind) = (kind.group(), kind.version(), kind.kind());
    format!("{group}/{version}, Kind={kind}")
}

fn of_params(of: &Value, table: &Table) -> Type {
    let wanted = ParamKind::parse(of);
    let mut all = table.iter();
    let found = all.find(|kind| {
        (kind.group(), kind.version(), kind.kind())
            == (&wanted.group, &wanted.version, &wanted.kind)
    });
    found.and_then(declared::of).unwrap_or(Type::Dyn)
}

/// The kinds that the rules name, in the order of group, version and kind.
fn kinds<'a>(spec: &Value, table: &'a Table) -> Vec<&'a KindRef> {
    let mut out: BTreeMap<(&str, &str, &str), &KindRef> = BTreeMap::new();
    for rule in meta::list(spec, &["matchConstraints", "resourceRules"]) {
        let named = |key: &str| -> Vec<String> {
            let mut names = texts(rule, key);
            names.sort();
            names
        };
        let (groups, versions) = (named("apiGroups"), named("apiVersions"));
        let wild = |name: &String| name.contains('*');
        if groups.iter().any(wild) || versions.iter().any(wild) {
            continue;
        }
        let mut resources = named("resources");
        resources.retain(|name| !name.contains(['*', '/']));
        let mut count = 0;
        for (group, version, resource) in combined(&groups, &versions, &resources) {
            for kind in table.iter().filter(|kind| {
                // The core group's name is empty, which names every group.
                (group.is_empty() || kind.group() == group)
                    && kind.version() == version
                    && (kind.plural() == resource || kind.singular() == resource)
            }) {
                out.insert((kind.group(), kind.version(), kind.kind()), kind);
                count += 1;
                if count == MOST_KINDS {
                    return out.into_values().collect();
                }
            }
        }
    }
    out.into_values().collect()
}

fn combined<'a>(
    groups: &'a [String],
    versions: &'a [String],
    resources: &'a [String],
) -> impl Iterator<Item = (&'a str, &'a str, &'a str)> {
    groups.iter().flat_map(move |group| {
        versions.iter().flat_map(move |version| {
            resources
                .iter()
                .map(move |resource| (group.as_str(), version.as_str(), resource.as_str()))
        })
    })
}

/// What is wrong with an expression over objects of one type.
fn check(spec: &Value, text: &str, object: &Type, params: Option<&Type>) -> Option<String> {
    let mut names = REQUEST.to_vec();
    names.extend(params.map(|_| "params"));
    names.push("variables");
    let mut types = vec![
        ("object", object.clone()),
        ("oldObject", object.clone()),
        ("namespaceObject", namespace()),
        ("request", request()),
    ];
    types.extend(params.map(|of| ("params", of.clone())));
    let mut variables: BTreeMap<String, Type> = BTreeMap::new();
    for variable in meta::list(spec, &["variables"]) {
        let text = meta::text(variable, &["expression"]);
        let of = Program::compile(text, &names).map_or(Type::Dyn, |program| {
            let mut types = types.clone();
            types.push(("variables", Type::Object(Arc::new(variables.clone()))));
            program.faults(&types).0
        });
        variables.insert(meta::text(variable, &["name"]).to_owned(), of);
    }
    types.push(("variables", Type::Object(Arc::new(variables))));
    match Program::compile(text, &names) {
        Ok(program) => program.faults(&types).1,
        Err(why) => Some(why.0),
    }
}

fn object<const N: usize>(fields: [(&str, Type); N]) -> Type {
    let fields = fields.map(|(name, of)| (name.to_owned(), of));
    Type::Object(Arc::new(fields.into()))
}

fn list(of: Type) -> Type {
    Type::List(Arc::new(of))
}

fn map(of: Type) -> Type {
    Type::Map(Arc::new(of))
}

/// What policies see of a namespace.
fn namespace() -> Type {
    const TIME: Type = Type::Scalar("timestamp");
    const INT: Type = Type::Scalar("int");
    let condition = object([
        ("status", Type::String),
        ("type", Type::String),
        ("lastTransitionTime", TIME),
        ("message", Type::String),
        ("reason", Type::String),
    ]);
    let metadata = object([
        ("name", Type::String),
        ("generateName", Type::String),
        ("namespace", Type::String),
        ("labels", map(Type::String)),
        ("annotations", map(Type::String)),
        ("UID", Type::String),
        ("creationTimestamp", TIME),
        ("deletionGracePeriodSeconds", INT),
        ("deletionTimestamp", TIME),
        ("generation", INT),
        ("resourceVersion", Type::String),
        ("finalizers", list(Type::String)),
    ]);
    object([
        ("metadata", metadata),
        ("spec", object([("finalizers", list(Type::String))])),
        (
            "status",
            object([("conditions", list(condition)), ("phase", Type::String)]),
        ),
    ])
}

/// What policies see of a request.
fn request() -> Type {
    let named = |last: &'static str| {
        object([
            ("group", Type::String),
            ("version", Type::String),
            (last, Type::String),
        ])
    };
    let user = object([
        ("username", Type::String),
        ("uid", Type::String),
        ("groups", list(Type::String)),
        ("extra", map(list(Type::String))),
    ]);
    object([
        ("kind", named("kind")),
        ("resource", named("resource")),
        ("subResource", Type::String),
        ("requestKind", named("kind")),
        ("requestResource", named("resource")),
        ("requestSubResource", Type::String),
        ("name", Type::String),
        ("namespace", Type::String),
        ("operation", Type::String),
        ("userInfo", user),
        ("dryRun", Type::Bool),
        ("options", Type::Dyn),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::Kinds;

    fn policy(rules: &Value, validation: Value) -> Value {
        json!({"spec": {"matchConstraints": {"resourceRules": rules}, "validations": [validation]}})
    }

    fn rule(group: &str, resources: &[&str]) -> Value {
        json!([{"apiGroups": [group], "apiVersions": ["v1"], "resources": resources}])
    }

    #[test]
    fn kinds_are_those_that_rules_name() {
        let table = Kinds::default().table();
        let many = json!([{"apiGroups": ["", "apps"], "apiVersions": ["v1"], "resources": [
            "pods", "services", "secrets", "configmaps", "nodes", "endpoints", "namespaces",
            "deployments", "daemonsets", "statefulsets", "replicasets", "serviceaccounts"]}]);
        for (rules, wanted) in [
            (
                rule("apps", &["deployments", "pods/*", "*"]),
                &["Deployment"][..],
            ),
            (rule("apps", &["pods/status"]), &[]),
            (rule("*", &["pods"]), &[]),
            (rule("nowhere.example.com", &["pods"]), &[]),
            (rule("", &["pod"]), &["Pod"]),
        ] {
            let policy = policy(&rules, json!({}));
            let found = kinds(&policy["spec"], &table);
            let found: Vec<&str> = found.into_iter().map(KindRef::kind).collect();
            assert_eq!(found, wanted, "{rules}");
        }
        let policy = policy(&many, json!({}));
        assert_eq!(kinds(&policy["spec"], &table).len(), MOST_KINDS);
    }

    #[test]
    fn expressions_are_held_to_the_types() {
        let table = Kinds::default().table();
        let rules = rule("apps", &["deployments"]);
        for (expression, why) in [
            ("object.spec.replicas > 1", None),
            (
                "oldObject == null || object.spec.replicas >= oldObject.spec.replicas",
                None,
            ),
            (
                "object.spec.template.spec.containers.all(c, c.image.startsWith('x'))",
                None,
            ),
            (
                "request.userInfo.groups.exists(g, g == 'x') && namespaceObject.metadata.name != ''",
                None,
            ),
            ("authorizer.requestResource.check('x').allowed()", None),
            (
                "object.replicas > 1",
                Some("1:7: undefined field 'replicas'\n | object.replicas > 1\n | ......^"),
            ),
            (
                "object.spec.replicas == '1'",
                Some(
                    "1:22: found no matching overload for '_==_' applied to '(int, string)'\n | object.spec.replicas == '1'\n | .....................^",
                ),
            ),
            (
                "object.spec.template.spec.containers.all(c, c.img == 'x')",
                Some("1:46: undefined field 'img'"),
            ),
            ("namespaceObject.data == ''", Some("undefined field 'data'")),
            ("request.nothing == ''", Some("undefined field 'nothing'")),
            (
                "authorizer.allowed()",
                Some(
                    "1:19: found no matching overload for 'allowed' applied to 'kubernetes.authorization.Authorizer.()'",
                ),
            ),
        ] {
            let found = warnings(&policy(&rules, json!({"expression": expression})), &table);
            match why {
                None => assert!(found.is_empty(), "{expression}: {found:?}"),
                Some(why) => {
                    let warning = found.first().map(|w| meta::text(w, &["warning"]));
                    let warning = warning.unwrap_or_default();
                    let start = "apps/v1, Kind=Deployment: ERROR: <input>:";
                    assert!(
                        warning.starts_with(start)
                            && warning.contains(why)
                            && warning.ends_with('\n'),
                        "{expression}: {warning}"
                    );
                }
            }
        }
    }

    #[test]
    fn variables_messages_and_parameters_have_types_too() {
        let table = Kinds::default().table();
        let rules = json!([{"apiGroups": ["apps"], "apiVersions": ["v1"],
            "resources": ["deployments", "statefulsets"]}]);
        let mut policy = policy(
            &rules,
            json!({"expression": "variables.n > 'x'", "messageExpression": "params.nothing"}),
        );
        let spec = &mut policy["spec"];
        spec["variables"] = json!([{"name": "n", "expression": "object.spec.replicas"}]);
        spec["paramKind"] = json!({"apiVersion": "v1", "kind": "ConfigMap"});
        let found = warnings(&policy, &table);
        let refs: Vec<&str> = found.iter().map(|w| meta::text(w, &["fieldRef"])).collect();
        let wanted = [
            "spec.validations[0].expression",
            "spec.validations[0].messageExpression",
        ];
        assert_eq!(refs, wanted);
        let warning = meta::text(&found[0], &["warning"]);
        assert_eq!(
            warning.matches("applied to '(int, string)'").count(),
            2,
            "{warning}"
        );
        assert!(
            warning.contains("\n\napps/v1, Kind=StatefulSet: "),
            "{warning}"
        );
        policy["spec"]["paramKind"]["kind"] = "Unknown".into();
        assert_eq!(
            warnings(&policy, &table).len(),
            1,
            "an unknown kind has any field"
        );
    }
}
