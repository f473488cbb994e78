//! Which flow a request belongs to: the first FlowSchema, in order of
//! precedence and name, that matches it. Pure
//! (`apiserver/pkg/util/flowcontrol/rule.go`).

use crate::authz::Attributes;
use crate::user::{User, account_of};
use api::meta;
use serde_json::Value;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Schema {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) level: String,
    precedence: i64,
    distinguisher: Distinguisher,
    rules: Vec<Rule>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Distinguisher {
    Nothing,
    User,
    Namespace,
}

#[derive(Debug, PartialEq, Eq)]
struct Rule {
    subjects: Vec<Subject>,
    resources: Vec<ResourceRule>,
    paths: Vec<PathRule>,
}

#[derive(Debug, PartialEq, Eq)]
enum Subject {
    User(String),
    Group(String),
    /// Namespace and name.
    Account(String, String),
}

#[derive(Debug, PartialEq, Eq)]
struct ResourceRule {
    verbs: Vec<String>,
    groups: Vec<String>,
    resources: Vec<String>,
    cluster: bool,
    namespaces: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
struct PathRule {
    verbs: Vec<String>,
    urls: Vec<String>,
}

fn texts(value: &Value, key: &str) -> Vec<String> {
    let all = meta::list(value, &[key]).iter();
    all.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|e| e == "*" || e == wanted)
}

impl Schema {
    pub(super) fn parse(object: &Value) -> Schema {
        let spec = &object["spec"];
        Schema {
            name: meta::name(object).to_owned(),
            uid: meta::uid(object).to_owned(),
            level: meta::text(spec, &["priorityLevelConfiguration", "name"]).to_owned(),
            precedence: meta::int(spec, &["matchingPrecedence"]).unwrap_or(1000),
            distinguisher: match meta::text(spec, &["distinguisherMethod", "type"]) {
                "ByUser" => Distinguisher::User,
                "ByNamespace" => Distinguisher::Namespace,
                _ => Distinguisher::Nothing,
            },
            rules: meta::list(spec, &["rules"])
                .iter()
                .map(Rule::parse)
                .collect(),
        }
    }

    /// By what schemas are tried.
    pub(super) fn order(&self) -> (i64, &str) {
        (self.precedence, &self.name)
    }

    pub(super) fn matches(&self, user: &User, a: &Attributes<'_>) -> bool {
        self.rules.iter().any(|rule| rule.matches(user, a))
    }

    /// What tells flows of one schema apart.
    pub(super) fn flow<'a>(&self, user: &'a User, a: &Attributes<'a>) -> &'a str {
        match self.distinguisher {
            Distinguisher::Nothing => "",
            Distinguisher::User => &user.name,
            Distinguisher::Namespace => a.namespace,
        }
    }
}

impl Rule {
    fn parse(value: &Value) -> Rule {
        let list = |key| meta::list(value, &[key]).iter();
        Rule {
            subjects: list("subjects").filter_map(Subject::parse).collect(),
            resources: list("resourceRules").map(ResourceRule::parse).collect(),
            paths: list("nonResourceRules").map(PathRule::parse).collect(),
        }
    }

    fn matches(&self, user: &User, a: &Attributes<'_>) -> bool {
        let acts = match a.path {
            Some(path) => self.paths.iter().any(|r| r.matches(a.verb, path)),
            None => self.resources.iter().any(|r| r.matches(a)),
        };
        acts && self.subjects.iter().any(|s| s.is(user))
    }
}

impl Subject {
    fn parse(value: &Value) -> Option<Subject> {
        let text = |path: &[&str]| meta::text(value, path).to_owned();
        match meta::text(value, &["kind"]) {
            "User" => Some(Subject::User(text(&["user", "name"]))),
            "Group" => Some(Subject::Group(text(&["group", "name"]))),
            "ServiceAccount" => Some(Subject::Account(
                text(&["serviceAccount", "namespace"]),
                text(&["serviceAccount", "name"]),
            )),
            _ => None,
        }
    }

    fn is(&self, user: &User) -> bool {
        match self {
            Subject::User(name) => name == "*" || *name == user.name,
            Subject::Group(name) => name == "*" || user.is_in(name),
            Subject::Account(namespace, name) => account_of(&user.name)
                .is_some_and(|(ns, own)| ns == namespace && (name == "*" || own == name)),
        }
    }
}

impl ResourceRule {
    fn parse(value: &Value) -> ResourceRule {
        ResourceRule {
            verbs: texts(value, "verbs"),
            groups: texts(value, "apiGroups"),
            resources: texts(value, "resources"),
            cluster: value["clusterScope"] == true,
            namespaces: texts(value, "namespaces"),
        }
    }

    fn matches(&self, a: &Attributes<'_>) -> bool {
        let place = match a.namespace {
            "" => self.cluster,
            namespace => has(&self.namespaces, namespace),
        };
        let resource = || match a.subresource {
            "" => has(&self.resources, a.resource),
            sub => self
                .resources
                .iter()
                .any(|r| r == "*" || r.split_once('/') == Some((a.resource, sub))),
        };
        place && has(&self.verbs, a.verb) && has(&self.groups, a.group) && resource()
    }
}

impl PathRule {
    fn parse(value: &Value) -> PathRule {
        PathRule {
            verbs: texts(value, "verbs"),
            urls: texts(value, "nonResourceURLs"),
        }
    }

    fn matches(&self, verb: &str, path: &str) -> bool {
        let covers = |url: &String| {
            let start = url.strip_suffix('*');
            url == path || start.is_some_and(|start| path.starts_with(start))
        };
        has(&self.verbs, verb) && self.urls.iter().any(covers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema(subject: Value, resource: Value, path: Value) -> Schema {
        Schema::parse(&json!({"metadata": {"name": "s"}, "spec": {"rules": [
            {"subjects": [subject], "resourceRules": [resource], "nonResourceRules": [path]}]}}))
    }

    // Table: who, what, where; and whether it matches.
    #[test]
    fn a_schema_matches_who_does_what_where() {
        let resource = json!({"verbs": ["get"], "apiGroups": ["apps"],
            "resources": ["deployments", "deployments/scale"], "namespaces": ["n"]});
        let path = json!({"verbs": ["*"], "nonResourceURLs": ["/healthz", "/openapi/*"]});
        let users = schema(
            json!({"kind": "User", "user": {"name": "u"}}),
            resource,
            path,
        );
        let on = |resource: &'static str, subresource, namespace| Attributes {
            verb: "get",
            group: "apps",
            resource,
            subresource,
            namespace,
            ..Attributes::default()
        };
        let at = |path| Attributes {
            verb: "get",
            path: Some(path),
            ..Attributes::default()
        };
        for (name, a, matches) in [
            ("u", on("deployments", "", "n"), true),
            ("u", on("deployments", "scale", "n"), true),
            ("u", on("deployments", "status", "n"), false),
            ("u", on("replicasets", "", "n"), false),
            ("u", on("deployments", "", "m"), false),
            ("u", on("deployments", "", ""), false),
            ("v", on("deployments", "", "n"), false),
            ("u", at("/healthz"), true),
            ("u", at("/healthz/ping"), false),
            ("u", at("/openapi/v2"), true),
        ] {
            let user = User::new(name, []);
            assert_eq!(users.matches(&user, &a), matches, "{name} {a:?}");
        }
    }

    #[test]
    fn subjects_are_users_groups_and_accounts() {
        let all = json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"],
            "clusterScope": true, "namespaces": ["*"]});
        let account = |name: &str| json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "n", "name": name}});
        let robot = User::account("n", "robot", "1");
        let other = User::account("m", "robot", "1");
        for (subject, user, matches) in [
            (account("*"), &robot, true),
            (account("robot"), &robot, true),
            (account("else"), &robot, false),
            (account("*"), &other, false),
            (
                json!({"kind": "Group", "group": {"name": "system:serviceaccounts"}}),
                &robot,
                true,
            ),
            (
                json!({"kind": "Group", "group": {"name": "*"}}),
                &robot,
                true,
            ),
            (json!({"kind": "User", "user": {"name": "*"}}), &robot, true),
            (
                json!({"kind": "Group", "group": {"name": "x"}}),
                &robot,
                false,
            ),
        ] {
            let schema = schema(subject.clone(), all.clone(), json!({}));
            let found = schema.matches(user, &Attributes::default());
            assert_eq!(found, matches, "{subject} {}", user.name);
        }
    }
}
