//! The body of an answer, which gives its connection back: one with HTTP/1.1
//! when it has been read, one's part of a shared one when it goes.

use super::{Peer, Peers, Sender, Use};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use hyper::client::conn::http1;
use reconcile::{Body, TransportError};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// How long the end of an answer waits for its connection to be free, so that
/// who asks next finds it. Longer only where the request isn't over yet.
const FREE: Duration = Duration::from_millis(100);

/// One request's part of a shared connection.
pub(super) struct Part {
    peers: Arc<Peers>,
    peer: Peer,
    used: Arc<Use>,
}

impl Part {
    pub(super) fn of(peers: &Arc<Peers>, peer: &Peer, used: &Arc<Use>) -> Part {
        used.0.fetch_add(1, Ordering::Relaxed);
        Part {
            peers: peers.clone(),
            peer: peer.clone(),
            used: used.clone(),
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.used.0.fetch_sub(1, Ordering::Relaxed);
        let is_it =
            |s: &Sender| matches!(s, Sender::Many(_, used) if Arc::ptr_eq(used, &self.used));
        self.peers.shelf().touch(&self.peer, Instant::now(), is_it);
    }
}

/// A body that counts as a use until it goes.
pub(super) fn shared(body: Body, part: Part) -> Body {
    body.map_frame(move |frame| {
        let _held = &part;
        frame
    })
    .boxed_unsync()
}

/// A connection that is to be kept.
pub(super) struct Back {
    pub(super) peers: Weak<Peers>,
    pub(super) peer: Peer,
    pub(super) one: http1::SendRequest<Body>,
}

impl Back {
    fn keep(self) {
        if let Some(peers) = self.peers.upgrade() {
            let one = Sender::One(self.one);
            drop(peers.shelf().put(self.peer, one, Instant::now()));
        }
    }
}

/// A body at whose end the connection is kept.
pub(super) fn body(inner: Body, back: Back) -> Body {
    let mut back = Some(back);
    if inner.is_end_stream()
        && let Some(free) = back.take_if(|back| back.one.is_ready())
    {
        free.keep();
        return inner;
    }
    let read = Read {
        inner,
        back,
        waiting: None,
    };
    read.boxed_unsync()
}

struct Read {
    inner: Body,
    back: Option<Back>,
    /// Since the end has been read.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl HttpBody for Read {
    type Data = Bytes;
    type Error = TransportError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TransportError>>> {
        let this = &mut *self;
        if this.waiting.is_none() {
            let frame = ready!(Pin::new(&mut this.inner).poll_frame(cx));
            if frame.is_some() {
                return Poll::Ready(frame);
            }
        }
        let Some(back) = &mut this.back else {
            return Poll::Ready(None);
        };
        match back.one.poll_ready(cx) {
            Poll::Ready(Ok(())) => {
                if let Some(back) = this.back.take() {
                    back.keep();
                }
                Poll::Ready(None)
            }
            Poll::Ready(Err(_)) => {
                this.back = None;
                Poll::Ready(None)
            }
            Poll::Pending => {
                let waiting = this
                    .waiting
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep(FREE)));
                waiting.as_mut().poll(cx).map(|()| None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.back.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Who reads by length never sees the end.
impl Drop for Read {
    fn drop(&mut self) {
        let (Some(mut back), Ok(runtime)) =
            (self.back.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        runtime.spawn(async move {
            if back.one.ready().await.is_ok() {
                back.keep();
            }
        });
    }
}
