//! `/containerLogs`: which attempt is meant, and its output as a body.

use super::routes::{Body, Refusal, Target};
use crate::logs::{self, Query};
use crate::pod::identity::container_id;
use crate::pod::view::{View, statuses};
use crate::worker::Shown;
use bytes::Bytes;
use futures_util::stream;
use http::{Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use jiff::Timestamp;
use std::convert::Infallible;
use std::path::Path;
use tokio::sync::mpsc;

/// Answers with the log; the body is read as fast as the client takes it.
pub(super) fn answer(
    data: &Path,
    shown: &Shown,
    target: &Target,
    query: &str,
) -> Result<Response<Body>, Refusal> {
    let bad = |message: String| Refusal::new(StatusCode::BAD_REQUEST, message);
    let query = Query::parse(query, Timestamp::now()).map_err(|error| bad(error.0))?;
    let attempt = attempt(shown, target, query.previous)?;
    let view = View(&shown.pod);
    let directory = logs::pod_directory(data, view.namespace(), view.name(), view.uid());
    let path = directory.and_then(|d| logs::attempt_file(&d, &target.container, attempt));
    let path = path.ok_or_else(|| bad("a name is no path component".to_owned()))?;
    let key = (target.container.clone(), attempt);
    let progress = shown.progress.get(&key).cloned();
    let (sender, receiver) = mpsc::channel::<Bytes>(8);
    tokio::spawn(async move {
        if let Err(error) = logs::stream(&path, &query, progress, &sender).await {
            log::warn!("log {}: {error}", path.display());
        }
    });
    let frames = stream::unfold(receiver, |mut receiver| async move {
        let bytes = receiver.recv().await?;
        Some((Ok::<_, Infallible>(Frame::data(bytes)), receiver))
    });
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(frames)));
    let plain = header::HeaderValue::from_static("text/plain");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    Ok(response)
}

/// The attempt whose log is meant (upstream's `validateContainerLogStatus`).
fn attempt(shown: &Shown, target: &Target, previous: bool) -> Result<u32, Refusal> {
    let view = View(&shown.pod);
    let name = target.container.as_str();
    if view.container(name).is_none() {
        let message = format!("container \"{name}\" not found in pod \"{}\"", target.pod);
        return Err(Refusal::new(StatusCode::NOT_FOUND, message));
    }
    let bad = |message: String| Refusal::new(StatusCode::BAD_REQUEST, message);
    let pod = &target.pod;
    let status = statuses(&shown.status).find(|status| status.name == name);
    let waits = |reason: &str| {
        let why = match reason {
            "ErrImagePull" => "image can't be pulled",
            "ImagePullBackOff" => "trying and failing to pull image",
            other => other,
        };
        bad(format!(
            "container \"{name}\" in pod \"{pod}\" is waiting to start: {why}"
        ))
    };
    let status = status.ok_or_else(|| waits("ContainerCreating"))?;
    let last = status
        .last_state
        .as_ref()
        .and_then(|s| s.terminated.as_ref());
    let last = last.and_then(|t| t.container_id.as_deref());
    let id = if previous {
        last.ok_or_else(|| {
            bad(format!(
                "previous terminated container \"{name}\" in pod \"{pod}\" not found"
            ))
        })?
    } else {
        let state = status.state.as_ref();
        let waiting = state.and_then(|s| s.waiting.as_ref());
        match (waiting, last, status.container_id.as_deref()) {
            (Some(_), Some(last), _) => last,
            (Some(waiting), None, _) => {
                return Err(waits(
                    waiting.reason.as_deref().unwrap_or("ContainerCreating"),
                ));
            }
            (None, _, Some(id)) => id,
            (None, _, None) => return Err(waits("ContainerCreating")),
        }
    };
    let record = shown.observed.record(name);
    let known = record.map(|r| [Some(r.attempt), r.last.as_ref().map(|l| l.attempt)]);
    let mut attempts = known.into_iter().flatten().flatten();
    attempts
        .find(|attempt| container_id(view.uid(), name, *attempt) == id)
        .ok_or_else(|| bad(format!("unable to retrieve container logs for {id}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::observed::{Observed, Record, State, Terminated};
    use crate::pod::samples::pod;
    use serde_json::json;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    fn end(attempt: u32) -> Terminated {
        Terminated {
            attempt,
            exit_code: 1,
            signal: None,
            reason: "Error".to_owned(),
            message: String::new(),
            started_at: None,
            finished_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn asked(state: State, last: Option<u32>, previous: bool) -> Result<u32, String> {
        let pod = pod(json!({"containers": [{"name": "a", "image": "a:1"}]}));
        let mut observed = Observed::new(Timestamp::UNIX_EPOCH);
        let record = Record {
            attempt: last.map_or(0, |last| last + 1),
            state,
            last: last.map(end),
            ..Record::new()
        };
        observed.containers.insert("a".to_owned(), record);
        let status = crate::pod::status(&pod, &observed, Timestamp::UNIX_EPOCH);
        let shown = Shown {
            pod: Arc::new(pod),
            status: Arc::new(status),
            observed: Arc::new(observed),
            control: None,
            commands: None,
            progress: BTreeMap::new(),
        };
        let target = Target {
            namespace: "default".to_owned(),
            pod: "web".to_owned(),
            container: "a".to_owned(),
        };
        attempt(&shown, &target, previous).map_err(|refusal| refusal.message)
    }

    #[test]
    fn the_attempt_that_is_meant_is_upstreams() {
        let running = State::Running {
            started_at: Timestamp::UNIX_EPOCH,
        };
        let ended = |attempt, announced| State::Ended {
            end: end(attempt),
            drained: true,
            announced,
            noticed_at: Timestamp::UNIX_EPOCH,
        };
        let waiting = "container \"a\" in pod \"web\" is waiting to start: ContainerCreating";
        let none = "previous terminated container \"a\" in pod \"web\" not found";
        for (state, last, previous, found) in [
            (State::Waiting, None, false, Err(waiting)),
            (State::Waiting, None, true, Err(none)),
            (running.clone(), None, false, Ok(0)),
            (running.clone(), None, true, Err(none)),
            (running.clone(), Some(4), false, Ok(5)),
            (running, Some(4), true, Ok(4)),
            (ended(0, false), None, false, Ok(0)),
            (ended(0, false), None, true, Err(none)),
            (ended(5, true), Some(4), false, Ok(5)),
            (ended(5, true), Some(4), true, Ok(5)),
        ] {
            let label = format!("{state:?} {previous}");
            let found = found.map_err(str::to_owned);
            assert_eq!(asked(state, last, previous), found, "{label}");
        }
    }
}
