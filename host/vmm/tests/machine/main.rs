//! The executable as its launcher sees it, with tiny guests on `/dev/kvm`.
#![expect(clippy::unwrap_used, reason = "tests")]

mod attach;
mod exits;
mod freeze;
mod guest;
mod jail;
