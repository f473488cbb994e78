//! What of a pod Atoll takes and doesn't carry out, told as warnings where the
//! pod, or a template of pods, is written.
//!
//! What is refused at once is in `pod_validate`. Fields whose row ends in
//! [`Then::TurnedAway`] are those for which the node lets the pod fail; a test of
//! `node` holds the two lists together.

use super::KindRef;
use crate::field::Path;
use crate::meta;
use serde_json::Value;

/// Which value of a field is meant.
enum When {
    /// Any but null, "", false, [] and {}.
    Given,
    False,
    Is(&'static str),
    /// A text that is given and none of these.
    Not(&'static [&'static str]),
    /// An object with a member other than these.
    Other(&'static [&'static str]),
}

/// What happens instead.
enum Then {
    TurnedAway,
    This(&'static str),
}

/// A field by its path, in which `[]` stands for each item of a list.
type Row = (&'static str, When, Then);

use Then::{This, TurnedAway};
use When::{False, Given, Is, Not, Other};

const NOT_SPREAD: Then = This("not looked at yet: the pod is placed as if it were not there");
const NO_SELINUX: Then = This("has no effect: the pod's kernel has no SELinux");
const NO_WINDOWS: Then = This("has no effect: pods run on Linux");
const OWN_LOCALHOST: &[&str] = &["", "localhost", "127.0.0.1", "::1", "[::1]"];

const POD: &[Row] = &[
    ("affinity.podAffinity", Given, NOT_SPREAD),
    ("affinity.podAntiAffinity", Given, NOT_SPREAD),
    ("topologySpreadConstraints", Given, NOT_SPREAD),
    ("schedulingGroup", Given, NOT_SPREAD),
    (
        "subdomain",
        Given,
        This("there is no cluster DNS yet to tell the name to others"),
    ),
    ("hostUsers", False, TurnedAway),
    ("resourceClaims", Given, TurnedAway),
    ("resources", Given, TurnedAway),
    ("os.name", Is("windows"), TurnedAway),
    (
        "securityContext.seccompProfile.type",
        Is("Localhost"),
        TurnedAway,
    ),
    (
        "securityContext.appArmorProfile.type",
        Is("Localhost"),
        TurnedAway,
    ),
    ("securityContext.seLinuxOptions", Given, TurnedAway),
    ("securityContext.seLinuxChangePolicy", Given, NO_SELINUX),
    ("securityContext.windowsOptions", Given, NO_WINDOWS),
    ("volumes[]", Other(SOURCES), TurnedAway),
    (
        "volumes[].emptyDir.medium",
        Not(&["", "Memory"]),
        TurnedAway,
    ),
    (
        "volumes[].projected.sources[].clusterTrustBundle",
        Given,
        TurnedAway,
    ),
    (
        "volumes[].projected.sources[].podCertificate",
        Given,
        TurnedAway,
    ),
];

/// What a volume may be.
const SOURCES: &[&str] = &[
    "name",
    "configMap",
    "secret",
    "downwardAPI",
    "projected",
    "emptyDir",
    "image",
];

const CONTAINER: &[Row] = &[
    ("env[].valueFrom.fileKeyRef", Given, TurnedAway),
    (
        "lifecycle.postStart.httpGet.host",
        Not(OWN_LOCALHOST),
        TurnedAway,
    ),
    (
        "lifecycle.preStop.httpGet.host",
        Not(OWN_LOCALHOST),
        TurnedAway,
    ),
    ("livenessProbe.httpGet.host", Not(OWN_LOCALHOST), TurnedAway),
    (
        "livenessProbe.tcpSocket.host",
        Not(OWN_LOCALHOST),
        TurnedAway,
    ),
    (
        "readinessProbe.httpGet.host",
        Not(OWN_LOCALHOST),
        TurnedAway,
    ),
    (
        "readinessProbe.tcpSocket.host",
        Not(OWN_LOCALHOST),
        TurnedAway,
    ),
    ("startupProbe.httpGet.host", Not(OWN_LOCALHOST), TurnedAway),
    (
        "startupProbe.tcpSocket.host",
        Not(OWN_LOCALHOST),
        TurnedAway,
    ),
    (
        "ports[].hostPort",
        Given,
        This("not opened on the node: it only counts where pods are placed"),
    ),
    ("securityContext.seLinuxOptions", Given, TurnedAway),
    (
        "securityContext.seccompProfile.type",
        Is("Localhost"),
        TurnedAway,
    ),
    (
        "securityContext.appArmorProfile.type",
        Is("Localhost"),
        TurnedAway,
    ),
    ("securityContext.windowsOptions", Given, NO_WINDOWS),
    ("volumeDevices", Given, TurnedAway),
    (
        "volumeMounts[].mountPropagation",
        Is("Bidirectional"),
        TurnedAway,
    ),
];

/// What a client is to be warned of that writes `object` over `old`, which is
/// null for a new one: nothing where the pods stay as they were.
pub fn pod_warnings(kind: &KindRef, object: &Value, old: &Value) -> Vec<String> {
    let Some(path) = spec_path(kind) else {
        return Vec::new();
    };
    let spec = |of: &Value| meta::at(of, path).cloned().unwrap_or_default();
    let new = spec(object);
    if new == spec(old) {
        return Vec::new();
    }
    of_spec(&new, &Path::new(&path.join(".")))
}

/// Where a kind says what its pods are.
fn spec_path(kind: &KindRef) -> Option<&'static [&'static str]> {
    Some(match (kind.group(), kind.plural()) {
        ("", "pods") => &["spec"],
        ("", "podtemplates") => &["template", "spec"],
        ("", "replicationcontrollers")
        | ("apps", "daemonsets" | "deployments" | "replicasets" | "statefulsets")
        | ("batch", "jobs") => &["spec", "template", "spec"],
        ("batch", "cronjobs") => &["spec", "jobTemplate", "spec", "template", "spec"],
        _ => return None,
    })
}

fn of_spec(spec: &Value, path: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut look = |of: &Value, rows: &[Row], at: &Path| {
        for (field, when, then) in rows {
            walk(of, field, at, &mut |value, at| {
                found.extend(when.holds(value, at).map(|at| then.said(&at)));
            });
        }
    };
    look(spec, POD, path);
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for (i, container) in meta::list(spec, &[list]).iter().enumerate() {
            let at = path.child(list).index(i);
            look(container, CONTAINER, &at);
        }
    }
    found
}

/// Calls `found` with each value at `field` of `value`, and its path.
fn walk(value: &Value, field: &str, at: &Path, found: &mut dyn FnMut(&Value, &Path)) {
    let (name, rest) = field.split_once('.').unwrap_or((field, ""));
    let items = name.strip_suffix("[]");
    let name = items.unwrap_or(name);
    let Some(value) = value.get(name) else {
        return;
    };
    let at = at.child(name);
    let mut next = |value: &Value, at: &Path| match rest {
        "" => found(value, at),
        rest => walk(value, rest, at, found),
    };
    match items {
        None => next(value, &at),
        Some(_) => {
            for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                next(item, &at.index(i));
            }
        }
    }
}

impl When {
    /// The path to name, where the value is the one that is meant.
    fn holds(&self, value: &Value, at: &Path) -> Option<Path> {
        let text = value.as_str();
        let meant = match self {
            Given => is_given(value),
            False => *value == Value::Bool(false),
            Is(wanted) => text == Some(wanted),
            Not(others) => text.is_some_and(|text| !others.contains(&text)),
            Other(known) => {
                let mut members = value.as_object().into_iter().flatten();
                let other = members.find(|(name, _)| !known.contains(&name.as_str()));
                return other.map(|(name, _)| at.child(name));
            }
        };
        meant.then(|| at.clone())
    }
}

fn is_given(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(set) => *set,
        Value::Number(_) => true,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
    }
}

impl Then {
    fn said(&self, at: &Path) -> String {
        match self {
            TurnedAway => format!("{at}: not supported yet: the node lets the pod fail"),
            This(what) => format!("{at}: {what}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::by_resource;
    use serde_json::json;

    fn warned(group: &str, plural: &str, object: &Value, old: &Value) -> Vec<String> {
        let kind = by_resource(group, "v1", plural).expect("a kind");
        pod_warnings(&kind, object, old)
    }

    #[test]
    fn what_has_no_effect_is_named_with_its_path() {
        let with = |field: &str, value: Value| json!({"containers": [{"name": "a", field: value}]});
        for (spec, path) in [
            (json!({"affinity": {"podAffinity": {}}}), ""),
            (
                json!({"affinity": {"podAntiAffinity": {"x": []}}}),
                "spec.affinity.podAntiAffinity",
            ),
            (
                json!({"topologySpreadConstraints": [{}]}),
                "spec.topologySpreadConstraints",
            ),
            (json!({"hostUsers": true}), ""),
            (json!({"hostUsers": false}), "spec.hostUsers"),
            (
                json!({"volumes": [{"name": "a", "emptyDir": {"medium": "Memory"}},
                    {"name": "b", "hostPath": {"path": "/"}}]}),
                "spec.volumes[1].hostPath",
            ),
            (
                json!({"volumes": [{"name": "a", "image": {"reference": "a:1"}}]}),
                "",
            ),
            (
                json!({"volumes": [{"name": "a", "projected": {"sources": [
                    {"secret": {}}, {"podCertificate": {"keyType": "x"}}]}}]}),
                "spec.volumes[0].projected.sources[1].podCertificate",
            ),
            (
                with("ports", json!([{"containerPort": 1}, {"hostPort": 2}])),
                "spec.containers[0].ports[1].hostPort",
            ),
            (
                with(
                    "securityContext",
                    json!({"appArmorProfile": {"type": "RuntimeDefault"}}),
                ),
                "",
            ),
            (
                with(
                    "livenessProbe",
                    json!({"tcpSocket": {"port": 1, "host": "a"}}),
                ),
                "spec.containers[0].livenessProbe.tcpSocket.host",
            ),
            (with("restartPolicy", json!("Always")), ""),
        ] {
            let found = warned("", "pods", &json!({"spec": spec}), &Value::Null);
            let paths: Vec<&str> = found.iter().filter_map(|w| w.split(": ").next()).collect();
            let wanted: Vec<&str> = Some(path).filter(|p| !p.is_empty()).into_iter().collect();
            assert_eq!(paths, wanted, "{spec}");
        }
    }

    #[test]
    fn templates_are_looked_at_when_they_change() {
        let spec = json!({"template": {"spec": {"subdomain": "s"}}});
        let template = json!({"spec": spec, "replicas": 1});
        let cron = json!({"spec": {"jobTemplate": {"spec": spec}}});
        for (group, plural, object, path) in [
            ("apps", "deployments", &template, "spec.template.spec"),
            ("apps", "replicasets", &template, "spec.template.spec"),
            ("apps", "statefulsets", &template, "spec.template.spec"),
            ("apps", "daemonsets", &template, "spec.template.spec"),
            ("batch", "jobs", &template, "spec.template.spec"),
            (
                "",
                "replicationcontrollers",
                &template,
                "spec.template.spec",
            ),
            (
                "batch",
                "cronjobs",
                &cron,
                "spec.jobTemplate.spec.template.spec",
            ),
            ("", "podtemplates", &spec, "template.spec"),
        ] {
            let wanted =
                format!("{path}.subdomain: there is no cluster DNS yet to tell the name to others");
            assert_eq!(
                warned(group, plural, object, &json!({})),
                [wanted],
                "{plural}"
            );
            let mut scaled = object.clone();
            scaled["replicas"] = json!(2);
            assert!(
                warned(group, plural, &scaled, object).is_empty(),
                "{plural}"
            );
        }
        assert!(warned("", "services", &spec, &Value::Null).is_empty());
    }

    /// Every field that a pod may have, down to what a container mounts, is in
    /// the document that says what happens with it.
    #[test]
    fn every_field_is_documented() {
        let text = include_str!("../../../../docs/pods.md");
        let quoted = text.split('`').skip(1).step_by(2);
        let words = quoted.flat_map(|text| text.split(|c: char| !c.is_ascii_alphanumeric()));
        let words: std::collections::BTreeSet<&str> = words.collect();
        let mut missing = Vec::new();
        for name in [
            "PodSpec",
            "Container",
            "PodSecurityContext",
            "SecurityContext",
            "Lifecycle",
            "Probe",
            "VolumeMount",
        ] {
            let facts = crate::facts::of(&format!("io.k8s.api.core.v1.{name}"));
            for field in &facts.expect("a type").fields {
                if !words.contains(field.name) {
                    missing.push(format!("{name}.{}", field.name));
                }
            }
        }
        assert!(missing.is_empty(), "not in docs/pods.md: {missing:?}");
    }
}
