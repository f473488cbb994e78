//! Endpoints into slices: what is there stays where it is, what is new fills
//! what has room, then new slices; what is empty goes.

use super::SLICES;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use reconcile::{DeleteOptions, Target, Write};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What all slices of one Service have in common.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) namespace: String,
    /// Of their names.
    pub(super) prefix: String,
    pub(super) labels: BTreeMap<String, String>,
    /// `None`: those that are there, whatever they are.
    pub(super) annotations: Option<BTreeMap<String, String>>,
    pub(super) owner: Value,
}

/// Endpoints that one slice could hold, were it large enough.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) address_type: String,
    pub(super) ports: Vec<EndpointPort>,
    pub(super) endpoints: Vec<Endpoint>,
}

#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) frame: Frame,
    pub(super) groups: Vec<Group>,
    /// Endpoints in one slice.
    pub(super) most: usize,
}

/// The writes that bring the slices `found` into line.
pub(super) fn plan(wanted: &Wanted, found: &[&EndpointSlice]) -> Vec<Write> {
    let mut left: Vec<&EndpointSlice> = found.to_vec();
    let mut writes = Vec::new();
    for group in &wanted.groups {
        let (same, others) = left
            .into_iter()
            .partition::<Vec<_>, _>(|slice| holds(slice, group));
        left = others;
        place(wanted, group, &same, &mut writes);
    }
    let gone = left.into_iter().map(|slice| delete(&wanted.frame, slice));
    writes.extend(gone);
    writes
}

fn holds(slice: &EndpointSlice, group: &Group) -> bool {
    let ports = slice.ports.iter().flatten();
    slice.address_type == group.address_type
        && ports.eq(group.ports.iter())
        && slice.metadata.deletion_timestamp.is_none()
}

/// The endpoints of a group in its slices.
fn place(wanted: &Wanted, group: &Group, found: &[&EndpointSlice], writes: &mut Vec<Write>) {
    let mut missing: BTreeMap<_, &Endpoint> =
        group.endpoints.iter().map(|e| (identity(e), e)).collect();
    let mut kept: Vec<Vec<&Endpoint>> = Vec::new();
    for slice in found {
        let mut stay = Vec::new();
        for had in slice.endpoints.iter().flatten() {
            stay.extend(missing.remove(&identity(had)));
        }
        kept.push(stay);
    }
    let mut missing = missing.into_values().peekable();
    for stay in &mut kept {
        while stay.len() < wanted.most && missing.peek().is_some() {
            stay.extend(missing.next());
        }
    }
    let mut placeholder = group.endpoints.is_empty();
    for (slice, endpoints) in found.iter().zip(kept) {
        if endpoints.is_empty() && !std::mem::take(&mut placeholder) {
            writes.push(delete(&wanted.frame, slice));
        } else {
            writes.extend(update(&wanted.frame, slice, &endpoints));
        }
    }
    let rest: Vec<&Endpoint> = missing.collect();
    for endpoints in rest.chunks(wanted.most) {
        writes.push(create(&wanted.frame, group, endpoints));
    }
    if placeholder {
        writes.push(create(&wanted.frame, group, &[]));
    }
}

/// What stays the same though its conditions change.
fn identity(endpoint: &Endpoint) -> (&[String], Option<&str>) {
    let target = endpoint.target_ref.as_ref();
    (&endpoint.addresses, target.and_then(|t| t.uid.as_deref()))
}

fn create(frame: &Frame, group: &Group, endpoints: &[&Endpoint]) -> Write {
    let mut object = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "generateName": frame.prefix,
            "namespace": frame.namespace,
            "labels": frame.labels,
            "ownerReferences": [frame.owner],
        },
        "addressType": group.address_type,
        "ports": group.ports,
        "endpoints": endpoints,
    });
    if let Some(annotations) = &frame.annotations {
        object["metadata"]["annotations"] = json!(annotations);
    }
    Write::Create {
        resource: SLICES,
        namespace: Some(frame.namespace.clone()),
        object,
    }
}

fn update(frame: &Frame, slice: &EndpointSlice, endpoints: &[&Endpoint]) -> Option<Write> {
    let metadata = &slice.metadata;
    let none = BTreeMap::new();
    let annotated = match &frame.annotations {
        Some(wanted) => metadata.annotations.as_ref().unwrap_or(&none) == wanted,
        None => true,
    };
    let same = slice
        .endpoints
        .iter()
        .flatten()
        .eq(endpoints.iter().copied())
        && metadata.labels.as_ref() == Some(&frame.labels)
        && annotated
        && json!(metadata.owner_references) == json!([frame.owner]);
    if same {
        return None;
    }
    let mut object = serde_json::to_value(slice).ok()?;
    object["metadata"]["labels"] = json!(frame.labels);
    object["metadata"]["ownerReferences"] = json!([frame.owner]);
    if let Some(annotations) = &frame.annotations {
        object["metadata"]["annotations"] = json!(annotations);
    }
    object["endpoints"] = json!(endpoints);
    Some(Write::Update {
        resource: SLICES,
        namespace: Some(frame.namespace.clone()),
        object,
    })
}

fn delete(frame: &Frame, slice: &EndpointSlice) -> Write {
    Write::Delete {
        target: Target {
            resource: SLICES,
            namespace: Some(frame.namespace.clone()),
            name: slice.metadata.name.clone().unwrap_or_default(),
        },
        options: DeleteOptions {
            uid: slice.metadata.uid.clone(),
            ..DeleteOptions::default()
        },
    }
}
