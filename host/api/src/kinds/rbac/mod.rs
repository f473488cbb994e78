//! rbac.authorization.k8s.io: Role, ClusterRole and their bindings. Who may
//! grant what is decided where requests are authorized, not here.

mod binding;
mod role;

pub(super) use binding::{CLUSTER_ROLE_BINDING, ROLE_BINDING};
pub(super) use role::{CLUSTER_ROLE, ROLE};

const GROUP: &str = "rbac.authorization.k8s.io";

#[cfg(test)]
mod tests;
