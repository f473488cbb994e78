//! RuntimeClass (node.k8s.io): how the containers of a pod are run.

use super::Kind;
use crate::field::{Errors, Path};
use crate::print::{AGE, Cells, NAME, age, text};
use crate::{meta, names};
use jiff::Timestamp;
use serde_json::Value;

pub(super) static RUNTIME_CLASS: Kind = Kind {
    group: "node.k8s.io",
    kind: "RuntimeClass",
    plural: "runtimeclasses",
    singular: "runtimeclass",
    namespaced: false,
    type_name: "io.k8s.api.node.v1.RuntimeClass",
    storage: "node.k8s.io/runtimeclasses",
    columns: &[NAME, text("Handler", 0, "What runs its pods."), AGE],
    cells,
    validate,
    validate_update: |new, old, errors| errors.immutable(new, old, "handler", &Path::default()),
    ..Kind::BASE
};

fn cells(object: &Value, now: Timestamp) -> Cells {
    vec![
        meta::name(object).into(),
        meta::text(object, &["handler"]).into(),
        age(object, now),
    ]
}

fn validate(object: &Value, errors: &mut Errors) {
    let handler = meta::text(object, &["handler"]);
    errors.invalid_each(&Path::new("handler"), handler, names::dns_label(handler));
    let fixed = Path::new("overhead").child("podFixed");
    for (name, quantity) in meta::members(object, &["overhead", "podFixed"]) {
        let text = quantity.as_str().unwrap_or_default();
        let at = fixed.key(name);
        errors.invalid_each(&at, name, names::qualified_name(name));
        if crate::quantity::Quantity::parse(text).is_ok_and(|q| q.is_negative()) {
            errors.invalid(&at, text, "must be greater than or equal to 0");
        }
    }
    let scheduling = Path::new("scheduling");
    super::validate_labels(
        &object["scheduling"]["nodeSelector"],
        &scheduling.child("nodeSelector"),
        errors,
    );
    let tolerations = meta::list(object, &["scheduling", "tolerations"]);
    let path = scheduling.child("tolerations");
    for (i, toleration) in tolerations.iter().enumerate() {
        super::pod_validate::toleration(toleration, &path.index(i), errors);
        let same = |other: &Value| {
            ["key", "operator", "value", "effect"]
                .iter()
                .all(|k| other.get(*k) == toleration.get(*k))
        };
        if tolerations[..i].iter().any(same) {
            errors.duplicate(&path.index(i), toleration.clone());
        }
    }
}
