//! What is recorded of one request, gathered along its way:
//!
//! ```text
//! begin -> RequestReceived -> (authorization, admission, the body add to it)
//!   -> the answer's head: ResponseStarted, if the request is a long one
//!   -> the last clone is gone, the answer's body with it: ResponseComplete
//! ```
//! A request that nobody could be authenticated for has ResponseStarted alone,
//! as upstream. Without a policy, or at level None, a trail is empty and does
//! nothing.

use super::captured::{Captured, Followed, bare};
use super::event::{Event, ObjectRef, info};
use super::policy::{Judged, Level, Stage};
use super::sink::{Record, Sink};
use crate::authz::Decision;
use crate::user::User;
use api::status::Status;
use api::{meta, names, time};
use http::Response;
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use jiff::Timestamp;
use reconcile::Body;
use serde_json::{Value, json};
use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A plain answer up to this size is looked at for a `Status`.
const SMALL: u64 = 4096;

/// Which stages a request has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Course {
    Plain,
    Long,
    /// Nobody could be authenticated.
    Unauthenticated,
}

#[derive(Clone, Default)]
pub(crate) struct Trail(Option<Arc<Shared>>);

struct Shared {
    sink: Arc<Sink>,
    judged: Judged,
    course: Course,
    request_size: usize,
    gathered: Mutex<Gathered>,
}

struct Gathered {
    event: Event,
    body: Option<Captured>,
    started: bool,
    panicked: bool,
}

impl Trail {
    /// Records RequestReceived, if there is such a stage.
    pub(super) fn begin(
        sink: &Arc<Sink>,
        judged: Judged,
        course: Course,
        event: Event,
        request_size: usize,
    ) -> Trail {
        let shared = Shared {
            sink: sink.clone(),
            judged,
            course,
            request_size,
            gathered: Mutex::new(Gathered {
                event,
                body: None,
                started: false,
                panicked: false,
            }),
        };
        if course != Course::Unauthenticated {
            shared.send(&mut shared.lock(), Stage::RequestReceived);
        }
        Trail(Some(Arc::new(shared)))
    }

    fn edit(&self, edit: impl FnOnce(&Shared, &mut Gathered)) {
        if let Some(shared) = &self.0 {
            edit(shared, &mut shared.lock());
        }
    }

    /// The server's own annotation.
    fn note(&self, key: &str, value: &str) {
        self.edit(|_, g| g.annotate(key, value));
    }

    /// An annotation of admission, whose key is `PREFIX/NAME`; from `level` on.
    pub(crate) fn annotate(&self, level: Level, key: &str, value: &str) {
        self.edit(|shared, g| {
            if !names::qualified_name(key).is_empty() || !key.contains('/') {
                return log::warn!("audit: {key:?} is no key of an annotation");
            }
            if shared.judged.level >= level {
                g.annotate(key, value);
            }
        });
    }

    pub(crate) fn impersonated(&self, user: &User) {
        self.edit(|_, g| g.event.impersonated_user = Some(info(Some(user))));
    }

    pub(crate) fn decided(&self, decision: &Decision) {
        let (word, why) = match decision {
            Decision::Allowed(why) => ("allow", why),
            Decision::NoOpinion(why) => ("forbid", why),
        };
        self.note("authorization.k8s.io/decision", word);
        self.note("authorization.k8s.io/reason", why);
    }

    /// The object that the client sent.
    pub(crate) fn request(&self, object: &Value) {
        self.edit(|shared, g| {
            let of = g.event.object_ref.get_or_insert_with(ObjectRef::default);
            for (member, text) in [
                (&mut of.namespace, meta::namespace(object)),
                (&mut of.name, meta::name(object)),
                (&mut of.uid, meta::uid(object)),
                (&mut of.resource_version, meta::resource_version(object)),
            ] {
                if member.is_empty() {
                    text.clone_into(member);
                }
            }
            if shared.judged.level >= Level::Request {
                g.event.request_object = Some(object.clone());
            }
        });
    }

    pub(crate) fn patch(&self, patch: &Value) {
        self.edit(|shared, g| {
            if shared.judged.level >= Level::Request {
                g.event.request_object = Some(patch.clone());
            }
        });
    }

    pub(crate) fn refused(&self, status: &Status) {
        self.edit(|shared, g| {
            let value = status.to_value();
            if shared.judged.level >= Level::RequestResponse {
                g.event.response_object = Some(value.clone());
            }
            g.event.response_status = Some(bare(value));
        });
    }

    pub(crate) fn panicked(&self, payload: &(dyn Any + Send)) {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        self.edit(|shared, g| {
            let message = format!("APIServer panic'd: {}", text.unwrap_or("no message"));
            g.event.response_status = Some(json!({"metadata": {}, "status": "Failure",
                "message": message, "reason": "InternalError", "code": 500}));
            shared.send(g, Stage::Panic);
            g.panicked = true;
        });
    }

    pub(super) fn captured(&self, body: Captured) {
        self.edit(|_, g| g.body = Some(body));
    }

    /// The answer's head is known; the rest is told by what this gives back.
    pub(crate) fn follow(&self, response: Response<Body>) -> Response<Body> {
        let Some(shared) = &self.0 else {
            return response;
        };
        let code = response.status().as_u16();
        let mut g = shared.lock();
        let refused = g.event.response_status.is_some();
        if !refused {
            g.event.response_status = Some(json!({"metadata": {}, "code": code}));
        }
        if shared.course != Course::Plain {
            shared.send(&mut g, Stage::ResponseStarted);
            g.started = true;
        }
        drop(g);
        let whole = shared.judged.level >= Level::RequestResponse;
        let small = response
            .body()
            .size_hint()
            .exact()
            .is_some_and(|n| n <= SMALL);
        let wanted = shared.course == Course::Plain && !refused && (whole || small);
        let kept = wanted.then(|| Captured::new(response.headers(), whole));
        let kept = kept.filter(Captured::is_object);
        let trail = self.clone();
        response.map(|inner| Followed { inner, kept, trail }.boxed_unsync())
    }
}

impl Gathered {
    /// What is said stays said.
    fn annotate(&mut self, key: &str, value: &str) {
        let standing = self.event.annotations.entry(key.to_owned());
        let standing = standing.or_insert_with(|| value.to_owned());
        if standing != value {
            log::warn!("audit: annotation {key} is {standing:?} already, not {value:?}");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Gathered> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, gathered: &mut Gathered, stage: Stage) {
        if self.judged.omit_stages.contains(&stage) {
            return;
        }
        let mut event = gathered.event.clone();
        event.stage = stage.name();
        if stage != Stage::RequestReceived {
            event.stage_timestamp = time::rfc3339_micro(Timestamp::now());
        }
        self.sink.send(Record {
            event,
            body: gathered.body.take(),
            omit_managed_fields: self.judged.omit_managed_fields,
            request_size: self.request_size,
        });
    }

    fn finish(&self) {
        let mut g = self.lock();
        if self.course == Course::Unauthenticated || g.panicked {
            return;
        }
        if g.event.response_status.is_none() {
            let message = "Connection closed early";
            let status =
                json!({"metadata": {}, "status": "Success", "message": message, "code": 200});
            g.event.response_status = Some(status);
            if self.course == Course::Long && !g.started {
                self.send(&mut g, Stage::ResponseStarted);
            }
        }
        self.send(&mut g, Stage::ResponseComplete);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.finish();
    }
}
