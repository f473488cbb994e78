//! Container images: from a reference to one read-only EROFS file.
//!
//! ```text
//! reference ──► registry client ──► blobs on disk ──► converter ──► EROFS file
//!               (node's process)    (verified)        (own process,  + sidecar
//!                                                      confined)
//! ```
//!
//! [`Images`] is what `node` uses; [`convert_child`] is the body of the role
//! `atoll convert-image`, the only code that looks inside a layer. Nothing
//! here knows a Pod, mounts anything, or extracts files to the host.

mod blobs;
mod config;
mod convert;
mod credentials;
mod digest;
mod erofs;
mod error;
mod image;
mod images;
mod manifest;
mod pull;
mod reference;
mod registry;
mod store;
mod tar;
#[cfg(test)]
mod testing;
mod tree;

pub use config::{CaBundle, Config, ConfigError, Limits, Proxy, Registry, Timeouts};
pub use convert::convert_child;
pub use credentials::{Credentials, Keyring, SecretError, SecretFormat};
pub use digest::{Digest, DigestError};
pub use error::{Failure, Kind, PullError, Step};
pub use image::{Image, ImageConfig, PullPolicy, Stored, Usage};
pub use images::{Images, OpenError};
pub use reference::{DOCKER_HUB, Reference, ReferenceError};
