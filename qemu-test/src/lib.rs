//! The lab: boots the real image in QEMU, with a real registry and kubectl
//! beside it, and looks inside by a test agent.
//!
//! ```text
//!   suite -> Appliance -> Machine (QEMU) -> image, unchanged + test agent
//!                      -> Registry (docker-registry) <- images from packages
//!                      -> Kubectl, Agent, nbd::Device (disks that lose power)
//! ```

pub mod agent;
pub mod appliance;
pub mod config;
pub mod copy;
pub mod credentials;
pub mod crowd;
pub mod faulty;
pub mod http;
pub mod images;
pub mod kubectl;
pub mod left_running;
pub mod line_socket;
pub mod machine;
pub mod memory;
pub mod nbd;
pub mod oci;
pub mod pod;
pub mod process;
pub mod programs;
pub mod qmp;
pub mod registry;
pub mod suite;
pub mod traces;
pub mod wait;
