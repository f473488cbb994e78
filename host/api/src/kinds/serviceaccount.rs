//! ServiceAccount.

use super::{Kind, Subresource};
use crate::meta;
use crate::print::{AGE, Cells, Column, NAME, age, text};
use jiff::Timestamp;
use serde_json::Value;

pub(super) static KIND: Kind = Kind {
    kind: "ServiceAccount",
    plural: "serviceaccounts",
    singular: "serviceaccount",
    short_names: &["sa"],
    type_name: "io.k8s.api.core.v1.ServiceAccount",
    storage: "core/serviceaccounts",
    subresources: &[Subresource::Token],
    columns: COLUMNS,
    cells,
    ..Kind::BASE
};

const COLUMNS: &[Column] = &[
    NAME,
    text("Secrets", 0, "How many secrets the account names."),
    AGE,
];

fn cells(object: &Value, now: Timestamp) -> Cells {
    vec![
        meta::name(object).into(),
        meta::list(object, &["secrets"]).len().into(),
        age(object, now),
    ]
}
