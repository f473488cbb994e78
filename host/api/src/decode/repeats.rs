//! Keys that stand twice in a mapping of YAML, in the words of
//! `sigs.k8s.io/yaml`, whose strict reader tells them by line.

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use std::collections::HashSet;
use std::fmt;

/// Most keys that one body's report names; each costs a look at the body.
const MOST: usize = 10;

/// What a strict decoder says of a body that has keys twice; `None` of one that
/// has none, or that isn't YAML.
pub fn repeats(body: &[u8]) -> Option<String> {
    let lines: Vec<String> = (0..MOST).map_while(|n| nth(body, n)).collect();
    (!lines.is_empty()).then(|| {
        let lines = lines.join("\n  ");
        format!("yaml: unmarshal errors:\n  {lines}")
    })
}

/// Of the keys that stand there already, the one after `skip` others.
fn nth(body: &[u8], skip: usize) -> Option<String> {
    let (mut skip, mut found) = (skip, None);
    let node = Node {
        skip: &mut skip,
        found: &mut found,
    };
    let error = node
        .deserialize(serde_yaml::Deserializer::from_slice(body))
        .err()?;
    let line = error.location()?.line();
    Some(format!("line {line}: key {:?} already set in map", found?))
}

/// A value; ends with an error at the key that is looked for.
struct Node<'a> {
    skip: &'a mut usize,
    found: &'a mut Option<String>,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    ignored_scalars!();

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        loop {
            let seed = Node {
                skip: self.skip,
                found: self.found,
            };
            if seq.next_element_seed(seed)?.is_none() {
                return Ok(());
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        loop {
            let key = Key {
                seen: &mut seen,
                skip: self.skip,
                found: self.found,
            };
            if map.next_key_seed(key)?.is_none() {
                return Ok(());
            }
            map.next_value_seed(Node {
                skip: self.skip,
                found: self.found,
            })?;
        }
    }
}

/// A key; its error has its place, which that of the mapping wouldn't.
struct Key<'a> {
    seen: &'a mut HashSet<String>,
    skip: &'a mut usize,
    found: &'a mut Option<String>,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        // A key is text to JSON, whatever YAML takes it for.
        d.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<(), E> {
        if self.seen.insert(key.to_owned()) {
            return Ok(());
        }
        if *self.skip > 0 {
            *self.skip -= 1;
            return Ok(());
        }
        *self.found = Some(key.to_owned());
        Err(E::custom("stands there already"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_named_with_the_line_of_their_second_place() {
        for (body, wanted) in [
            ("a: 1\nb: 2\n", &[][..]),
            (
                "\na: 1\nb: 2\na: 3\n",
                &["line 4: key \"a\" already set in map"],
            ),
            (
                "s:\n- x: {y: 1, y: 2}\n  x: 3\n- x: 4\n",
                &[
                    "line 2: key \"y\" already set in map",
                    "line 3: key \"x\" already set in map",
                ],
            ),
            ("a: [1", &[]),
            ("1: a\n1: b", &["line 2: key \"1\" already set in map"]),
        ] {
            let said = repeats(body.as_bytes());
            let mut lines = said.as_deref().unwrap_or_default().lines();
            let head = lines.next();
            assert_eq!(head.is_some(), !wanted.is_empty(), "{body}");
            let lines: Vec<&str> = lines.map(str::trim).collect();
            assert_eq!(lines, wanted, "{body}");
        }
    }
}
