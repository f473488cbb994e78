//! ServiceCIDR: where the addresses of Services come from. IPAddress: one such
//! address, taken.

use crate::field::{Errors, Path};
use crate::kinds::{Kind, Subresource, addresses, strategy};
use crate::print::{AGE, Cells, NAME, age, text};
use crate::{meta, names};
use jiff::Timestamp;
use serde_json::Value;

pub(in crate::kinds) static SERVICE_CIDR: Kind = Kind {
    group: super::GROUP,
    kind: "ServiceCIDR",
    plural: "servicecidrs",
    singular: "servicecidr",
    namespaced: false,
    type_name: "io.k8s.api.networking.v1.ServiceCIDR",
    storage: "networking.k8s.io/servicecidrs",
    subresources: &[Subresource::Status],
    columns: &[NAME, text("CIDRs", 0, "The ranges of addresses."), AGE],
    cells: |object, now| {
        let cidrs: Vec<&str> = cidrs(object).collect();
        vec![
            meta::name(object).into(),
            cidrs.join(",").into(),
            age(object, now),
        ]
    },
    default: |object| {
        meta::ensure(object, "spec");
    },
    validate: validate_cidrs,
    validate_update: validate_cidrs_update,
    prepare_create: strategy::drop_status,
    prepare_update: strategy::keep_status,
    ..Kind::BASE
};

pub(in crate::kinds) static IP_ADDRESS: Kind = Kind {
    group: super::GROUP,
    kind: "IPAddress",
    plural: "ipaddresses",
    singular: "ipaddress",
    short_names: &["ip"],
    namespaced: false,
    type_name: "io.k8s.api.networking.v1.IPAddress",
    storage: "networking.k8s.io/ipaddresses",
    name: addresses::canonical,
    columns: &[NAME, text("ParentRef", 0, "What the address belongs to.")],
    cells: address_cells,
    validate: validate_address,
    validate_update: |new, old, errors| {
        errors.immutable(&new["spec"], &old["spec"], "parentRef", &Path::new("spec"));
    },
    ..Kind::BASE
};

fn cidrs(object: &Value) -> impl Iterator<Item = &str> {
    meta::list(object, &["spec", "cidrs"])
        .iter()
        .filter_map(Value::as_str)
}

fn validate_cidrs(object: &Value, errors: &mut Errors) {
    let path = Path::new("spec").child("cidrs");
    let listed = meta::list(object, &["spec", "cidrs"]);
    match listed.len() {
        0 => return errors.required(&path, "at least one CIDR required"),
        1 | 2 => {}
        _ => {
            let why = "may only hold up to 2 values";
            return errors.invalid(&path, object["spec"].clone(), why);
        }
    }
    let parsed: Vec<_> = cidrs(object)
        .enumerate()
        .map(|(i, cidr)| addresses::validate_canonical_cidr(cidr, &path.index(i), errors))
        .collect();
    if let [Some(a), Some(b)] = parsed.as_slice()
        && a.ip.is_ipv4() == b.ip.is_ipv4()
    {
        let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.invalid(&path, listed, why);
    }
}

/// A second family may be added, nothing may change.
fn validate_cidrs_update(new: &Value, old: &Value, errors: &mut Errors) {
    const WHY: &str = "field is immutable";
    let path = Path::new("spec").child("cidrs");
    let (is, was): (Vec<&str>, Vec<&str>) = (cidrs(new).collect(), cidrs(old).collect());
    let grows = was.len() == 1 && is.len() == 2;
    if !grows && is.len() != was.len() {
        return errors.invalid(&path, is, WHY);
    }
    for (i, (is, was)) in is.iter().zip(&was).enumerate() {
        if is != was {
            errors.invalid(&path.index(i), *is, WHY);
        }
    }
}

/// Upstream's rows have the age too, for which there is no column.
fn address_cells(object: &Value, now: Timestamp) -> Cells {
    let shown = match meta::at(object, &["spec", "parentRef"]) {
        None => "<none>".to_owned(),
        Some(parent) => shown_parent(parent),
    };
    vec![meta::name(object).into(), shown.into(), age(object, now)]
}

/// `resource.group/namespace/name`.
fn shown_parent(parent: &Value) -> String {
    let part = |key| meta::text(parent, &[key]);
    let mut shown = part("resource").to_lowercase();
    if !part("group").is_empty() {
        shown = format!("{shown}.{}", part("group").to_lowercase());
    }
    if !part("namespace").is_empty() {
        shown = format!("{shown}/{}", part("namespace"));
    }
    format!("{shown}/{}", part("name"))
}

fn validate_address(object: &Value, errors: &mut Errors) {
    let path = Path::new("spec").child("parentRef");
    let Some(parent) = meta::at(object, &["spec", "parentRef"]) else {
        return errors.required(&path, "");
    };
    let group = meta::text(parent, &["group"]);
    if !group.is_empty() {
        errors.invalid_each(&path.child("group"), group, names::dns_subdomain(group));
    }
    for (key, needed) in [("resource", true), ("name", true), ("namespace", false)] {
        match meta::text(parent, &[key]) {
            "" if needed => errors.required(&path.child(key), ""),
            "" => {}
            text => errors.invalid_each(&path.child(key), text, names::path_segment(text)),
        }
    }
}
