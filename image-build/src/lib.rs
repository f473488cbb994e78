//! From the distribution's packages, the guest kernel's source and our own
//! programs to a bootable image. Each step is cached by the content of its
//! inputs; the lab uses cache and packages for its test images, too.

pub mod archive;
pub mod cache;
pub mod command;
pub mod guest_kernel;
pub mod image;
pub mod kernel_pack;
pub mod kubectls;
pub mod libraries;
pub mod modules;
pub mod objects;
pub mod packages;
pub mod programs;
pub mod progress;
pub mod python;
pub mod qemu;
pub mod release;
pub mod setup;
pub mod system;
pub mod uki;
