//! networking.k8s.io: NetworkPolicy, Ingress, IngressClass, ServiceCIDR,
//! IPAddress.

mod ingress;
mod ingress_class;
mod network_policy;
mod service_cidr;

pub(super) use ingress::KIND as INGRESS;
pub(super) use ingress_class::KIND as INGRESS_CLASS;
pub(super) use network_policy::KIND as NETWORK_POLICY;
pub(super) use service_cidr::{IP_ADDRESS, SERVICE_CIDR};

const GROUP: &str = "networking.k8s.io";

#[cfg(test)]
mod tests;
