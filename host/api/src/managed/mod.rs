//! Server-side apply and managedFields: who owns which field of an object.
//!
//! ```text
//! element  one step of a path       schema  how a type is owned
//! set      trees of fields, FieldsV1   walk   a value's fields, two values' changes
//! merge    values changed by values and sets
//! owners   metadata.managedFields      updater  what a write does to the owners
//! overlay      what mutating policies apply, owned by nobody
//! endpoint     what the API server calls: built-in and custom kinds, refusals
//! scale        apply on the `scale` subresource
//! last_applied what kubectl's client-side apply leaves behind
//! ```
//!
//! Semantics are structured-merge-diff's and KEP-555's. Everything is pure;
//! the time of a write is an argument. Nothing here stores or converts.

mod builtin;
mod custom;
mod element;
mod endpoint;
mod last_applied;
mod merge;
mod overlay;
mod owners;
mod scale;
mod schema;
mod set;
mod updater;
mod walk;

pub use builtin::BuiltIn;
pub use custom::{CustomNode, OfCustom, Unnamed};
pub use element::{PathElement, Scalar};
pub use endpoint::Endpoint;
pub use merge::{merge, reconciled, remove, validate, with_structs};
pub use overlay::overlay;
pub use owners::{Manager, Managers, Operation, Owned, check};
pub use schema::{FactsNode, ListType, MapType, Member, ScalarType, SchemaNode};
pub use set::{Entry, Set, shown};
pub use updater::{ApplyError, Conflict, Versions, Writer, apply, track};
pub use walk::{Comparison, compare, field_set};

#[cfg(test)]
mod tests;
