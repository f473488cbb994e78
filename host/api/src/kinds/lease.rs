//! Lease: who holds what, renewed in time.

use super::Kind;
use crate::field::{Errors, Path};
use crate::meta;
use crate::print::{AGE, Cells, Column, NAME, age, text};
use jiff::Timestamp;
use serde_json::Value;

pub(super) static KIND: Kind = Kind {
    group: "coordination.k8s.io",
    kind: "Lease",
    plural: "leases",
    singular: "lease",
    type_name: "io.k8s.api.coordination.v1.Lease",
    storage: "coordination.k8s.io/leases",
    columns: COLUMNS,
    cells,
    validate,
    ..Kind::BASE
};

const COLUMNS: &[Column] = &[NAME, text("Holder", 0, "Who holds the lease."), AGE];

fn cells(object: &Value, now: Timestamp) -> Cells {
    vec![
        meta::name(object).into(),
        meta::text(object, &["spec", "holderIdentity"]).into(),
        age(object, now),
    ]
}

fn validate(object: &Value, errors: &mut Errors) {
    let spec = Path::new("spec");
    for (key, least) in [("leaseDurationSeconds", 1), ("leaseTransitions", 0)] {
        if let Some(n) = meta::int(object, &["spec", key]).filter(|n| *n < least) {
            let why = match least {
                1 => "must be greater than 0",
                _ => "must be greater than or equal to 0",
            };
            errors.invalid(&spec.child(key), n, why);
        }
    }
}
