//! The border between a client and whatever answers its HTTP requests.

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use std::future::Future;
use std::pin::Pin;

/// A response body: whole for most verbs, endless for a watch.
pub type Body = UnsyncBoxBody<Bytes, TransportError>;

#[derive(Debug, thiserror::Error)]
#[error("{operation}: {message}")]
pub struct TransportError {
    pub operation: &'static str,
    pub message: String,
}

/// Sends one request and gives its response; the body may still be streaming.
pub trait Transport: Send + Sync {
    fn send(
        &self,
        request: http::Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<http::Response<Body>, TransportError>> + Send + '_>>;
}
