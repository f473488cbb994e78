//! Objects that expressions of mutating policies build: `Object{…}` with
//! `Object.spec{…}` in it, `JSONPatch{…}`. The interpreter has maps only, so
//! each becomes one; that types fit the fields that they stand in is checked
//! before (`cel/mutation`).

use kube_cel::cel::IdedExpr;
use kube_cel::cel::common::ast::{
    EntryExpr, Expr, IdedEntryExpr, LiteralValue, MapEntryExpr, MapExpr,
};

const OBJECT: &str = "Object";
const PATCH: &str = "JSONPatch";
const PATCH_FIELDS: &[&str] = &["op", "path", "from", "value"];

fn is_known(type_name: &str) -> bool {
    type_name == OBJECT || type_name == PATCH || type_name.starts_with("Object.")
}

/// The type of the objects that stand directly in a field, through lists.
fn types(of: &IdedExpr) -> Vec<&str> {
    match &of.expr {
        Expr::Struct(s) => vec![&s.type_name],
        Expr::List(list) => list.elements.iter().flat_map(types).collect(),
        _ => Vec::new(),
    }
}

fn check_field(type_name: &str, field: &str, value: &IdedExpr) -> Result<(), String> {
    if type_name == PATCH {
        return match PATCH_FIELDS.contains(&field) {
            true => Ok(()),
            false => Err(format!("undefined field '{field}'")),
        };
    }
    let wanted = format!("{type_name}.{field}");
    match types(value).into_iter().find(|found| *found != wanted) {
        Some(found) => Err(format!(
            "type mismatch: unexpected type name \"{found}\", expected \"{wanted}\", which matches field name path from root Object type"
        )),
        None => Ok(()),
    }
}

/// The expression with maps in place of objects. Recursion is bounded by the
/// nesting that parsing allows.
pub(crate) fn lowered(of: IdedExpr) -> Result<IdedExpr, String> {
    let id = of.id;
    let all = |list: Vec<IdedExpr>| list.into_iter().map(lowered).collect::<Result<Vec<_>, _>>();
    let expr = match of.expr {
        Expr::Struct(s) => {
            if !is_known(&s.type_name) {
                let name = s.type_name;
                return Err(format!(
                    "undeclared reference to '{name}' (in container '')"
                ));
            }
            let mut entries = Vec::new();
            for entry in s.entries {
                entries.push(IdedEntryExpr {
                    id: entry.id,
                    expr: entry_of(&s.type_name, entry.expr)?,
                });
            }
            Expr::Map(MapExpr { entries })
        }
        Expr::Select(mut select) => {
            select.operand = Box::new(lowered(*select.operand)?);
            Expr::Select(select)
        }
        Expr::List(mut list) => {
            list.elements = all(list.elements)?;
            Expr::List(list)
        }
        Expr::Map(mut map) => {
            for entry in &mut map.entries {
                if let EntryExpr::MapEntry(e) = &mut entry.expr {
                    e.key = lowered(std::mem::take(&mut e.key))?;
                    e.value = lowered(std::mem::take(&mut e.value))?;
                }
            }
            Expr::Map(map)
        }
        Expr::Call(mut call) => {
            call.target = match call.target {
                Some(target) => Some(Box::new(lowered(*target)?)),
                None => None,
            };
            call.args = all(call.args)?;
            Expr::Call(call)
        }
        Expr::Comprehension(mut c) => {
            c.iter_range = lowered(c.iter_range)?;
            c.accu_init = lowered(c.accu_init)?;
            c.loop_cond = lowered(c.loop_cond)?;
            c.loop_step = lowered(c.loop_step)?;
            c.result = lowered(c.result)?;
            Expr::Comprehension(c)
        }
        other => other,
    };
    Ok(IdedExpr { id, expr })
}

fn entry_of(type_name: &str, entry: EntryExpr) -> Result<EntryExpr, String> {
    let EntryExpr::StructField(field) = entry else {
        return Err("Syntax error: an entry of a map in an object".to_owned());
    };
    check_field(type_name, &field.field, &field.value)?;
    let name = LiteralValue::String(field.field.as_str().into());
    Ok(EntryExpr::MapEntry(MapEntryExpr {
        key: IdedExpr {
            id: 0,
            expr: Expr::Literal(name),
        },
        value: lowered(field.value)?,
        optional: field.optional,
    }))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use crate::{Budget, Program, isolated, to_json};
    use serde_json::{Value, json};
    use std::time::{Duration, Instant};

    fn built(text: &str) -> Result<Value, String> {
        let program = Program::compile_building(text, &[]).map_err(|e| e.to_string())?;
        isolated(|| {
            let mut budget = Budget {
                steps: 1000,
                deadline: Instant::now() + Duration::from_secs(9),
            };
            let made = program.evaluate(&[], &mut budget);
            made.map_err(|e| e.to_string()).and_then(|v| to_json(&v))
        })
        .unwrap()
    }

    #[test]
    fn objects_become_maps() {
        for (text, wanted) in [
            (
                "Object{metadata: Object.metadata{labels: {'a': 'b'}}, spec: Object.spec{n: 1, items: [Object.spec.items{x: true}]}}",
                json!({"metadata": {"labels": {"a": "b"}}, "spec": {"n": 1, "items": [{"x": true}]}}),
            ),
            (
                "[1, 2].map(i, JSONPatch{op: 'add', path: '/a/' + string(i), value: i})",
                json!([{"op": "add", "path": "/a/1", "value": 1}, {"op": "add", "path": "/a/2", "value": 2}]),
            ),
            (
                "Object{?spec: false ? optional.of(Object.spec{}) : optional.none()}",
                json!({}),
            ),
        ] {
            assert_eq!(built(text), Ok(wanted), "{text}");
        }
        for (text, why) in [
            (
                "Object{spec: Object.status{}}",
                "unexpected type name \"Object.status\"",
            ),
            ("Other{}", "undeclared reference to 'Other'"),
            ("JSONPatch{operation: 'add'}", "undefined field 'operation'"),
        ] {
            let refused = built(text).unwrap_err();
            assert!(refused.contains(why), "{text}: {refused}");
        }
        assert!(
            Program::compile("Object{}", &[]).is_err(),
            "only where asked for"
        );
    }
}
