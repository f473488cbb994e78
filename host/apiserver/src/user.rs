//! Who a request comes from.

/// An authenticated user. Made by `authn`, or by the composition root for
/// clients in the same process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub groups: Vec<String>,
}

pub(crate) const MASTERS: &str = "system:masters";
pub(crate) const NODES: &str = "system:nodes";
pub(crate) const AUTHENTICATED: &str = "system:authenticated";

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
        }
    }

    /// The controllers in `control`'s own process.
    pub fn controllers() -> User {
        User::new("system:kube-controller-manager", [MASTERS.to_owned()])
    }

    /// The scheduler in `control`'s own process.
    pub fn scheduler() -> User {
        User::new("system:kube-scheduler", [MASTERS.to_owned()])
    }

    pub fn node(name: &str) -> User {
        User::new(format!("system:node:{name}"), [NODES.to_owned()])
    }

    pub fn anonymous() -> User {
        User {
            name: "system:anonymous".to_owned(),
            groups: vec!["system:unauthenticated".to_owned()],
        }
    }

    pub(crate) fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }
}
