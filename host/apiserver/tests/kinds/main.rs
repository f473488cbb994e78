//! Kinds as clients meet them: whole lives of objects, what Services are
//! given, scales, evictions; through the transport for clients in the same
//! process.
#![expect(clippy::unwrap_used, reason = "tests")]

mod answers;
mod api;
mod conformance;
#[expect(dead_code, reason = "the store's own tests use the rest")]
#[path = "../../../store/tests/engines/etcd.rs"]
mod etcd;
mod fuzz;
mod health;
mod lives;
mod pods;
mod services;
mod shared;
mod snapshot;
