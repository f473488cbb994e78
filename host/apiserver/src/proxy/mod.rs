//! Ways through the API server to others. [`forward`] passes any request on;
//! here are streams to a pod's node: log, exec, attach, port-forward.
//!
//! The API server checks that the pod, its node and the container are there,
//! then hands the request to the node's endpoint (upstream's kubelet paths) and
//! passes bytes: a log's body as it comes, an upgraded connection both ways
//! with half-close. It never looks into SPDY or WebSocket frames.

pub(crate) mod forward;
mod html;
pub(crate) mod rewrite;

use crate::audit::Trail;
use crate::peers::{Peer, Peers};
use crate::query::percent_encode;
use crate::rest::pod::{container, node_endpoint};
use crate::rest::{Answer, Call};
use api::kinds::Subresource;
use api::meta;
use api::status::Status;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use reconcile::Body;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// For the head of the answer; its body may take for ever.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// What streams need.
pub(crate) struct Streams {
    /// The TLS identity that nodes accept.
    pub(crate) tls: Arc<rustls::ClientConfig>,
    /// TLS to pods and Services, whose certificates nobody knows.
    pub(crate) unverified: Arc<rustls::ClientConfig>,
    /// The connections to them, to nodes and to extension servers.
    pub(crate) peers: Arc<Peers>,
}

/// Upstream's names of the query's parts, API to node.
const LOG_QUERY: &[&str] = &[
    "follow",
    "previous",
    "sinceSeconds",
    "sinceTime",
    "timestamps",
    "tailLines",
    "limitBytes",
    "stream",
];

pub(crate) async fn logs(call: &Call, pod: &Value) -> Answer {
    for key in ["tailLines", "limitBytes", "sinceSeconds"] {
        let least = i64::from(key != "tailLines");
        if let Some(n) = call.query.number(key)?.filter(|n| *n < least) {
            let why = match least {
                0 => "must be greater than or equal to 0",
                _ => "must be greater than 0",
            };
            return Err(Status::new(
                422,
                "Invalid",
                format!("PodLogOptions \"\" is invalid: {key}: Invalid value: {n}: {why}"),
            ));
        }
    }
    let container = container(pod, call.query.text("container"))?;
    let mut query: Vec<String> = Vec::new();
    for key in LOG_QUERY {
        if let Some(value) = call.query.get(key) {
            query.push(format!("{key}={}", percent_encode(value)));
        }
    }
    let path = format!(
        "/containerLogs/{}/{}/{container}?{}",
        meta::namespace(pod),
        meta::name(pod),
        query.join("&")
    );
    let request = request(Method::GET, &path)?;
    let (peer, request) = to_node(call, pod, request)?;
    let response = in_time(&peer, call.streams.peers.send(&peer, request)).await?;
    let (parts, body) = response.into_parts();
    if parts.status != StatusCode::OK {
        let text = limited(body).await;
        return Err(node_refusal(parts.status, &text));
    }
    let mut out = Response::new(body);
    out.headers_mut().insert(
        header::CONTENT_TYPE,
        parts
            .headers
            .get(header::CONTENT_TYPE)
            .cloned()
            .unwrap_or(HeaderValue::from_static("text/plain")),
    );
    Ok(out)
}

/// The node's refusal, in its own words.
fn node_refusal(code: StatusCode, text: &str) -> Status {
    match code {
        StatusCode::NOT_FOUND => Status::new(404, "NotFound", text),
        StatusCode::BAD_REQUEST => Status::bad_request(text),
        other => Status::new(
            other.as_u16(),
            "InternalError",
            format!("an error on the server ({text:?}) has prevented the request from succeeding"),
        ),
    }
}

async fn limited(body: Body) -> String {
    const MOST: usize = 16 * 1024;
    match http_body_util::Limited::new(body, MOST).collect().await {
        Ok(bytes) => String::from_utf8_lossy(&bytes.to_bytes()).trim().to_owned(),
        Err(_) => "unreadable answer of the node".to_owned(),
    }
}

pub(crate) async fn stream(
    call: &Call,
    subresource: Subresource,
    pod: &Value,
    upgrade: Option<OnUpgrade>,
) -> Answer {
    let path = stream_path(call, subresource, pod)?;
    let upgrading = call.headers.contains_key(header::UPGRADE);
    let (Some(upgrade), true) = (upgrade, upgrading) else {
        return Err(Status::bad_request("Upgrade request required"));
    };
    let mut request = request(call.method.clone(), &path)?;
    for (name, value) in &call.headers {
        let passed = matches!(*name, header::UPGRADE | header::CONNECTION)
            || name.as_str().starts_with("sec-websocket-")
            || name.as_str().starts_with("x-stream-protocol-");
        if passed {
            request.headers_mut().append(name.clone(), value.clone());
        }
    }
    let (peer, request) = to_node(call, pod, request)?;
    let mut response = in_time(&peer, call.streams.peers.alone(&peer, request)).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let code = response.status();
        let text = limited(forward::coming(response.into_body())).await;
        return Err(node_refusal(code, &text));
    }
    let node_side = hyper::upgrade::on(&mut response);
    let mut out = Response::new(crate::respond::body(Bytes::new()));
    *out.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for (name, value) in response.headers() {
        out.headers_mut().append(name.clone(), value.clone());
    }
    splice(upgrade, node_side, call.trail.clone());
    Ok(out)
}

/// Passes bytes both ways, once both connections have changed protocol; `trail`
/// is kept until that is over.
fn splice(client: OnUpgrade, server: OnUpgrade, trail: Trail) {
    tokio::spawn(async move {
        let _trail = trail;
        match tokio::try_join!(client, server) {
            Ok((client, server)) => {
                let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
                // Either side may go away at any time; that is no fault here.
                if let Err(e) = tokio::io::copy_bidirectional(&mut client, &mut server).await {
                    log::debug!("stream ended: {e}");
                }
                let _ = tokio::join!(client.shutdown(), server.shutdown());
            }
            Err(e) => log::warn!("stream could not be upgraded: {e}"),
        }
    });
}

fn stream_path(call: &Call, subresource: Subresource, pod: &Value) -> Result<String, Status> {
    let at = format!("{}/{}", meta::namespace(pod), meta::name(pod));
    if subresource == Subresource::PortForward {
        let phase = meta::text(pod, &["status", "phase"]);
        if kinds_ended(phase) {
            return Err(Status::bad_request(format!(
                "cannot forward to pod {}: it is {phase}",
                meta::name(pod)
            )));
        }
        let ports = call.query.text("ports");
        return Ok(match ports {
            "" => format!("/portForward/{at}"),
            ports => format!("/portForward/{at}?ports={}", percent_encode(ports)),
        });
    }
    let container = container(pod, call.query.text("container"))?;
    let phase = meta::text(pod, &["status", "phase"]);
    if kinds_ended(phase) {
        return Err(Status::bad_request(format!(
            "cannot exec or attach into a container in a completed pod; current phase is {phase}"
        )));
    }
    let mut query: Vec<String> = Vec::new();
    for (api_name, node_name) in [
        ("stdin", "input"),
        ("stdout", "output"),
        ("stderr", "error"),
    ] {
        if call.query.flag(api_name) {
            query.push(format!("{node_name}=1"));
        }
    }
    if call.query.flag("tty") {
        query.push("tty=1".to_owned());
    }
    if query.iter().all(|q| q == "tty=1") {
        return Err(Status::bad_request(
            "you must specify at least 1 of stdin, stdout, stderr",
        ));
    }
    if subresource == Subresource::Attach {
        return Ok(format!("/attach/{at}/{container}?{}", query.join("&")));
    }
    let commands: Vec<String> = call
        .raw_query
        .split('&')
        .filter(|p| p.starts_with("command="))
        .map(str::to_owned)
        .collect();
    if commands.is_empty() {
        return Err(Status::bad_request("you must specify at least 1 command"));
    }
    query.extend(commands);
    Ok(format!("/exec/{at}/{container}?{}", query.join("&")))
}

fn kinds_ended(phase: &str) -> bool {
    matches!(phase, "Succeeded" | "Failed")
}

fn request(method: Method, path: &str) -> Result<Request<Body>, Status> {
    Request::builder()
        .method(method)
        .uri(path)
        .body(crate::respond::body(Bytes::new()))
        .map_err(|e| Status::bad_request(e.to_string()))
}

/// The pod's node, and `request` as it goes there.
fn to_node(
    call: &Call,
    pod: &Value,
    mut request: Request<Body>,
) -> Result<(Peer, Request<Body>), Status> {
    let endpoint = node_endpoint(&call.store, &call.kind, pod)?;
    let target = endpoint.to_string();
    if let Ok(host) = HeaderValue::from_str(&target) {
        request.headers_mut().insert(header::HOST, host);
    }
    match Peer::node(endpoint, call.streams.tls.clone()) {
        Ok(peer) => Ok((peer, request)),
        Err(e) => Err(undialed(&target, &e)),
    }
}

fn undialed(target: &str, why: &dyn std::fmt::Display) -> Status {
    Status::internal(format!("error dialing backend: {target}: {why}"))
}

/// The head of a node's answer, unless that takes too long.
async fn in_time<T>(
    peer: &Peer,
    asked: impl Future<Output = Result<T, String>>,
) -> Result<T, Status> {
    let target = peer.authority();
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, asked).await;
    let answer = answer.map_err(|e| undialed(&target, &e))?;
    answer.map_err(|e| undialed(&target, &e))
}
