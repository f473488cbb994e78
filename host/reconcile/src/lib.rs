//! API clients and caches for everything that watches and writes objects:
//! controllers, the scheduler, `node`.
//!
//! A [`Client`] speaks Kubernetes REST over a [`Transport`]: over TLS from
//! another process, or straight into the API server's request handler in its
//! own process. Both take the same road through authentication, authorization
//! and admission.

mod transport;

pub use transport::{Body, Transport, TransportError};
