//! What server-side apply takes lists and maps for, beside the schema that
//! client-go's apply configurations are generated with.
//!
//! `ATOLL_OBJECTS` (`image-build objects`) is where that schema is; without it,
//! or when it is no longer to be had, the test says that it did not run.
#![expect(clippy::unwrap_used, reason = "tests")]

use api::facts::{self, Field, ListKind, Type};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// What merges take a field for.
#[derive(Debug, PartialEq, Eq)]
enum Merged {
    List(ListKind, Vec<String>),
    Atomic,
    /// Granular although its type is atomic.
    Granular,
    /// As its type has it.
    Plain,
}

fn upstream(field: &Value) -> Merged {
    let kind = &field["type"];
    let relation = |of: &Value| {
        of["elementRelationship"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let Some(list) = kind.get("list") else {
        let of = kind.get("map").unwrap_or(kind);
        return match relation(of).as_str() {
            "atomic" => Merged::Atomic,
            "separable" if kind.get("namedType").is_some() => Merged::Granular,
            _ => Merged::Plain,
        };
    };
    let keys = list["keys"].as_array().into_iter().flatten();
    let keys: Vec<String> = keys.map(|k| k.as_str().unwrap().to_owned()).collect();
    match (relation(list).as_str(), keys.is_empty()) {
        ("associative", false) => Merged::List(ListKind::Map, keys),
        ("associative", true) => Merged::List(ListKind::Set, keys),
        _ => Merged::List(ListKind::Atomic, keys),
    }
}

fn ours(field: &Field) -> Merged {
    if let facts::Shape::List(_) = field.shape {
        let keys = field.map_keys.iter().map(|k| (*k).to_owned()).collect();
        return Merged::List(field.list.unwrap_or_default(), keys);
    }
    match (field.atomic_map, field.granular_map) {
        (true, _) => Merged::Atomic,
        // A plain map is so anyway.
        (_, true) if matches!(field.shape, facts::Shape::Ref(_)) => Merged::Granular,
        _ => Merged::Plain,
    }
}

/// Where a type differs, a line each; how many fields were compared.
fn differences(wanted: &Value, known: &Type, tell: &mut Vec<String>) -> usize {
    let map = &wanted["map"];
    if (map["elementRelationship"] == "atomic") != known.atomic {
        tell.push(format!("{}: atomic is {}", known.name, known.atomic));
    }
    let fields = map["fields"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let name = |field: &Value| field["name"].as_str().unwrap().to_owned();
    let theirs: BTreeSet<String> = fields.iter().map(name).collect();
    let own: BTreeSet<String> = known.fields.iter().map(|f| f.name.to_owned()).collect();
    for field in theirs.symmetric_difference(&own) {
        tell.push(format!("{}: {field} is in one of both", known.name));
    }
    for field in fields {
        let Some(found) = known.field(&name(field)) else {
            continue;
        };
        let (wanted, found) = (upstream(field), ours(found));
        if wanted != found {
            let name = name(field);
            tell.push(format!(
                "{}.{name}: {found:?}, wanted {wanted:?}",
                known.name
            ));
        }
    }
    fields.len()
}

#[test]
fn lists_and_maps_merge_as_apply_configurations_have_it() {
    let given = std::env::var_os("ATOLL_OBJECTS").filter(|place| !place.is_empty());
    let Some(place) = given else {
        println!("not run: no ATOLL_OBJECTS");
        return;
    };
    let text = fs::read(Path::new(&place).join("apply-configurations.yaml")).unwrap();
    let schema = api::decode::yaml(&text).unwrap().value;
    let (mut types, mut fields, mut found) = (0, 0, Vec::new());
    for wanted in schema["types"].as_array().unwrap() {
        // Types of versions that aren't stable are in upstream's alone.
        if let Some(known) = facts::of(wanted["name"].as_str().unwrap()) {
            types += 1;
            fields += differences(wanted, known, &mut found);
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert!(
        types > 400 && fields > 1500,
        "only {types} types, {fields} fields"
    );
}
