//! What the node and its pods use, and how the kubelet's surface shows it.
//!
//! ```text
//!   request --> Metrics --ask--> Collector --Action::Stats--> guests (claims)
//!                  ^                 |  \--> proc, cgroups (the host's own)
//!                  +---- Sample -----+
//!   Sample --> resource, cadvisor, own (Prometheus' text), summary (JSON)
//! ```
//!
//! A sample is taken when somebody asks, and serves everybody for [`FRESH`].
//! Figures of the node and of pods are the host's; those of containers, volumes
//! and interfaces are what guests claim, bounded by the host's (`claims`).
//! Requests wait in a queue of 64; those that find it full wait for room.

pub(crate) mod cadvisor;
mod claims;
mod collect;
mod exposition;
mod host;
pub(crate) mod own;
pub(crate) mod resource;
mod sample;
pub(crate) mod summary;

pub(crate) use collect::{Collector, Metrics};
pub(crate) use exposition::MEDIA_TYPE;
pub(crate) use host::Sources;
#[cfg(test)]
pub(crate) use sample::samples::sample as sample_for_tests;
pub(crate) use sample::{ContainerFigures, PodFigures, Sample};
pub(crate) use summary::Extent;

use std::time::Duration;

/// How long a sample serves: shorter than anybody's scrape interval, and long
/// enough that many who ask cost guests no more than one.
const FRESH: Duration = Duration::from_secs(5);
/// How long all guests together have for their answers.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the last figures of a guest that is silent are shown.
const KEPT: Duration = Duration::from_secs(60);
