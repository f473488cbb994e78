//! What a pod on this node is and should become: pure decisions.
//!
//! Owns: the observed state of a pod ([`Observed`]), what to do next
//! ([`plan`]), what is started again (`restart`), what to tell the API ([`status`]), what the guest is asked to
//! run ([`container`]) and which pods are turned away ([`admission`]).
//! Refuses: I/O, clocks and randomness; time is an argument.
//!
//! ```text
//!   worker: plan(pod, observed, now) -> steps
//!           observed.begin(step) -> notes     marked before it is carried out,
//!           carry it out                      so nothing is ever done twice
//!           observed.observe(result) -> notes
//!           status(pod, observed, now)        written when it differs
//! ```

pub(crate) mod action;
pub(crate) mod admission;
pub(crate) mod backoff;
pub(crate) mod conditions;
pub(crate) mod container;
pub(crate) mod disks;
pub(crate) mod environment;
pub(crate) mod etc_files;
pub(crate) mod health;
pub(crate) mod identity;
mod names;
pub(crate) mod observed;
mod own;
pub(crate) mod plan;
pub(crate) mod resize;
pub(crate) mod resources;
pub(crate) mod restart;
pub(crate) mod runtime_class;
pub(crate) mod scratch;
pub(crate) mod status;
pub(crate) mod sysctls;
mod transitions;
pub(crate) mod view;
pub(crate) mod volumes;
mod waiting;

#[cfg(test)]
mod property;
#[cfg(test)]
pub(crate) mod samples;

pub(crate) use observed::{Observation, Observed};
pub(crate) use own::Pod;
pub(crate) use plan::{Step, plan};
pub(crate) use status::status;
