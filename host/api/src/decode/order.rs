//! Where in a JSON body members stand, so that faults are told in the order in
//! which a decoder that reads once would meet them.

use super::child;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::collections::HashMap;
use std::fmt;

/// The places of the members at `paths` (`spec.ports[0].name`): ordinals among
/// all members of the body, one for each time that the member stands there.
/// Empty for a path that isn't in it; what comes after a syntax error isn't
/// looked at.
pub fn places<'a>(
    body: &[u8],
    paths: impl IntoIterator<Item = &'a str>,
) -> HashMap<&'a str, Vec<usize>> {
    let mut found: HashMap<&str, Vec<usize>> = paths.into_iter().map(|p| (p, vec![])).collect();
    let mut de = serde_json::Deserializer::from_slice(body);
    let seed = Node {
        path: String::new(),
        seen: &mut 0,
        found: &mut found,
    };
    // A body that isn't JSON was refused before anybody asks for its order.
    let _ = seed.deserialize(&mut de);
    found
}

struct Node<'a, 'p> {
    path: String,
    seen: &'a mut usize,
    found: &'a mut HashMap<&'p str, Vec<usize>>,
}

impl Node<'_, '_> {
    /// Whether a path that is looked for begins with this one.
    fn leads_on(&self) -> bool {
        let begins = |p: &&str| p.len() > self.path.len() && p.starts_with(&self.path);
        self.found.keys().any(begins)
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        if self.leads_on() {
            return d.deserialize_any(self);
        }
        d.deserialize_ignored_any(IgnoredAny).map(|_| ())
    }
}

impl<'de> Visitor<'de> for Node<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    ignored_scalars!();

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut index = 0;
        loop {
            let seed = Node {
                path: format!("{}[{index}]", self.path),
                seen: self.seen,
                found: self.found,
            };
            if seq.next_element_seed(seed)?.is_none() {
                return Ok(());
            }
            index += 1;
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            let path = child(&self.path, &key);
            if let Some(places) = self.found.get_mut(path.as_str()) {
                places.push(*self.seen);
            }
            *self.seen += 1;
            map.next_value_seed(Node {
                path,
                seen: self.seen,
                found: self.found,
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_where_they_stand() {
        let body = br#"{"a": {"x": 1, "b": [{"c": 1}, {"c": 2, "c": 3}]}, "d": 1, "a": 2}"#;
        for (path, wanted) in [
            ("a", &[0, 4][..]),
            ("a.x", &[1]),
            ("a.b[1].c", &[2, 3]),
            ("d", &[3]),
            ("e", &[]),
        ] {
            let all = ["a", "a.x", "a.b[1].c", "d", "e"];
            assert_eq!(places(body, all)[path].len(), wanted.len(), "{path}");
        }
        let order = places(body, ["a.b[1].c", "d", "a"]);
        assert!(order["a"][0] < order["a.b[1].c"][0]);
        assert!(order["a.b[1].c"][1] < order["d"][0]);
        assert!(order["d"][0] < order["a"][1]);
        assert!(places(b"{\"d\"", ["d"])["d"].len() <= 1);
    }
}
