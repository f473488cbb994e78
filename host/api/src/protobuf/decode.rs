//! Protobuf to objects.

use super::layout::{self, Form, Layout, Node, SCHEMA};
use super::wire::{Reader, Wire};
use super::{MAGIC, MAX_DEPTH, ProtobufError};
use crate::decode::Parsed;
use crate::facts::{Field, Scalar, Shape};
use serde_json::{Map, Value};

/// A body as an object of `type_name`, with the apiVersion and the kind that
/// the envelope names.
pub fn decode(body: &[u8], type_name: &str) -> Result<Parsed, ProtobufError> {
    let envelope = body.strip_prefix(MAGIC).ok_or(ProtobufError::Magic)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    let mut reader = Reader(envelope);
    while let Some((number, wire)) = reader.next()? {
        match (number, wire) {
            (1, Wire::Bytes(meta)) => {
                let mut reader = Reader(meta);
                while let Some((number, wire)) = reader.next()? {
                    match (number, wire) {
                        (1, Wire::Bytes(b)) => api_version = text(b)?,
                        (2, Wire::Bytes(b)) => kind = text(b)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let layout = layout::of(type_name).ok_or(ProtobufError::UnknownType)?;
    let mut object = Map::new();
    message(raw, layout, MAX_DEPTH, &mut object)?;
    for (key, value) in [("apiVersion", api_version), ("kind", kind)] {
        if !value.is_empty() {
            object.insert(key.to_owned(), value.into());
        }
    }
    Ok(Parsed {
        value: Value::Object(object),
        duplicates: Vec::new(),
    })
}

fn text(bytes: &[u8]) -> Result<String, ProtobufError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| ProtobufError::Utf8)
}

/// Reads the fields of a message into `out`.
fn message(
    bytes: &[u8],
    layout: &Layout,
    depth: usize,
    out: &mut Map<String, Value>,
) -> Result<(), ProtobufError> {
    let depth = depth.checked_sub(1).ok_or(ProtobufError::TooDeep)?;
    let mut reader = Reader(bytes);
    while let Some((number, wire)) = reader.next()? {
        match (layout.node(number), wire) {
            (Some(Node::Field(field, form)), wire) => member(field, *form, wire, depth, out)?,
            (Some(Node::Inline(inner)), Wire::Bytes(bytes)) => message(bytes, inner, depth, out)?,
            _ => {}
        }
    }
    Ok(())
}

fn member(
    field: &'static Field,
    form: Form,
    wire: Wire<'_>,
    depth: usize,
    out: &mut Map<String, Value>,
) -> Result<(), ProtobufError> {
    match &field.shape {
        Shape::List(inner) => {
            let item = value(field, form, inner, wire, depth)?.unwrap_or_else(|| zero(inner));
            let list = out
                .entry(field.name)
                .or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(items) = list {
                items.push(item);
            }
        }
        Shape::Map(inner) => {
            let Wire::Bytes(entry) = wire else {
                return Err(ProtobufError::FieldType(field.name));
            };
            let (mut key, mut found) = (String::new(), None);
            let mut reader = Reader(entry);
            while let Some((number, wire)) = reader.next()? {
                match (number, wire) {
                    (1, Wire::Bytes(b)) => key = text(b)?,
                    (2, wire) => found = value(field, form, inner, wire, depth)?,
                    _ => {}
                }
            }
            let map = out
                .entry(field.name)
                .or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(map) = map {
                map.insert(key, found.unwrap_or_else(|| zero(inner)));
            }
        }
        single => {
            if let Some(found) = value(field, form, single, wire, depth)? {
                // Go's JSON writes a quantity even where it is zero.
                let plain_zero = found == zero(single)
                    && matches!(single, Shape::Scalar(scalar) if *scalar != Scalar::Quantity);
                if !plain_zero || field.pointer || field.required {
                    out.insert(field.name.to_owned(), found);
                }
            }
        }
    }
    Ok(())
}

/// What an element or a map's value is when nothing was written for it.
fn zero(shape: &Shape) -> Value {
    match shape {
        Shape::Ref(_) | Shape::Map(_) => Value::Object(Map::new()),
        Shape::List(_) => Value::Array(Vec::new()),
        Shape::Scalar(Scalar::Int32 | Scalar::Int64) => 0.into(),
        Shape::Scalar(Scalar::Double) => Value::from(0.0),
        Shape::Scalar(Scalar::Bool) => false.into(),
        Shape::Scalar(Scalar::Quantity) => "0".into(),
        Shape::Scalar(Scalar::Duration) => "0s".into(),
        Shape::Scalar(Scalar::Time | Scalar::MicroTime) => Value::Null,
        Shape::Scalar(_) => "".into(),
    }
}

/// One value; `None` where Go's zero stands for absence (times).
fn value(
    field: &'static Field,
    form: Form,
    shape: &Shape,
    wire: Wire<'_>,
    depth: usize,
) -> Result<Option<Value>, ProtobufError> {
    let wrong = || ProtobufError::FieldType(field.name);
    Ok(match (shape, wire) {
        (Shape::Ref(name), Wire::Bytes(bytes)) => {
            let mut inner = Map::new();
            if let Some(layout) = layout::of(name) {
                message(bytes, layout, depth, &mut inner)?;
            }
            Some(Value::Object(inner))
        }
        // A list in a map or a list is a message `{items = 1}`.
        (Shape::List(inner), Wire::Bytes(bytes)) => {
            let depth = depth.checked_sub(1).ok_or(ProtobufError::TooDeep)?;
            let mut items = Vec::new();
            let mut reader = Reader(bytes);
            while let Some((number, wire)) = reader.next()? {
                if number == 1 {
                    let item = value(field, form, inner, wire, depth)?;
                    items.push(item.unwrap_or_else(|| zero(inner)));
                }
            }
            Some(Value::Array(items))
        }
        (Shape::Scalar(Scalar::Any), Wire::Bytes(bytes)) => match form {
            Form::Plain => any(field, bytes)?,
            form => Some(schema_or(form, bytes, depth)?),
        },
        (Shape::Scalar(scalar), wire) => scalar_value(*scalar, wire)?.ok_or_else(wrong)?,
        _ => return Err(wrong()),
    })
}

/// A schema, or what may stand in its place.
fn schema_or(form: Form, bytes: &[u8], depth: usize) -> Result<Value, ProtobufError> {
    let layout = layout::of(SCHEMA).ok_or(ProtobufError::UnknownType)?;
    let (mut schema, mut others, mut allows) = (None, Vec::new(), false);
    let mut reader = Reader(bytes);
    while let Some((number, wire)) = reader.next()? {
        match (form, number, wire) {
            (Form::SchemaOrBool, 1, Wire::Varint(n)) => allows = n != 0,
            (Form::SchemaOrStrings, 2, Wire::Bytes(b)) => others.push(text(b)?.into()),
            (_, 1 | 2, Wire::Bytes(b)) => {
                let mut inner = Map::new();
                message(b, layout, depth, &mut inner)?;
                match (form, number) {
                    (Form::SchemaOrArray, 2) => others.push(Value::Object(inner)),
                    _ => schema = Some(Value::Object(inner)),
                }
            }
            _ => {}
        }
    }
    Ok(match (schema, form) {
        (Some(schema), _) => schema,
        (None, Form::SchemaOrBool) => allows.into(),
        (None, _) => Value::Array(others),
    })
}

/// Outer `None`: the wire type doesn't fit.
#[expect(clippy::option_option, reason = "misfit and absence differ")]
fn scalar_value(scalar: Scalar, wire: Wire<'_>) -> Result<Option<Option<Value>>, ProtobufError> {
    use base64::Engine as _;
    Ok(Some(match (scalar, wire) {
        (Scalar::String, Wire::Bytes(b)) => Some(text(b)?.into()),
        (Scalar::Bytes, Wire::Bytes(b)) => {
            Some(base64::engine::general_purpose::STANDARD.encode(b).into())
        }
        // Negative 32-bit numbers are written with all 64 bits.
        (Scalar::Int32 | Scalar::Int64, Wire::Varint(n)) => Some(n.cast_signed().into()),
        (Scalar::Bool, Wire::Varint(n)) => Some((n != 0).into()),
        (Scalar::Double, Wire::Fixed64(bits)) => Some(f64::from_bits(bits).into()),
        (Scalar::Quantity, Wire::Bytes(b)) => Some(quantity(b)?),
        (Scalar::IntOrString, Wire::Bytes(b)) => Some(int_or_string(b)?),
        (Scalar::Time, Wire::Bytes(b)) => time(b, false)?,
        (Scalar::MicroTime, Wire::Bytes(b)) => time(b, true)?,
        (Scalar::Duration, Wire::Bytes(b)) => Some(duration(b)?),
        _ => return Ok(None),
    }))
}

fn quantity(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let mut reader = Reader(bytes);
    let mut out = "0".to_owned();
    while let Some((number, wire)) = reader.next()? {
        if let (1, Wire::Bytes(b)) = (number, wire) {
            out = text(b)?;
        }
    }
    Ok(out.into())
}

/// type = 1 (0 is a number), intVal = 2, strVal = 3.
fn int_or_string(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let (mut kind, mut int, mut string) = (0, 0, String::new());
    let mut reader = Reader(bytes);
    while let Some((number, wire)) = reader.next()? {
        match (number, wire) {
            (1, Wire::Varint(n)) => kind = n,
            (2, Wire::Varint(n)) => int = n.cast_signed(),
            (3, Wire::Bytes(b)) => string = text(b)?,
            _ => {}
        }
    }
    Ok(if kind == 0 { int.into() } else { string.into() })
}

/// seconds = 1, nanos = 2; an empty message is no time.
fn time(bytes: &[u8], micro: bool) -> Result<Option<Value>, ProtobufError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let (mut seconds, mut nanos) = (0, 0);
    let mut reader = Reader(bytes);
    while let Some((number, wire)) = reader.next()? {
        match (number, wire) {
            (1, Wire::Varint(n)) => seconds = n.cast_signed(),
            (2, Wire::Varint(n)) => nanos = i32::try_from(n.cast_signed()).unwrap_or(0),
            _ => {}
        }
    }
    let at = jiff::Timestamp::new(seconds, nanos).map_err(|_| ProtobufError::Overflow)?;
    Ok(Some(match micro {
        true => crate::time::rfc3339_micro(at).into(),
        false => crate::time::rfc3339(at).into(),
    }))
}

/// duration = 1, in nanoseconds.
fn duration(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let mut ns = 0;
    let mut reader = Reader(bytes);
    while let Some((number, wire)) = reader.next()? {
        if let (1, Wire::Varint(n)) = (number, wire) {
            ns = n.cast_signed();
        }
    }
    Ok(crate::time::go_duration(ns).into())
}

/// Free JSON lies in the message's first field.
fn any(field: &'static Field, bytes: &[u8]) -> Result<Option<Value>, ProtobufError> {
    let mut reader = Reader(bytes);
    while let Some((number, wire)) = reader.next()? {
        if let (1, Wire::Bytes(b)) = (number, wire) {
            let parsed = serde_json::from_slice(b);
            return parsed
                .map(Some)
                .map_err(|_| ProtobufError::Json(field.name));
        }
    }
    Ok(None)
}
