//! The API server of `control`: HTTPS, authentication, authorization, the verbs
//! of the Kubernetes API over the store, watches, and streams to nodes.
//!
//! What a kind is, and what of it is valid, `api` decides; what is durable,
//! `store`. Here requests become calls of both. No device is touched, no
//! controller runs here.
//!
//! ```text
//! listen -> server: authn -> route -> authz -> rest (verbs) -> registry -> store
//!                                        \-> discovery, documents, health
//!                                  rest::pod -> proxy -> node
//!                                  rest::proxy -> proxy::forward -> pod, Service, node
//!                                  \-> aggregated -> proxy::forward -> extension server
//! ```
//! `audit` follows each request from authentication to the end of its answer.

mod admission;
mod aggregated;
mod audit;
mod authn;
mod authz;
mod begun;
mod compaction;
mod config;
mod crd;
mod dialer;
mod discovery;
mod documents;
mod endpoints;
mod fairness;
mod frames;
mod health;
mod initial;
mod kinds;
mod listen;
mod local;
mod lookup;
mod metrics;
mod mirror;
mod negotiate;
mod peers;
mod pki;
mod policy_status;
mod proxy;
mod query;
mod registry;
mod respond;
mod rest;
mod route;
mod run;
mod server;
mod services;
mod system;
mod tls;
mod usage;
mod user;
mod warnings;
mod webhook;

pub use audit::{AuditConfig, AuditError};
pub use authn::oidc::{OidcConfig, OidcError};
pub use config::{
    Ca, Config, Etcd, RequestHeader, Token, default_service_cidrs, issuer, reading, writing,
};
pub use dialer::{Connecting, Destination, Dialer, Stream};
pub use kinds::{Kinds, Table};
pub use pki::{Credential, Pki, PkiError};
pub use run::{RunError, Running, STORE, run, run_through};
pub use server::Server;
pub use user::User;
