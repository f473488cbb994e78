//! Clients in the same process: the same handler, without a connection.

use crate::server::{Arrived, Identity, Server};
use crate::user::User;
use bytes::Bytes;
use reconcile::{Body, Transport, TransportError};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

struct Local {
    server: Arc<Server>,
    user: User,
}

impl Server {
    /// A transport whose requests come from `user`; they pass authorization
    /// and everything after it like any other.
    pub fn local_transport(self: &Arc<Self>, user: User) -> Arc<dyn Transport> {
        Arc::new(Local {
            server: self.clone(),
            user,
        })
    }
}

impl Transport for Local {
    fn send(
        &self,
        request: http::Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<http::Response<Body>, TransportError>> + Send + '_>>
    {
        Box::pin(async move {
            let arrived = Arrived {
                request,
                streamed: None,
                broken: None,
                upgrade: None,
                identity: Identity::Known(self.user.clone()),
                remote: None,
            };
            Ok(self.server.handle(arrived).await)
        })
    }
}
