//! Pod Security: the levels that a namespace's labels name, checked for each
//! pod in it (KEP-2579). Baseline's checks come first, then restricted's, each
//! in the order of upstream's ids and in its words.
//!
//! Size: the checks are a list, and read best as one.

use super::{Attributes, Operation};
use crate::audit;
use crate::lookup;
use api::meta;
use api::status::Status;
use serde_json::Value;
use store::Store;

const LABEL: &str = "pod-security.kubernetes.io/";
const BASELINE_CAPABILITIES: &[&str] = &[
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
const SAFE_SYSCTLS: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];
const RESTRICTED_VOLUMES: &[&str] = &[
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
    "image",
];
const SELINUX_TYPES: &[&str] = &[
    "",
    "container_t",
    "container_init_t",
    "container_kvm_t",
    "container_engine_t",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    fn parse(text: &str) -> Level {
        match text {
            "baseline" => Level::Baseline,
            "restricted" => Level::Restricted,
            // Absent is privileged; what can't be read counts as the strictest.
            "" | "privileged" => Level::Privileged,
            _ => Level::Restricted,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        }
    }
}

fn note(a: &Attributes<'_>, key: &str, value: &str) {
    let key = format!("{LABEL}{key}");
    a.trail.annotate(audit::Level::Metadata, &key, value);
}

/// Refuses a pod that its namespace doesn't allow; what it is to be warned of.
pub(super) fn check(
    store: &Store,
    a: &Attributes<'_>,
    pod: &Value,
    old: Option<&Value>,
) -> Result<Vec<String>, Status> {
    let relevant = match a.operation {
        Operation::Create => true,
        Operation::Update => old.is_none_or(|old| old["spec"] != pod["spec"]),
        Operation::Delete | Operation::Connect => false,
    };
    let Ok(namespace) = lookup::object(store, ("", "namespaces"), "", a.namespace) else {
        return Ok(Vec::new());
    };
    let level = |mode: &str| {
        let label = |key: String| meta::text(&namespace, &["metadata", "labels", &key]).to_owned();
        let version = match label(format!("{LABEL}{mode}-version")) {
            none if none.is_empty() => "latest".to_owned(),
            version => version,
        };
        (Level::parse(&label(format!("{LABEL}{mode}"))), version)
    };
    let (enforced, version) = level("enforce");
    if !relevant {
        return Ok(Vec::new());
    }
    let says = |level: Level, version: &str, faults: &[String]| {
        format!(
            "PodSecurity \"{}:{version}\": {}",
            level.name(),
            faults.join(", ")
        )
    };
    let named = format!("{}:{version}", enforced.name());
    note(a, "enforce-policy", &named);
    let (audited, its_version) = level("audit");
    let faults = violations(pod, audited);
    if !faults.is_empty() {
        let why = says(audited, &its_version, &faults);
        note(a, "audit-violations", &format!("would violate {why}"));
    }
    let faults = violations(pod, enforced);
    if !faults.is_empty() {
        return Err(a.forbid(&format!("violates {}", says(enforced, &version, &faults))));
    }
    let (warned, version) = level("warn");
    let faults = violations(pod, warned);
    Ok(match faults.is_empty() {
        true => Vec::new(),
        false => vec![format!("would violate {}", says(warned, &version, &faults))],
    })
}

/// What breaks a level, one entry for each check that fails.
fn violations(pod: &Value, level: Level) -> Vec<String> {
    let checked = Checked { pod };
    let mut out = Vec::new();
    let restricted = level == Level::Restricted;
    if level != Level::Privileged {
        checked.baseline(restricted, &mut out);
    }
    if restricted {
        checked.restricted(&mut out);
    }
    out
}

struct Checked<'a> {
    pod: &'a Value,
}

impl<'a> Checked<'a> {
    fn containers(&self) -> impl Iterator<Item = &'a Value> + 'a {
        let pod = self.pod;
        ["initContainers", "containers", "ephemeralContainers"]
            .into_iter()
            .flat_map(move |part| meta::list(pod, &["spec", part]))
    }

    /// The names of the containers that `is` true of.
    fn those(&self, is: impl Fn(&Value) -> bool) -> Vec<String> {
        self.containers()
            .filter(|c| is(c))
            .map(|c| format!("{:?}", meta::text(c, &["name"])))
            .collect()
    }

    fn context(&self, key: &str) -> &'a Value {
        &self.pod["spec"]["securityContext"][key]
    }

    fn baseline(&self, restricted: bool, out: &mut Vec<String>) {
        let spec = &self.pod["spec"];
        if !restricted {
            self.default_capabilities(out);
        }
        let shared: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
            .iter()
            .filter(|key| meta::flag(spec, &[key]))
            .map(|key| format!("{key}=true"))
            .collect();
        if !shared.is_empty() {
            out.push(format!("host namespaces ({})", shared.join(", ")));
        }
        if !restricted {
            self.host_paths(out);
        }
        self.host_ports(out);
        let bad = self.those(|c| meta::flag(c, &["securityContext", "privileged"]));
        say(
            out,
            "privileged",
            &bad,
            "must not set securityContext.privileged=true",
        );
        let mount = |c: &Value| {
            !matches!(
                meta::text(c, &["securityContext", "procMount"]),
                "" | "Default"
            )
        };
        say(
            out,
            "procMount",
            &self.those(mount),
            "must not set securityContext.procMount",
        );
        self.selinux(out);
        if !restricted {
            self.unconfined(out);
        }
        let unsafe_: Vec<&str> = meta::list(self.pod, &["spec", "securityContext", "sysctls"])
            .iter()
            .map(|s| meta::text(s, &["name"]))
            .filter(|name| !SAFE_SYSCTLS.contains(name))
            .collect();
        if !unsafe_.is_empty() {
            out.push(format!("forbidden sysctls ({})", unsafe_.join(", ")));
        }
        self.host_process(out);
    }

    fn host_process(&self, out: &mut Vec<String>) {
        let spec = &self.pod["spec"];
        let windows =
            |of: &Value| meta::flag(of, &["securityContext", "windowsOptions", "hostProcess"]);
        let bad = self.those(windows);
        let who = who(windows(spec), &bad);
        if !who.is_empty() {
            out.push(format!(
                "hostProcess ({who} must not set securityContext.windowsOptions.hostProcess=true)"
            ));
        }
    }

    fn default_capabilities(&self, out: &mut Vec<String>) {
        let added = |c: &Value| -> Vec<String> {
            capabilities(c, "add")
                .into_iter()
                .filter(|cap| !BASELINE_CAPABILITIES.contains(&cap.as_str()))
                .collect()
        };
        let bad = self.those(|c| !added(c).is_empty());
        let mut all: Vec<String> = self.containers().flat_map(added).collect();
        all.sort();
        all.dedup();
        say(
            out,
            "non-default capabilities",
            &bad,
            &format!(
                "must not include {} in securityContext.capabilities.add",
                quoted(&all)
            ),
        );
    }

    fn host_paths(&self, out: &mut Vec<String>) {
        let spec = &self.pod["spec"];
        let paths: Vec<String> = meta::list(spec, &["volumes"])
            .iter()
            .filter(|v| v.get("hostPath").is_some())
            .map(|v| format!("{:?}", meta::text(v, &["name"])))
            .collect();
        if !paths.is_empty() {
            out.push(format!(
                "hostPath volumes ({} {})",
                plural("volume", paths.len()),
                paths.join(", ")
            ));
        }
    }

    fn host_ports(&self, out: &mut Vec<String>) {
        let ports = |c: &Value| -> Vec<i64> {
            let of = meta::list(c, &["ports"]);
            of.iter()
                .filter_map(|p| meta::int(p, &["hostPort"]))
                .filter(|p| *p != 0)
                .collect()
        };
        let bad = self.those(|c| !ports(c).is_empty());
        let mut all: Vec<i64> = self.containers().flat_map(ports).collect();
        all.sort_unstable();
        all.dedup();
        if !bad.is_empty() {
            let ports: Vec<String> = all.iter().map(i64::to_string).collect();
            let uses = if bad.len() == 1 { "uses" } else { "use" };
            out.push(format!(
                "hostPort ({} {uses} {} {})",
                listed(&bad),
                plural("hostPort", all.len()),
                ports.join(", ")
            ));
        }
    }

    fn selinux(&self, out: &mut Vec<String>) {
        let bad = |of: &Value| {
            let text = |key: &str| meta::text(of, &["securityContext", "seLinuxOptions", key]);
            !SELINUX_TYPES.contains(&text("type"))
                || !text("user").is_empty()
                || !text("role").is_empty()
        };
        let containers = self.those(bad);
        if bad(&self.pod["spec"]) || !containers.is_empty() {
            out.push(
                "seLinuxOptions (pod or containers set forbidden securityContext.seLinuxOptions)"
                    .to_owned(),
            );
        }
    }

    fn unconfined(&self, out: &mut Vec<String>) {
        let is = |of: &Value| {
            meta::text(of, &["securityContext", "seccompProfile", "type"]) == "Unconfined"
        };
        let bad = self.those(is);
        let who = who(is(&self.pod["spec"]), &bad);
        if !who.is_empty() {
            out.push(format!(
                "seccompProfile ({who} must not set securityContext.seccompProfile.type to \"Unconfined\")"
            ));
        }
    }

    fn restricted(&self, out: &mut Vec<String>) {
        let escalates = |c: &Value| {
            meta::at(c, &["securityContext", "allowPrivilegeEscalation"])
                != Some(&Value::Bool(false))
        };
        say(
            out,
            "allowPrivilegeEscalation != false",
            &self.those(escalates),
            "must set securityContext.allowPrivilegeEscalation=false",
        );
        self.unrestricted_capabilities(out);
        self.volumes(out);
        let root = self.context("runAsNonRoot");
        let non_root = |c: &Value| c["securityContext"]["runAsNonRoot"].as_bool();
        let wrong = self.those(|c| non_root(c) == Some(false));
        let unset = self.those(|c| non_root(c).is_none());
        self.pod_or_container(
            out,
            "runAsNonRoot != true",
            root.as_bool() == Some(true),
            root.as_bool() == Some(false),
            &wrong,
            &unset,
            "securityContext.runAsNonRoot=true",
            "must not set securityContext.runAsNonRoot=false",
        );
        self.root_user(out);
        let profile =
            |of: &Value| meta::text(of, &["securityContext", "seccompProfile", "type"]).to_owned();
        let good = |text: &str| matches!(text, "RuntimeDefault" | "Localhost");
        let own = profile(&self.pod["spec"]);
        let wrong = self.those(|c| !profile(c).is_empty() && !good(&profile(c)));
        let unset = self.those(|c| profile(c).is_empty());
        self.pod_or_container(
            out,
            "seccompProfile",
            good(&own),
            !own.is_empty() && !good(&own),
            &wrong,
            &unset,
            "securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
            "must not set securityContext.seccompProfile.type to \"Unconfined\"",
        );
    }

    fn root_user(&self, out: &mut Vec<String>) {
        let zero = |of: &Value| meta::int(of, &["securityContext", "runAsUser"]) == Some(0);
        let bad = self.those(zero);
        let who = who(zero(&self.pod["spec"]), &bad);
        if !who.is_empty() {
            out.push(format!("runAsUser=0 ({who} must not set runAsUser=0)"));
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one sentence and its cases")]
    fn pod_or_container(
        &self,
        out: &mut Vec<String>,
        what: &str,
        good: bool,
        bad: bool,
        wrong: &[String],
        unset: &[String],
        must: &str,
        must_not: &str,
    ) {
        let who = who(bad, wrong);
        if !who.is_empty() {
            out.push(format!("{what} ({who} {must_not})"));
        } else if !good && !unset.is_empty() {
            out.push(format!("{what} (pod or {} must set {must})", listed(unset)));
        }
    }

    fn unrestricted_capabilities(&self, out: &mut Vec<String>) {
        let keeps = |c: &Value| !capabilities(c, "drop").iter().any(|cap| cap == "ALL");
        let added = |c: &Value| -> Vec<String> {
            let all = capabilities(c, "add").into_iter();
            all.filter(|cap| cap != "NET_BIND_SERVICE").collect()
        };
        let (lacking, adding) = (self.those(keeps), self.those(|c| !added(c).is_empty()));
        let mut why = Vec::new();
        if !lacking.is_empty() {
            why.push(format!(
                "{} must set securityContext.capabilities.drop=[\"ALL\"]",
                listed(&lacking)
            ));
        }
        if !adding.is_empty() {
            let mut all: Vec<String> = self.containers().flat_map(added).collect();
            all.sort();
            all.dedup();
            why.push(format!(
                "{} must not include {} in securityContext.capabilities.add",
                listed(&adding),
                quoted(&all)
            ));
        }
        if !why.is_empty() {
            out.push(format!("unrestricted capabilities ({})", why.join("; ")));
        }
    }

    fn volumes(&self, out: &mut Vec<String>) {
        let mut names = Vec::new();
        let mut types: Vec<String> = Vec::new();
        for volume in meta::list(self.pod, &["spec", "volumes"]) {
            let source = volume.as_object().into_iter().flatten().map(|(k, _)| k);
            for bad in source.filter(|k| *k != "name" && !RESTRICTED_VOLUMES.contains(&k.as_str()))
            {
                names.push(format!("{:?}", meta::text(volume, &["name"])));
                types.push(bad.clone());
            }
        }
        if !names.is_empty() {
            types.sort();
            types.dedup();
            let uses = if names.len() == 1 { "uses" } else { "use" };
            out.push(format!(
                "restricted volume types ({} {} {uses} restricted volume {} {})",
                plural("volume", names.len()),
                names.join(", "),
                plural("type", types.len()),
                quoted(&types)
            ));
        }
    }
}

fn capabilities(container: &Value, key: &str) -> Vec<String> {
    let list = meta::list(container, &["securityContext", "capabilities", key]);
    list.iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

fn quoted(list: &[String]) -> String {
    let all: Vec<String> = list.iter().map(|s| format!("{s:?}")).collect();
    all.join(", ")
}

fn plural(word: &str, n: usize) -> String {
    if n == 1 {
        word.to_owned()
    } else {
        format!("{word}s")
    }
}

/// `container "a"`, `containers "a", "b"`.
fn listed(containers: &[String]) -> String {
    format!(
        "{} {}",
        plural("container", containers.len()),
        containers.join(", ")
    )
}

/// The pod, some of its containers, or both; empty for neither.
fn who(pod: bool, containers: &[String]) -> String {
    match (pod, containers.is_empty()) {
        (false, true) => String::new(),
        (false, false) => listed(containers),
        (true, true) => "pod".to_owned(),
        (true, false) => format!("pod and {}", listed(containers)),
    }
}

fn say(out: &mut Vec<String>, what: &str, containers: &[String], must: &str) {
    if !containers.is_empty() {
        out.push(format!("{what} ({} {must})", listed(containers)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn levels_name_what_breaks_them() {
        let bare = json!({"spec": {"containers": [{"name": "c"}]}});
        let bad = json!({"spec": {"hostNetwork": true, "volumes": [{"name": "v", "hostPath": {}}],
            "containers": [
                {"name": "a", "securityContext": {"privileged": true, "capabilities": {"add": ["SYS_ADMIN"]}}},
                {"name": "b", "ports": [{"hostPort": 80}]}]}});
        let good = json!({"spec": {"securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "c", "securityContext": {"allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]}}}]}});
        for (pod, level, wanted) in [
            (&bare, Level::Baseline, ""),
            (&bad, Level::Privileged, ""),
            (&good, Level::Restricted, ""),
            (
                &bare,
                Level::Restricted,
                r#"allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or container "c" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container "c" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")"#,
            ),
            (
                &bad,
                Level::Baseline,
                r#"non-default capabilities (container "a" must not include "SYS_ADMIN" in securityContext.capabilities.add), host namespaces (hostNetwork=true), hostPath volumes (volume "v"), hostPort (container "b" uses hostPort 80), privileged (container "a" must not set securityContext.privileged=true)"#,
            ),
        ] {
            assert_eq!(violations(pod, level).join(", "), wanted);
        }
    }
}
