//! What selectors say to an authorizer (KEP-4601): of a request, and of the
//! attributes of a review. One that can't be read says nothing, so the question
//! is about more objects rather than fewer. Only fields are kept: no authorizer
//! here asks for labels.

use crate::query::Query;
use crate::route::Route;
use api::field::{Errors, Path};
use api::selector::{FieldSelector, FieldTerm, LabelSelector};
use api::{label_selector, meta};
use serde_json::Value;

/// How a request on a collection is narrowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selection {
    /// The one name that is selected; the request is authorized as on it.
    pub(crate) name: String,
    pub(crate) fields: FieldSelector,
}

impl Selection {
    pub(crate) fn of(route: Option<&Route>, query: &Query) -> Selection {
        let verb = match route {
            Some(Route::Resource(found)) => found.verb,
            Some(Route::Other { .. }) | None => "",
        };
        if !matches!(verb, "list" | "watch" | "deletecollection") {
            return Selection::default();
        }
        let fields = fields(query.text("fieldSelector"));
        let name = match verb {
            "deletecollection" => None,
            _ => fields.required("metadata.name"),
        };
        Selection {
            name: name
                .filter(|n| is_segment(n))
                .unwrap_or_default()
                .to_owned(),
            fields,
        }
    }
}

/// Whether a name can stand in a path.
fn is_segment(name: &str) -> bool {
    !matches!(name, "." | "..") && !name.contains(['/', '%'])
}

/// The text form, as far as it can be read.
pub(crate) fn fields(text: &str) -> FieldSelector {
    match text {
        "" => FieldSelector::default(),
        text => FieldSelector::parse(text).unwrap_or_default(),
    }
}

/// The fields that `resourceAttributes` of a review select, and what had to be
/// passed over (`registry/authorization/util`).
pub(crate) fn reviewed(attributes: &Value) -> (FieldSelector, String) {
    let (fields, broken) = reviewed_fields(&attributes["fieldSelector"]);
    let mut passed = Vec::new();
    let mut pass = |what: &str, some: bool| {
        let how = if some { "partially ignored" } else { "ignored" };
        passed.push(format!(
            "spec.resourceAttributes.{what} {how} due to parse error"
        ));
    };
    if broken {
        pass("fieldSelector", !fields.0.is_empty());
    }
    if let Some(some) = broken_labels(&attributes["labelSelector"]) {
        pass("labelSelector", some);
    }
    (fields, passed.join("; "))
}

fn reviewed_fields(selector: &Value) -> (FieldSelector, bool) {
    let requirements = meta::list(selector, &["requirements"]);
    if requirements.is_empty() {
        let raw = meta::text(selector, &["rawSelector"]);
        let broken = FieldSelector::parse(raw).is_err();
        return (fields(raw), broken);
    }
    let term = |requirement: &Value| {
        let equal = match meta::text(requirement, &["operator"]) {
            "In" => true,
            "NotIn" => false,
            _ => return None,
        };
        match meta::list(requirement, &["values"]) {
            [one] => Some(FieldTerm {
                path: meta::text(requirement, &["key"]).to_owned(),
                value: one.as_str()?.to_owned(),
                equal,
            }),
            _ => None,
        }
    };
    let terms: Vec<FieldTerm> = requirements.iter().filter_map(term).collect();
    let broken = terms.len() < requirements.len();
    (FieldSelector(terms), broken)
}

/// Of labels that can't all be read: whether some can.
fn broken_labels(selector: &Value) -> Option<bool> {
    const KNOWN: [&str; 4] = ["In", "NotIn", "Exists", "DoesNotExist"];
    let requirements = meta::list(selector, &["requirements"]);
    if requirements.is_empty() {
        let raw = LabelSelector::parse(meta::text(selector, &["rawSelector"]));
        return raw.is_err().then_some(false);
    }
    let known = |r: &&Value| KNOWN.contains(&meta::text(r, &["operator"]));
    let read = requirements.iter().filter(known).count();
    (read < requirements.len()).then_some(read > 0)
}

/// Selectors as reviews may have them; operators that are unknown are left to
/// authorizers (`apis/authorization/validation`).
pub(crate) fn validate(attributes: &Value, path: &Path, errors: &mut Errors) {
    for key in ["fieldSelector", "labelSelector"] {
        let Some(selector) = attributes.get(key).filter(|s| s.is_object()) else {
            continue;
        };
        let at = path.child(key);
        let raw = meta::text(selector, &["rawSelector"]);
        let requirements = meta::list(selector, &["requirements"]);
        match (raw.is_empty(), requirements.is_empty()) {
            (false, false) => errors.invalid(
                &at.child("rawSelector"),
                raw,
                "may not specified at the same time as requirements",
            ),
            (true, true) => errors.required(
                &at.child("requirements"),
                format!("when {at} is specified, requirements or rawSelector is required"),
            ),
            (true, false) | (false, true) => {}
        }
        for (i, requirement) in requirements.iter().enumerate() {
            let at = at.child("requirements").index(i);
            match key {
                "labelSelector" => label_selector::validate_requirement(requirement, &at, errors),
                _ => validate_field(requirement, &at, errors),
            }
        }
    }
}

fn validate_field(requirement: &Value, at: &Path, errors: &mut Errors) {
    if meta::text(requirement, &["key"]).is_empty() {
        errors.required(&at.child("key"), "must be specified");
    }
    label_selector::validate_values(requirement, at, errors);
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use http::Method;
    use serde_json::json;

    #[test]
    fn only_what_reads_or_deletes_many_is_narrowed() {
        let by_name = "fieldSelector=metadata.name%3Dx";
        for (method, url, name, fields) in [
            ("GET", "/api/v1/pods", "x", 1),
            ("GET", "/api/v1/pods?watch=1", "x", 1),
            ("DELETE", "/api/v1/namespaces/d/pods", "", 1),
            ("POST", "/api/v1/namespaces/d/pods", "", 0),
            ("GET", "/api/v1/namespaces/d/pods/p", "", 0),
            ("GET", "/version", "", 0),
        ] {
            let (path, query) = url.split_once('?').unwrap_or((url, ""));
            let query = Query::parse(&format!("{query}&{by_name}"));
            let method: Method = method.parse().unwrap();
            let route = crate::route::route(&method, path, &query);
            let found = Selection::of(route.as_ref(), &query);
            assert_eq!(
                (found.name.as_str(), found.fields.0.len()),
                (name, fields),
                "{url}"
            );
        }
    }

    #[test]
    fn names_that_no_path_has_are_not_selected() {
        let route = crate::route::route(&Method::GET, "/api/v1/pods", &Query::parse(""));
        for (text, name) in [
            ("metadata.name=a", "a"),
            ("metadata.name!=a", ""),
            ("metadata.name=a/b", ""),
            ("metadata.name=..", ""),
            ("metadata.name", ""),
        ] {
            let query = Query::parse(&format!("fieldSelector={}", text.replace('=', "%3D")));
            assert_eq!(Selection::of(route.as_ref(), &query).name, name, "{text}");
        }
    }

    #[test]
    fn what_a_review_cannot_say_is_told() {
        let field = |key: &str, operator: &str, values: &[&str]| json!({"key": key, "operator": operator, "values": values});
        let fields = "spec.resourceAttributes.fieldSelector";
        for (attributes, read, told) in [
            (json!({}), 0, String::new()),
            (
                json!({"fieldSelector": {"rawSelector": "a=b,c!=d"}}),
                2,
                String::new(),
            ),
            (
                json!({"fieldSelector": {"rawSelector": "a"}}),
                0,
                format!("{fields} ignored due to parse error"),
            ),
            (
                json!({"fieldSelector": {"requirements": [field("a", "In", &["b"])]}}),
                1,
                String::new(),
            ),
            (
                json!({"fieldSelector": {"requirements": [
                    field("a", "In", &["b"]), field("a", "In", &["b", "c"]), field("a", "Is", &["b"])]}}),
                1,
                format!("{fields} partially ignored due to parse error"),
            ),
            (
                json!({"fieldSelector": {"requirements": [field("a", "Exists", &[])]},
                    "labelSelector": {"rawSelector": "a b"}}),
                0,
                format!(
                    "{fields} ignored due to parse error; spec.resourceAttributes.labelSelector ignored due to parse error"
                ),
            ),
            (
                json!({"labelSelector": {"requirements": [field("a", "Is", &[]), field("a", "Exists", &[])]}}),
                0,
                "spec.resourceAttributes.labelSelector partially ignored due to parse error"
                    .to_owned(),
            ),
        ] {
            let (found, said) = reviewed(&attributes);
            assert_eq!((found.0.len(), said), (read, told), "{attributes}");
        }
    }

    #[test]
    fn selectors_of_reviews_are_validated() {
        for (attributes, wanted) in [
            (json!({"fieldSelector": {"rawSelector": "a"}}), ""),
            (
                json!({"fieldSelector": {}}),
                "s.fieldSelector.requirements: Required value: when s.fieldSelector is specified, requirements or rawSelector is required",
            ),
            (
                json!({"labelSelector": {"rawSelector": "a", "requirements": [{"key": "a", "operator": "Exists"}]}}),
                "s.labelSelector.rawSelector: Invalid value: \"a\": may not specified at the same time as requirements",
            ),
            (
                json!({"fieldSelector": {"requirements": [{"operator": "In", "values": ["x"]}, {"key": "a", "operator": "NotIn"}]}}),
                "s.fieldSelector.requirements[0].key: Required value: must be specified;s.fieldSelector.requirements[1].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
            ),
            (
                json!({"fieldSelector": {"requirements": [{"key": "a", "operator": "Is"}]},
                    "labelSelector": {"requirements": [{"key": "a", "operator": "Is"}]}}),
                "",
            ),
        ] {
            let mut errors = Errors::default();
            validate(&attributes, &Path::new("s"), &mut errors);
            let found: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
            assert_eq!(found.join(";"), wanted, "{attributes}");
        }
    }
}
