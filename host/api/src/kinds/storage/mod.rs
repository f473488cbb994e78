//! storage.k8s.io: classes of volumes, drivers, and what they say of nodes.

mod capacity;
mod class;
mod csi_driver;
mod csi_node;
mod volume_attachment;

pub(super) use capacity::KIND as CSI_STORAGE_CAPACITY;
pub(super) use class::{STORAGE_CLASS, VOLUME_ATTRIBUTES_CLASS};
pub(super) use csi_driver::KIND as CSI_DRIVER;
pub(super) use csi_node::KIND as CSI_NODE;
pub(super) use volume_attachment::KIND as VOLUME_ATTACHMENT;

use crate::field::{Errors, Path};
use crate::{meta, names};
use serde_json::Value;

const GROUP: &str = "storage.k8s.io";

/// Bytes of all parameters together, and how many there may be.
const PARAMETERS_MAX: usize = 256 * 1024;
const PARAMETERS_COUNT: usize = 512;

/// `core/validation.ValidateCSIDriverName`.
fn validate_driver_name(name: &str, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(path, "");
    }
    if name.len() > names::LABEL_MAX {
        errors.too_long(path, names::LABEL_MAX);
    }
    errors.invalid_each(path, name, names::dns_subdomain(&name.to_lowercase()));
}

fn validate_parameters(object: &Value, required: bool, errors: &mut Errors) {
    let path = Path::new("parameters");
    let mut bytes = 0;
    let mut count = 0;
    for (key, value) in meta::members(object, &["parameters"]) {
        if key.is_empty() {
            errors.invalid(&path, "", "field can not be empty.");
        }
        bytes += key.len() + value.as_str().map_or(0, str::len);
        count += 1;
    }
    if count > PARAMETERS_COUNT {
        errors.too_long(&path, PARAMETERS_COUNT);
    } else if bytes > PARAMETERS_MAX {
        errors.too_long(&path, PARAMETERS_MAX);
    }
    if required && count == 0 {
        errors.required(&path, "must contain at least one key/value pair");
    }
}

/// Upstream's words for what a class may not change.
fn forbid_update(new: &Value, old: &Value, key: &str, errors: &mut Errors) {
    if new.get(key) != old.get(key) {
        errors.forbidden(&Path::new(key), format!("updates to {key} are forbidden."));
    }
}

#[cfg(test)]
mod tests;
