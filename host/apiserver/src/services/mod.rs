//! What Services share: cluster addresses and node ports, given out in the
//! transaction that writes the Service and given back in the one that removes
//! it, so that no two Services ever hold the same.
//!
//! ```text
//! /registry/networking.k8s.io/servicecidrs/<name>   ranges of addresses
//! /registry/networking.k8s.io/ipaddresses/<ip>      one for each address held
//! /registry/ranges/servicenodeports/<port>          one for each port held
//! ```
//! A plan names what it read, and the transaction fails if that has changed;
//! then the write is planned anew.

mod addresses;
mod families;
mod ports;

use crate::registry::Along;
use api::field::Errors;
use api::kinds::{self, KindRef};
use api::meta;
use api::status::Status;
use jiff::Timestamp;
use serde_json::Value;
use store::Store;

pub(crate) use addresses::{CIDRS, first_address};

fn is_service(kind: &KindRef) -> bool {
    kind.group().is_empty() && kind.plural() == "services"
}

/// Fills in what `new` is given, and says what has to be written along with
/// it. `old` is what stands, if anything does.
pub(crate) fn plan(
    store: &Store,
    kind: &KindRef,
    new: &mut Value,
    old: Option<&Value>,
    now: Timestamp,
) -> Result<Along, Status> {
    let mut along = Along::default();
    if !is_service(kind) {
        return Ok(along);
    }
    let ranges = addresses::ranges(store)?;
    let mut errors = Errors::default();
    families::settle(new, old, &ranges, &mut errors);
    refuse(kind, new, &errors)?;
    addresses::claim(store, new, old, &ranges, now, &mut along, &mut errors)?;
    ports::claim(store, new, old, &mut along, &mut errors)?;
    refuse(kind, new, &errors)?;
    if let Some(old) = old {
        addresses::release(store, old, Some(new), &mut along)?;
        ports::release(old, Some(new), &mut along);
    }
    Ok(along)
}

/// What goes when `old` is removed.
pub(crate) fn release(store: &Store, kind: &KindRef, old: &Value) -> Result<Along, Status> {
    let mut along = Along::default();
    if is_service(kind) {
        addresses::release(store, old, None, &mut along)?;
        ports::release(old, None, &mut along);
    }
    Ok(along)
}

fn refuse(kind: &KindRef, object: &Value, errors: &Errors) -> Result<(), Status> {
    match errors.is_empty() {
        true => Ok(()),
        false => Err(Status::invalid(
            kind.qualified_kind(),
            meta::name(object),
            errors,
        )),
    }
}

/// The cluster addresses that a Service holds, `None` apart.
fn cluster_ips(object: &Value) -> Vec<String> {
    if !kinds::needs_cluster_ip(object) || kinds::is_headless(object) {
        return Vec::new();
    }
    meta::list(object, &["spec", "clusterIPs"])
        .iter()
        .filter_map(Value::as_str)
        .filter(|ip| !ip.is_empty() && *ip != "None")
        .map(str::to_owned)
        .collect()
}

/// A number below `bound`, from the system's source of randomness.
fn random(bound: u64) -> u64 {
    let (high, _) = uuid::Uuid::new_v4().as_u64_pair();
    high.checked_rem(bound).unwrap_or(0)
}
