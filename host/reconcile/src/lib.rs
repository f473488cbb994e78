//! API clients and caches for everything that watches and writes objects:
//! controllers, the scheduler, `node`.
//!
//! A [`Client`] speaks Kubernetes REST over a [`Transport`]: over TLS from
//! another process, or straight into the API server's request handler in its
//! own process. Both take the same road through authentication, authorization
//! and admission.
//!
//! ```text
//! Transport -> Client -> Reflector -> Cache --(keys)--> Queue -> work(plan)
//!                 ^                                                |
//!                 '----------------------- writes -----------------'
//! ```

mod backoff;
mod cache;
mod client;
mod controller;
mod error;
mod kubeconfig;
mod queue;
mod reflector;
pub mod resource;
mod tls;
mod transport;
mod unverified;
mod watch;

pub use backoff::{Backoff, random};
pub use cache::{Cache, Change};
pub use client::{Client, DeleteOptions, List, Patch, Propagation};
pub use controller::{Requeue, Target, Write, work};
pub use error::{ClientError, Status};
pub use kubeconfig::{Kubeconfig, KubeconfigError};
pub use queue::{Finish, Queue};
pub use reflector::Reflector;
pub use resource::{ListOptions, ObjectKey, Resource, WatchOptions};
pub use tls::{TlsError, TlsTransport};
pub use transport::{Body, Transport, TransportError};
pub use unverified::AnyCertificate;
pub use watch::{WatchEvent, WatchStream};
