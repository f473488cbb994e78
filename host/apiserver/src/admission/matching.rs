//! Which requests a webhook or a policy is about: rules, selectors of
//! namespaces and objects, other versions of the same resource. Pure
//! (`webhook/predicates`, `policy/matching`).

use super::attributes::Operation;
use api::kinds::KindRef;
use api::label_selector;
use api::meta;
use api::selector::LabelSelector;
use api::status::Status;
use serde_json::Value;

/// A request, as far as rules look at it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    pub(super) operation: Operation,
    pub(super) kind: &'a KindRef,
    pub(super) subresource: &'a str,
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    /// Null where there is none.
    pub(super) object: &'a Value,
    pub(super) old: &'a Value,
}

/// `RuleWithOperations`, with the names that policies add.
#[derive(Clone, Debug, Default)]
pub(super) struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    resources: Vec<String>,
    scope: String,
    names: Vec<String>,
}

/// `MatchResources`, and what webhooks have of the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Criteria {
    rules: Vec<Rule>,
    excluded: Vec<Rule>,
    /// Whether a request through another version of a resource counts.
    equivalent: bool,
    namespaces: LabelSelector,
    objects: LabelSelector,
    /// A binding without rules takes everything that its policy takes.
    all: bool,
}

pub(super) fn texts(of: &Value, key: &str) -> Vec<String> {
    let listed = meta::list(of, &[key]).iter();
    listed
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

fn has_or_all(list: &[String], wanted: &str) -> bool {
    list.iter().any(|e| e == "*" || e == wanted)
}

impl Rule {
    fn parse(of: &Value) -> Rule {
        Rule {
            operations: texts(of, "operations"),
            groups: texts(of, "apiGroups"),
            versions: texts(of, "apiVersions"),
            resources: texts(of, "resources"),
            scope: meta::text(of, &["scope"]).to_owned(),
            names: texts(of, "resourceNames"),
        }
    }

    fn parse_all(of: &Value, key: &str) -> Vec<Rule> {
        meta::list(of, &[key]).iter().map(Rule::parse).collect()
    }

    /// Whether it covers the request, were its resource that of `kind`.
    fn covers(&self, of: &Subject<'_>, kind: &KindRef) -> bool {
        let is_namespace = kind.group().is_empty() && kind.plural() == "namespaces";
        let within = !is_namespace && !of.namespace.is_empty();
        let in_scope = match self.scope.as_str() {
            "" | "*" => true,
            "Namespaced" => within,
            "Cluster" => !within,
            _ => false,
        };
        let is_resource = self.resources.iter().any(|resource| {
            let (name, sub) = resource.split_once('/').unwrap_or((resource, ""));
            (name == "*" || name == kind.plural()) && (sub == "*" || sub == of.subresource)
        });
        in_scope
            && is_resource
            && has_or_all(&self.operations, of.operation.name())
            && has_or_all(&self.groups, kind.group())
            && has_or_all(&self.versions, kind.version())
    }

    fn names(&self, of: &Subject<'_>) -> bool {
        self.names.is_empty() || self.names.iter().any(|name| name == of.name)
    }
}

/// The kind as which one of the rules covers the request. Other versions are
/// looked at only where none covers the request's own.
fn covered<'a>(rules: &[Rule], of: &Subject<'a>, others: &[&'a KindRef]) -> Option<&'a KindRef> {
    let own = rules.iter().any(|r| r.covers(of, of.kind) && r.names(of));
    if own {
        return Some(of.kind);
    }
    rules.iter().find_map(|rule| {
        let mut others = others.iter().copied();
        others.find(|kind| rule.covers(of, kind) && rule.names(of))
    })
}

fn selector(of: &Value, key: &str) -> LabelSelector {
    label_selector::parse(&of[key]).unwrap_or_default()
}

impl Criteria {
    /// Of a webhook.
    pub(super) fn of_webhook(of: &Value) -> Criteria {
        Criteria {
            rules: Rule::parse_all(of, "rules"),
            ..Criteria::selectors(of)
        }
    }

    /// Of a policy's or a binding's `MatchResources`; what isn't there takes
    /// everything.
    pub(super) fn of_policy(of: &Value) -> Criteria {
        let rules = Rule::parse_all(of, "resourceRules");
        Criteria {
            all: rules.is_empty(),
            rules,
            excluded: Rule::parse_all(of, "excludeResourceRules"),
            ..Criteria::selectors(of)
        }
    }

    fn selectors(of: &Value) -> Criteria {
        Criteria {
            equivalent: meta::text(of, &["matchPolicy"]) != "Exact",
            namespaces: selector(of, "namespaceSelector"),
            objects: selector(of, "objectSelector"),
            ..Criteria::default()
        }
    }

    /// Whether any request with this operation can be matched.
    pub(super) fn takes(&self, operation: Operation) -> bool {
        let named = |rule: &Rule| has_or_all(&rule.operations, operation.name());
        self.all || self.rules.iter().any(named)
    }

    /// The kind as which the request is matched, if it is. `others` are the
    /// other versions of its resource; `namespace` gives its namespace, which
    /// is an error only where everything else fits.
    pub(super) fn matched<'a>(
        &self,
        of: &Subject<'a>,
        others: &[&'a KindRef],
        namespace: impl Fn() -> Result<Value, Status>,
    ) -> Result<Option<&'a KindRef>, Status> {
        let others = if self.equivalent { others } else { &[] };
        if !self.selects_object(of) || covered(&self.excluded, of, others).is_some() {
            return Ok(None);
        }
        let found = match self.all {
            true => Some(of.kind),
            false => covered(&self.rules, of, others),
        };
        let Some(kind) = found else {
            return Ok(None);
        };
        Ok(self.selects_namespace(of, namespace)?.then_some(kind))
    }

    fn selects_object(&self, of: &Subject<'_>) -> bool {
        let selects =
            |object: &Value| object.get("metadata").is_some() && self.objects.matches(object);
        self.objects.is_empty() || selects(of.object) || selects(of.old)
    }

    fn selects_namespace(
        &self,
        of: &Subject<'_>,
        namespace: impl Fn() -> Result<Value, Status>,
    ) -> Result<bool, Status> {
        let is_namespace = of.kind.group().is_empty() && of.kind.plural() == "namespaces";
        if self.namespaces.is_empty() || (of.namespace.is_empty() && !is_namespace) {
            return Ok(true);
        }
        let written = matches!(of.operation, Operation::Create | Operation::Update);
        if is_namespace && of.subresource.is_empty() && written {
            return Ok(self.namespaces.matches(of.object));
        }
        Ok(self.namespaces.matches(&namespace()?))
    }
}

#[cfg(test)]
mod tests;
