//! The role as a whole, between an API in memory, an `init` that launches
//! nothing but threads of this process, and guests that speak the real
//! protocol over the real descriptors.

#![expect(clippy::unwrap_used, reason = "tests")]

mod api;
mod changes;
mod figures;
mod health;
mod images;
mod init;
mod late;
mod pressure;
mod resize;
mod restarts;
mod scenarios;
mod shutdown;
mod static_pods;
mod turns;
