//! The RBAC authorizer: roles and bindings, decoded, as the store has them now.
//!
//! ```text
//! user -> (cluster)role bindings that name it -> role -> rules -> allowed?
//! ```
//! Nothing is denied here: what no rule allows is no opinion.

use super::Attributes;
use super::rule::Rule;
use crate::mirror::{Derived, Mirror};
use crate::user::User;
use api::meta;
use api::status::Status;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use store::Store;

pub(crate) const GROUP: &str = "rbac.authorization.k8s.io";
const PREFIX: &str = "/registry/rbac.authorization.k8s.io/";

#[derive(Clone, Debug, PartialEq, Eq)]
enum Subject {
    User(String),
    Group(String),
    Account { namespace: String, name: String },
}

impl Subject {
    /// `None` for one of no known kind; `namespace` is the binding's.
    fn parse(value: &Value, namespace: &str) -> Option<Subject> {
        let name = meta::text(value, &["name"]).to_owned();
        match meta::text(value, &["kind"]) {
            "User" => Some(Subject::User(name)),
            "Group" => Some(Subject::Group(name)),
            "ServiceAccount" => Some(Subject::Account {
                namespace: match meta::text(value, &["namespace"]) {
                    "" => namespace.to_owned(),
                    own => own.to_owned(),
                },
                name,
            }),
            _ => None,
        }
    }

    fn is(&self, user: &User) -> bool {
        match self {
            Subject::User(name) => *name == user.name,
            Subject::Group(name) => user.is_in(name),
            Subject::Account { namespace, name } => {
                !namespace.is_empty() && user.service_account() == Some((namespace, name))
            }
        }
    }

    fn describe(&self) -> String {
        match self {
            Subject::User(name) => format!("User {name:?}"),
            Subject::Group(name) => format!("Group {name:?}"),
            Subject::Account { namespace, name } => {
                format!("ServiceAccount {:?}", format!("{name}/{namespace}"))
            }
        }
    }
}

/// A role by its kind and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RoleRef {
    pub(crate) cluster: bool,
    pub(crate) name: String,
}

impl RoleRef {
    pub(crate) fn parse(binding: &Value) -> RoleRef {
        RoleRef {
            cluster: meta::text(binding, &["roleRef", "kind"]) == "ClusterRole",
            name: meta::text(binding, &["roleRef", "name"]).to_owned(),
        }
    }

    fn kind(&self) -> &'static str {
        if self.cluster { "ClusterRole" } else { "Role" }
    }

    pub(crate) fn plural(&self) -> &'static str {
        if self.cluster {
            "clusterroles"
        } else {
            "roles"
        }
    }
}

struct Binding {
    name: String,
    role: RoleRef,
    subjects: Vec<Subject>,
}

type Rules = Arc<Vec<Rule>>;

/// What the mirror holds; keys as in the store below the prefix.
#[derive(Default)]
pub(crate) struct Policy {
    cluster_roles: HashMap<String, Rules>,
    roles: HashMap<String, Rules>,
    cluster_bindings: BTreeMap<String, Binding>,
    bindings: HashMap<String, BTreeMap<String, Binding>>,
}

impl Derived for Policy {
    fn put(&mut self, key: &str, object: Value) {
        let Some((plural, rest)) = split(key) else {
            return;
        };
        let rules = || Arc::new(Rule::parse_all(&object));
        let namespace = rest.split_once('/').map_or("", |(ns, _)| ns);
        let binding = || Binding {
            name: meta::name(&object).to_owned(),
            role: RoleRef::parse(&object),
            subjects: meta::list(&object, &["subjects"])
                .iter()
                .filter_map(|s| Subject::parse(s, namespace))
                .collect(),
        };
        match plural {
            "clusterroles" => {
                self.cluster_roles.insert(rest.to_owned(), rules());
            }
            "roles" => {
                self.roles.insert(rest.to_owned(), rules());
            }
            "clusterrolebindings" => {
                self.cluster_bindings.insert(rest.to_owned(), binding());
            }
            "rolebindings" => {
                let of = self.bindings.entry(namespace.to_owned()).or_default();
                of.insert(rest.to_owned(), binding());
            }
            _ => {}
        }
    }

    fn remove(&mut self, key: &str) {
        let Some((plural, rest)) = split(key) else {
            return;
        };
        match plural {
            "clusterroles" => drop(self.cluster_roles.remove(rest)),
            "roles" => drop(self.roles.remove(rest)),
            "clusterrolebindings" => drop(self.cluster_bindings.remove(rest)),
            "rolebindings" => {
                let namespace = rest.split_once('/').map_or("", |(ns, _)| ns);
                if let Some(of) = self.bindings.get_mut(namespace) {
                    of.remove(rest);
                    if of.is_empty() {
                        self.bindings.remove(namespace);
                    }
                }
            }
            _ => {}
        }
    }
}

fn split(key: &str) -> Option<(&str, &str)> {
    key.strip_prefix(PREFIX)?.split_once('/')
}

/// The rules that hold for somebody, and the roles that are named but absent.
#[derive(Default)]
pub(crate) struct Held {
    pub(crate) rules: Vec<Rule>,
    pub(crate) errors: Vec<String>,
}

impl Policy {
    fn rules(&self, role: &RoleRef, namespace: &str) -> Option<&Rules> {
        match role.cluster {
            true => self.cluster_roles.get(&role.name),
            false => self.roles.get(&format!("{namespace}/{}", role.name)),
        }
    }

    /// Each binding that names `user` and counts in `namespace`, with how it
    /// is described; `visit` says whether to go on.
    fn visit<'a>(
        &'a self,
        user: &User,
        namespace: &str,
        mut visit: impl FnMut(&'a Binding, &'a Subject, Option<&'a Rules>, bool) -> bool,
    ) {
        let subject = |b: &'a Binding| b.subjects.iter().find(|s| s.is(user));
        for binding in self.cluster_bindings.values() {
            if let Some(subject) = subject(binding)
                && !visit(binding, subject, self.rules(&binding.role, ""), true)
            {
                return;
            }
        }
        for binding in self
            .bindings
            .get(namespace)
            .into_iter()
            .flatten()
            .map(|(_, b)| b)
        {
            if let Some(subject) = subject(binding)
                && !visit(
                    binding,
                    subject,
                    self.rules(&binding.role, namespace),
                    false,
                )
            {
                return;
            }
        }
    }

    /// The reason why `user` may, or the errors on the way to finding none.
    pub(crate) fn decide(&self, user: &User, a: &Attributes<'_>) -> Result<String, Vec<String>> {
        let mut reason = None;
        let mut errors = Vec::new();
        self.visit(user, a.namespace, |binding, subject, rules, cluster| {
            let Some(rules) = rules else {
                errors.push(absent(&binding.role));
                return true;
            };
            if !rules.iter().any(|r| r.allows(a)) {
                return true;
            }
            let (kind, name) = match cluster {
                true => ("ClusterRoleBinding", binding.name.clone()),
                false => ("RoleBinding", format!("{}/{}", binding.name, a.namespace)),
            };
            reason = Some(format!(
                "RBAC: allowed by {kind} {name:?} of {} {:?} to {}",
                binding.role.kind(),
                binding.role.name,
                subject.describe()
            ));
            false
        });
        reason.ok_or(errors)
    }

    pub(crate) fn held(&self, user: &User, namespace: &str) -> Held {
        let mut held = Held::default();
        self.visit(user, namespace, |binding, _, rules, _| {
            match rules {
                Some(rules) => held.rules.extend(rules.iter().cloned()),
                None => held.errors.push(absent(&binding.role)),
            }
            true
        });
        held
    }

    /// The rules of the role that a binding refers to.
    pub(crate) fn of(&self, role: &RoleRef, namespace: &str) -> Result<Rules, Status> {
        self.rules(role, namespace).cloned().ok_or_else(|| {
            let resource = api::status::Qualified {
                group: GROUP,
                name: role.plural(),
            };
            Status::not_found(resource, &role.name)
        })
    }
}

fn absent(role: &RoleRef) -> String {
    let singular = role.kind().to_lowercase();
    format!("{singular}.{GROUP} {:?} not found", role.name)
}

/// Go's way to show several errors.
pub(crate) fn aggregate(errors: &[String]) -> String {
    let mut seen: Vec<&str> = Vec::new();
    for e in errors {
        if !seen.contains(&e.as_str()) {
            seen.push(e);
        }
    }
    match seen.as_slice() {
        [one] => (*one).to_owned(),
        many => format!("[{}]", many.join(", ")),
    }
}

pub(crate) fn mirror(store: &Store) -> Mirror<Policy> {
    Mirror::new(store.clone(), PREFIX)
}
