//! Bodies to objects: JSON or YAML text in, a [`Value`] out that holds only
//! what the facts table knows, with every unknown and duplicate field named.
//!
//! Refuses wrong types with the words of Go's decoder. Depth is bounded by the
//! parsers (128), so a hostile body can't exhaust the stack.

/// The methods of a visitor that passes by scalars.
macro_rules! ignored_scalars {
    () => {
        fn visit_bool<E>(self, _: bool) -> Result<(), E> {
            Ok(())
        }

        fn visit_i64<E>(self, _: i64) -> Result<(), E> {
            Ok(())
        }

        fn visit_u64<E>(self, _: u64) -> Result<(), E> {
            Ok(())
        }

        fn visit_f64<E>(self, _: f64) -> Result<(), E> {
            Ok(())
        }

        fn visit_str<E>(self, _: &str) -> Result<(), E> {
            Ok(())
        }

        fn visit_unit<E>(self) -> Result<(), E> {
            Ok(())
        }
    };
}

mod order;
mod repeats;

pub use order::places;
pub use repeats::repeats;

use crate::facts::{self, Scalar, Shape};
use crate::quantity::Quantity;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// A body as parsed: the value, and the paths of members that stood twice.
#[derive(Clone, Debug)]
pub struct Parsed {
    pub value: Value,
    pub duplicates: Vec<String>,
}

/// Most strict faults that one body reports.
const MAX_REPORTED: usize = 100;

/// JSON text; of duplicate members the last one wins.
pub fn json(body: &[u8]) -> Result<Parsed, String> {
    let mut duplicates = Vec::new();
    let mut de = serde_json::Deserializer::from_slice(body);
    let seed = Node {
        path: String::new(),
        duplicates: &mut duplicates,
    };
    let value = seed.deserialize(&mut de).map_err(|e| e.to_string())?;
    de.end().map_err(|e| e.to_string())?;
    Ok(Parsed { value, duplicates })
}

/// One YAML document; of a key that stands twice the last one wins ([`repeats`]
/// tells).
pub fn yaml(body: &[u8]) -> Result<Parsed, String> {
    let value: Value = serde_yaml::from_slice(body).map_err(|e| e.to_string())?;
    Ok(Parsed {
        value,
        duplicates: Vec::new(),
    })
}

struct Node<'a> {
    path: String,
    duplicates: &'a mut Vec<String>,
}

fn child(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Value, D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Value, E> {
        Number::from_f64(v)
            .map(Value::Number)
            .ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::String(v.to_owned()))
    }

    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(Value::String(v))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            let seed = Node {
                path: format!("{}[{}]", self.path, items.len()),
                duplicates: self.duplicates,
            };
            match seq.next_element_seed(seed)? {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let path = child(&self.path, &key);
            if members.contains_key(&key) && self.duplicates.len() < MAX_REPORTED {
                self.duplicates.push(path.clone());
            }
            if path.len() > 65_536 {
                return Err(A::Error::custom("a field's path is too long"));
            }
            let value = map.next_value_seed(Node {
                path,
                duplicates: self.duplicates,
            })?;
            members.insert(key, value);
        }
        Ok(Value::Object(members))
    }
}

/// Makes `value` conform to `type_name`: drops unknown fields and nulls (naming
/// the former in `unknown`), brings quantities into canonical form.
///
/// The error is Go's message for a value of the wrong type.
pub fn conform(
    value: &mut Value,
    type_name: &str,
    unknown: &mut Vec<String>,
) -> Result<(), String> {
    let mut walk = Walk {
        unknown,
        holder: String::new(),
        field: String::new(),
    };
    walk.object(value, type_name, "")
}

struct Walk<'a> {
    unknown: &'a mut Vec<String>,
    /// Go's name of the struct that was entered last, and the path in it.
    holder: String,
    field: String,
}

impl Walk<'_> {
    fn mismatch(&self, value: &Value, wanted: &str) -> String {
        let found = match value {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Number(n) if wanted.starts_with("int") => {
                return format!(
                    "json: cannot unmarshal number {n} into Go struct field {}.{} of type {wanted}",
                    self.holder, self.field
                );
            }
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        if self.field.is_empty() {
            format!("json: cannot unmarshal {found} into Go value of type {wanted}")
        } else {
            format!(
                "json: cannot unmarshal {found} into Go struct field {}.{} of type {wanted}",
                self.holder, self.field
            )
        }
    }

    fn object(&mut self, value: &mut Value, type_name: &str, path: &str) -> Result<(), String> {
        let Some(facts) = facts::of(type_name) else {
            return Ok(());
        };
        let go_name = go_type(type_name);
        let Value::Object(map) = value else {
            return Err(self.mismatch(value, &go_name));
        };
        let mut drop = Vec::new();
        for (key, member) in map.iter_mut() {
            match facts.field(key) {
                None => {
                    if self.unknown.len() < MAX_REPORTED {
                        self.unknown.push(child(path, key));
                    }
                    drop.push(key.clone());
                }
                Some(_) if member.is_null() => drop.push(key.clone()),
                Some(field) => {
                    let holder = std::mem::replace(&mut self.holder, facts.short_name().to_owned());
                    let outer = self.field.len();
                    if outer > 0 {
                        self.field.push('.');
                    }
                    self.field.push_str(key);
                    self.shape(member, &field.shape, &child(path, key))?;
                    self.field.truncate(outer);
                    self.holder = holder;
                    if is_empty_collection(member, &field.shape) && !field.required {
                        drop.push(key.clone());
                    }
                }
            }
        }
        for key in drop {
            map.shift_remove(&key);
        }
        Ok(())
    }

    fn shape(&mut self, value: &mut Value, shape: &Shape, path: &str) -> Result<(), String> {
        match shape {
            Shape::Ref(name) => self.object(value, name, path),
            Shape::Scalar(scalar) => self.scalar(value, *scalar),
            Shape::List(inner) => {
                let Value::Array(items) = value else {
                    return Err(self.mismatch(value, &go_shape(shape)));
                };
                for (i, item) in items.iter_mut().enumerate() {
                    if item.is_null() {
                        *item = zero(inner);
                        continue;
                    }
                    self.shape(item, inner, &format!("{path}[{i}]"))?;
                }
                Ok(())
            }
            Shape::Map(inner) => {
                let Value::Object(members) = value else {
                    return Err(self.mismatch(value, &go_shape(shape)));
                };
                for (key, member) in members.iter_mut() {
                    if member.is_null() {
                        *member = zero(inner);
                        continue;
                    }
                    self.shape(member, inner, &child(path, key))?;
                }
                Ok(())
            }
        }
    }

    fn scalar(&mut self, value: &mut Value, scalar: Scalar) -> Result<(), String> {
        let fits = match scalar {
            Scalar::Any => true,
            Scalar::String | Scalar::Duration => value.is_string(),
            Scalar::Bool => value.is_boolean(),
            Scalar::Int32 => value.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
            Scalar::Int64 => value.as_i64().is_some(),
            Scalar::Double => value.is_number(),
            Scalar::IntOrString => {
                value.is_string() || value.as_i64().is_some_and(|n| i32::try_from(n).is_ok())
            }
            Scalar::Quantity => return self.quantity(value),
            Scalar::Bytes => return self.bytes(value),
            Scalar::Time | Scalar::MicroTime => return self.time(value),
        };
        if fits {
            Ok(())
        } else {
            Err(self.mismatch(value, &go_scalar(scalar)))
        }
    }

    fn quantity(&self, value: &mut Value) -> Result<(), String> {
        let text = match &*value {
            Value::String(s) => s.clone(),
            Value::Number(n) => n.to_string(),
            other => return Err(self.mismatch(other, "resource.Quantity")),
        };
        let q = Quantity::parse(text.trim()).map_err(|e| e.to_string())?;
        *value = q.to_string().into();
        Ok(())
    }

    fn bytes(&self, value: &Value) -> Result<(), String> {
        use base64::Engine as _;
        let Value::String(text) = value else {
            return Err(self.mismatch(value, "[]uint8"));
        };
        match base64::engine::general_purpose::STANDARD.decode(text) {
            Ok(_) => Ok(()),
            Err(base64::DecodeError::InvalidByte(at, _)) => {
                Err(format!("illegal base64 data at input byte {at}"))
            }
            Err(_) => Err(format!("illegal base64 data at input byte {}", text.len())),
        }
    }

    fn time(&self, value: &Value) -> Result<(), String> {
        let Value::String(text) = value else {
            return Err(self.mismatch(value, "string"));
        };
        if text.is_empty() || crate::time::parse(text).is_some() {
            return Ok(());
        }
        Err(format!(
            "parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {text:?} as \"2006\""
        ))
    }
}

/// What Go makes of a null among a list's items or a map's values, as it
/// writes it.
fn zero(shape: &Shape) -> Value {
    match shape {
        Shape::Ref(_) => Value::Object(Map::new()),
        Shape::List(_) | Shape::Map(_) => Value::Null,
        Shape::Scalar(scalar) => match scalar {
            Scalar::String => "".into(),
            Scalar::Bool => false.into(),
            Scalar::Int32 | Scalar::Int64 | Scalar::Double | Scalar::IntOrString => 0.into(),
            Scalar::Quantity => "0".into(),
            Scalar::Duration => "0s".into(),
            Scalar::Bytes | Scalar::Time | Scalar::MicroTime | Scalar::Any => Value::Null,
        },
    }
}

fn is_empty_collection(value: &Value, shape: &Shape) -> bool {
    match (value, shape) {
        (Value::Array(items), Shape::List(_)) => items.is_empty(),
        (Value::Object(members), Shape::Map(_)) => members.is_empty(),
        _ => false,
    }
}

/// Go's name of a type: `v1.PodSpec`.
fn go_type(type_name: &str) -> String {
    let mut words = type_name.rsplit('.');
    let name = words.next().unwrap_or_default();
    let version = words.next().unwrap_or_default();
    format!("{version}.{name}")
}

fn go_shape(shape: &Shape) -> String {
    match shape {
        Shape::Ref(name) => go_type(name),
        Shape::List(inner) => format!("[]{}", go_shape(inner)),
        Shape::Map(inner) => format!("map[string]{}", go_shape(inner)),
        Shape::Scalar(s) => go_scalar(*s),
    }
}

fn go_scalar(scalar: Scalar) -> String {
    match scalar {
        Scalar::String | Scalar::Time | Scalar::MicroTime | Scalar::Duration => "string",
        Scalar::Int32 => "int32",
        Scalar::Int64 => "int64",
        Scalar::Bool => "bool",
        Scalar::Double => "float64",
        Scalar::Bytes => "[]uint8",
        Scalar::Quantity => "resource.Quantity",
        Scalar::IntOrString => "intstr.IntOrString",
        Scalar::Any => "interface {}",
    }
    .to_owned()
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
