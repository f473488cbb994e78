//! `metrics.k8s.io`: what nodes and pods use now, as upstream's metrics-server
//! tells it, which this is in one process less.
//!
//! ```text
//! nodes' /metrics/resource --scrape, parse--> points --answer--> NodeMetrics, PodMetrics
//! ```
//! One task asks every node each [`RESOLUTION`]; CPU use is what was used between
//! two answers. `points` is what the last two said, and nothing else is kept.
//! Where an APIService hands the group to another server, nobody is asked here.

mod answer;
mod parse;
mod points;
mod scrape;

pub(crate) use answer::answer;
pub(crate) use scrape::run;

use points::Points;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const GROUP: &str = "metrics.k8s.io";
const VERSION: &str = "v1beta1";

/// metrics-server's, as its manifests have it.
const RESOLUTION: Duration = Duration::from_secs(15);

/// What is known now. Held for no longer than it takes to look or to replace.
#[derive(Debug, Default)]
pub(crate) struct Usages(Mutex<Points>);

impl Usages {
    fn lock(&self) -> MutexGuard<'_, Points> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
