//! `audit.k8s.io/v1` `Event`, and what of a request's head goes into it.

use crate::user::User;
use http::{HeaderMap, header};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Most bytes of a client's name.
const AGENT_MAX: usize = 1024;

#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Event {
    pub(super) kind: &'static str,
    pub(super) api_version: &'static str,
    pub(super) level: &'static str,
    #[serde(rename = "auditID")]
    pub(super) audit_id: String,
    pub(super) stage: &'static str,
    #[serde(rename = "requestURI")]
    pub(super) request_uri: String,
    pub(super) verb: String,
    pub(super) user: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) impersonated_user: Option<Value>,
    #[serde(rename = "sourceIPs", skip_serializing_if = "Vec::is_empty")]
    pub(super) source_ips: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) user_agent: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) object_ref: Option<ObjectRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) response_status: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request_object: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) response_object: Option<Value>,
    pub(super) request_received_timestamp: String,
    pub(super) stage_timestamp: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ObjectRef {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) resource: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) uid: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) api_group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) api_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) resource_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) subresource: String,
}

/// `UserInfo`; empty for nobody.
pub(super) fn info(user: Option<&User>) -> Value {
    user.map_or_else(|| Value::Object(serde_json::Map::new()), User::info)
}

pub(super) fn agent(headers: &HeaderMap) -> String {
    let text = headers.get(header::USER_AGENT);
    let text = text.map(|v| String::from_utf8_lossy(v.as_bytes()));
    let mut agent = text.unwrap_or_default().into_owned();
    if agent.len() > AGENT_MAX {
        agent.truncate(agent.floor_char_boundary(AGENT_MAX));
        agent += "...TRUNCATED";
    }
    agent
}

/// Addresses that the client says it is forwarded for, then the connection's
/// own, each once in a row (`apimachinery/pkg/util/net.SourceIPs`).
pub(super) fn source_ips(headers: &HeaderMap, remote: Option<IpAddr>) -> Vec<String> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    let forwarded = text("x-forwarded-for").unwrap_or_default().split(',');
    let mut found: Vec<IpAddr> = forwarded.filter_map(|ip| ip.trim().parse().ok()).collect();
    let real = text("x-real-ip").and_then(|ip| ip.trim().parse().ok());
    found.extend(real.filter(|ip| !found.contains(ip)));
    let remote = remote.map(|ip| ip.to_canonical());
    found.extend(remote.filter(|ip| found.last() != Some(ip)));
    found.iter().map(IpAddr::to_string).collect()
}

/// Takes the owners of fields out of an object, a list or a table.
pub(super) fn drop_managed(object: &mut Value) {
    let drop_in = |object: &mut Value| {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.shift_remove("managedFields");
        }
    };
    drop_in(object);
    for items in ["items", "rows"] {
        let listed = object.get_mut(items).and_then(Value::as_array_mut);
        for item in listed.into_iter().flatten() {
            drop_in(item);
            if let Some(row) = item.get_mut("object") {
                drop_in(row);
            }
        }
    }
}
