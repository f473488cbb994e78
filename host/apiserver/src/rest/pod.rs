//! What only pods have: binding, and the streams to their node.

use super::socket::{self, Socket};
use super::update::{ATTEMPTS, write};
use super::{Answer, Call, body, connect, eviction, options};
use crate::admission::Operation;
use crate::registry::{self, Along, Stored};
use crate::{proxy, respond};
use api::field::Errors;
use api::kinds::{self, KindRef, Subresource};
use api::meta;
use api::status::{self, Status};
use serde_json::{Value, json};

pub(crate) async fn answer(mut call: Call, subresource: Subresource) -> Answer {
    match (subresource, call.route.verb) {
        (Subresource::Binding, "create") => bind_named(call).await,
        (Subresource::Eviction, "create") => eviction::evict(call).await,
        (Subresource::Log, "get") => {
            let pod = call.current()?;
            let socket = Socket::asked(&mut call, streams::Kind::Log)?;
            let answer = proxy::logs(&call, &pod.object).await?;
            Ok(socket::carried(socket, answer))
        }
        (Subresource::Exec | Subresource::Attach | Subresource::PortForward, "get" | "create") => {
            let pod = call.current()?;
            connect::admit(&mut call, subresource).await?;
            let upgrade = call.upgrade.take();
            proxy::stream(&call, subresource, &pod.object, upgrade).await
        }
        (Subresource::PodProxy | Subresource::ServiceProxy | Subresource::NodeProxy, _) => {
            super::proxy::answer(call, subresource).await
        }
        _ => Err(Status::method_not_allowed()),
    }
}

/// `POST …/bindings`: the pod's name stands in the body.
pub(crate) async fn bindings(mut call: Call) -> Answer {
    if call.route.verb != "create" || !call.route.name.is_empty() {
        return Err(Status::method_not_allowed());
    }
    let options = options::read(&call, options::Verb::Create)?;
    let decoded = body::object(&call, &call.kind, options.strictness)?;
    let binding = admitted(&call, decoded.object).await?;
    let pods = kinds::by_resource("", "v1", "pods").ok_or_else(Status::no_such_path)?;
    call.route.name = meta::name(&binding).to_owned();
    call.kind = pods;
    bind(call, &binding, options.dry_run).await
}

/// `POST …/pods/NAME/binding`.
async fn bind_named(call: Call) -> Answer {
    let kind = kinds::by_resource("", "v1", "bindings").ok_or_else(Status::no_such_path)?;
    let options = options::read(&call, options::Verb::Create)?;
    let decoded = body::object(&call, &kind, options.strictness)?;
    let binding = admitted(&call, decoded.object).await?;
    bind(call, &binding, options.dry_run).await
}

/// A binding as admission leaves it.
async fn admitted(call: &Call, mut binding: Value) -> Result<Value, Status> {
    call.mutate(Operation::Create, &mut binding, None).await?;
    call.admit(Operation::Create, &binding, None).await?;
    Ok(binding)
}

async fn bind(call: Call, binding: &Value, dry_run: bool) -> Answer {
    let kind = kinds::by_resource("", "v1", "bindings").ok_or_else(Status::no_such_path)?;
    let name = call.route.name.clone();
    let mut errors = Errors::default();
    kind.validate(binding, &mut errors);
    if !errors.is_empty() {
        return Err(Status::invalid(kind.qualified_kind(), &name, &errors));
    }
    for _ in 0..ATTEMPTS {
        let current = call.current()?;
        let bound = assign(&call, &current, binding)?;
        if dry_run
            || write(&call.store, &call.kind, current, bound, Along::default())
                .await?
                .is_some()
        {
            return Ok(respond::json(201, &status::success(None), call.accepted));
        }
    }
    Err(Status::modified(call.kind.resource(), &name))
}

/// The pod on its node, unless it is on one, or going.
fn assign(call: &Call, current: &Stored, binding: &Value) -> Result<Value, Status> {
    let pod = &current.object;
    let name = meta::name(pod);
    let resource = call.kind.resource();
    let uid = meta::uid(binding);
    if !uid.is_empty() && uid != meta::uid(pod) {
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            meta::uid(pod)
        );
        return Err(Status::conflict(resource, name, &why));
    }
    let refuse = |why: String| {
        Err(Status::conflict(
            api::status::Qualified {
                group: "",
                name: "pods/binding",
            },
            name,
            &why,
        ))
    };
    if meta::is_deleting(pod) {
        return refuse(format!(
            "pod {name} is being deleted, cannot be assigned to a host"
        ));
    }
    let node = meta::text(pod, &["spec", "nodeName"]);
    if !node.is_empty() {
        return refuse(format!("pod {name} is already assigned to node {node:?}"));
    }
    let mut bound = pod.clone();
    let target = meta::text(binding, &["target", "name"]);
    meta::ensure(&mut bound, "spec").insert("nodeName".to_owned(), target.into());
    for (key, value) in meta::members(binding, &["metadata", "annotations"]) {
        let metadata = meta::ensure_metadata(&mut bound);
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        annotations[key] = value.clone();
    }
    let since = api::time::rfc3339(call.now);
    set_condition(
        &mut bound,
        json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": since}),
    );
    Ok(bound)
}

fn set_condition(pod: &mut Value, condition: Value) {
    let status = meta::ensure(pod, "status");
    let list = status.entry("conditions").or_insert_with(|| json!([]));
    let Some(list) = list.as_array_mut() else {
        return;
    };
    match list.iter_mut().find(|c| c["type"] == condition["type"]) {
        Some(existing) => *existing = condition,
        None => list.push(condition),
    }
}

/// The container that a stream is for, or upstream's words why there is none.
pub(crate) fn container(pod: &Value, asked: &str) -> Result<String, Status> {
    let name = meta::name(pod);
    let names = |part: &str| -> Vec<String> {
        meta::list(pod, &["spec", part])
            .iter()
            .map(|c| meta::text(c, &["name"]).to_owned())
            .collect()
    };
    let (main, init) = (names("containers"), names("initContainers"));
    if !asked.is_empty() {
        let ephemeral = names("ephemeralContainers");
        let mut all = main.iter().chain(&init).chain(&ephemeral);
        return match all.any(|c| c == asked) {
            true => Ok(asked.to_owned()),
            false => Err(Status::bad_request(format!(
                "container {asked} is not valid for pod {name}"
            ))),
        };
    }
    match main.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Status::bad_request(format!(
            "a container name must be specified for pod {name}"
        ))),
        many => {
            let mut why = format!(
                "a container name must be specified for pod {name}, choose one of: [{}]",
                many.join(" ")
            );
            if !init.is_empty() {
                why += &format!(" or one of the init containers: [{}]", init.join(" "));
            }
            Err(Status::bad_request(why))
        }
    }
}

/// Where a node's endpoint for streams is, and as whom it identifies itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Endpoint {
    pub(crate) node: String,
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// Where the pod's node listens.
pub(crate) fn node_endpoint(
    store: &store::Store,
    kind: &KindRef,
    pod: &Value,
) -> Result<Endpoint, Status> {
    let name = meta::name(pod);
    let node_name = meta::text(pod, &["spec", "nodeName"]);
    if node_name.is_empty() {
        return Err(Status::bad_request(format!(
            "pod {name} does not have a host assigned"
        )));
    }
    let nodes = kinds::by_resource("", "v1", "nodes").unwrap_or_else(|| kind.clone());
    let node = registry::get(store, &nodes, "", node_name)
        .map_err(|e| Status::internal(format!("node of pod {name}: {e}")))?;
    Endpoint::of(&node.object)
}

impl Endpoint {
    /// Where a node listens, as its status says.
    pub(crate) fn of(node: &Value) -> Result<Endpoint, Status> {
        let name = meta::name(node);
        let addresses = meta::list(node, &["status", "addresses"]);
        let address = ["InternalIP", "ExternalIP", "Hostname"]
            .iter()
            .find_map(|wanted| {
                addresses
                    .iter()
                    .find(|a| meta::text(a, &["type"]) == *wanted)
                    .map(|a| meta::text(a, &["address"]).to_owned())
            })
            .ok_or_else(|| Status::internal(format!("no preferred addresses found for {name}")))?;
        let port = meta::int(
            node,
            &["status", "daemonEndpoints", "kubeletEndpoint", "Port"],
        )
        .and_then(|p| u16::try_from(p).ok())
        .unwrap_or(10_250);
        Ok(Endpoint {
            node: name.to_owned(),
            host: address,
            port,
        })
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}
