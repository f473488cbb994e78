//! Pulls from a real registry: what users have, and what goes wrong there.

#![expect(clippy::unwrap_used, reason = "tests")]

mod faults;
mod harness;
mod proxy;
mod pulls;
mod store;
