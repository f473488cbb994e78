//! Kubernetes' protobuf bodies to objects, by the numbers of the facts table.
//!
//! A body is `k8s\0`, then `runtime.Unknown`: typeMeta = 1 {apiVersion = 1,
//! kind = 2}, raw = 2. Go writes zero values of plain fields; they are dropped
//! here, as its JSON drops them, and kept where the field is a pointer. Fields
//! that JSON inlines lie in messages of their own: a number is a path.

use crate::decode::Parsed;
use crate::facts::{self, Field, Scalar, Shape, Type};
use serde_json::{Map, Value};

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
    #[error("no kind is registered for the type of the message")]
    UnknownType,
}

/// Whether a body is one of ours.
pub fn is_protobuf(body: &[u8]) -> bool {
    body.starts_with(MAGIC)
}

/// A body as an object. Its type is the one that the envelope names, or if it
/// names none that is known, `type_name`.
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
    let facts = facts::of(type_name).ok_or(ProtobufError::UnknownType)?;
    let mut object = Map::new();
    message(raw, facts, &[], MAX_DEPTH, &mut object)?;
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

/// One field's payload.
#[derive(Clone, Copy)]
enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Option<(u32, Wire<'a>)>, ProtobufError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| ProtobufError::Overflow)?;
        let wire = match (tag & 7) as u8 {
            0 => Wire::Varint(self.varint()?),
            1 => {
                let mut eight = [0; 8];
                eight.copy_from_slice(self.take(8)?);
                Wire::Fixed64(u64::from_le_bytes(eight))
            }
            2 => {
                let length = self.varint()?;
                let length = usize::try_from(length).map_err(|_| ProtobufError::Overflow)?;
                Wire::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Wire::Fixed32
            }
            other => return Err(ProtobufError::WireType(other)),
        };
        Ok(Some((number, wire)))
    }

    fn varint(&mut self) -> Result<u64, ProtobufError> {
        let mut out = 0;
        for shift in (0..64).step_by(7) {
            let (&b, rest) = self.0.split_first().ok_or(ProtobufError::Truncated)?;
            self.0 = rest;
            out |= u64::from(b & 0x7f) << shift;
            if b & 0x80 == 0 {
                return Ok(out);
            }
        }
        Err(ProtobufError::Overflow)
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], ProtobufError> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(ProtobufError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }
}

fn text(bytes: &[u8]) -> Result<String, ProtobufError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| ProtobufError::Utf8)
}

/// Reads the fields whose numbers continue `prefix` into `out`.
fn message(
    bytes: &[u8],
    facts: &'static Type,
    prefix: &[u32],
    depth: usize,
    out: &mut Map<String, Value>,
) -> Result<(), ProtobufError> {
    let depth = depth.checked_sub(1).ok_or(ProtobufError::TooDeep)?;
    let mut reader = Reader(bytes);
    while let Some((number, wire)) = reader.next()? {
        let path = [prefix, &[number]].concat();
        if let Some(field) = facts.fields.iter().find(|f| f.numbers == path) {
            member(field, wire, depth, out)?;
            continue;
        }
        let inlines = facts.fields.iter().any(|f| f.numbers.starts_with(&path));
        if let (true, Wire::Bytes(inner)) = (inlines, wire) {
            message(inner, facts, &path, depth, out)?;
        }
    }
    Ok(())
}

fn member(
    field: &'static Field,
    wire: Wire<'_>,
    depth: usize,
    out: &mut Map<String, Value>,
) -> Result<(), ProtobufError> {
    match &field.shape {
        Shape::List(inner) => {
            let item = value(field, inner, wire, depth)?.unwrap_or_else(|| zero(inner));
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
                    (2, wire) => found = value(field, inner, wire, depth)?,
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
            if let Some(found) = value(field, single, wire, depth)? {
                let plain_zero = found == zero(single) && matches!(single, Shape::Scalar(_));
                if !plain_zero || field.pointer {
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
        Shape::Scalar(_) => "".into(),
    }
}

/// One value; `None` where Go's zero stands for absence (times).
fn value(
    field: &'static Field,
    shape: &Shape,
    wire: Wire<'_>,
    depth: usize,
) -> Result<Option<Value>, ProtobufError> {
    let wrong = || ProtobufError::FieldType(field.name);
    Ok(match (shape, wire) {
        (Shape::Ref(name), Wire::Bytes(bytes)) => {
            let mut inner = Map::new();
            if let Some(facts) = facts::of(name) {
                message(bytes, facts, &[], depth, &mut inner)?;
            }
            Some(Value::Object(inner))
        }
        (Shape::Scalar(scalar), wire) => scalar_value(*scalar, wire)?.ok_or_else(wrong)?,
        _ => return Err(wrong()),
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
        (Scalar::Any, Wire::Bytes(b)) => any(b)?,
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

/// Free JSON lies in the message's first field.
fn any(bytes: &[u8]) -> Result<Option<Value>, ProtobufError> {
    let mut reader = Reader(bytes);
    while let Some((number, wire)) = reader.next()? {
        if let (1, Wire::Bytes(b)) = (number, wire) {
            return Ok(serde_json::from_slice(b).ok());
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde_json::json;

    /// As `kubectl create configmap cm --from-literal=a=b` sends it.
    const BODY: &[u8] = b"k8s\0\n\x0f\n\x02v1\x12\tConfigMap\x12\x1c\n\x12\n\x02cm\x12\0\x1a\0\"\0*\x002\08\0B\0\x12\x06\n\x01a\x12\x01b\x1a\0\"\0";
    const TYPE: &str = "io.k8s.api.core.v1.ConfigMap";

    #[test]
    fn a_clients_body_decodes() {
        let parsed = decode(BODY, TYPE).unwrap();
        assert_eq!(
            parsed.value,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cm"}, "data": {"a": "b"}})
        );
    }

    #[test]
    fn inlined_and_pointer_fields() {
        // Pod.spec(2).containers(2){name(1)="c", livenessProbe(10){handler(1){exec(1){command(1)="x"}}}},
        // terminationGracePeriodSeconds(4)=0: a pointer, so it stays.
        let probe = b"\x52\x07\x0a\x05\x0a\x03\x0a\x01x";
        let container = [b"\x0a\x01c".as_slice(), probe].concat();
        let mut spec = vec![0x12, u8::try_from(container.len()).unwrap()];
        spec.extend(container);
        spec.extend(b"\x20\x00");
        let mut raw = vec![0x12, u8::try_from(spec.len()).unwrap()];
        raw.extend(spec);
        let mut body = b"k8s\0\x12".to_vec();
        body.push(u8::try_from(raw.len()).unwrap());
        body.extend(raw);
        let pod = decode(&body, "io.k8s.api.core.v1.Pod").unwrap().value;
        assert_eq!(
            pod["spec"],
            json!({"containers": [{"name": "c", "livenessProbe": {"exec": {"command": ["x"]}}}],
                   "terminationGracePeriodSeconds": 0})
        );
    }

    #[test]
    fn broken_bodies_are_refused() {
        for cut in 0..BODY.len() {
            // No prefix of a body panics; most are errors.
            let _ = decode(&BODY[..cut], TYPE);
        }
        assert_eq!(decode(b"{}", TYPE).unwrap_err(), ProtobufError::Magic);
        assert_eq!(
            decode(b"k8s\0\x12\xff\xff\xff\xff\x0f", TYPE).unwrap_err(),
            ProtobufError::Truncated
        );
        let deep = {
            // JSONSchemaProps nest without end; ObjectMeta in ObjectMeta can't.
            let mut raw = Vec::new();
            for _ in 0..100 {
                let mut next = vec![0x0a];
                let mut n = raw.len();
                while n >= 0x80 {
                    next.push(u8::try_from(n & 0x7f).unwrap() | 0x80);
                    n >>= 7;
                }
                next.push(u8::try_from(n).unwrap());
                next.extend(&raw);
                raw = next;
            }
            [b"k8s\0".as_slice(), &raw].concat()
        };
        let _ = decode(&deep, TYPE);
    }
}
