//! Node ports, those of health checks among them: one key for each held one.

use super::random;
use crate::registry::{Along, store_status};
use api::field::{Errors, Path};
use api::kinds;
use api::meta;
use api::status::Status;
use serde_json::{Value, json};
use store::{Compare, Op, Range, Revision, Store};

const PORTS: &str = "/registry/ranges/servicenodeports/";
const FIRST: u16 = 30_000;
const LAST: u16 = 32_767;
/// The first ports are left for clients that choose.
const STATIC_BAND: u64 = 86;
/// Random tries before every port is looked at.
const TRIES: usize = 32;

fn key(port: u16) -> String {
    format!("{PORTS}{port}")
}

/// The ports that a Service holds.
fn held(object: &Value) -> Vec<u16> {
    let mut all: Vec<i64> = meta::list(object, &["spec", "ports"])
        .iter()
        .filter_map(|p| meta::int(p, &["nodePort"]))
        .collect();
    all.extend(meta::int(object, &["spec", "healthCheckNodePort"]));
    let mut ports: Vec<u16> = all
        .into_iter()
        .filter_map(|p| u16::try_from(p).ok())
        .filter(|p| (FIRST..=LAST).contains(p))
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

fn is_free(store: &Store, port: u16) -> Result<bool, Status> {
    let found = store.range(&Range::key(key(port))).map_err(store_status)?;
    Ok(found.items.is_empty())
}

/// One Service's ports as they are given out.
struct Claim<'a> {
    store: &'a Store,
    /// Held before, or by this plan.
    ours: Vec<u16>,
    owner: Value,
    along: &'a mut Along,
}

impl Claim<'_> {
    /// Why the port can't be had, if it can't.
    fn take(&mut self, port: i64) -> Result<Option<String>, Status> {
        let valid = u16::try_from(port)
            .ok()
            .filter(|p| (FIRST..=LAST).contains(p));
        let Some(port) = valid else {
            return Ok(Some(format!(
                "provided port is not in the valid range. The range of valid ports is {FIRST}-{LAST}"
            )));
        };
        if self.ours.contains(&port) {
            return Ok(None);
        }
        if !is_free(self.store, port)? {
            return Ok(Some("provided port is already allocated".to_owned()));
        }
        self.hold(port)?;
        Ok(None)
    }

    fn hold(&mut self, port: u16) -> Result<(), Status> {
        let value = serde_json::to_vec(&self.owner).map_err(Status::internal)?;
        self.along.compare.push(Compare {
            key: key(port).into(),
            mod_revision: Revision(0),
        });
        self.along.then.push(Op::Put {
            key: key(port).into(),
            value: value.into(),
        });
        self.ours.push(port);
        Ok(())
    }

    fn choose(&mut self) -> Result<u16, Status> {
        let size = u64::from(LAST - FIRST) + 1;
        let at = |offset: u64| FIRST + u16::try_from(offset % size).unwrap_or(0);
        let random = (0..TRIES).map(|_| at(STATIC_BAND + random(size - STATIC_BAND)));
        let every = (0..size).map(|i| at(STATIC_BAND + i));
        for port in random.chain(every) {
            if !self.ours.contains(&port) && is_free(self.store, port)? {
                self.hold(port)?;
                return Ok(port);
            }
        }
        Err(Status::internal(
            "failed to allocate a nodePort: range is full",
        ))
    }
}

/// Holds for `new` the ports that it names, and those that its type needs.
pub(super) fn claim(
    store: &Store,
    new: &mut Value,
    old: Option<&Value>,
    along: &mut Along,
    errors: &mut Errors,
) -> Result<(), Status> {
    let owner = json!({"namespace": meta::namespace(new), "name": meta::name(new)});
    let mut claim = Claim {
        store,
        ours: old.map(held).unwrap_or_default(),
        owner,
        along,
    };
    let external = matches!(
        meta::text(new, &["spec", "type"]),
        "NodePort" | "LoadBalancer"
    );
    let path = Path::new("spec");
    if external {
        let wanted = kinds::needs_node_port(new);
        let ports = meta::ensure(new, "spec").get_mut("ports");
        let ports = ports.and_then(Value::as_array_mut);
        if let Some(ports) = ports {
            claim_ports(&mut claim, ports, wanted, &path.child("ports"), errors)?;
        }
    }
    if kinds::needs_health_check_port(new) && errors.is_empty() {
        match meta::int(new, &["spec", "healthCheckNodePort"]).unwrap_or(0) {
            0 => {
                let port = claim.choose()?;
                meta::ensure(new, "spec").insert("healthCheckNodePort".to_owned(), port.into());
            }
            port => {
                if let Some(why) = claim.take(port)? {
                    errors.invalid(&path.child("healthCheckNodePort"), port, why);
                }
            }
        }
    }
    Ok(())
}

/// One node port for each port; both protocols of a port share it.
fn claim_ports(
    claim: &mut Claim<'_>,
    ports: &mut [Value],
    wanted: bool,
    path: &Path,
    errors: &mut Errors,
) -> Result<(), Status> {
    let node_port = |p: &Value| meta::int(p, &["nodePort"]).unwrap_or(0);
    for (i, port) in ports.iter().enumerate() {
        if node_port(port) != 0
            && let Some(why) = claim.take(node_port(port))?
        {
            errors.invalid(&path.index(i).child("nodePort"), node_port(port), why);
        }
    }
    if !wanted || !errors.is_empty() {
        return Ok(());
    }
    let mut shared: Vec<(i64, String, i64)> = ports
        .iter()
        .filter(|p| node_port(p) != 0)
        .map(|p| (number(p), protocol(p), node_port(p)))
        .collect();
    for port in ports.iter_mut().filter(|p| node_port(p) == 0) {
        let (number, protocol) = (number(port), protocol(port));
        let sibling = shared
            .iter()
            .find(|(n, p, _)| *n == number && *p != protocol)
            .map(|(_, _, node)| *node);
        let node = match sibling {
            Some(node) => node,
            None => i64::from(claim.choose()?),
        };
        port["nodePort"] = node.into();
        shared.push((number, protocol, node));
    }
    Ok(())
}

fn number(port: &Value) -> i64 {
    meta::int(port, &["port"]).unwrap_or(0)
}

fn protocol(port: &Value) -> String {
    meta::text(port, &["protocol"]).to_owned()
}

/// Gives back what `old` held and `new` doesn't. Only this Service's writes
/// touch its ports' keys, and those are serialized by its own.
pub(super) fn release(old: &Value, new: Option<&Value>, along: &mut Along) {
    let kept = new.map(held).unwrap_or_default();
    for port in held(old).into_iter().filter(|p| !kept.contains(p)) {
        along.then.push(Op::Delete {
            key: key(port).into(),
        });
    }
}
