//! APIService (apiregistration.k8s.io): who serves a group-version.

use super::{Kind, Subresource, strategy};
use crate::field::{Errors, Path};
use crate::print::{AGE, Cells, Column, NAME, age, text};
use crate::{meta, names};
use jiff::Timestamp;
use serde_json::{Value, json};

pub(super) static API_SERVICE: Kind = Kind {
    group: "apiregistration.k8s.io",
    kind: "APIService",
    plural: "apiservices",
    singular: "apiservice",
    categories: &["api-extensions"],
    namespaced: false,
    type_name: "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIService",
    storage: "apiregistration.k8s.io/apiservices",
    subresources: &[Subresource::Status],
    name: names::path_segment,
    columns: COLUMNS,
    cells,
    default,
    validate,
    validate_status: |new, _, errors| validate_conditions(new, errors),
    prepare_create,
    prepare_update: strategy::keep_status,
    ..Kind::BASE
};

const COLUMNS: &[Column] = &[
    NAME,
    text("Service", 0, "The Service that serves it, or Local."),
    text("Available", 0, "Whether it is served."),
    AGE,
];

fn cells(object: &Value, now: Timestamp) -> Cells {
    let service = match meta::at(object, &["spec", "service"]) {
        None => "Local".to_owned(),
        Some(of) => format!(
            "{}/{}",
            meta::text(of, &["namespace"]),
            meta::text(of, &["name"])
        ),
    };
    let available = meta::list(object, &["status", "conditions"])
        .iter()
        .find(|c| meta::text(c, &["type"]) == "Available");
    let available = match available {
        None => "Unknown".to_owned(),
        Some(c) if meta::text(c, &["status"]) == "True" => "True".to_owned(),
        Some(c) if meta::text(c, &["reason"]).is_empty() => meta::text(c, &["status"]).to_owned(),
        Some(c) => format!(
            "{} ({})",
            meta::text(c, &["status"]),
            meta::text(c, &["reason"])
        ),
    };
    vec![
        meta::name(object).into(),
        service.into(),
        available.into(),
        age(object, now),
    ]
}

fn default(object: &mut Value) {
    meta::ensure(object, "status");
    let spec = meta::ensure(object, "spec");
    if let Some(service) = spec.get_mut("service").and_then(Value::as_object_mut) {
        meta::default(service, "port", 443);
    }
}

/// What this server serves itself is there at once.
fn prepare_create(object: &mut Value) {
    strategy::drop_status(object);
    if meta::at(object, &["spec", "service"]).is_none() {
        let since = meta::at(object, &["metadata", "creationTimestamp"]).cloned();
        object["status"] = json!({"conditions": [{
            "type": "Available", "status": "True", "lastTransitionTime": since,
            "reason": "Local", "message": "Local APIServices are always available",
        }]});
    }
}

fn validate(object: &Value, errors: &mut Errors) {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let (group, version) = (meta::text(spec, &["group"]), meta::text(spec, &["version"]));
    let wanted = format!("{version}.{group}");
    if meta::name(object) != wanted {
        let why = format!("must be `spec.version+\".\"+spec.group`: {wanted:?}");
        errors.invalid(
            &Path::new("metadata").child("name"),
            meta::name(object),
            why,
        );
    }
    let at = path.child("group");
    if group.is_empty() && version != "v1" {
        let why = "only v1 may have an empty group and it better be legacy kube";
        errors.required(&at, why);
    }
    if !group.is_empty() {
        errors.invalid_each(&at, group, names::dns_subdomain(group));
    }
    errors.invalid_each(
        &path.child("version"),
        version,
        names::dns1035_label(version),
    );
    for (key, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
        let n = meta::int(spec, &[key]).unwrap_or(0);
        if !(1..=most).contains(&n) {
            let why = format!("must be positive and less than {most}");
            errors.invalid(&path.child(key), n, why);
        }
    }
    validate_service(spec, &path, errors);
}

fn validate_service(spec: &Value, path: &Path, errors: &mut Errors) {
    let bundle = meta::text(spec, &["caBundle"]);
    let insecure = meta::flag(spec, &["insecureSkipTLSVerify"]);
    let Some(service) = spec.get("service") else {
        if !bundle.is_empty() {
            let shown = format!("{} bytes", bundle.len() / 4 * 3);
            let why = "local APIServices may not have a caBundle";
            errors.invalid(&path.child("caBundle"), shown, why);
        }
        if insecure {
            let why = "local APIServices may not have insecureSkipTLSVerify";
            errors.invalid(&path.child("insecureSkipTLSVerify"), true, why);
        }
        return;
    };
    let at = path.child("service");
    for key in ["namespace", "name"] {
        if meta::text(service, &[key]).is_empty() {
            errors.required(&at.child(key), "");
        }
    }
    let port = meta::int(service, &["port"]).unwrap_or(0);
    let wrong = names::port_number(port);
    if !wrong.is_empty() {
        let why = format!("port is not valid: {}", wrong.join(", "));
        errors.invalid(&at.child("port"), port, why);
    }
    if insecure && !bundle.is_empty() {
        let why = "may not be true if caBundle is present";
        errors.invalid(&path.child("insecureSkipTLSVerify"), true, why);
    }
}

fn validate_conditions(object: &Value, errors: &mut Errors) {
    const STATUSES: &[&str] = &["True", "False", "Unknown"];
    let path = Path::new("status").child("conditions");
    for (i, condition) in meta::list(object, &["status", "conditions"])
        .iter()
        .enumerate()
    {
        let status = meta::text(condition, &["status"]);
        if !STATUSES.contains(&status) {
            errors.not_supported(&path.index(i).child("status"), status, STATUSES);
        }
    }
}

/// Group, its priority, version, its priority: of what this server serves
/// (`kube-apiserver`'s `apiVersionPriorities`).
const LOCAL: &[(&str, i64, &str, i64)] = &[
    ("", 18_000, "v1", 1),
    ("events.k8s.io", 17_750, "v1", 15),
    ("authentication.k8s.io", 17_700, "v1", 15),
    ("authorization.k8s.io", 17_600, "v1", 15),
    ("apps", 17_800, "v1", 15),
    ("autoscaling", 17_500, "v2", 30),
    ("autoscaling", 17_500, "v1", 15),
    ("batch", 17_400, "v1", 15),
    ("certificates.k8s.io", 17_300, "v1", 15),
    ("networking.k8s.io", 17_200, "v1", 15),
    ("policy", 17_100, "v1", 15),
    ("rbac.authorization.k8s.io", 17_000, "v1", 15),
    ("storage.k8s.io", 16_800, "v1", 15),
    ("apiextensions.k8s.io", 16_700, "v1", 15),
    ("admissionregistration.k8s.io", 16_700, "v1", 15),
    ("scheduling.k8s.io", 16_600, "v1", 15),
    ("coordination.k8s.io", 16_500, "v1", 15),
    ("node.k8s.io", 16_300, "v1", 15),
    ("discovery.k8s.io", 16_200, "v1", 15),
    ("flowcontrol.apiserver.k8s.io", 16_100, "v1", 21),
    // As metrics-server registers it.
    ("metrics.k8s.io", 100, "v1beta1", 100),
];

/// What CustomResourceDefinitions bring.
const CUSTOM: (i64, i64) = (1000, 100);

/// The group's place in discovery, and the version's in its group.
pub(super) fn priority(group: &str, version: &str) -> (i64, i64) {
    if group == API_SERVICE.group {
        return (20_000, 100);
    }
    LOCAL
        .iter()
        .find(|(g, _, v, _)| *g == group && *v == version)
        .map_or(CUSTOM, |(_, group, _, version)| (*group, *version))
}

/// The object of a group-version that this server serves itself.
pub(super) fn local(group: &str, version: &str) -> Value {
    let (minimum, priority) = priority(group, version);
    json!({
        "kind": "APIService", "apiVersion": "apiregistration.k8s.io/v1",
        "metadata": {
            "name": format!("{version}.{group}"),
            "labels": {"kube-aggregator.kubernetes.io/automanaged": "onstart"},
        },
        "spec": {"group": group, "version": version,
            "groupPriorityMinimum": minimum, "versionPriority": priority},
    })
}
