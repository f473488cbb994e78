//! Ranges of addresses as ServiceCIDRs write them (upstream's
//! `pkg/api/servicecidr`).

use api::service_range::ServiceRange;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use std::net::IpAddr;
use std::sync::Arc;

pub(super) fn prefixes(cidr: &ServiceCIDR) -> Vec<ServiceRange> {
    let spec = cidr.spec.as_ref().and_then(|s| s.cidrs.as_ref());
    let all = spec.into_iter().flatten();
    all.filter_map(|text| ServiceRange::parse(text)).collect()
}

pub(super) fn name(cidr: &ServiceCIDR) -> &str {
    cidr.metadata.name.as_deref().unwrap_or_default()
}

/// The ranges with an address.
pub(super) fn containing(all: &[Arc<ServiceCIDR>], ip: IpAddr) -> Vec<&str> {
    let with = |c: &&Arc<ServiceCIDR>| prefixes(c).iter().any(|p| p.contains(ip));
    all.iter().filter(with).map(|c| name(c)).collect()
}
