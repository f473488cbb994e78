//! Nobody grants what they don't hold: a role's rules, and those of the role
//! that a binding refers to, must be covered by the writer's own, unless the
//! writer may `escalate` that role or `bind` it
//! (upstream's `pkg/registry/rbac/*/policybased`).

use super::rbac::{GROUP, RoleRef};
use super::rule::{Rule, missing, quoted};
use super::{Attributes, Authorizer};
use crate::user::{MASTERS, User};
use api::meta;
use api::status::{Qualified, Status};
use serde_json::Value;

/// Checks a role or binding about to be written over `old`; other kinds pass.
pub(crate) fn check(
    authorizer: &Authorizer,
    user: &User,
    (group, plural): (&str, &str),
    object: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    if group != GROUP || user.is_in(MASTERS) {
        return Ok(());
    }
    let who = Writer {
        authorizer,
        user,
        plural,
        namespace: meta::namespace(object),
        name: meta::name(object),
    };
    if old.is_some_and(|old| same_but_collected(old, object)) {
        return Ok(());
    }
    match plural {
        "roles" | "clusterroles" => who.role(object, old),
        "rolebindings" | "clusterrolebindings" => who.binding(object),
        _ => Ok(()),
    }
}

/// Only what the garbage collector writes differs.
fn same_but_collected(old: &Value, new: &Value) -> bool {
    let bare = |object: &Value| {
        let mut object = object.clone();
        let metadata = meta::ensure_metadata(&mut object);
        for key in [
            "ownerReferences",
            "finalizers",
            "managedFields",
            "resourceVersion",
        ] {
            metadata.shift_remove(key);
        }
        object
    };
    bare(old) == bare(new)
}

struct Writer<'a> {
    authorizer: &'a Authorizer,
    user: &'a User,
    plural: &'a str,
    namespace: &'a str,
    name: &'a str,
}

impl Writer<'_> {
    fn may(&self, verb: &str, resource: &str, name: &str) -> bool {
        let a = Attributes {
            verb,
            group: GROUP,
            resource,
            namespace: self.namespace,
            name,
            ..Attributes::default()
        };
        self.authorizer.allows(self.user, &a)
    }

    fn forbid(&self, why: &str) -> Status {
        let resource = Qualified {
            group: GROUP,
            name: self.plural,
        };
        Status::forbidden(resource, self.name, why)
    }

    fn role(&self, object: &Value, old: Option<&Value>) -> Result<(), Status> {
        if self.may("escalate", self.plural, self.name) {
            return Ok(());
        }
        self.holds(&Rule::parse_all(object))?;
        let aggregates = |o: &Value| o.get("aggregationRule").is_some_and(|r| !r.is_null());
        if aggregates(object) || old.is_some_and(aggregates) {
            let all = |groups: &[&str], resources: &[&str], urls: &[&str]| {
                let owned = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect();
                Rule {
                    verbs: vec!["*".to_owned()],
                    groups: owned(groups),
                    resources: owned(resources),
                    urls: owned(urls),
                    names: Vec::new(),
                }
            };
            let everything = [all(&["*"], &["*"], &[]), all(&[], &[], &["*"])];
            if self.holds(&everything).is_err() {
                let why = "must have cluster-admin privileges to use aggregationRules";
                return Err(self.forbid(why));
            }
        }
        Ok(())
    }

    fn binding(&self, object: &Value) -> Result<(), Status> {
        let role = RoleRef::parse(object);
        if self.may("bind", role.plural(), &role.name) {
            return Ok(());
        }
        let rules = self
            .authorizer
            .policy
            .with(|p| p.of(&role, self.namespace))??;
        self.holds(&rules)
    }

    fn holds(&self, wanted: &[Rule]) -> Result<(), Status> {
        let held = self.authorizer.held(self.user, self.namespace)?;
        let lacking = missing(&held.rules, wanted);
        if lacking.is_empty() {
            return Ok(());
        }
        let mut why = format!(
            "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
            self.user.name,
            quoted(&self.user.groups),
            lacking.join("\n")
        );
        if !held.errors.is_empty() {
            why += &format!("; resolution errors: [{}]", held.errors.join(", "));
        }
        Err(self.forbid(&why))
    }
}
