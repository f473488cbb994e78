//! `metav1.LabelSelector`: the object form of a label selector, as workloads,
//! budgets and policies carry it.

use crate::field::{Errors, Path};
use crate::selector::{LabelSelector, Operator, Requirement};
use crate::{meta, names};
use serde_json::{Value, json};

/// The selector that the object means; `None` when it is malformed. An absent
/// object selects nothing, which the caller has to know: it reads as `None`.
pub fn parse(object: &Value) -> Option<LabelSelector> {
    object.as_object()?;
    let mut requirements: Vec<Requirement> = meta::members(object, &["matchLabels"])
        .map(|(key, value)| Requirement {
            key: key.clone(),
            operator: Operator::In,
            values: vec![value.as_str().unwrap_or_default().to_owned()],
        })
        .collect();
    for expression in meta::list(object, &["matchExpressions"]) {
        let operator = match meta::text(expression, &["operator"]) {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            _ => return None,
        };
        let values = meta::list(expression, &["values"]);
        requirements.push(Requirement {
            key: meta::text(expression, &["key"]).to_owned(),
            operator,
            values: values
                .iter()
                .map(|v| v.as_str().unwrap_or_default().to_owned())
                .collect(),
        });
    }
    Some(LabelSelector(requirements))
}

/// Whether it has neither labels nor expressions.
pub fn is_empty(object: &Value) -> bool {
    meta::members(object, &["matchLabels"]).next().is_none()
        && meta::list(object, &["matchExpressions"]).is_empty()
}

/// Whether the selector selects `labels`.
pub fn selects(object: &Value, labels: &Value) -> bool {
    parse(object).is_some_and(|s| s.matches(&json!({"metadata": {"labels": labels}})))
}

/// The text form, requirements by key: `a=b,c in (d,e),!f`. A label that has to
/// have a value is told from an expression with that value alone.
pub fn text(object: &Value) -> Option<String> {
    let labels = meta::members(object, &["matchLabels"]).count();
    let mut requirements: Vec<_> = parse(object)?.0.into_iter().enumerate().collect();
    requirements.sort_by(|(_, a), (_, b)| a.key.cmp(&b.key));
    let shown: Vec<String> = requirements
        .into_iter()
        .map(|(i, mut r)| {
            r.values.sort();
            let values = r.values.join(",");
            match r.operator {
                Operator::In if i < labels => format!("{}={values}", r.key),
                Operator::In => format!("{} in ({values})", r.key),
                Operator::NotIn => format!("{} notin ({values})", r.key),
                Operator::Exists => r.key,
                Operator::DoesNotExist => format!("!{}", r.key),
                Operator::GreaterThan(n) => format!("{}>{n}", r.key),
                Operator::LessThan(n) => format!("{}<{n}", r.key),
            }
        })
        .collect();
    Some(shown.join(","))
}

/// As Go's `String` of the generated type writes it.
pub fn debug(object: &Value) -> String {
    let mut labels: Vec<_> = meta::members(object, &["matchLabels"]).collect();
    labels.sort_unstable_by_key(|(key, _)| *key);
    let labels: Vec<String> = labels
        .into_iter()
        .map(|(key, value)| format!("{key}: {},", value.as_str().unwrap_or_default()))
        .collect();
    let expressions: Vec<String> = meta::list(object, &["matchExpressions"])
        .iter()
        .map(|e| {
            let values = meta::list(e, &["values"]).iter().filter_map(Value::as_str);
            format!(
                "LabelSelectorRequirement{{Key:{},Operator:{},Values:[{}],}},",
                meta::text(e, &["key"]),
                meta::text(e, &["operator"]),
                values.collect::<Vec<_>>().join(" "),
            )
        })
        .collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{}}},MatchExpressions:[]LabelSelectorRequirement{{{}}},}}",
        labels.concat(),
        expressions.concat(),
    )
}

pub fn validate(object: &Value, path: &Path, errors: &mut Errors) {
    let labels = path.child("matchLabels");
    for (key, value) in meta::members(object, &["matchLabels"]) {
        errors.invalid_each(&labels, key, names::qualified_name(key));
        let value = value.as_str().unwrap_or_default();
        errors.invalid_each(&labels.key(key), value, names::label_value(value));
    }
    for (i, expression) in meta::list(object, &["matchExpressions"]).iter().enumerate() {
        validate_expression(expression, &path.child("matchExpressions").index(i), errors);
    }
}

fn validate_expression(expression: &Value, at: &Path, errors: &mut Errors) {
    let operator = meta::text(expression, &["operator"]);
    if !matches!(operator, "In" | "NotIn" | "Exists" | "DoesNotExist") {
        let why = "not a valid selector operator";
        errors.invalid(&at.child("operator"), operator, why);
    }
    validate_requirement(expression, at, errors);
}

/// Whether the operators that are known here have the values that they need.
pub fn validate_values(requirement: &Value, at: &Path, errors: &mut Errors) {
    let values = meta::list(requirement, &["values"]);
    match meta::text(requirement, &["operator"]) {
        "In" | "NotIn" if values.is_empty() => errors.required(
            &at.child("values"),
            "must be specified when `operator` is 'In' or 'NotIn'",
        ),
        "Exists" | "DoesNotExist" if !values.is_empty() => errors.forbidden(
            &at.child("values"),
            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        ),
        _ => {}
    }
}

/// A requirement whose operator may be one that isn't known here.
pub fn validate_requirement(expression: &Value, at: &Path, errors: &mut Errors) {
    validate_values(expression, at, errors);
    let values = meta::list(expression, &["values"]);
    let key = meta::text(expression, &["key"]);
    errors.invalid_each(&at.child("key"), key, names::qualified_name(key));
    for (i, value) in values.iter().enumerate() {
        let value = value.as_str().unwrap_or_default();
        errors.invalid_each(
            &at.child("values").index(i),
            value,
            names::label_value(value),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_form_selects_and_prints() {
        let s = json!({"matchLabels": {"b": "1"}, "matchExpressions": [
            {"key": "a", "operator": "In", "values": ["y", "x"]},
            {"key": "c", "operator": "DoesNotExist"}]});
        assert_eq!(text(&s).as_deref(), Some("a in (x,y),b=1,!c"));
        for (labels, wanted) in [
            (json!({"a": "x", "b": "1"}), true),
            (json!({"a": "z", "b": "1"}), false),
            (json!({"a": "x", "b": "1", "c": ""}), false),
            (json!(null), false),
        ] {
            assert_eq!(selects(&s, &labels), wanted, "{labels}");
        }
        assert!(selects(&json!({}), &json!({"x": "y"})));
        assert!(!selects(&Value::Null, &json!({"x": "y"})));
        assert!(parse(&json!({"matchExpressions": [{"key": "a", "operator": "Is"}]})).is_none());
    }

    #[test]
    fn faults_are_named() {
        for (selector, wanted) in [
            (json!({"matchLabels": {"a": "b"}}), ""),
            (
                json!({"matchExpressions": [{"key": "a", "operator": "In"}]}),
                "s.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
            ),
            (
                json!({"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["x"]}]}),
                "s.matchExpressions[0].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            ),
            (
                json!({"matchExpressions": [{"key": "a", "operator": "Is"}]}),
                "s.matchExpressions[0].operator: Invalid value: \"Is\": not a valid selector operator",
            ),
        ] {
            let mut errors = Errors::default();
            validate(&selector, &Path::new("s"), &mut errors);
            let found: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
            assert_eq!(found.join(";"), wanted);
        }
    }
}
