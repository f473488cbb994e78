//! From layers to EROFS, in a process of its own.
//!
//! ```text
//! parent (node)                        child (atoll convert-image)
//! ─ opens layers and output            ─ stdin is a socket, nothing else open
//! ─ sends request and descriptors ───► ─ receives them
//!                                      ─ gives up root, paths, privileges
//!                                      ─ reads the first byte of a layer
//! ◄──────────── outcome ────────────── ─ writes the output
//! ─ fsync, rename
//! ```
//!
//! The messages on the socket (`SOCK_SEQPACKET`): the request as JSON with
//! the output's descriptor, one byte with a descriptor for each layer, lowest
//! first; back comes the outcome as JSON.

mod child;
mod layer;
mod parent;
mod run;

use serde::{Deserialize, Serialize};

use crate::config::Limits;
use crate::digest::Digest;
use crate::error::Kind;
pub use child::convert_child;
pub(crate) use parent::{Converter, Job, Layer};

/// Neither side sends longer ones.
const MAX_MESSAGE: usize = 128 << 10;

/// What the child is to do, and within what.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Of each layer, unpacked; lowest first.
    diff_ids: Vec<Digest>,
    limits: Limits,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Done { size: u64, inodes: u32 },
    Failed { cause: Cause, message: String },
}

/// Whose fault a failed conversion is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Cause {
    Layers,
    DiskFull,
    Host,
}

impl From<Cause> for Kind {
    fn from(cause: Cause) -> Kind {
        match cause {
            Cause::Layers => Kind::Invalid,
            Cause::DiskFull => Kind::DiskFull,
            Cause::Host => Kind::Host,
        }
    }
}

/// A conversion in this process, for tests.
#[cfg(test)]
pub(crate) fn convert_here(
    diff_ids: Vec<Digest>,
    limits: Limits,
    layers: &[std::fs::File],
    output: &std::fs::File,
) -> Result<(), String> {
    match run::run(&Request { diff_ids, limits }, layers, output) {
        Outcome::Done { .. } => Ok(()),
        Outcome::Failed { message, .. } => Err(message),
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
