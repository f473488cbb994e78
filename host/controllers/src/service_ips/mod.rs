//! Ranges of cluster addresses, and the addresses given out of them.
//!
//! ```text
//! cidrs     ServiceCIDR: finalizer, condition Ready; one that is deleted stays
//!           until every address in it is in another range, too
//! repair    Service <-> IPAddress: each names the other, or is set right
//! ```
//! Addresses are given out by the API server, in the transaction that writes the
//! Service; what is repaired here was broken by hand.

mod cidrs;
mod prefix;
mod repair;

use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use reconcile::{Client, Reflector, Resource};

const CIDRS: Resource = Resource::cluster("networking.k8s.io", "v1", "servicecidrs");
const ADDRESSES: Resource = Resource::cluster("networking.k8s.io", "v1", "ipaddresses");
const SERVICES: Resource = Resource::namespaced("", "v1", "services");
const FAMILY: &str = "ipaddress.kubernetes.io/ip-family";
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const MANAGER: &str = "ipallocator.k8s.io";

/// Whether the API server has given it out.
fn is_managed(address: &IPAddress) -> bool {
    let labels = address.metadata.labels.as_ref();
    labels.and_then(|l| l.get(MANAGED_BY)).map(String::as_str) == Some(MANAGER)
}

pub(crate) async fn run(client: &Client, instance: &str) {
    let cidrs = Reflector::<ServiceCIDR>::new(client.clone(), CIDRS);
    let addresses = Reflector::<IPAddress>::new(client.clone(), ADDRESSES);
    let services = Reflector::<repair::Holder>::new(client.clone(), SERVICES);
    let caches = (cidrs.cache(), addresses.cache(), services.cache());
    let keeper = cidrs::Keeper::new(client, &caches.0, &caches.1);
    let (cidrs, addresses) = keeper.feed(cidrs, addresses);
    let repair = repair::Repair::new(client, instance, caches);
    let (addresses, services) = repair.feed(addresses, services);
    tokio::join!(
        cidrs.run(),
        addresses.run(),
        services.run(),
        keeper.run(),
        repair.run(),
    );
}
