//! Objects to protobuf: fields in the order of their numbers, as Go writes
//! them; what JSON leaves out is left out here too.

use super::layout::{self, Form, Layout, Node, SCHEMA};
use super::wire::{put_bytes, put_double, put_head, put_message, put_number};
use super::{MAGIC, MAX_DEPTH, ProtobufError};
use crate::facts::{self, Field, Scalar, Shape};
use crate::meta;
use base64::Engine as _;
use serde_json::{Map, Value};

type Done = Result<(), ProtobufError>;

/// A whole body; the type is what the object's apiVersion and kind say.
pub fn encode(object: &Value) -> Result<Vec<u8>, ProtobufError> {
    let (version, kind) = (
        meta::text(object, &["apiVersion"]),
        meta::text(object, &["kind"]),
    );
    if version == "meta.k8s.io/v1beta1" {
        return encode_beta(object, kind);
    }
    let facts = facts::of_kind(version, kind).ok_or(ProtobufError::UnknownType)?;
    encode_as(object, facts.name)
}

const PARTIAL: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.PartialObjectMetadata";

/// Metadata alone as v1beta1: as in v1, but for the numbers of a list's fields.
fn encode_beta(object: &Value, kind: &str) -> Result<Vec<u8>, ProtobufError> {
    if kind == "PartialObjectMetadata" {
        return encode_as(object, PARTIAL);
    }
    if kind != "PartialObjectMetadataList" {
        return Err(ProtobufError::UnknownType);
    }
    let mut raw = Vec::new();
    for item in meta::list(object, &["items"]) {
        put_bytes(&mut raw, 1, &message(item, PARTIAL)?);
    }
    let metadata = object.get("metadata").unwrap_or(&Value::Null);
    put_bytes(&mut raw, 2, &message(metadata, LIST_META)?);
    let mut out = Vec::with_capacity(raw.len() + 64);
    head(&mut out, "meta.k8s.io/v1beta1", kind, raw.len())?;
    out.extend_from_slice(&raw);
    tail(&mut out);
    Ok(out)
}

const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";

/// A whole body of an object of `type_name`.
pub fn encode_as(object: &Value, type_name: &str) -> Result<Vec<u8>, ProtobufError> {
    let raw = message(object, type_name)?;
    let mut out = Vec::with_capacity(raw.len() + 64);
    let (version, kind) = (
        meta::text(object, &["apiVersion"]),
        meta::text(object, &["kind"]),
    );
    head(&mut out, version, kind, raw.len())?;
    out.extend_from_slice(&raw);
    tail(&mut out);
    Ok(out)
}

/// An object's message, without the envelope.
pub fn message(object: &Value, type_name: &str) -> Result<Vec<u8>, ProtobufError> {
    let layout = layout::of(type_name).ok_or(ProtobufError::UnknownType)?;
    let mut out = Vec::with_capacity(512);
    write_object(&mut out, object, layout, MAX_DEPTH)?;
    Ok(out)
}

/// The body of a list whose items are `messages`, in pieces: a head, then for
/// each message what stands before it, and a tail.
pub struct List {
    pub head: Vec<u8>,
    pub tail: Vec<u8>,
}

/// What surrounds a list's items; `lengths` are those of the items' messages.
pub fn list(
    api_version: &str,
    kind: &str,
    metadata: &Value,
    lengths: impl Iterator<Item = usize>,
) -> Result<List, ProtobufError> {
    let meta = message(metadata, LIST_META)?;
    let mut raw = Vec::new();
    put_bytes(&mut raw, 1, &meta);
    let mut probe = Vec::new();
    let items: usize = lengths
        .map(|length| {
            probe.clear();
            put_head(&mut probe, 2, length);
            probe.len() + length
        })
        .sum();
    let mut out = Vec::new();
    head(&mut out, api_version, kind, raw.len() + items)?;
    out.extend_from_slice(&raw);
    let mut end = Vec::new();
    tail(&mut end);
    Ok(List {
        head: out,
        tail: end,
    })
}

impl List {
    /// Appends one item to a list's body.
    pub fn item(out: &mut Vec<u8>, message: &[u8]) {
        put_bytes(out, 2, message);
    }
}

/// One frame of a watch around a whole body.
pub fn watch_frame(kind: &str, body: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 4];
    put_bytes(&mut out, 1, kind.as_bytes());
    let mut object = Vec::with_capacity(body.len() + 8);
    put_bytes(&mut object, 1, body);
    put_bytes(&mut out, 2, &object);
    // An object's body is at most a few MiB.
    let length = u32::try_from(out.len() - 4).unwrap_or(u32::MAX);
    out[..4].copy_from_slice(&length.to_be_bytes());
    out
}

/// Everything before `raw` bytes of the object.
fn head(out: &mut Vec<u8>, api_version: &str, kind: &str, raw: usize) -> Done {
    out.extend_from_slice(MAGIC);
    put_message(out, 1, |out| {
        put_bytes(out, 1, api_version.as_bytes());
        put_bytes(out, 2, kind.as_bytes());
        Ok::<_, ProtobufError>(())
    })?;
    put_head(out, 2, raw);
    Ok(())
}

fn tail(out: &mut Vec<u8>) {
    put_bytes(out, 3, b"");
    put_bytes(out, 4, b"");
}

fn write_object(out: &mut Vec<u8>, object: &Value, layout: &Layout, depth: usize) -> Done {
    let depth = depth.checked_sub(1).ok_or(ProtobufError::TooDeep)?;
    match object {
        Value::Object(members) => write_members(out, members, layout, depth),
        // As Go's zero value.
        _ => Ok(()),
    }
}

fn write_members(
    out: &mut Vec<u8>,
    members: &Map<String, Value>,
    layout: &Layout,
    depth: usize,
) -> Done {
    for (number, node) in layout.nodes() {
        match node {
            Node::Inline(inner) => {
                if has_any(members, inner) {
                    put_message(out, *number, |out| {
                        write_members(out, members, inner, depth)
                    })?;
                }
            }
            Node::Field(field, form) => match members.get(field.name) {
                None | Some(Value::Null) => {}
                Some(value) => write_field(out, *number, field, *form, value, depth)?,
            },
        }
    }
    Ok(())
}

fn has_any(members: &Map<String, Value>, layout: &Layout) -> bool {
    layout.nodes().iter().any(|(_, node)| match node {
        Node::Inline(inner) => has_any(members, inner),
        Node::Field(field, _) => members.get(field.name).is_some_and(|v| !v.is_null()),
    })
}

fn write_field(
    out: &mut Vec<u8>,
    number: u32,
    field: &'static Field,
    form: Form,
    value: &Value,
    depth: usize,
) -> Done {
    match (&field.shape, value) {
        (Shape::List(inner), Value::Array(items)) => {
            for item in items {
                write_value(out, number, field, form, inner, item, depth)?;
            }
            Ok(())
        }
        (Shape::Map(inner), Value::Object(members)) => {
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_by_key(|(key, _)| *key);
            for (key, item) in sorted {
                put_message(out, number, |out| {
                    put_bytes(out, 1, key.as_bytes());
                    write_value(out, 2, field, form, inner, item, depth)
                })?;
            }
            Ok(())
        }
        (Shape::List(_) | Shape::Map(_), _) => Err(ProtobufError::FieldType(field.name)),
        (shape, value) => write_value(out, number, field, form, shape, value, depth),
    }
}

fn write_value(
    out: &mut Vec<u8>,
    number: u32,
    field: &'static Field,
    form: Form,
    shape: &Shape,
    value: &Value,
    depth: usize,
) -> Done {
    match shape {
        Shape::Ref(name) => put_message(out, number, |out| match layout::of(name) {
            Some(layout) => write_object(out, value, layout, depth),
            None => Ok(()),
        }),
        // A list in a map or a list is a message `{items = 1}`.
        Shape::List(inner) => put_message(out, number, |out| {
            for item in value.as_array().into_iter().flatten() {
                write_value(out, 1, field, form, inner, item, depth)?;
            }
            Ok(())
        }),
        Shape::Map(_) => Err(ProtobufError::FieldType(field.name)),
        Shape::Scalar(Scalar::Any) if form != Form::Plain => {
            put_message(out, number, |out| write_schema_or(out, form, value, depth))
        }
        Shape::Scalar(scalar) => {
            let wrong = || ProtobufError::FieldType(field.name);
            write_scalar(out, number, *scalar, value).ok_or_else(wrong)
        }
    }
}

/// The variants that a schema's fields have.
fn write_schema_or(out: &mut Vec<u8>, form: Form, value: &Value, depth: usize) -> Done {
    let schema = |out: &mut Vec<u8>, number, value: &Value| {
        put_message(out, number, |out| match layout::of(SCHEMA) {
            Some(layout) => write_object(out, value, layout, depth),
            None => Err(ProtobufError::UnknownType),
        })
    };
    match (form, value) {
        (Form::SchemaOrBool, Value::Bool(allows)) => put_number(out, 1, u64::from(*allows)),
        (Form::SchemaOrBool, value) => {
            put_number(out, 1, 1);
            schema(out, 2, value)?;
        }
        (Form::SchemaOrArray, Value::Array(items)) => {
            for item in items {
                schema(out, 2, item)?;
            }
        }
        (Form::SchemaOrStrings, Value::Array(items)) => {
            for item in items.iter().filter_map(Value::as_str) {
                put_bytes(out, 2, item.as_bytes());
            }
        }
        (_, value) => schema(out, 1, value)?,
    }
    Ok(())
}

/// `None` if the value is none of the scalar's.
fn write_scalar(out: &mut Vec<u8>, number: u32, scalar: Scalar, value: &Value) -> Option<()> {
    match scalar {
        Scalar::String => put_bytes(out, number, value.as_str()?.as_bytes()),
        Scalar::Int32 | Scalar::Int64 => put_number(out, number, value.as_i64()?.cast_unsigned()),
        Scalar::Bool => put_number(out, number, u64::from(value.as_bool()?)),
        Scalar::Double => put_double(out, number, value.as_f64()?),
        Scalar::Bytes => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(value.as_str()?);
            put_bytes(out, number, &bytes.ok()?);
        }
        Scalar::Quantity => {
            let text = value.as_str()?;
            wrapped(out, number, |out| put_bytes(out, 1, text.as_bytes()));
        }
        Scalar::IntOrString => match value {
            Value::String(text) => wrapped(out, number, |out| {
                put_number(out, 1, 1);
                put_number(out, 2, 0);
                put_bytes(out, 3, text.as_bytes());
            }),
            value => {
                let int = value.as_i64()?.cast_unsigned();
                wrapped(out, number, |out| {
                    put_number(out, 1, 0);
                    put_number(out, 2, int);
                    put_bytes(out, 3, b"");
                });
            }
        },
        // The zero time among a map's values.
        Scalar::Time | Scalar::MicroTime if value.is_null() => put_bytes(out, number, b""),
        Scalar::Time | Scalar::MicroTime => time(out, number, scalar, value.as_str()?)?,
        Scalar::Duration => {
            let ns = crate::time::parse_go_duration(value.as_str()?)?;
            wrapped(out, number, |out| put_number(out, 1, ns.cast_unsigned()));
        }
        Scalar::Any => {
            let json = serde_json::to_vec(value).ok()?;
            wrapped(out, number, |out| put_bytes(out, 1, &json));
        }
    }
    Some(())
}

/// The zero time is an empty message.
fn time(out: &mut Vec<u8>, number: u32, scalar: Scalar, text: &str) -> Option<()> {
    if text.is_empty() {
        put_bytes(out, number, b"");
        return Some(());
    }
    let at = crate::time::parse(text)?;
    let nanos = match scalar {
        Scalar::MicroTime => at.subsec_nanosecond() / 1000 * 1000,
        _ => 0,
    };
    // A time before 1970 has nanoseconds that count down from its second.
    let (seconds, nanos) = match nanos {
        i32::MIN..0 => (at.as_second() - 1, nanos + 1_000_000_000),
        _ => (at.as_second(), nanos),
    };
    wrapped(out, number, |out| {
        put_number(out, 1, seconds.cast_unsigned());
        put_number(out, 2, i64::from(nanos).cast_unsigned());
    });
    Some(())
}

fn wrapped(out: &mut Vec<u8>, number: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    let done = put_message(out, number, |out| {
        fill(out);
        Ok::<_, std::convert::Infallible>(())
    });
    let Ok(()) = done;
}
