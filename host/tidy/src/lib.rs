//! Conventions that a machine can check, as pure functions over the
//! workspace's metadata and the text of its files; `tests/workspace.rs` feeds
//! them the real ones.
//!
//! - dependencies between crates point downward (`graph`);
//! - files and functions stay small (`size`);
//! - what no file may hold (`ban`).

pub mod ban;
pub mod graph;
pub mod size;

/// One Rust file of the workspace.
pub struct Source {
    /// Relative to the workspace, with slashes.
    pub path: String,
    pub text: String,
}
