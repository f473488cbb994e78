//! Quantities, and what they size: QoS class, micro-VM, cgroup limits.

use super::view::{Role, View};
use k8s_openapi::api::core::v1::{Container, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use machine_spec::launch::Limits;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const MIB: u64 = 1 << 20;
/// What the guest's kernel and agent take of a guest's memory: 27 MB were
/// measured with the kernel image, and page tables grow with the guest.
const GUEST_OVERHEAD: u64 = 40 * MIB;
/// What a vmm takes beside its guest's memory, KVM's tables included; also the
/// page cache of the images that it reads, which the kernel may take back.
const VMM_OVERHEAD: u64 = 48 * MIB;
/// vCPU threads apart: the main thread, devices, and some spare.
const VMM_THREADS: u64 = 24;

/// What a machine takes beyond what its containers ask for.
pub(crate) const fn machine_overhead() -> u64 {
    GUEST_OVERHEAD + VMM_OVERHEAD
}

type Amounts = BTreeMap<String, Quantity>;

/// A quantity in thousandths, rounded up; `None` if it is none.
pub(crate) fn milli(quantity: &Quantity) -> Option<u64> {
    scaled(&quantity.0, 1000)
}

/// A quantity in whole units, rounded up; `None` if it is none.
pub(crate) fn units(quantity: &Quantity) -> Option<u64> {
    scaled(&quantity.0, 1)
}

/// `text` times `factor`, rounded up (Kubernetes' serialized quantities).
fn scaled(text: &str, factor: u128) -> Option<u64> {
    let split = text
        .find(|c: char| !c.is_ascii_digit() && c != '.' && c != '+')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let number = number.strip_prefix('+').unwrap_or(number);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || whole.len() + fraction.len() > 24 {
        return None;
    }
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let (multiply, divide) = suffix_scale(suffix)?;
    let fraction = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let above = digits.checked_mul(multiply)?.checked_mul(factor)?;
    u64::try_from(above.div_ceil(divide.checked_mul(fraction)?)).ok()
}

fn suffix_scale(suffix: &str) -> Option<(u128, u128)> {
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (10_u128.pow(12), 1),
        "P" => (10_u128.pow(15), 1),
        "E" => (10_u128.pow(18), 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let exponent = exponent.strip_prefix(['e', 'E'])?.parse::<i32>().ok()?;
            let power = 10_u128.checked_pow(exponent.unsigned_abs())?;
            if exponent < 0 { (1, power) } else { (power, 1) }
        }
    })
}

/// What a pod asks for, as the scheduler counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) cpu_milli: u64,
    pub(crate) memory: u64,
}

impl Amount {
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.saturating_add(other.cpu_milli),
            memory: self.memory.saturating_add(other.memory),
        }
    }

    pub(crate) fn minus(self, other: Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.saturating_sub(other.cpu_milli),
            memory: self.memory.saturating_sub(other.memory),
        }
    }

    fn max(self, other: Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.max(other.cpu_milli),
            memory: self.memory.max(other.memory),
        }
    }
}

/// The most that a pod's containers ask for together: the main ones with all
/// sidecars, or an init container with the sidecars before it (KEP-753).
fn most(view: View<'_>, of: impl Fn(&Container) -> Amount) -> Amount {
    let mut sidecars = Amount::default();
    let mut most = Amount::default();
    let mut sum = Amount::default();
    for (role, container) in view.declared() {
        let own = of(container);
        match role {
            Role::Init => most = most.max(sidecars.plus(own)),
            Role::Sidecar => {
                sidecars = sidecars.plus(own);
                most = most.max(sidecars);
            }
            // The latter asks for nothing.
            Role::Main | Role::Ephemeral => sum = sum.plus(own),
        }
    }
    most.max(sum.plus(sidecars))
}

/// What a pod asks the node for, with the overhead that its class names (KEP-688).
pub(crate) fn requests(view: View<'_>) -> Amount {
    let overhead = view.spec().and_then(|spec| spec.overhead.as_ref());
    let overhead = |name: &str| overhead.and_then(|all| all.get(name));
    let own = Amount {
        cpu_milli: overhead("cpu").and_then(milli).unwrap_or(0),
        memory: overhead("memory").and_then(units).unwrap_or(0),
    };
    most(view, |container| Amount {
        cpu_milli: request(container, "cpu").and_then(milli).unwrap_or(0),
        memory: request(container, "memory").and_then(units).unwrap_or(0),
    })
    .plus(own)
}

fn list(
    container: &Container,
    pick: fn(&ResourceRequirements) -> &Option<Amounts>,
) -> Option<&Amounts> {
    container.resources.as_ref().and_then(|r| pick(r).as_ref())
}

pub(crate) fn limit<'a>(container: &'a Container, name: &str) -> Option<&'a Quantity> {
    list(container, |r| &r.limits)?.get(name)
}

/// A request, or the limit in its place, as upstream defaults it.
pub(crate) fn request<'a>(container: &'a Container, name: &str) -> Option<&'a Quantity> {
    list(container, |r| &r.requests)
        .and_then(|requests| requests.get(name))
        .or_else(|| limit(container, name))
}

/// Guaranteed, Burstable or BestEffort.
pub(crate) fn qos_class(view: View<'_>) -> &'static str {
    let nonzero = |q: Option<&Quantity>| q.and_then(milli).is_some_and(|m| m > 0);
    let mut any = false;
    let mut all_equal = true;
    for (_, container) in view.declared() {
        for name in ["cpu", "memory"] {
            let (limit, request) = (limit(container, name), request(container, name));
            any |= nonzero(limit) || nonzero(request);
            all_equal &= nonzero(limit) && limit.and_then(milli) == request.and_then(milli);
        }
    }
    match (any, all_equal) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// What a pod without limits gets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Defaults {
    pub(crate) memory: u64,
    pub(crate) vcpus: u8,
}

/// The size of a pod's micro-VM, and of the cgroup around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Size {
    pub(crate) vcpus: u8,
    pub(crate) memory_mib: u32,
    /// `memory.max` of the vmm.
    pub(crate) memory_limit: u64,
    pub(crate) cpu_weight: u64,
    pub(crate) pids: u64,
}

impl Size {
    /// Of the vmm's cgroup.
    pub(crate) const fn limits(self) -> Limits {
        Limits {
            memory: self.memory_limit,
            cpu_weight: self.cpu_weight,
            pids: self.pids,
        }
    }
}

/// CPU limits rounded up to vCPUs; memory limits, or requests, or the default
/// for a container without either, and the guest's own overhead on top.
pub(crate) fn size(view: View<'_>, defaults: Defaults) -> Size {
    let of = |container: &Container| {
        let cpu = limit(container, "cpu").or_else(|| request(container, "cpu"));
        let memory = limit(container, "memory").or_else(|| request(container, "memory"));
        Amount {
            cpu_milli: cpu.and_then(milli).unwrap_or(0),
            memory: memory.and_then(units).unwrap_or(0),
        }
    };
    let wanted = most(view, of);
    let lasting = view.declared().filter(|(role, _)| *role != Role::Init);
    let bounded = lasting.map(|(_, c)| of(c)).all(|own| own.memory > 0);
    let base = if bounded {
        wanted.memory.saturating_add(GUEST_OVERHEAD)
    } else {
        let sum = wanted.memory.saturating_add(GUEST_OVERHEAD);
        defaults.memory.max(sum)
    };
    let memory_mib = u32::try_from(base.div_ceil(MIB)).unwrap_or(u32::MAX);
    let memory_mib = memory_mib.clamp(64, 1 << 20);
    let vcpus = u8::try_from(wanted.cpu_milli.div_ceil(1000)).unwrap_or(64);
    let vcpus = vcpus.clamp(defaults.vcpus.max(1), 64);
    let requested = requests(view).cpu_milli;
    Size {
        vcpus,
        memory_mib,
        memory_limit: u64::from(memory_mib) * MIB + VMM_OVERHEAD,
        // 1024 shares of a CPU are a weight of 100, as cgroup v2's default.
        cpu_weight: (requested / 10).clamp(1, 10_000),
        pids: u64::from(vcpus) + VMM_THREADS,
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::pod;
    use super::*;
    use serde_json::json;

    #[test]
    fn quantities_round_up() {
        for (text, factor, value) in [
            ("1", 1000, Some(1000)),
            ("250m", 1000, Some(250)),
            ("0.1", 1000, Some(100)),
            ("1.5Gi", 1, Some(3 << 29)),
            ("128Mi", 1, Some(128 << 20)),
            ("1e3", 1, Some(1000)),
            ("1500m", 1, Some(2)),
            ("100n", 1000, Some(1)),
            ("5E", 1, Some(5_000_000_000_000_000_000)),
            ("", 1, None),
            ("-1", 1, None),
            ("1Xi", 1, None),
            ("99999999999999999999999999", 1, None),
            (".", 1, None),
        ] {
            assert_eq!(scaled(text, factor), value, "{text}");
        }
    }

    #[test]
    fn sidecars_run_beside_what_comes_after_them() {
        let container = |name: &str, cpu: &str| json!({"name": name, "image": "a:1", "resources": {"requests": {"cpu": cpu}}});
        let sidecar = |cpu: &str| {
            let mut sidecar = container("s", cpu);
            sidecar["restartPolicy"] = json!("Always");
            sidecar
        };
        for (inits, cpu_milli) in [
            (json!([]), 2000),
            (json!([sidecar("1")]), 3000),
            (json!([container("i", "4"), sidecar("1")]), 4000),
            (json!([sidecar("1"), container("i", "4")]), 5000),
        ] {
            let mains = [container("a", "1"), container("b", "1")];
            let pod = pod(json!({"initContainers": inits, "containers": mains}));
            assert_eq!(requests(View(&pod)).cpu_milli, cpu_milli, "{inits}");
            let mut classed = pod.as_api().clone();
            let overhead = [("cpu", "250m"), ("memory", "1Mi")];
            let overhead = overhead.map(|(name, q)| (name.to_owned(), Quantity(q.to_owned())));
            classed.spec.as_mut().expect("given").overhead = Some(overhead.into());
            let classed = classed.into();
            let wanted = Amount {
                cpu_milli: cpu_milli + 250,
                memory: 1 << 20,
            };
            assert_eq!(requests(View(&classed)), wanted, "{inits}");
        }
    }

    #[test]
    fn machines_are_sized_by_limits() {
        let defaults = Defaults {
            memory: 128 << 20,
            vcpus: 1,
        };
        for (resources, qos, vcpus, mib) in [
            (json!({}), "BestEffort", 1, 128),
            (
                json!({"limits": {"cpu": "1500m", "memory": "256Mi"}}),
                "Guaranteed",
                2,
                296,
            ),
            (
                json!({"requests": {"cpu": "100m", "memory": "64Mi"}}),
                "Burstable",
                1,
                104,
            ),
            (json!({"limits": {"cpu": "3"}}), "Burstable", 3, 128),
        ] {
            let pod = pod(json!({"containers": [
                {"name": "a", "image": "a:1", "resources": resources}
            ]}));
            let view = View(&pod);
            let size = size(view, defaults);
            assert_eq!(qos_class(view), qos, "{resources}");
            assert_eq!((size.vcpus, size.memory_mib), (vcpus, mib), "{resources}");
        }
    }
}
