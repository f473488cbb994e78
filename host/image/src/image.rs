//! An image as the rest of the host sees it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// A pulled and converted image. Its file stays valid while it isn't
/// removed: it is never written again, only unlinked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The digest of the configuration, `sha256:…`: a CRI image id.
    pub id: String,
    /// `docker.io/library/nginx@sha256:…`, with the digest that the registry
    /// gave for the tag (of the index, if it is one): a pod's `imageID`.
    pub repo_digest: String,
    /// The read-only root; its size is a multiple of 2 MiB.
    pub erofs: PathBuf,
    /// Of `erofs`, in bytes.
    pub size: u64,
    pub config: ImageConfig,
    /// Of the manifest for this platform.
    pub manifest: Digest,
}

/// What an image says on how to run it (OCI image configuration, `config`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImageConfig {
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    /// `NAME=value`, in order.
    pub env: Vec<String>,
    /// `user`, `uid`, `user:group`, `uid:gid` or any mix; empty is root.
    pub user: String,
    /// Empty is `/`.
    pub working_dir: String,
    /// `SIGQUIT`, `3`; `None` is SIGTERM.
    pub stop_signal: Option<String>,
    /// `80/tcp`.
    pub exposed_ports: Vec<String>,
    pub volumes: Vec<String>,
    pub labels: BTreeMap<String, String>,
}

/// When a registry is asked; as `imagePullPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

/// An image as its files stand; what a garbage collection goes by.
#[derive(Clone, Debug)]
pub struct Stored {
    pub image: Arc<Image>,
    /// On disk: less than `size` where the file has holes.
    pub disk_bytes: u64,
    pub made: SystemTime,
    /// When it was last asked for, or said to be used.
    pub used: SystemTime,
}

/// What the image directory holds, in bytes on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub images: u64,
    pub image_bytes: u64,
    pub blobs: u64,
    pub blob_bytes: u64,
}
