//! Reads a few members out of JSON text and passes over the rest, for
//! selectors over many stored objects.
//!
//! Stops reading as soon as everything wanted was seen: metadata stands first
//! in what is stored, so that a selector of labels reads only that.

use serde::Deserialize as _;
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::{Map, Value};
use std::fmt;

/// The members to read, as a tree of names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paths {
    /// Everything below.
    whole: bool,
    members: Vec<(String, Paths)>,
}

impl Paths {
    pub fn add(&mut self, path: &[&str]) {
        let Some((first, rest)) = path.split_first() else {
            self.whole = true;
            return;
        };
        let at = self.members.iter().position(|(name, _)| name == first);
        let at = at.unwrap_or_else(|| {
            self.members.push(((*first).to_owned(), Paths::default()));
            self.members.len() - 1
        });
        if let Some((_, below)) = self.members.get_mut(at) {
            below.add(rest);
        }
    }
}

/// The wanted part of an object; `None` if `text` isn't JSON.
pub fn pick(text: &[u8], paths: &Paths) -> Option<Value> {
    let mut found = Map::new();
    let mut complete = false;
    let mut de = serde_json::Deserializer::from_slice(text);
    let root = Root {
        paths,
        found: &mut found,
        complete: &mut complete,
    };
    let read = root.deserialize(&mut de);
    (read.is_ok() || complete).then_some(Value::Object(found))
}

/// The index of a wanted member's name.
struct Name<'a>(&'a Paths);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Option<usize>, D::Error> {
        d.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Option<usize>, E> {
        Ok(self.0.members.iter().position(|(n, _)| n == name))
    }
}

struct Root<'a> {
    paths: &'a Paths,
    found: &'a mut Map<String, Value>,
    complete: &'a mut bool,
}

impl<'de> DeserializeSeed<'de> for Root<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Root<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(at) = map.next_key_seed(Name(self.paths))? {
            let Some((name, below)) = at.and_then(|at| self.paths.members.get(at)) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let value = map.next_value_seed(Part(below))?;
            self.found.insert(name.clone(), value);
            if self.found.len() == self.paths.members.len() {
                *self.complete = true;
                return Err(A::Error::custom("complete"));
            }
        }
        Ok(())
    }
}

struct Part<'a>(&'a Paths);

impl<'de> DeserializeSeed<'de> for Part<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Value, D::Error> {
        match self.0.whole {
            true => Value::deserialize(d),
            false => d.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Part<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut found = Map::new();
        while let Some(at) = map.next_key_seed(Name(self.0))? {
            match at.and_then(|at| self.0.members.get(at)) {
                Some((name, below)) => {
                    found.insert(name.clone(), map.next_value_seed(Part(below))?);
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Value::Object(found))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_str<E>(self, _: &str) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_is_wanted_is_read() {
        let mut paths = Paths::default();
        paths.add(&["metadata", "labels"]);
        paths.add(&["status", "phase"]);
        for (text, wanted) in [
            (
                r#"{"metadata":{"name":"a","labels":{"x":"y"}},"spec":{"a":[1]},"status":{"phase":"P","b":1}}"#,
                Some(json!({"metadata": {"labels": {"x": "y"}}, "status": {"phase": "P"}})),
            ),
            // Nothing after the last wanted member is looked at.
            (
                r#"{"metadata":{},"status":{},nonsense"#,
                Some(json!({"metadata": {}, "status": {}})),
            ),
            (
                r#"{"metadata":7,"spec":{}}"#,
                Some(json!({"metadata": null})),
            ),
            (r#"{"spec":{}}"#, Some(json!({}))),
            (r#"{"metadata":{"labels""#, None),
            ("[]", None),
        ] {
            assert_eq!(pick(text.as_bytes(), &paths), wanted, "{text}");
        }
    }
}
