//! One micro-VM: KVM, boot, devices, control, jail.
//!
//! ```text
//!   main thread   event loop: control socket, vsock, rng, serial output, timers
//!   vcpuN         KVM_RUN and register accesses
//!   one per disk  reads and writes
//! ```
//!
//! The process is executed with descriptor 3, a `SOCK_SEQPACKET` control socket,
//! and 4, `/dev/kvm`; it opens no path and no socket of its own. Everything it
//! works with comes by the control socket (see `machine_spec::control`).

pub mod assemble;
pub mod boot;
pub mod bus;
pub mod control;
pub mod cpu;
pub mod devices;
pub mod handed;
pub mod jail;
pub mod layout;
pub mod machine;
pub mod pci;
pub mod ports;
pub mod start;
pub mod state;
pub mod vcpu;
