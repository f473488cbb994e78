//! What `node` tells a `vmm`, and what `node` and `init` say to each other.
//!
//! Owns the types and their encodings; it opens nothing and sends nothing.
//!
//! Two conversations, both over `SOCK_SEQPACKET` sockets, one message a packet:
//!
//! ```text
//!   node --launch::Request--> init            fixed layout, no parser in PID 1
//!   node <--launch::Reply---- init            + pidfd and control socket of a vmm
//!   node --control::ToVmm---> vmm             JSON, versioned, + descriptors
//!   node <--control::FromVmm- vmm             replies and events
//! ```
//!
//! Nothing here knows a Pod, an image or an API object.

pub mod control;
pub mod exit;
pub mod launch;
mod spec;

pub use spec::{
    DiskAccess, DiskId, DiskSpec, FdIndex, MachineId, MachineSpec, MemorySize, SpecError, Start,
    Transport, VSOCK_PORT_AGENT,
};
