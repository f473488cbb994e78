//! What is known of each field of each type: the generated table and its reader.
//!
//! `facts/facts.txt` holds one line a type (`name [mt=atomic] [gvk=g/v/k]`) and
//! below it one line a field (` name shape [!] [n=] [*] [&] [lt= mt= ps= pk= k=]`):
//! required, protobuf number (a path where JSON inlines what protobuf nests),
//! a scalar pointer in Go, a struct that is none (Go always writes it), list and
//! map types and keys, patch strategy. Shapes:
//! `s` string, `i` int32, `l` int64, `b` bool, `d` double, `y` base64, `q`
//! quantity, `x` int-or-string, `t` time, `u` micro time, `o` duration, `a` anything,
//! `@type`, `[]shape`, `{}shape`. The table drives strict decoding, merging and
//! OpenAPI. It knows no descriptions and no defaults.

use std::collections::HashMap;
use std::sync::OnceLock;

const TEXT: &str = include_str!("../facts/facts.txt");

/// The shape of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    Scalar(Scalar),
    /// Another type of the table, by its full name.
    Ref(&'static str),
    List(Box<Shape>),
    Map(Box<Shape>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    String,
    Int32,
    Int64,
    Bool,
    Double,
    Bytes,
    Quantity,
    IntOrString,
    Time,
    MicroTime,
    /// Go's text of one: `1m30s`.
    Duration,
    Any,
}

/// How server-side apply sees a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListKind {
    #[default]
    Atomic,
    Set,
    Map,
}

#[derive(Clone, Debug)]
pub struct Field {
    pub name: &'static str,
    pub shape: Shape,
    pub required: bool,
    /// A pointer in Go: its zero value differs from absence.
    pub pointer: bool,
    /// A struct in Go and no pointer: written even when it is empty.
    pub plain: bool,
    /// The path of protobuf numbers; empty where there is none.
    pub numbers: Vec<u32>,
    /// The list type as the source states it; `None` where it states none.
    pub list: Option<ListKind>,
    pub map_keys: Vec<&'static str>,
    pub atomic_map: bool,
    /// Owned by its members even where its type is atomic.
    pub granular_map: bool,
    pub patch_merge: bool,
    pub patch_retain_keys: bool,
    pub patch_key: Option<&'static str>,
}

#[derive(Clone, Debug)]
pub struct Type {
    pub name: &'static str,
    pub fields: Vec<Field>,
    pub atomic: bool,
    /// Group, version, kind of a top-level type.
    pub gvk: Option<(&'static str, &'static str, &'static str)>,
}

impl Type {
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields
            .binary_search_by(|f| f.name.cmp(name))
            .ok()
            .map(|i| &self.fields[i])
    }

    /// The last word of the name: Go's name for the type.
    pub fn short_name(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }
}

/// The facts of a type by its full name.
pub fn of(name: &str) -> Option<&'static Type> {
    table().get(name)
}

/// The facts of a top-level type by what its objects call themselves.
pub fn of_kind(api_version: &str, kind: &str) -> Option<&'static Type> {
    type ByVersion = HashMap<String, HashMap<&'static str, &'static Type>>;
    static BY_KIND: OnceLock<ByVersion> = OnceLock::new();
    let table = BY_KIND.get_or_init(|| {
        let mut table = ByVersion::new();
        for t in all() {
            if let Some((group, version, kind)) = t.gvk {
                let version = crate::kinds::api_version(group, version);
                table.entry(version).or_default().insert(kind, t);
            }
        }
        table
    });
    table.get(api_version)?.get(kind).copied()
}

/// The type that a group, version and kind name.
pub fn of_gvk(gvk: (&str, &str, &str)) -> Option<&'static Type> {
    all().find(|t| t.gvk.is_some_and(|of| of == gvk))
}

/// All types, in no order.
pub fn all() -> impl Iterator<Item = &'static Type> {
    table().values()
}

fn table() -> &'static HashMap<&'static str, Type> {
    static TABLE: OnceLock<HashMap<&'static str, Type>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut types: HashMap<&'static str, Type> = HashMap::new();
        let mut current: Option<Type> = None;
        for line in TEXT.lines().filter(|l| !l.starts_with('#')) {
            match line.strip_prefix(' ') {
                Some(field) => {
                    if let Some(t) = &mut current {
                        t.fields.extend(parse_field(field));
                    }
                }
                None => {
                    if let Some(mut done) = current.replace(parse_type(line)) {
                        done.fields.sort_by_key(|f| f.name);
                        types.insert(done.name, done);
                    }
                }
            }
        }
        if let Some(mut done) = current {
            done.fields.sort_by_key(|f| f.name);
            types.insert(done.name, done);
        }
        types
    })
}

fn parse_type(line: &'static str) -> Type {
    let mut words = line.split(' ');
    let mut t = Type {
        name: words.next().unwrap_or_default(),
        fields: Vec::new(),
        atomic: false,
        gvk: None,
    };
    for word in words {
        if word == "mt=atomic" {
            t.atomic = true;
        } else if let Some(gvk) = word.strip_prefix("gvk=") {
            let mut parts = gvk.split('/');
            if let (Some(g), Some(v), Some(k)) = (parts.next(), parts.next(), parts.next()) {
                t.gvk = Some((g, v, k));
            }
        }
    }
    t
}

fn parse_field(line: &'static str) -> Option<Field> {
    let mut words = line.split(' ');
    let mut field = Field {
        name: words.next()?,
        shape: parse_shape(words.next()?)?,
        required: false,
        pointer: false,
        plain: false,
        numbers: Vec::new(),
        list: None,
        map_keys: Vec::new(),
        atomic_map: false,
        granular_map: false,
        patch_merge: false,
        patch_retain_keys: false,
        patch_key: None,
    };
    for word in words {
        match word.split_once('=') {
            None if word == "!" => field.required = true,
            None if word == "*" => field.pointer = true,
            None if word == "&" => field.plain = true,
            Some(("n", path)) => {
                field.numbers = path.split('.').filter_map(|n| n.parse().ok()).collect();
            }
            Some(("lt", "map")) => field.list = Some(ListKind::Map),
            Some(("lt", "set")) => field.list = Some(ListKind::Set),
            Some(("lt", _)) => field.list = Some(ListKind::Atomic),
            Some(("mt", "atomic")) => field.atomic_map = true,
            Some(("mt", "granular")) => field.granular_map = true,
            Some(("ps", strategies)) => {
                field.patch_merge = strategies.split(',').any(|s| s == "merge");
                field.patch_retain_keys = strategies.split(',').any(|s| s == "retainKeys");
            }
            Some(("pk", key)) => field.patch_key = Some(key),
            Some(("k", keys)) => field.map_keys = keys.split(',').collect(),
            _ => {}
        }
    }
    Some(field)
}

fn parse_shape(text: &'static str) -> Option<Shape> {
    if let Some(inner) = text.strip_prefix("[]") {
        return Some(Shape::List(Box::new(parse_shape(inner)?)));
    }
    if let Some(inner) = text.strip_prefix("{}") {
        return Some(Shape::Map(Box::new(parse_shape(inner)?)));
    }
    if let Some(name) = text.strip_prefix('@') {
        return Some(Shape::Ref(name));
    }
    Some(Shape::Scalar(match text {
        "s" => Scalar::String,
        "i" => Scalar::Int32,
        "l" => Scalar::Int64,
        "b" => Scalar::Bool,
        "d" => Scalar::Double,
        "y" => Scalar::Bytes,
        "q" => Scalar::Quantity,
        "x" => Scalar::IntOrString,
        "t" => Scalar::Time,
        "u" => Scalar::MicroTime,
        "o" => Scalar::Duration,
        "a" => Scalar::Any,
        _ => return None,
    }))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn every_line_is_understood_and_every_reference_resolves() {
        let fields = TEXT.lines().filter(|l| l.starts_with(' ')).count();
        assert_eq!(all().map(|t| t.fields.len()).sum::<usize>(), fields);
        fn refs(shape: &Shape) {
            match shape {
                // Beta types are left out, and nothing that is served refers to one.
                Shape::Ref(name) => assert!(
                    of(name).is_some() || name.contains("beta") || name.contains("alpha"),
                    "{name}"
                ),
                Shape::List(inner) | Shape::Map(inner) => refs(inner),
                Shape::Scalar(_) => {}
            }
        }
        for t in all() {
            t.fields.iter().for_each(|f| refs(&f.shape));
        }
    }

    #[test]
    fn facts_of_a_pod() {
        let spec = of("io.k8s.api.core.v1.PodSpec").unwrap();
        let volumes = spec.field("volumes").unwrap();
        assert_eq!(volumes.list, Some(ListKind::Map));
        assert_eq!(volumes.patch_key, Some("name"));
        assert!(volumes.patch_merge && volumes.patch_retain_keys);
        assert!(spec.field("containers").unwrap().required);
        assert_eq!(
            of("io.k8s.api.core.v1.Pod").unwrap().gvk,
            Some(("", "v1", "Pod"))
        );
    }
}
