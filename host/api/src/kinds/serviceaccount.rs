//! ServiceAccount.

use super::{Kind, Subresource};
use crate::print::{NAME_AGE, name_age};

pub(super) static KIND: Kind = Kind {
    kind: "ServiceAccount",
    plural: "serviceaccounts",
    singular: "serviceaccount",
    short_names: &["sa"],
    type_name: "io.k8s.api.core.v1.ServiceAccount",
    storage: "core/serviceaccounts",
    subresources: &[Subresource::Token],
    columns: NAME_AGE,
    cells: name_age,
    ..Kind::BASE
};
