//! The Kubernetes API, as far as it can be decided without acting: kinds,
//! field facts, decoding, defaults, validation, patches, selectors, printing.
//!
//! Everything here is a pure function of its arguments, time included. Nothing
//! here knows of storage, connections or users.

pub mod cron;
pub mod custom;
pub mod declared;
pub mod decode;
pub mod facts;
pub mod field;
pub mod kinds;
pub mod label_selector;
pub mod managed;
pub mod meta;
pub mod names;
pub mod openapi;
pub mod patch;
pub mod pick;
pub mod print;
pub mod protobuf;
pub mod quantity;
pub mod resources;
pub mod selector;
pub mod service_range;
pub mod status;
pub mod time;
