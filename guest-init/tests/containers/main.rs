//! guest-init as the host sees it: real containers on this machine's kernel,
//! in a mount namespace, as root. Where that is impossible the tests say so.

#![expect(clippy::unwrap_used, reason = "tests")]

mod figures;
mod harness;
mod lifecycle;
mod sandbox;
mod scratch;
mod streams;
mod volumes;
