//! One policy rule: what it allows, what it covers. Pure
//! (`rbac.authorization.k8s.io/v1` `PolicyRule`).

use super::Attributes;
use api::meta;
use serde_json::{Value, json};

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Rule {
    pub(crate) verbs: Vec<String>,
    pub(crate) groups: Vec<String>,
    pub(crate) resources: Vec<String>,
    pub(crate) names: Vec<String>,
    pub(crate) urls: Vec<String>,
}

fn texts(value: &Value, key: &str) -> Vec<String> {
    meta::list(value, &[key])
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|e| e == wanted)
}

fn has_or_all(list: &[String], wanted: &str) -> bool {
    has(list, "*") || has(list, wanted)
}

fn url_covers(rule: &str, path: &str) -> bool {
    rule == "*"
        || rule == path
        || rule
            .strip_suffix('*')
            .is_some_and(|_| path.starts_with(rule.trim_end_matches('*')))
}

impl Rule {
    pub(crate) fn parse(value: &Value) -> Rule {
        Rule {
            verbs: texts(value, "verbs"),
            groups: texts(value, "apiGroups"),
            resources: texts(value, "resources"),
            names: texts(value, "resourceNames"),
            urls: texts(value, "nonResourceURLs"),
        }
    }

    pub(crate) fn parse_all(role: &Value) -> Vec<Rule> {
        meta::list(role, &["rules"])
            .iter()
            .map(Rule::parse)
            .collect()
    }

    pub(crate) fn to_value(&self) -> Value {
        let mut value = json!({"verbs": self.verbs});
        for (key, list) in [
            ("apiGroups", &self.groups),
            ("resources", &self.resources),
            ("resourceNames", &self.names),
            ("nonResourceURLs", &self.urls),
        ] {
            if !list.is_empty() {
                value[key] = json!(list);
            }
        }
        value
    }

    pub(crate) fn allows(&self, a: &Attributes<'_>) -> bool {
        if !has_or_all(&self.verbs, a.verb) {
            return false;
        }
        if let Some(path) = a.path {
            return self.urls.iter().any(|u| url_covers(u, path));
        }
        has_or_all(&self.groups, a.group)
            && self.allows_resource(a.resource, a.subresource)
            && (self.names.is_empty() || has(&self.names, a.name))
    }

    fn allows_resource(&self, resource: &str, subresource: &str) -> bool {
        self.resources.iter().any(|r| {
            r == "*"
                || match subresource {
                    "" => r == resource,
                    sub => r
                        .strip_suffix(sub)
                        .and_then(|r| r.strip_suffix('/'))
                        .is_some_and(|r| r == resource || r == "*"),
                }
        })
    }

    /// Whether this rule grants all that `wanted` does, which names one of
    /// each at most (see [`Rule::split`]).
    fn covers(&self, wanted: &Rule) -> bool {
        let every = |own: &[String], their: &[String]| their.iter().all(|t| has_or_all(own, t));
        every(&self.verbs, &wanted.verbs)
            && every(&self.groups, &wanted.groups)
            && wanted.resources.iter().all(|r| {
                let (resource, sub) = r.split_once('/').unwrap_or((r, ""));
                has(&self.resources, r)
                    || has(&self.resources, "*")
                    || (!sub.is_empty()
                        && resource != "*"
                        && has(&self.resources, &format!("*/{sub}")))
            })
            && wanted
                .urls
                .iter()
                .all(|u| self.urls.iter().any(|own| url_covers(own, u)))
            && match wanted.names.is_empty() {
                true => self.names.is_empty(),
                false => self.names.is_empty() || wanted.names.iter().all(|n| has(&self.names, n)),
            }
    }

    /// Into rules of one group, resource, name or URL, and one verb each.
    fn split(&self) -> Vec<Rule> {
        let mut out = Vec::new();
        let one = |text: &String| vec![text.clone()];
        for verb in &self.verbs {
            for url in &self.urls {
                out.push(Rule {
                    verbs: one(verb),
                    urls: one(url),
                    ..Rule::default()
                });
            }
            for group in &self.groups {
                for resource in &self.resources {
                    let base = Rule {
                        verbs: one(verb),
                        groups: one(group),
                        resources: one(resource),
                        ..Rule::default()
                    };
                    if self.names.is_empty() {
                        out.push(base.clone());
                    }
                    out.extend(self.names.iter().map(|name| Rule {
                        names: one(name),
                        ..base.clone()
                    }));
                }
            }
        }
        out
    }

    /// As escalation messages name it: `{APIGroups:["a"], Verbs:["get"]}`.
    fn describe(&self) -> String {
        let mut parts = Vec::new();
        for (name, list) in [
            ("APIGroups", &self.groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.urls),
            ("ResourceNames", &self.names),
            ("Verbs", &self.verbs),
        ] {
            if !list.is_empty() {
                parts.push(format!("{name}:{}", quoted(list)));
            }
        }
        format!("{{{}}}", parts.join(", "))
    }
}

/// Go's `%q` of a list of strings.
pub(crate) fn quoted(list: &[String]) -> String {
    let quoted: Vec<String> = list.iter().map(|s| format!("{s:?}")).collect();
    format!("[{}]", quoted.join(" "))
}

/// Rules that a role may have; more are cut off by the split's product.
const MAX_SPLIT: usize = 100_000;

/// What of `wanted` the rules in `held` don't cover, compacted and described
/// line by line; empty if all is covered.
pub(crate) fn missing(held: &[Rule], wanted: &[Rule]) -> Vec<String> {
    let product: usize = wanted
        .iter()
        .map(|r| {
            let names = r.names.len().max(1);
            r.verbs.len().saturating_mul(
                r.groups
                    .len()
                    .saturating_mul(r.resources.len())
                    .saturating_mul(names)
                    + r.urls.len(),
            )
        })
        .fold(0, usize::saturating_add);
    if product > MAX_SPLIT {
        return vec!["{too many rules to compare}".to_owned()];
    }
    let lacking: Vec<Rule> = wanted
        .iter()
        .flat_map(Rule::split)
        .filter(|w| !held.iter().any(|h| h.covers(w)))
        .collect();
    let mut lines: Vec<String> = compact(lacking).iter().map(Rule::describe).collect();
    lines.sort();
    lines.dedup();
    lines
}

/// Joins the verbs of rules that differ in nothing else.
fn compact(rules: Vec<Rule>) -> Vec<Rule> {
    let mut out: Vec<Rule> = Vec::new();
    let mut at = std::collections::HashMap::new();
    for rule in rules {
        let key = Rule {
            verbs: Vec::new(),
            ..rule.clone()
        };
        match at.get(&key) {
            Some(i) => {
                let found: &mut Rule = &mut out[*i];
                for verb in rule.verbs {
                    if !has(&found.verbs, &verb) {
                        found.verbs.push(verb);
                    }
                }
            }
            None => {
                at.insert(key, out.len());
                out.push(rule);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(verbs: &[&str], groups: &[&str], resources: &[&str], names: &[&str]) -> Rule {
        let owned = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect();
        Rule {
            verbs: owned(verbs),
            groups: owned(groups),
            resources: owned(resources),
            names: owned(names),
            urls: Vec::new(),
        }
    }

    // Table: rules and requests.
    #[test]
    fn a_rule_allows_what_it_names() {
        // verb, group, resource and name of the rule; resource and name asked for.
        for (verb, group, named, name, asked, of, allowed) in [
            ("get", "", "pods", "", "pods", "a", true),
            ("get", "", "pods", "", "pods/log", "a", false),
            ("get", "", "pods/log", "", "pods/log", "a", true),
            ("get", "", "*/log", "", "pods/log", "a", true),
            ("get", "", "*/log", "", "pods", "a", false),
            ("get", "", "*", "", "pods/log", "a", true),
            ("*", "*", "pods", "b", "pods", "a", false),
            ("*", "*", "pods", "b", "pods", "", false),
            ("*", "*", "pods", "a", "pods", "a", true),
            ("list", "", "pods", "", "pods", "a", false),
            ("get", "apps", "pods", "", "pods", "a", false),
            ("get", "", "xpods/log", "", "pods/log", "a", false),
        ] {
            let names: &[&str] = if name.is_empty() { &[] } else { &[name] };
            let rule = rule(&[verb], &[group], &[named], names);
            let (resource, subresource) = asked.split_once('/').unwrap_or((asked, ""));
            let a = Attributes {
                verb: "get",
                resource,
                subresource,
                name: of,
                ..Attributes::default()
            };
            assert_eq!(rule.allows(&a), allowed, "{rule:?} {a:?}");
        }
    }

    #[test]
    fn urls_match_to_the_star() {
        for (url, path, covers) in [
            ("*", "/x", true),
            ("/healthz", "/healthz", true),
            ("/healthz", "/healthz/ping", false),
            ("/healthz/*", "/healthz/ping", true),
            ("/healthz*", "/healthzz", true),
            ("/a/*", "/a", false),
        ] {
            assert_eq!(url_covers(url, path), covers, "{url} {path}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let held = [
            rule(&["get", "list"], &[""], &["pods"], &[]),
            rule(&["get"], &["*"], &["*/scale"], &["x"]),
        ];
        let none: &[&str] = &[];
        for (wanted, lines) in [
            (rule(&["get"], &[""], &["pods"], &["a"]), none),
            (
                rule(&["get"], &["apps"], &["deployments/scale"], &["x"]),
                none,
            ),
            (
                rule(&["get"], &["apps"], &["deployments/scale"], &[]),
                &[r#"{APIGroups:["apps"], Resources:["deployments/scale"], Verbs:["get"]}"#],
            ),
            (
                rule(
                    &["get", "watch", "create"],
                    &[""],
                    &["pods", "secrets"],
                    &[],
                ),
                &[
                    r#"{APIGroups:[""], Resources:["pods"], Verbs:["watch" "create"]}"#,
                    r#"{APIGroups:[""], Resources:["secrets"], Verbs:["get" "watch" "create"]}"#,
                ],
            ),
            (
                rule(&["*"], &[""], &["pods"], &[]),
                &[r#"{APIGroups:[""], Resources:["pods"], Verbs:["*"]}"#],
            ),
        ] {
            assert_eq!(missing(&held, &[wanted]), lines);
        }
    }
}
