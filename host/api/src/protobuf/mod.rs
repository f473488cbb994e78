//! Kubernetes' protobuf bodies, by the numbers of the facts table.
//!
//! ```text
//! body    = "k8s\0" runtime.Unknown
//! Unknown = typeMeta 1 {apiVersion 1, kind 2}, raw 2, contentEncoding 3, contentType 4
//! frame   = length (4 bytes, big-endian) WatchEvent {type 1, object 2 {raw 1: body}}
//! ```
//! Go writes zero values of plain fields; they are dropped when decoding, as
//! its JSON drops them, and kept where the field is a pointer or required.
//! Fields that JSON inlines lie in messages of their own: a number is a path.

mod decode;
mod encode;
mod layout;
#[cfg(test)]
mod tests;
mod wire;

pub use decode::decode;
pub use encode::{List, encode, encode_as, list, message, watch_frame};

const MAGIC: &[u8] = b"k8s\0";
const MAX_DEPTH: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    #[error(
        "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
    )]
    Magic,
    #[error("unexpected EOF")]
    Truncated,
    #[error("proto: illegal wireType {0}")]
    WireType(u8),
    #[error("proto: wrong wireType for field {0}")]
    FieldType(&'static str),
    #[error("proto: integer overflow")]
    Overflow,
    #[error("proto: message is nested too deeply")]
    TooDeep,
    #[error("proto: invalid UTF-8")]
    Utf8,
    #[error("proto: invalid JSON in field {0}")]
    Json(&'static str),
    #[error("no kind is registered for the type of the message")]
    UnknownType,
}

/// Whether a body is one of ours.
pub fn is_protobuf(body: &[u8]) -> bool {
    body.starts_with(MAGIC)
}

/// Whether objects of a type have a protobuf form.
pub fn serves(type_name: &str) -> bool {
    crate::facts::of(type_name).is_some_and(|t| t.fields.iter().any(|f| !f.numbers.is_empty()))
}
