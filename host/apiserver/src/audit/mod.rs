//! The audit log (`apiserver/pkg/audit`): which requests the policy wants
//! recorded, as events of upstream's form, one a line.
//!
//! `policy` decides, `trail` gathers along a request's way, `captured` reads
//! answers, `sink` writes off that way, `rotate` keeps files small. Without a
//! policy there is no [`Audit`], and trails are empty.

mod captured;
mod event;
mod policy;
mod rotate;
mod sink;
#[cfg(test)]
mod tests;
mod trail;

use crate::route::{ResourceRoute, Route};
use crate::user::User;
use event::{Event, ObjectRef};
use http::request::Parts;
use jiff::Timestamp;
pub(crate) use policy::Level;
use policy::{Policy, Subject};
use rotate::{Keep, Rotating};
use serde::Deserialize;
use sink::{Output, Sink};
use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use trail::Course;
pub(crate) use trail::Trail;

/// What is recorded, and where: upstream's options.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuditConfig {
    pub policy_file: PathBuf,
    /// `-` is standard output.
    pub log_path: PathBuf,
    /// Megabytes of a file before it is put aside; 0: never.
    pub max_size: u32,
    /// Files put aside that are kept; 0: all.
    pub max_backup: u32,
    /// Days that they are kept; 0: for ever.
    pub max_age: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error("audit policy {path}: read: {source}")]
    Read { path: String, source: io::Error },
    #[error("audit policy {path}: {why}")]
    Policy { path: String, why: String },
    #[error("audit log {path}: open: {source}")]
    Open { path: String, source: io::Error },
    #[error("audit log: start its writer: {0}")]
    Writer(io::Error),
}

pub(crate) struct Audit {
    policy: Policy,
    sink: Arc<Sink>,
}

/// A request that has arrived.
pub(crate) struct Arrival<'a> {
    pub(crate) id: &'a str,
    pub(crate) received: Timestamp,
    pub(crate) parts: &'a Parts,
    pub(crate) remote: Option<IpAddr>,
    /// `None`: it leads nowhere.
    pub(crate) route: Option<&'a Route>,
    /// What a field selector narrows it to.
    pub(crate) selected: &'a str,
    /// Bytes of its body.
    pub(crate) size: usize,
}

impl Audit {
    pub(crate) fn open(config: &AuditConfig) -> Result<Audit, AuditError> {
        let path = config.policy_file.display().to_string();
        let text = std::fs::read(&config.policy_file).map_err(|source| AuditError::Read {
            path: path.clone(),
            source,
        })?;
        let (policy, warnings) = Policy::parse(&text).map_err(|why| AuditError::Policy {
            path: path.clone(),
            why,
        })?;
        for warning in warnings {
            log::warn!("audit policy {path}: {warning}");
        }
        let keep = Keep {
            bytes: u64::from(config.max_size) << 20,
            backups: usize::try_from(config.max_backup).unwrap_or(usize::MAX),
            days: config.max_age,
        };
        let output = match config.log_path.as_os_str() {
            dash if dash == "-" => Output::Standard,
            _ => {
                let opened = Rotating::open(&config.log_path, keep);
                Output::File(opened.map_err(|source| AuditError::Open {
                    path: config.log_path.display().to_string(),
                    source,
                })?)
            }
        };
        Ok(Audit {
            policy,
            sink: Arc::new(Sink::start(output)?),
        })
    }

    /// The trail of a request by `user`; `None`: by nobody.
    pub(crate) fn begin(&self, arrival: &Arrival<'_>, user: Option<&User>) -> Trail {
        let resource = match arrival.route {
            Some(Route::Resource(route)) => Some(route),
            Some(Route::Other { .. }) | None => None,
        };
        let verb = match resource {
            Some(route) => route.verb.to_owned(),
            None => arrival.parts.method.as_str().to_ascii_lowercase(),
        };
        let name = match resource {
            Some(route) if !route.name.is_empty() => &route.name,
            _ => arrival.selected,
        };
        let subject = Subject {
            user,
            verb: &verb,
            resource,
            name,
            path: arrival.parts.uri.path(),
        };
        let judged = self.policy.judge(&subject);
        if judged.level == Level::None {
            return Trail::default();
        }
        let course = match (user, resource) {
            (None, _) => Course::Unauthenticated,
            (_, Some(route)) if route.is_long() => Course::Long,
            (_, Some(_) | None) => Course::Plain,
        };
        let event = event(arrival, &subject, judged.level);
        Trail::begin(&self.sink, judged, course, event, arrival.size)
    }

    /// Waits until what was recorded is written.
    pub(crate) async fn flush(&self) {
        let sink = self.sink.clone();
        // It only fails if the runtime ends: then nobody waits.
        let _ = tokio::task::spawn_blocking(move || sink.flush()).await;
    }

    /// In Prometheus' text format, under upstream's names.
    pub(crate) fn metrics(&self) -> String {
        let (events, lost) = self.sink.counted();
        let mut out = String::new();
        for (name, labels, help, value) in [
            (
                "apiserver_audit_event_total",
                "",
                "Audit events, also those that were lost.",
                events,
            ),
            (
                "apiserver_audit_error_total",
                "{plugin=\"log\"}",
                "Audit events that were lost: the queue was full, or the log can't be written.",
                lost,
            ),
        ] {
            let head = crate::metrics::head(name, "counter", help);
            let _ = writeln!(out, "{head}{name}{labels} {value}");
        }
        out
    }
}

fn event(arrival: &Arrival<'_>, subject: &Subject<'_>, level: Level) -> Event {
    let parts = arrival.parts;
    let uri = parts.uri.path_and_query();
    let received = api::time::rfc3339_micro(arrival.received);
    Event {
        kind: "Event",
        api_version: "audit.k8s.io/v1",
        level: level.name(),
        audit_id: arrival.id.to_owned(),
        request_uri: uri.map_or("", |uri| uri.as_str()).to_owned(),
        verb: subject.verb.to_owned(),
        user: event::info(subject.user),
        source_ips: event::source_ips(&parts.headers, arrival.remote),
        user_agent: event::agent(&parts.headers),
        object_ref: subject.resource.map(|route| reference(route, subject.name)),
        request_received_timestamp: received.clone(),
        stage_timestamp: received,
        ..Event::default()
    }
}

fn reference(route: &ResourceRoute, name: &str) -> ObjectRef {
    ObjectRef {
        resource: route.resource.clone(),
        namespace: route.namespace.clone(),
        name: name.to_owned(),
        api_group: route.group.clone(),
        api_version: route.version.clone(),
        subresource: route.subresource.clone(),
        ..ObjectRef::default()
    }
}
