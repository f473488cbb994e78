//! Which pods this node turns away: those that it has no room for, and those
//! that ask for what it does not do. Nothing is ignored in silence: a field is
//! carried out, harmless to leave out, or named here.

use super::action::is_own_host;
use super::observed::{Note, Rejection};
use super::resources::{Amount, qos_class, requests};
use super::view::{View, image_of, machine_id, post_start, pre_stop};
use super::{sysctls, volumes};
use crate::eviction::{self, Pressure, is_critical};
use k8s_openapi::api::core::v1::{Container, LifecycleHandler, PodSpec, Probe};

/// The event's and status' reason for fields that are not supported.
pub(crate) const UNSUPPORTED: &str = "UnsupportedField";

/// Upstream's reason for pods of another system than Linux.
const OTHER_SYSTEM: &str = "PodOSNotSupported";

/// Checks a pod that arrives, against what the pods before it leave over.
pub(crate) fn check(
    view: View<'_>,
    used: Amount,
    allocatable: Amount,
    pods: usize,
    max_pods: usize,
) -> Option<Rejection> {
    if machine_id(view.uid()).is_none() {
        return Some(rejection(
            "InvalidPod",
            "metadata.uid is no UUID".to_owned(),
        ));
    }
    if let Some(field) = unsupported(view) {
        return Some(rejection(
            UNSUPPORTED,
            format!("Atoll does not support {field} yet"),
        ));
    }
    if is_of_another_system(view) {
        let message = "Failed to admit pod as the OS field doesn't match node OS";
        return Some(rejection(OTHER_SYSTEM, message.to_owned()));
    }
    if let Some(message) = sysctls::forbidden(view) {
        return Some(rejection(sysctls::FORBIDDEN, message));
    }
    if pods >= max_pods {
        let lack = Lack {
            resource: "pods",
            requested: 1,
            used: pods as u64,
            capacity: max_pods as u64,
        };
        return Some(lack.rejection());
    }
    let wanted = requests(view);
    lack(wanted, used, allocatable).map(Lack::rejection)
}

/// A resource of which there isn't enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lack {
    resource: &'static str,
    requested: u64,
    used: u64,
    capacity: u64,
}

impl Lack {
    pub(crate) fn message(self) -> String {
        let Self {
            resource,
            requested,
            used,
            capacity,
        } = self;
        format!(
            "Node didn't have enough resource: {resource}, requested: {requested}, \
             used: {used}, capacity: {capacity}"
        )
    }

    fn rejection(self) -> Rejection {
        rejection(&format!("OutOf{}", self.resource), self.message())
    }
}

/// What is missing for `wanted`, where `used` is taken already.
pub(crate) fn lack(wanted: Amount, used: Amount, allocatable: Amount) -> Option<Lack> {
    let of = |resource, pick: fn(Amount) -> u64| Lack {
        resource,
        requested: pick(wanted),
        used: pick(used),
        capacity: pick(allocatable),
    };
    let all = [
        of("cpu", |amount| amount.cpu_milli),
        of("memory", |amount| amount.memory),
    ];
    let is_short = |own: &Lack| {
        let sum = own.used.saturating_add(own.requested);
        own.requested > 0 && sum > own.capacity
    };
    all.into_iter().find(is_short)
}

/// Under pressure a node takes no pod but critical ones; under that of memory
/// alone also those that ask for resources, or tolerate its taint.
pub(crate) fn under_pressure(view: View<'_>, pressure: Pressure) -> Option<Rejection> {
    let conditions = pressure.conditions();
    if conditions.is_empty() || is_critical(view) {
        return None;
    }
    let tolerated = qos_class(view) != "BestEffort" || tolerates_memory_pressure(view);
    if conditions == ["MemoryPressure"] && tolerated {
        return None;
    }
    let conditions = conditions.join(" ");
    let message = format!("The node had condition: [{conditions}]. ");
    Some(rejection(eviction::REASON, message))
}

fn tolerates_memory_pressure(view: View<'_>) -> bool {
    let tolerations = view.spec().and_then(|spec| spec.tolerations.as_deref());
    tolerations.unwrap_or_default().iter().any(|toleration| {
        let effect = toleration.effect.as_deref().unwrap_or_default();
        let key = toleration.key.as_deref().unwrap_or_default();
        let exists = toleration.operator.as_deref() == Some("Exists");
        let value = toleration.value.as_deref().unwrap_or_default();
        let key_fits = key == "node.kubernetes.io/memory-pressure" || (key.is_empty() && exists);
        (effect.is_empty() || effect == "NoSchedule") && key_fits && (exists || value.is_empty())
    })
}

/// The Event of a rejection.
pub(crate) fn note(rejection: &Rejection) -> Note {
    let reason = match rejection.reason.as_str() {
        "OutOfcpu" => "OutOfcpu",
        "OutOfmemory" => "OutOfmemory",
        "OutOfpods" => "OutOfpods",
        eviction::REASON => eviction::REASON,
        UNSUPPORTED => UNSUPPORTED,
        sysctls::FORBIDDEN => sysctls::FORBIDDEN,
        OTHER_SYSTEM => OTHER_SYSTEM,
        _ => "Rejected",
    };
    Note::warning(reason, rejection.message.clone())
}

fn rejection(reason: &str, message: String) -> Rejection {
    Rejection {
        reason: reason.to_owned(),
        message,
        ..Rejection::default()
    }
}

fn is_of_another_system(view: View<'_>) -> bool {
    let system = view.spec().and_then(|spec| spec.os.as_ref());
    system.is_some_and(|system| system.name != "linux")
}

/// The first field that is set and not supported, by its path.
pub(crate) fn unsupported(view: View<'_>) -> Option<String> {
    let spec = view.spec()?;
    pod_field(spec)
        .map(|field| format!("spec.{field}"))
        .or_else(|| volumes::unsupported(spec))
        .or_else(|| {
            let inits = spec.init_containers.as_deref().unwrap_or_default();
            container_fields("initContainers", inits)
        })
        .or_else(|| container_fields("containers", &spec.containers))
}

fn pod_field(spec: &PodSpec) -> Option<&'static str> {
    let set = |value: Option<bool>| value == Some(true);
    let security = spec.security_context.as_ref();
    let localhost = security.and_then(|s| s.seccomp_profile.as_ref());
    let armor = security.and_then(|s| s.app_armor_profile.as_ref());
    let checks: [(bool, &'static str); 9] = [
        (set(spec.host_pid), "hostPID"),
        (set(spec.host_ipc), "hostIPC"),
        (set(spec.host_network), "hostNetwork"),
        (spec.host_users == Some(false), "hostUsers"),
        (some(&spec.resource_claims), "resourceClaims"),
        (spec.resources.is_some(), "resources"),
        (
            localhost.is_some_and(|profile| profile.type_ == "Localhost"),
            "securityContext.seccompProfile (Localhost)",
        ),
        (
            armor.is_some_and(|profile| profile.type_ == "Localhost"),
            "securityContext.appArmorProfile (Localhost)",
        ),
        (
            security.is_some_and(|s| s.se_linux_options.is_some()),
            "securityContext.seLinuxOptions",
        ),
    ];
    checks
        .into_iter()
        .find(|(bad, _)| *bad)
        .map(|(_, field)| field)
}

fn some<T>(list: &Option<Vec<T>>) -> bool {
    list.as_ref().is_some_and(|list| !list.is_empty())
}

fn container_fields(list: &str, containers: &[Container]) -> Option<String> {
    containers
        .iter()
        .enumerate()
        .find_map(|(index, container)| {
            container_field(container).map(|field| format!("spec.{list}[{index}].{field}"))
        })
}

pub(crate) fn container_field(container: &Container) -> Option<&'static str> {
    let security = container.security_context.as_ref();
    let files = container.env.iter().flatten().any(|variable| {
        let source = variable.value_from.as_ref();
        source.is_some_and(|source| source.file_key_ref.is_some())
    });
    let seccomp = security.and_then(|s| s.seccomp_profile.as_ref());
    let armor = security.and_then(|s| s.app_armor_profile.as_ref());
    let checks: [(bool, &'static str); 6] = [
        (
            seccomp.is_some_and(|profile| profile.type_ == "Localhost"),
            "securityContext.seccompProfile (Localhost)",
        ),
        (
            armor.is_some_and(|profile| profile.type_ == "Localhost"),
            "securityContext.appArmorProfile (Localhost)",
        ),
        (
            security.is_some_and(|s| s.se_linux_options.is_some()),
            "securityContext.seLinuxOptions",
        ),
        (image_of(container).is_empty(), "image (empty)"),
        (some(&container.volume_devices), "volumeDevices"),
        (files, "env[].valueFrom.fileKeyRef"),
    ];
    checks
        .into_iter()
        .find(|(bad, _)| *bad)
        .map(|(_, field)| field)
        .or_else(|| other_host(container))
        .or_else(|| volumes::unsupported_mount(container))
}

/// Probes and hooks reach the pod itself, through its guest.
fn other_host(container: &Container) -> Option<&'static str> {
    let probe = |probe: &Option<Probe>| {
        let probe = probe.as_ref()?;
        let http = probe.http_get.as_ref().and_then(|http| http.host.clone());
        http.or_else(|| probe.tcp_socket.as_ref()?.host.clone())
    };
    let hook = |hook: Option<&LifecycleHandler>| hook?.http_get.as_ref()?.host.clone();
    let hosts = [
        (
            probe(&container.startup_probe),
            "startupProbe's host (other than the pod's)",
        ),
        (
            probe(&container.readiness_probe),
            "readinessProbe's host (other than the pod's)",
        ),
        (
            probe(&container.liveness_probe),
            "livenessProbe's host (other than the pod's)",
        ),
        (
            hook(post_start(container)),
            "lifecycle.postStart.httpGet.host (other than the pod's)",
        ),
        (
            hook(pre_stop(container)),
            "lifecycle.preStop.httpGet.host (other than the pod's)",
        ),
    ];
    let other = |host: &Option<String>| !is_own_host(host.as_deref());
    let found = hosts.into_iter().find(|(host, _)| other(host));
    found.map(|(_, field)| field)
}

#[cfg(test)]
mod tests {
    use super::super::samples::pod;
    use super::*;
    use serde_json::{Value, json};

    fn refused(spec: Value) -> Option<(String, String)> {
        let pod = pod(spec);
        let all = Amount {
            cpu_milli: 2000,
            memory: 1 << 30,
        };
        let used = Amount {
            cpu_milli: 1000,
            memory: 1 << 29,
        };
        check(View(&pod), used, all, 3, 10).map(|r| (r.reason, r.message))
    }

    fn with(container: Value) -> Value {
        let mut full = json!({"name": "a", "image": "a:1"});
        for (key, value) in container.as_object().expect("an object") {
            full[key] = value.clone();
        }
        json!({"containers": [full]})
    }

    /// Specs that are refused, with the field that is named.
    fn unsupported_specs() -> Vec<(Value, &'static str)> {
        let of = |field: &str, value: Value| json!({"containers": [], field: value});
        let volume = |source: Value| of("volumes", json!([source]));
        let mut all: Vec<(Value, &'static str)> = [
            ("hostPID", json!(true), "hostPID"),
            ("hostNetwork", json!(true), "hostNetwork"),
            ("hostUsers", json!(false), "hostUsers"),
            ("resourceClaims", json!([{"name": "c"}]), "resourceClaims"),
            ("resources", json!({"limits": {"cpu": "1"}}), "resources"),
        ]
        .map(|(field, value, named)| (of(field, value), named))
        .into();
        for (context, named) in [
            (
                json!({"seccompProfile": {"type": "Localhost"}}),
                "securityContext.seccompProfile (Localhost)",
            ),
            (
                json!({"appArmorProfile": {"type": "Localhost"}}),
                "securityContext.appArmorProfile (Localhost)",
            ),
            (
                json!({"seLinuxOptions": {"level": "s0"}}),
                "securityContext.seLinuxOptions",
            ),
        ] {
            all.push((of("securityContext", context.clone()), named));
            all.push((with(json!({"securityContext": context})), named));
        }
        all.extend(unsupported_containers());
        for (source, named) in [
            (
                json!({"name": "v", "emptyDir": {"medium": "HugePages"}}),
                "volumes[0].emptyDir.medium (HugePages)",
            ),
            (
                json!({"name": "v", "hostPath": {"path": "/etc"}}),
                "volumes[0].hostPath",
            ),
            (
                json!({"name": "v", "projected": {"sources": [{"clusterTrustBundle": {"path": "p"}}]}}),
                "volumes[0].projected.sources[0].clusterTrustBundle",
            ),
        ] {
            all.push((volume(source), named));
        }
        all
    }

    fn unsupported_containers() -> Vec<(Value, &'static str)> {
        let host = json!({"port": 1, "host": "a.test"});
        [
            (
                json!({"livenessProbe": {"tcpSocket": host}}),
                "livenessProbe's host (other than the pod's)",
            ),
            (
                json!({"readinessProbe": {"httpGet": host}}),
                "readinessProbe's host (other than the pod's)",
            ),
            (
                json!({"startupProbe": {"httpGet": host}}),
                "startupProbe's host (other than the pod's)",
            ),
            (
                json!({"lifecycle": {"postStart": {"httpGet": host}}}),
                "lifecycle.postStart.httpGet.host (other than the pod's)",
            ),
            (
                json!({"lifecycle": {"preStop": {"httpGet": host}}}),
                "lifecycle.preStop.httpGet.host (other than the pod's)",
            ),
            (
                json!({"volumeDevices": [{"name": "d", "devicePath": "/d"}]}),
                "volumeDevices",
            ),
            (
                json!({"env": [{"name": "A", "valueFrom": {"fileKeyRef": {"key": "k",
                    "path": "p", "volumeName": "v"}}}]}),
                "env[].valueFrom.fileKeyRef",
            ),
            (
                json!({"volumeMounts": [{"name": "v", "mountPath": "/v",
                    "mountPropagation": "Bidirectional"}]}),
                "volumeMounts[].mountPropagation (Bidirectional)",
            ),
        ]
        .map(|(container, named)| (with(container), named))
        .into()
    }

    #[test]
    fn what_is_not_supported_is_named() {
        for (spec, field) in unsupported_specs() {
            let container = spec["containers"] != json!([]);
            let list = if container { "containers[0]." } else { "" };
            let message = format!("Atoll does not support spec.{list}{field} yet");
            assert_eq!(refused(spec), Some((UNSUPPORTED.to_owned(), message)));
        }
        assert_eq!(refused(with(json!({}))), None);
        let (reason, _) =
            refused(json!({"containers": [], "os": {"name": "windows"}})).expect("another system");
        assert_eq!(reason, OTHER_SYSTEM);
    }

    /// The API server refuses it or says so to who writes it.
    #[test]
    fn what_is_not_supported_is_told_at_once() {
        let pods = api::kinds::by_resource("", "v1", "pods").expect("a kind");
        for (spec, field) in unsupported_specs() {
            if ["hostPID", "hostNetwork"].contains(&field) {
                continue;
            }
            let warnings = api::kinds::pod_warnings(&pods, &json!({"spec": spec}), &Value::Null);
            let told = |w: &String| w.contains(": not supported yet: the node lets the pod fail");
            assert!(warnings.iter().any(told), "{field}: {warnings:?}");
        }
    }

    #[test]
    fn pressure_turns_pods_away() {
        let memory = Pressure {
            memory: true,
            ..Pressure::default()
        };
        let both = Pressure {
            disk: true,
            ..memory
        };
        let burstable = json!({"resources": {"requests": {"memory": "1Mi"}}});
        let tolerant = json!([{"key": "node.kubernetes.io/memory-pressure", "operator": "Exists"}]);
        for (spec, pressure, conditions) in [
            (with(json!({})), Pressure::default(), None),
            (with(json!({})), memory, Some("MemoryPressure")),
            (with(burstable.clone()), memory, None),
            (with(burstable), both, Some("MemoryPressure DiskPressure")),
            (
                json!({"tolerations": tolerant, "containers": []}),
                memory,
                None,
            ),
            (
                json!({"priority": 2_000_000_000, "containers": []}),
                both,
                None,
            ),
        ] {
            let pod = pod(spec);
            let found = under_pressure(View(&pod), pressure);
            let wanted = conditions.map(|names| format!("The node had condition: [{names}]. "));
            assert_eq!(found.map(|found| found.message), wanted);
        }
    }

    #[test]
    fn room_is_counted() {
        let ask = |cpu: &str, memory: &str| {
            with(json!({"resources": {"requests": {"cpu": cpu, "memory": memory}}}))
        };
        for (spec, reason) in [
            (ask("1", "512Mi"), None),
            (ask("1001m", "1Mi"), Some("OutOfcpu")),
            (ask("1m", "513Mi"), Some("OutOfmemory")),
        ] {
            assert_eq!(refused(spec).map(|(reason, _)| reason).as_deref(), reason);
        }
    }
}
