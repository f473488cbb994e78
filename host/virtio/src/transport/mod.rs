//! What a driver sees of a device, whichever way it finds it.

pub mod function;
pub mod mmio;
pub mod pci;

pub use function::{Function, FunctionState, RestoreError};
