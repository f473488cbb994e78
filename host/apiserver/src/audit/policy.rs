//! The audit policy (`audit.k8s.io/v1` `Policy`): what of which requests is
//! recorded. Pure: text to rules, requests to the first rule that matches.

use crate::route::ResourceRoute;
use crate::user::User;
use api::field::{Errors, Path};
use api::{decode, meta, names};
use serde::Deserialize;
use serde_json::Value;

/// How much of a request is recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    #[default]
    None,
    Metadata,
    Request,
    RequestResponse,
}

const LEVELS: &[(&str, Level)] = &[
    ("None", Level::None),
    ("Metadata", Level::Metadata),
    ("Request", Level::Request),
    ("RequestResponse", Level::RequestResponse),
];

/// When a request is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    RequestReceived,
    ResponseStarted,
    ResponseComplete,
    Panic,
}

const STAGES: &[(&str, Stage)] = &[
    ("RequestReceived", Stage::RequestReceived),
    ("ResponseStarted", Stage::ResponseStarted),
    ("ResponseComplete", Stage::ResponseComplete),
    ("Panic", Stage::Panic),
];

impl Level {
    pub(super) fn name(self) -> &'static str {
        name_in(LEVELS, self)
    }
}

impl Stage {
    pub(super) fn name(self) -> &'static str {
        name_in(STAGES, self)
    }
}

fn name_in<T: Copy + PartialEq>(table: &[(&'static str, T)], wanted: T) -> &'static str {
    let found = table.iter().find(|(_, value)| *value == wanted);
    found.map_or("", |(name, _)| name)
}

/// A request as rules see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    /// `None`: nobody could be authenticated.
    pub(super) user: Option<&'a User>,
    pub(super) verb: &'a str,
    /// `None`: on no resource.
    pub(super) resource: Option<&'a ResourceRoute>,
    /// The object's, or the one that a field selector narrows to.
    pub(super) name: &'a str,
    pub(super) path: &'a str,
}

/// What the policy says of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) level: Level,
    pub(super) omit_stages: Vec<Stage>,
    pub(super) omit_managed_fields: bool,
}

#[derive(Debug)]
pub(super) struct Policy {
    rules: Vec<(Rule, Judged)>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Rule {
    level: String,
    users: Vec<String>,
    user_groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<GroupResources>,
    namespaces: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    urls: Vec<String>,
    omit_stages: Vec<String>,
    omit_managed_fields: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct GroupResources {
    group: String,
    resources: Vec<String>,
    resource_names: Vec<String>,
}

const MEMBERS: &[&str] = &[
    "apiVersion",
    "kind",
    "metadata",
    "rules",
    "omitStages",
    "omitManagedFields",
];
const RULE_MEMBERS: &[&str] = &[
    "level",
    "users",
    "userGroups",
    "verbs",
    "resources",
    "namespaces",
    "nonResourceURLs",
    "omitStages",
    "omitManagedFields",
];

impl Policy {
    /// From YAML or JSON; the faults, all at once, name their fields. Like
    /// upstream, members that nobody knows only give a warning.
    pub(super) fn parse(text: &[u8]) -> Result<(Policy, Vec<String>), String> {
        let parsed = decode::yaml(text)?;
        let mut value = parsed.value;
        without_nulls(&mut value);
        let mut errors = Errors::default();
        check_type(&value, &mut errors);
        let global = stages(
            &texts(&value["omitStages"])?,
            &Path::new("omitStages"),
            &mut errors,
        );
        let omit_managed = meta::flag(&value, &["omitManagedFields"]);
        let mut warnings = unknown(&value, MEMBERS, "");
        warnings.extend(
            parsed
                .duplicates
                .iter()
                .map(|d| format!("duplicate field {d:?}")),
        );
        let mut rules = Vec::new();
        let listed = match &value["rules"] {
            Value::Null => &[][..],
            Value::Array(listed) => listed,
            _ => return Err("rules: must be a list".to_owned()),
        };
        if listed.is_empty() {
            errors.required(&Path::new("rules"), "a policy has at least one rule");
        }
        for (i, of) in listed.iter().enumerate() {
            let path = Path::new("rules").index(i);
            warnings.extend(unknown(of, RULE_MEMBERS, &format!("rules[{i}].")));
            let rule: Rule =
                serde_json::from_value(of.clone()).map_err(|e| format!("rules[{i}]: {e}"))?;
            let mut omit_stages = global.clone();
            let own = stages(&rule.omit_stages, &path.child("omitStages"), &mut errors);
            omit_stages.extend(own);
            let judged = Judged {
                level: level(&rule.level, &path.child("level"), &mut errors),
                omit_stages,
                omit_managed_fields: rule.omit_managed_fields.unwrap_or(omit_managed),
            };
            check_rule(&rule, &path, &mut errors);
            rules.push((rule, judged));
        }
        match errors.is_empty() {
            true => Ok((Policy { rules }, warnings)),
            false => Err(errors.aggregate()),
        }
    }

    /// What the first rule that matches says; without one nothing is recorded.
    pub(super) fn judge(&self, subject: &Subject<'_>) -> Judged {
        let mut rules = self.rules.iter();
        let found = rules.find(|(rule, _)| rule.matches(subject));
        found.map(|(_, judged)| judged.clone()).unwrap_or_default()
    }
}

/// A null member is an absent one.
fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

fn unknown(value: &Value, known: &[&str], at: &str) -> Vec<String> {
    let members = value.as_object().into_iter().flatten();
    let unknown = members.filter(|(key, _)| !known.contains(&key.as_str()));
    unknown
        .map(|(key, _)| format!("unknown field \"{at}{key}\""))
        .collect()
}

fn texts(value: &Value) -> Result<Vec<String>, String> {
    match value {
        Value::Null => Ok(Vec::new()),
        listed => serde_json::from_value(listed.clone()).map_err(|e| format!("omitStages: {e}")),
    }
}

fn check_type(value: &Value, errors: &mut Errors) {
    for (key, wanted) in [("apiVersion", "audit.k8s.io/v1"), ("kind", "Policy")] {
        match meta::text(value, &[key]) {
            "" => errors.required(&Path::new(key), format!("must be {wanted}")),
            found if found == wanted => {}
            found => errors.not_supported(&Path::new(key), found, &[wanted]),
        }
    }
}

fn level(text: &str, path: &Path, errors: &mut Errors) -> Level {
    match LEVELS.iter().find(|(name, _)| *name == text) {
        Some((_, level)) => return *level,
        None if text.is_empty() => errors.required(path, ""),
        None => errors.not_supported(path, text, &LEVELS.iter().map(|l| l.0).collect::<Vec<_>>()),
    }
    Level::None
}

fn stages(listed: &[String], path: &Path, errors: &mut Errors) -> Vec<Stage> {
    let mut found = Vec::new();
    for (i, text) in listed.iter().enumerate() {
        match STAGES.iter().find(|(name, _)| name == text) {
            Some((_, stage)) => found.push(*stage),
            None => {
                let all: Vec<&str> = STAGES.iter().map(|s| s.0).collect();
                let why = format!("allowed stages are {}", all.join(","));
                errors.invalid(&path.index(i), text.as_str(), why);
            }
        }
    }
    found
}

fn check_rule(rule: &Rule, path: &Path, errors: &mut Errors) {
    let urls = path.child("nonResourceURLs");
    for (i, url) in rule.urls.iter().enumerate().filter(|(_, url)| *url != "*") {
        if !url.starts_with('/') {
            let why = "non-resource URL rules must begin with a '/' character";
            errors.invalid(&urls.index(i), url.as_str(), why);
        }
        if url.find('*').is_some_and(|at| at + 1 < url.len()) {
            let why = "non-resource URL wildcards '*' must be the final character of the rule";
            errors.invalid(&urls.index(i), url.as_str(), why);
        }
    }
    let resources = path.child("resources");
    for of in &rule.resources {
        if !matches!(of.group.as_str(), "" | "*") {
            let faults = names::dns_subdomain(&of.group);
            if !faults.is_empty() {
                let group = resources.child("group");
                errors.invalid(&group, of.group.as_str(), faults.join(","));
            }
        }
        if of.resources.is_empty() && !of.resource_names.is_empty() {
            let why = "using resourceNames requires at least one resource";
            errors.invalid(
                &resources.child("resourceNames"),
                of.resource_names.clone(),
                why,
            );
        }
    }
    let on_resources = !(rule.resources.is_empty() && rule.namespaces.is_empty());
    if on_resources && !rule.urls.is_empty() {
        let why = "rules cannot apply to both regular resources and non-resource URLs";
        errors.invalid(&urls, rule.urls.clone(), why);
    }
}

fn takes(listed: &[String], wanted: &str) -> bool {
    listed.is_empty() || listed.iter().any(|one| one == wanted)
}

impl Rule {
    fn matches(&self, subject: &Subject<'_>) -> bool {
        let is_user = match subject.user {
            Some(user) => {
                takes(&self.users, &user.name)
                    && (self.user_groups.is_empty()
                        || self.user_groups.iter().any(|g| user.is_in(g)))
            }
            None => self.users.is_empty() && self.user_groups.is_empty(),
        };
        if !is_user || !takes(&self.verbs, subject.verb) {
            return false;
        }
        let on_resources = !(self.namespaces.is_empty() && self.resources.is_empty());
        match (on_resources, self.urls.is_empty(), subject.resource) {
            (true, _, Some(route)) => self.matches_resource(route, subject.name),
            (true, _, None) | (false, false, Some(_)) => false,
            (false, false, None) => self.urls.iter().any(|url| is_below(subject.path, url)),
            (false, true, _) => true,
        }
    }

    fn matches_resource(&self, route: &ResourceRoute, name: &str) -> bool {
        takes(&self.namespaces, &route.namespace)
            && (self.resources.is_empty() || self.resources.iter().any(|of| of.takes(route, name)))
    }
}

fn is_below(path: &str, url: &str) -> bool {
    match url.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => path == url,
    }
}

impl GroupResources {
    fn takes(&self, route: &ResourceRoute, name: &str) -> bool {
        if self.group != "*" && self.group != route.group {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        takes(&self.resource_names, name)
            && self.resources.iter().any(|of| match of.split_once('/') {
                None => of == "*" || (*of == route.resource && route.subresource.is_empty()),
                Some(("*", sub)) if sub != "*" => !sub.is_empty() && sub == route.subresource,
                // With it, the resource itself too.
                Some((resource, "*")) => resource == route.resource,
                Some((resource, sub)) => resource == route.resource && sub == route.subresource,
            })
    }
}
