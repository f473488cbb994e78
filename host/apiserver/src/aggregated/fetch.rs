//! What extension servers say of themselves: whether they serve their
//! group-version, discovery, OpenAPI. Asked by the aggregator itself, each
//! question over a connection of its own: whether there is a way to the server
//! is part of what is asked. Bounded in time and size.

use super::handler::identify;
use super::{Remote, Said};
use crate::peers::{Http, Peers};
use crate::respond;
use crate::user::{MASTERS, User};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// For one question (upstream's for discovery).
const TIMEOUT: Duration = Duration::from_secs(5);
/// Most bytes of an answer: OpenAPI of a large server has a few MiB.
const MAX_ANSWER: usize = 16 << 20;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
/// How often a server is asked before it counts as gone (upstream's).
const ATTEMPTS: usize = 5;

struct Answered {
    code: StatusCode,
    media: String,
    bytes: Bytes,
}

impl Answered {
    fn json(&self) -> Option<Value> {
        (self.code == StatusCode::OK)
            .then(|| serde_json::from_slice(&self.bytes).ok())
            .flatten()
    }
}

/// The aggregator, who may everything.
fn itself() -> User {
    User {
        name: "system:kube-aggregator".to_owned(),
        groups: vec![MASTERS.to_owned()],
        ..User::default()
    }
}

async fn get(
    peers: &Peers,
    remote: &Remote,
    path: &str,
    accept: &'static str,
) -> Result<Answered, String> {
    let asked = async {
        let peer = remote.peer(Http::One)?;
        let failed = |e: &dyn std::fmt::Display| e.to_string();
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        let host = HeaderValue::from_str(&remote.host()).map_err(|e| failed(&e))?;
        headers.insert(header::HOST, host);
        identify(&itself(), &mut headers)?;
        let mut request = Request::get(path)
            .body(respond::body(Bytes::new()))
            .map_err(|e| failed(&e))?;
        *request.headers_mut() = headers;
        let answer = peers.alone(&peer, request).await?;
        let (parts, body) = answer.into_parts();
        let read = Limited::new(body, MAX_ANSWER).collect().await;
        let media = parts.headers.get(header::CONTENT_TYPE);
        Ok(Answered {
            code: parts.status,
            media: media
                .and_then(|v| v.to_str().ok())
                .unwrap_or_default()
                .to_owned(),
            bytes: read.map_err(|e| failed(&e))?.to_bytes(),
        })
    };
    match tokio::time::timeout(TIMEOUT, asked).await {
        Ok(answered) => answered,
        Err(_) => Err("context deadline exceeded".to_owned()),
    }
}

/// Whether the server serves its group-version; `url` is for the message.
pub(super) async fn probe(peers: &Peers, remote: &Remote, url: &str) -> Result<(), String> {
    let path = format!("/apis/{}/{}", remote.group(), remote.version());
    let mut last = String::new();
    for _ in 0..ATTEMPTS {
        let why = match get(peers, remote, &path, "application/json").await {
            Ok(answer) if (200..300).contains(&answer.code.as_u16()) => return Ok(()),
            Ok(answer) => format!("bad status from {url}: {}", answer.code.as_u16()),
            Err(why) => format!("Get {url:?}: {why}"),
        };
        last = format!("failing or missing response from {url}: {why}");
    }
    Err(last)
}

/// All that the server says; what it said `before`, marked as stale, where it
/// has no answer.
pub(super) async fn said(peers: &Peers, remote: &Remote, before: &Said) -> Said {
    let (group, version) = (remote.group(), remote.version());
    let discovery = match discovery(peers, remote).await {
        Some(mut found) => {
            found["freshness"] = "Current".into();
            found
        }
        None => stale(version, &before.discovery),
    };
    let index = get(peers, remote, "/openapi/v3", "application/json").await;
    let v3 = match index.ok().and_then(|a| a.json()) {
        Some(index) => own_paths(&index, group, version),
        None => before.v3.clone(),
    };
    let v2 = get(peers, remote, "/openapi/v2", "application/json").await;
    let v2 = v2.ok().and_then(|a| a.json());
    Said {
        discovery,
        v3,
        v2: v2.unwrap_or_else(|| before.v2.clone()),
    }
}

/// What is left to say of a server that doesn't answer.
pub(super) fn stale(version: &str, before: &Value) -> Value {
    let mut out = match before {
        Value::Object(_) => before.clone(),
        _ => json!({"version": version}),
    };
    out["freshness"] = "Stale".into();
    out
}

async fn discovery(peers: &Peers, remote: &Remote) -> Option<Value> {
    let answer = get(peers, remote, "/apis", AGGREGATED).await.ok()?;
    if answer.code == StatusCode::SERVICE_UNAVAILABLE {
        return None;
    }
    let (group, version) = (remote.group(), remote.version());
    let is_aggregated = answer.media.contains("g=apidiscovery.k8s.io");
    if let (true, Some(list)) = (is_aggregated, answer.json()) {
        return Some(of_aggregated(&list, group, version));
    }
    let path = format!("/apis/{group}/{version}");
    let answer = get(peers, remote, &path, "application/json").await.ok()?;
    Some(of_legacy(&answer.json()?, group, version))
}

fn items<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// The entry of a group-version; an empty one where the server has none.
fn of_aggregated(list: &Value, group: &str, version: &str) -> Value {
    let groups = items(list, "items").iter();
    let mut versions = groups
        .filter(|g| g["metadata"]["name"] == group)
        .flat_map(|g| items(g, "versions"));
    let found = versions.find(|v| v["version"] == version).cloned();
    match found {
        Some(found) if found.is_object() => found,
        _ => json!({"version": version}),
    }
}

/// An APIResourceList as an entry of aggregated discovery (upstream's
/// `ConvertGroupVersionIntoToDiscovery`).
fn of_legacy(list: &Value, group: &str, version: &str) -> Value {
    let mut resources: Vec<Value> = Vec::new();
    let (main, parts): (Vec<&Value>, Vec<&Value>) = items(list, "resources")
        .iter()
        .partition(|r| !r["name"].as_str().unwrap_or_default().contains('/'));
    let kind = |r: &Value| {
        let or = |key: &str, other: &str| {
            let own = r[key].as_str().filter(|t| !t.is_empty());
            own.unwrap_or(other).to_owned()
        };
        json!({"group": or("group", group), "version": or("version", version), "kind": r["kind"]})
    };
    for r in main {
        let scope = match r["namespaced"] == true {
            true => "Namespaced",
            false => "Cluster",
        };
        let mut entry = json!({
            "resource": r["name"], "responseKind": kind(r), "scope": scope,
            "singularResource": r["singularName"].as_str().unwrap_or_default(),
            "verbs": r["verbs"],
        });
        for key in ["shortNames", "categories"] {
            if let Some(listed) = r.get(key) {
                entry[key] = listed.clone();
            }
        }
        resources.push(entry);
    }
    for part in parts {
        let name = part["name"].as_str().unwrap_or_default();
        let (of, name) = name.split_once('/').unwrap_or((name, ""));
        let Some(parent) = resources.iter_mut().find(|r| r["resource"] == of) else {
            continue;
        };
        let entry = json!({
            "subresource": name, "responseKind": kind(part), "verbs": part["verbs"],
        });
        match parent.get_mut("subresources").and_then(Value::as_array_mut) {
            Some(all) => all.push(entry),
            None => parent["subresources"] = json!([entry]),
        }
    }
    json!({"version": version, "resources": resources})
}

/// Of an index of OpenAPI v3, the paths of the group-version.
fn own_paths(index: &Value, group: &str, version: &str) -> BTreeMap<String, String> {
    let own = format!("apis/{group}/{version}");
    let paths = index.get("paths").and_then(Value::as_object);
    paths
        .into_iter()
        .flatten()
        .filter(|(path, _)| **path == own)
        .map(|(path, entry)| {
            let url = entry["serverRelativeURL"].as_str().unwrap_or_default();
            (path.clone(), url.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legacy_discovery_becomes_aggregated() {
        let list = json!({"resources": [
            {"name": "things/status", "kind": "Thing", "verbs": ["get"]},
            {"name": "things", "singularName": "thing", "namespaced": true, "kind": "Thing",
                "verbs": ["list"], "shortNames": ["th"]},
            {"name": "things/scale", "group": "autoscaling", "version": "v1", "kind": "Scale",
                "verbs": ["get"]},
            {"name": "others/x", "kind": "Lost", "verbs": []},
        ]});
        let own = json!({"group": "g", "version": "v1", "kind": "Thing"});
        let scale = json!({"group": "autoscaling", "version": "v1", "kind": "Scale"});
        let wanted = json!({"version": "v1", "resources": [{
            "resource": "things", "responseKind": own, "scope": "Namespaced",
            "singularResource": "thing", "verbs": ["list"], "shortNames": ["th"],
            "subresources": [
                {"subresource": "status", "responseKind": own, "verbs": ["get"]},
                {"subresource": "scale", "responseKind": scale, "verbs": ["get"]},
            ],
        }]});
        assert_eq!(of_legacy(&list, "g", "v1"), wanted);
        for junk in [json!(null), json!([]), json!({"resources": [1, {}]})] {
            assert_eq!(of_legacy(&junk, "g", "v1")["version"], "v1");
            assert_eq!(of_aggregated(&junk, "g", "v1")["version"], "v1");
            assert!(own_paths(&junk, "g", "v1").is_empty());
        }
    }

    #[test]
    fn silence_makes_what_was_said_stale() {
        let said = json!({"version": "v1", "resources": [], "freshness": "Current"});
        let wanted = json!({"version": "v1", "resources": [], "freshness": "Stale"});
        assert_eq!(stale("v1", &said), wanted);
        let nothing = json!({"version": "v1", "freshness": "Stale"});
        assert_eq!(stale("v1", &Value::Null), nothing);
    }
}
