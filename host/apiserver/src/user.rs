//! Who a request comes from.

use serde_json::{Value, json};
use std::collections::BTreeMap;

/// An authenticated user. Made by `authn`, or by the composition root for
/// clients in the same process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

pub(crate) const MASTERS: &str = "system:masters";
pub(crate) const NODES: &str = "system:nodes";
pub(crate) const AUTHENTICATED: &str = "system:authenticated";
pub(crate) const UNAUTHENTICATED: &str = "system:unauthenticated";
pub(crate) const ANONYMOUS: &str = "system:anonymous";
pub(crate) const ACCOUNTS: &str = "system:serviceaccounts";
const ACCOUNT_PREFIX: &str = "system:serviceaccount:";
const NODE_PREFIX: &str = "system:node:";

impl User {
    /// A user who gave credentials; joins `system:authenticated`.
    pub fn new(name: impl Into<String>, groups: impl IntoIterator<Item = String>) -> User {
        let mut groups: Vec<String> = groups.into_iter().collect();
        if !groups.iter().any(|g| g == AUTHENTICATED) {
            groups.push(AUTHENTICATED.to_owned());
        }
        User {
            name: name.into(),
            groups,
            ..User::default()
        }
    }

    /// The controllers in `control`'s own process.
    pub fn controllers() -> User {
        User::new("system:kube-controller-manager", [])
    }

    /// The scheduler in `control`'s own process.
    pub fn scheduler() -> User {
        User::new("system:kube-scheduler", [])
    }

    pub fn node(name: &str) -> User {
        User::new(format!("{NODE_PREFIX}{name}"), [NODES.to_owned()])
    }

    pub fn anonymous() -> User {
        User {
            name: ANONYMOUS.to_owned(),
            groups: vec![UNAUTHENTICATED.to_owned()],
            ..User::default()
        }
    }

    /// The user that a service account is.
    pub(crate) fn account(namespace: &str, name: &str, uid: &str) -> User {
        let mut user = User::new(
            format!("{ACCOUNT_PREFIX}{namespace}:{name}"),
            [ACCOUNTS.to_owned(), format!("{ACCOUNTS}:{namespace}")],
        );
        uid.clone_into(&mut user.uid);
        user
    }

    pub(crate) fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// Namespace and name, if the user is a service account.
    pub(crate) fn service_account(&self) -> Option<(&str, &str)> {
        account_of(&self.name)
    }

    /// The node's name, if the user is a node.
    pub(crate) fn node_name(&self) -> Option<&str> {
        let name = self.name.strip_prefix(NODE_PREFIX)?;
        (self.is_in(NODES) && !name.is_empty()).then_some(name)
    }

    /// `authentication.k8s.io/v1` `UserInfo`.
    pub(crate) fn info(&self) -> Value {
        let mut info = json!({"username": self.name});
        if !self.uid.is_empty() {
            info["uid"] = self.uid.clone().into();
        }
        if !self.groups.is_empty() {
            info["groups"] = json!(self.groups);
        }
        if !self.extra.is_empty() {
            info["extra"] = json!(self.extra);
        }
        info
    }
}

/// `system:serviceaccount:NAMESPACE:NAME` taken apart.
pub(crate) fn account_of(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix(ACCOUNT_PREFIX)?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}
