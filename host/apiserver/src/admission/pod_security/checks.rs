//! The checks of pods, each with the versions that have it
//! (`pod-security-admission/policy`): baseline's come first, then restricted's,
//! each in the order of upstream's ids and in its words. A check of restricted
//! may stand in for one of baseline.

use super::levels::{Asked, Level, Version};
use api::meta;
use serde_json::Value;
use std::collections::BTreeSet;

/// Reason and detail of what breaks a check.
type Found = Option<(&'static str, String)>;

struct Check {
    level: Level,
    /// The first minor version that has it.
    since: u32,
    /// From which version restricted has another in its place.
    replaced: u32,
    find: fn(&Pod<'_>) -> Found,
}

const NEVER: u32 = u32::MAX;

const fn baseline(since: u32, replaced: u32, find: fn(&Pod<'_>) -> Found) -> Check {
    Check {
        level: Level::Baseline,
        since,
        replaced,
        find,
    }
}

const fn restricted(since: u32, find: fn(&Pod<'_>) -> Found) -> Check {
    Check {
        level: Level::Restricted,
        since,
        replaced: NEVER,
        find,
    }
}

const CHECKS: &[Check] = &[
    baseline(0, NEVER, app_armor),
    baseline(0, 22, default_capabilities),
    baseline(0, NEVER, host_namespaces),
    baseline(0, 0, host_paths),
    baseline(0, NEVER, host_ports),
    baseline(34, NEVER, host_probes),
    baseline(0, NEVER, privileged),
    baseline(0, 35, |pod| match pod.is_relaxed() {
        true => None,
        false => proc_mount(pod),
    }),
    baseline(0, NEVER, se_linux),
    baseline(0, 19, |pod| match pod.minor {
        ..19 => seccomp_annotations(pod),
        _ => unconfined(pod),
    }),
    baseline(0, NEVER, sysctls),
    baseline(0, NEVER, host_process),
    restricted(8, |pod| pod.unless_windows(escalation)),
    restricted(22, |pod| pod.unless_windows(unrestricted_capabilities)),
    restricted(35, proc_mount),
    restricted(0, volumes),
    restricted(0, |pod| match pod.is_relaxed() {
        true => None,
        false => non_root(pod),
    }),
    restricted(23, |pod| match pod.is_relaxed() {
        true => None,
        false => root_user(pod),
    }),
    restricted(19, |pod| pod.unless_windows(seccomp)),
];

/// What breaks a level, one entry for each check that fails.
pub(super) fn violations(pod: &Value, asked: Asked) -> Vec<String> {
    let minor = match asked.version {
        Version::Minor(minor) => minor,
        Version::Latest => NEVER - 1,
    };
    let pod = Pod { pod, minor };
    let is_due = |check: &&Check| {
        let replaced = asked.level == Level::Restricted && minor >= check.replaced;
        check.level <= asked.level && minor >= check.since && !replaced
    };
    let due = CHECKS.iter().filter(is_due);
    due.filter_map(|check| (check.find)(&pod))
        .map(|(reason, detail)| format!("{reason} ({detail})"))
        .collect()
}

/// A pod as checks of one version see it.
struct Pod<'a> {
    pod: &'a Value,
    minor: u32,
}

impl<'a> Pod<'a> {
    fn spec(&self) -> &'a Value {
        &self.pod["spec"]
    }

    fn containers(&self) -> impl Iterator<Item = &'a Value> + 'a {
        let spec = self.spec();
        ["initContainers", "containers", "ephemeralContainers"]
            .into_iter()
            .flat_map(move |part| meta::list(spec, &[part]))
    }

    /// The names of the containers that `is` true of.
    fn those(&self, is: impl Fn(&Value) -> bool) -> Vec<String> {
        let those = self.containers().filter(|c| is(c));
        those.map(|c| meta::text(c, &["name"]).to_owned()).collect()
    }

    fn annotations(&self) -> impl Iterator<Item = (&'a str, &'a str)> + 'a {
        let all = meta::members(self.pod, &["metadata", "annotations"]);
        all.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
    }

    /// Whether what is root within is nobody outside (KEP-127).
    fn is_relaxed(&self) -> bool {
        self.minor >= 35 && self.spec()["hostUsers"] == false
    }

    /// A pod for Windows can't even set what some checks want.
    fn unless_windows(&self, find: fn(&Pod<'_>) -> Found) -> Found {
        match self.minor >= 25 && meta::text(self.spec(), &["os", "name"]) == "windows" {
            true => None,
            false => find(self),
        }
    }

    /// Whether the pod itself or containers of it are so.
    fn set_by(&self, is: impl Fn(&Value) -> bool) -> Option<String> {
        let containers = self.those(&is);
        let mut out = Vec::new();
        if is(self.spec()) {
            out.push("pod".to_owned());
        }
        if !containers.is_empty() {
            out.push(listed(&containers));
        }
        (!out.is_empty()).then(|| out.join(" and "))
    }

    /// What the pod and its containers have at a path of their contexts.
    fn texts(&self, path: &[&str]) -> BTreeSet<String> {
        let all = self.containers().chain([self.spec()]);
        let texts = all.map(|of| meta::text(&of["securityContext"], path).to_owned());
        texts.filter(|text| !text.is_empty()).collect()
    }
}

fn quoted<'b>(list: impl IntoIterator<Item = &'b String>) -> String {
    let all: Vec<String> = list.into_iter().map(|s| format!("\"{s}\"")).collect();
    all.join(", ")
}

fn plural(word: &str, n: usize) -> String {
    match n {
        1 => word.to_owned(),
        _ => format!("{word}s"),
    }
}

/// `container "a"`, `containers "a", "b"`.
fn listed(containers: &[String]) -> String {
    let word = plural("container", containers.len());
    format!("{word} {}", quoted(containers))
}

/// What containers must or must not do.
fn those(reason: &'static str, containers: &[String], must: &str) -> Found {
    let found = !containers.is_empty();
    found.then(|| (reason, format!("{} {must}", listed(containers))))
}

fn app_armor(pod: &Pod<'_>) -> Found {
    const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
    let is_bad = |text: &str| !text.is_empty() && !matches!(text, "RuntimeDefault" | "Localhost");
    let path = ["appArmorProfile", "type"];
    let setters = pod.set_by(|of| is_bad(meta::text(&of["securityContext"], &path)));
    let mut values: Vec<String> = pod.texts(&path).into_iter().filter(|t| is_bad(t)).collect();
    let annotated = pod.annotations().filter(|(key, value)| {
        let allowed = value.is_empty() || *value == "runtime/default";
        key.starts_with(ANNOTATION) && !allowed && !value.starts_with("localhost/")
    });
    let mut annotated: Vec<String> = annotated.map(|(k, v)| format!("{k}={v:?}")).collect();
    annotated.sort();
    let of_annotations = (!annotated.is_empty()).then(|| plural("annotation", annotated.len()));
    values.append(&mut annotated);
    let setters: Vec<String> = setters.into_iter().chain(of_annotations).collect();
    let reason = match values.len() {
        0 => return None,
        1 => "forbidden AppArmor profile",
        _ => "forbidden AppArmor profiles",
    };
    let detail = format!(
        "{} must not set AppArmor profile type to {}",
        setters.join(" and "),
        quoted(&values)
    );
    Some((reason, detail))
}

fn capabilities(container: &Value, key: &str) -> Vec<String> {
    let list = meta::list(container, &["securityContext", "capabilities", key]);
    let list = list.iter().filter_map(Value::as_str);
    list.map(str::to_owned).collect()
}

/// Containers that add what isn't allowed, and what that is.
fn adding(pod: &Pod<'_>, allowed: &[&str]) -> (Vec<String>, BTreeSet<String>) {
    let added = |c: &Value| -> Vec<String> {
        let all = capabilities(c, "add").into_iter();
        all.filter(|cap| !allowed.contains(&cap.as_str())).collect()
    };
    let all = pod.containers().flat_map(added).collect();
    (pod.those(|c| !added(c).is_empty()), all)
}

fn default_capabilities(pod: &Pod<'_>) -> Found {
    const ALLOWED: &[&str] = &[
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ];
    let (bad, all) = adding(pod, ALLOWED);
    let must = format!(
        "must not include {} in securityContext.capabilities.add",
        quoted(&all)
    );
    those("non-default capabilities", &bad, &must)
}

fn unrestricted_capabilities(pod: &Pod<'_>) -> Found {
    let keeps = |c: &Value| !capabilities(c, "drop").iter().any(|cap| cap == "ALL");
    let keeping = pod.those(keeps);
    let (adding, all) = adding(pod, &["NET_BIND_SERVICE"]);
    let mut why = Vec::new();
    if !keeping.is_empty() {
        why.push(format!(
            "{} must set securityContext.capabilities.drop=[\"ALL\"]",
            listed(&keeping)
        ));
    }
    if !adding.is_empty() {
        why.push(format!(
            "{} must not include {} in securityContext.capabilities.add",
            listed(&adding),
            quoted(&all)
        ));
    }
    (!why.is_empty()).then(|| ("unrestricted capabilities", why.join("; ")))
}

fn host_namespaces(pod: &Pod<'_>) -> Found {
    let keys = ["hostNetwork", "hostPID", "hostIPC"].into_iter();
    let shared = keys.filter(|key| meta::flag(pod.spec(), &[key]));
    let shared: Vec<String> = shared.map(|key| format!("{key}=true")).collect();
    (!shared.is_empty()).then(|| ("host namespaces", shared.join(", ")))
}

fn host_paths(pod: &Pod<'_>) -> Found {
    let volumes = meta::list(pod.spec(), &["volumes"]).iter();
    let paths = volumes.filter(|v| v.get("hostPath").is_some());
    let paths: Vec<String> = paths.map(|v| meta::text(v, &["name"]).to_owned()).collect();
    (!paths.is_empty()).then(|| {
        let word = plural("volume", paths.len());
        ("hostPath volumes", format!("{word} {}", quoted(&paths)))
    })
}

fn host_ports(pod: &Pod<'_>) -> Found {
    let ports = |c: &Value| -> Vec<String> {
        let of = meta::list(c, &["ports"]).iter();
        let of = of.filter_map(|p| meta::int(p, &["hostPort"]));
        of.filter(|p| *p != 0).map(|p| p.to_string()).collect()
    };
    let bad = pod.those(|c| !ports(c).is_empty());
    // In the order of their texts, as upstream.
    let all: BTreeSet<String> = pod.containers().flat_map(ports).collect();
    let uses = if bad.len() == 1 { "uses" } else { "use" };
    let word = plural("hostPort", all.len());
    let all: Vec<String> = all.into_iter().collect();
    those(
        "hostPort",
        &bad,
        &format!("{uses} {word} {}", all.join(", ")),
    )
}

fn host_probes(pod: &Pod<'_>) -> Found {
    let hosts = |c: &Value| -> Vec<String> {
        let handlers = [
            &c["livenessProbe"],
            &c["readinessProbe"],
            &c["startupProbe"],
            &c["lifecycle"]["postStart"],
            &c["lifecycle"]["preStop"],
        ];
        let hosts = handlers.into_iter().flat_map(|of| {
            ["httpGet", "tcpSocket"].map(|how| meta::text(of, &[how, "host"]).to_owned())
        });
        hosts.filter(|host| !host.is_empty()).collect()
    };
    let mut bad = pod.those(|c| !hosts(c).is_empty());
    bad.sort();
    bad.dedup();
    let all: BTreeSet<String> = pod.containers().flat_map(hosts).collect();
    let uses = if bad.len() == 1 { "uses" } else { "use" };
    let word = plural("probe or lifecycle host", all.len());
    let must = format!("{uses} {word} {}", quoted(&all));
    those("probe or lifecycle host", &bad, &must)
}

fn privileged(pod: &Pod<'_>) -> Found {
    let bad = pod.those(|c| meta::flag(c, &["securityContext", "privileged"]));
    those(
        "privileged",
        &bad,
        "must not set securityContext.privileged=true",
    )
}

fn proc_mount(pod: &Pod<'_>) -> Found {
    let mount = |c: &Value| meta::text(c, &["securityContext", "procMount"]).to_owned();
    let is_bad = |text: &str| !matches!(text, "" | "Default");
    let bad = pod.those(|c| is_bad(&mount(c)));
    let all = pod.containers().map(mount).filter(|text| is_bad(text));
    let all: BTreeSet<String> = all.collect();
    let must = format!("must not set securityContext.procMount to {}", quoted(&all));
    those("procMount", &bad, &must)
}

fn se_linux(pod: &Pod<'_>) -> Found {
    let allowed = |text: &str| match text {
        "" | "container_t" | "container_init_t" | "container_kvm_t" => true,
        "container_engine_t" => pod.minor >= 31,
        _ => false,
    };
    let path = |key| ["seLinuxOptions", key];
    let setters = pod.set_by(|of| {
        let text = |key| meta::text(&of["securityContext"], &path(key));
        !allowed(text("type")) || !text("user").is_empty() || !text("role").is_empty()
    })?;
    let types = pod.texts(&path("type"));
    let types: Vec<String> = types.into_iter().filter(|text| !allowed(text)).collect();
    let mut bad = Vec::new();
    if !types.is_empty() {
        bad.push(format!(
            "{} {}",
            plural("type", types.len()),
            quoted(&types)
        ));
    }
    for key in ["user", "role"] {
        if !pod.texts(&path(key)).is_empty() {
            bad.push(format!("{key} may not be set"));
        }
    }
    let detail = format!(
        "{setters} set forbidden securityContext.seLinuxOptions: {}",
        bad.join("; ")
    );
    Some(("seLinuxOptions", detail))
}

/// Before there was a field for it.
fn seccomp_annotations(pod: &Pod<'_>) -> Found {
    const OF_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
    let mut keys = vec![OF_POD.to_owned()];
    let containers = pod.those(|_| true).into_iter();
    keys.extend(containers.map(|c| format!("container.seccomp.security.alpha.kubernetes.io/{c}")));
    let forbidden = pod.annotations().filter(|(key, value)| {
        let allowed = matches!(*value, "runtime/default" | "docker/default");
        keys.iter().any(|k| k == key) && !allowed && !value.starts_with("localhost/")
    });
    let forbidden: BTreeSet<String> = forbidden.map(|(k, v)| format!("{k}={v:?}")).collect();
    let forbidden: Vec<String> = forbidden.into_iter().collect();
    (!forbidden.is_empty()).then(|| {
        let word = plural("annotation", forbidden.len());
        let detail = format!("forbidden {word} {}", forbidden.join(", "));
        ("seccompProfile", detail)
    })
}

const SECCOMP: &[&str] = &["seccompProfile", "type"];

fn is_confined(text: &str) -> bool {
    matches!(text, "RuntimeDefault" | "Localhost")
}

fn seccomp_of(of: &Value) -> &str {
    meta::text(&of["securityContext"], SECCOMP)
}

fn unconfined(pod: &Pod<'_>) -> Found {
    let is_bad = |text: &str| !text.is_empty() && !is_confined(text);
    let setters = pod.set_by(|of| is_bad(seccomp_of(of)))?;
    let all = pod.texts(SECCOMP).into_iter().filter(|text| is_bad(text));
    let all: Vec<String> = all.collect();
    let detail = format!(
        "{setters} must not set securityContext.seccompProfile.type to {}",
        quoted(&all)
    );
    Some(("seccompProfile", detail))
}

fn seccomp(pod: &Pod<'_>) -> Found {
    if let Some(found) = unconfined(pod) {
        return Some(found);
    }
    if is_confined(seccomp_of(pod.spec())) {
        return None;
    }
    let unset = pod.those(|c| seccomp_of(c).is_empty());
    let must =
        "must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"";
    pod_or("seccompProfile", &unset, must)
}

/// What the pod must do, or these containers of it.
fn pod_or(reason: &'static str, containers: &[String], must: &str) -> Found {
    let found = those(reason, containers, must)?;
    Some((found.0, format!("pod or {}", found.1)))
}

fn sysctls(pod: &Pod<'_>) -> Found {
    let allowed = |name: &str| match name {
        "kernel.shm_rmid_forced"
        | "net.ipv4.ip_local_port_range"
        | "net.ipv4.ip_unprivileged_port_start"
        | "net.ipv4.ping_group_range"
        | "net.ipv4.tcp_syncookies" => true,
        "net.ipv4.ip_local_reserved_ports" => pod.minor >= 27,
        "net.ipv4.tcp_fin_timeout"
        | "net.ipv4.tcp_keepalive_intvl"
        | "net.ipv4.tcp_keepalive_probes"
        | "net.ipv4.tcp_keepalive_time" => pod.minor >= 29,
        "net.ipv4.tcp_rmem" | "net.ipv4.tcp_wmem" => pod.minor >= 32,
        _ => false,
    };
    let all = meta::list(pod.spec(), &["securityContext", "sysctls"]).iter();
    let names = all.map(|of| meta::text(of, &["name"]));
    let forbidden: Vec<&str> = names.filter(|name| !allowed(name)).collect();
    (!forbidden.is_empty()).then(|| ("forbidden sysctls", forbidden.join(", ")))
}

fn host_process(pod: &Pod<'_>) -> Found {
    let path = ["securityContext", "windowsOptions", "hostProcess"];
    let setters = pod.set_by(|of| meta::flag(of, &path))?;
    let detail = format!("{setters} must not set securityContext.windowsOptions.hostProcess=true");
    Some(("hostProcess", detail))
}

fn escalation(pod: &Pod<'_>) -> Found {
    let bad = pod.those(|c| c["securityContext"]["allowPrivilegeEscalation"] != false);
    those(
        "allowPrivilegeEscalation != false",
        &bad,
        "must set securityContext.allowPrivilegeEscalation=false",
    )
}

fn volumes(pod: &Pod<'_>) -> Found {
    const ALLOWED: &[&str] = &[
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    let mut names = Vec::new();
    let mut types: BTreeSet<String> = BTreeSet::new();
    for volume in meta::list(pod.spec(), &["volumes"]) {
        let sources = volume.as_object().into_iter().flatten();
        for (key, _) in sources.filter(|(key, _)| *key != "name") {
            if !ALLOWED.contains(&key.as_str()) {
                names.push(meta::text(volume, &["name"]).to_owned());
                types.insert(key.clone());
            }
        }
    }
    (!names.is_empty()).then(|| {
        let uses = if names.len() == 1 { "uses" } else { "use" };
        let detail = format!(
            "{} {} {uses} restricted volume {} {}",
            plural("volume", names.len()),
            quoted(&names),
            plural("type", types.len()),
            quoted(&types)
        );
        ("restricted volume types", detail)
    })
}

fn non_root(pod: &Pod<'_>) -> Found {
    let set = |of: &Value| of["securityContext"]["runAsNonRoot"].as_bool();
    let reason = "runAsNonRoot != true";
    if let Some(setters) = pod.set_by(|of| set(of) == Some(false)) {
        let detail = format!("{setters} must not set securityContext.runAsNonRoot=false");
        return Some((reason, detail));
    }
    if set(pod.spec()) == Some(true) {
        return None;
    }
    let unset = pod.those(|c| set(c).is_none());
    pod_or(reason, &unset, "must set securityContext.runAsNonRoot=true")
}

fn root_user(pod: &Pod<'_>) -> Found {
    let is_root = |of: &Value| meta::int(of, &["securityContext", "runAsUser"]) == Some(0);
    let setters = pod.set_by(is_root)?;
    Some(("runAsUser=0", format!("{setters} must not set runAsUser=0")))
}

#[cfg(test)]
#[path = "checks_tests.rs"]
mod tests;
