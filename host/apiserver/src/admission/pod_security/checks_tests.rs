use super::*;
use serde_json::json;

const BASELINE: Level = Level::Baseline;
const RESTRICTED: Level = Level::Restricted;

fn found(pod: &Value, level: Level, version: Version) -> String {
    violations(pod, Asked { level, version }).join(", ")
}

#[test]
fn levels_name_what_breaks_them() {
    let bare = json!({"spec": {"containers": [{"name": "c"}]}});
    let bad = json!({"spec": {"hostNetwork": true, "volumes": [{"name": "v", "hostPath": {}}],
        "containers": [
            {"name": "a", "securityContext": {"privileged": true, "capabilities": {"add": ["SYS_ADMIN"]}}},
            {"name": "b", "ports": [{"hostPort": 80}, {"hostPort": 1000}]}]}});
    let good = json!({"spec": {"securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "c", "securityContext": {"allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]}}}]}});
    for (pod, level, wanted) in [
        (&bare, BASELINE, ""),
        (&bad, Level::Privileged, ""),
        (&good, RESTRICTED, ""),
        (
            &bare,
            RESTRICTED,
            r#"allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or container "c" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container "c" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")"#,
        ),
        (
            &bad,
            BASELINE,
            r#"non-default capabilities (container "a" must not include "SYS_ADMIN" in securityContext.capabilities.add), host namespaces (hostNetwork=true), hostPath volumes (volume "v"), hostPort (container "b" uses hostPorts 1000, 80), privileged (container "a" must not set securityContext.privileged=true)"#,
        ),
    ] {
        assert_eq!(found(pod, level, Version::Latest), wanted);
    }
}

/// Checks that a container `c` so made, in a pod so made, breaks `level` from
/// version `since` up to, without, `until` only, and with what words.
#[track_caller]
fn check(pod: Value, container: Value, level: Level, versions: (u32, u32), wanted: &str) {
    let mut whole = pod;
    whole["spec"]["containers"] = json!([container]);
    whole["spec"]["containers"][0]["name"] = "c".into();
    let (since, until) = versions;
    for minor in 0..=40 {
        let all = found(&whole, level, Version::Minor(minor));
        let is = (since..until).contains(&minor);
        assert_eq!(all.contains(wanted), is, "v1.{minor} {whole}: {all}");
    }
    let latest = found(&whole, level, Version::Latest);
    assert_eq!(
        latest.contains(wanted),
        until > 40,
        "latest {whole}: {latest}"
    );
}

#[test]
fn each_version_has_its_checks() {
    let ever = NEVER;
    let none = || json!({});
    let context = |key: &str, value: Value| json!({"securityContext": {key: value}});
    let pod = |key: &str, value: Value| json!({"spec": {"securityContext": {key: value}}});
    let escalation = "allowPrivilegeEscalation != false";
    let windows = || json!({"spec": {"os": {"name": "windows"}}});
    let nested = || json!({"spec": {"hostUsers": false}});
    // Restricted, as it grew.
    check(none(), none(), RESTRICTED, (8, ever), escalation);
    check(windows(), none(), RESTRICTED, (8, 25), escalation);
    check(
        none(),
        none(),
        RESTRICTED,
        (22, ever),
        "unrestricted capabilities",
    );
    check(
        windows(),
        none(),
        RESTRICTED,
        (22, 25),
        "unrestricted capabilities",
    );
    check(
        none(),
        none(),
        RESTRICTED,
        (19, ever),
        "seccompProfile (pod or",
    );
    check(
        windows(),
        none(),
        RESTRICTED,
        (19, 25),
        "seccompProfile (pod or",
    );
    check(
        none(),
        none(),
        RESTRICTED,
        (0, ever),
        "runAsNonRoot != true",
    );
    check(
        nested(),
        none(),
        RESTRICTED,
        (0, 35),
        "runAsNonRoot != true",
    );
    let root = || context("runAsUser", json!(0));
    check(
        none(),
        root(),
        RESTRICTED,
        (23, ever),
        "runAsUser=0 (container \"c\" must not set",
    );
    check(nested(), root(), RESTRICTED, (23, 35), "runAsUser=0");
    let disk = json!({"spec": {"volumes": [{"name": "v", "nfs": {}}]}});
    check(
        disk,
        none(),
        RESTRICTED,
        (0, ever),
        "restricted volume types (volume \"v\" uses restricted volume type \"nfs\")",
    );
    // What restricted has in baseline's place.
    let path = || json!({"spec": {"volumes": [{"name": "v", "hostPath": {}}]}});
    check(
        path(),
        none(),
        BASELINE,
        (0, ever),
        "hostPath volumes (volume \"v\")",
    );
    check(path(), none(), RESTRICTED, (0, 0), "hostPath volumes");
    let adds = || context("capabilities", json!({"add": ["X"]}));
    check(
        none(),
        adds(),
        BASELINE,
        (0, ever),
        "non-default capabilities",
    );
    check(
        none(),
        adds(),
        RESTRICTED,
        (0, 22),
        "non-default capabilities",
    );
    let mount = || context("procMount", json!("Unmasked"));
    let said = "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")";
    check(none(), mount(), BASELINE, (0, ever), said);
    check(nested(), mount(), BASELINE, (0, 35), said);
    check(nested(), mount(), RESTRICTED, (0, ever), said);
    // Baseline, as it grew.
    let probe = json!({"livenessProbe": {"httpGet": {"host": "h"}}});
    check(
        none(),
        probe,
        BASELINE,
        (34, ever),
        "probe or lifecycle host (container \"c\" uses probe or lifecycle host \"h\")",
    );
    let engine = || json!({"type": "container_engine_t"});
    let said = "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"container_engine_t\")";
    check(
        pod("seLinuxOptions", engine()),
        none(),
        BASELINE,
        (0, 31),
        said,
    );
    let options = json!({"type": "x", "user": "u", "role": "r"});
    let said = "seLinuxOptions (container \"c\" set forbidden securityContext.seLinuxOptions: type \"x\"; user may not be set; role may not be set)";
    check(
        none(),
        context("seLinuxOptions", options),
        BASELINE,
        (0, ever),
        said,
    );
    for (name, since) in [
        ("net.ipv4.ip_local_reserved_ports", 27),
        ("net.ipv4.tcp_keepalive_time", 29),
        ("net.ipv4.tcp_wmem", 32),
        ("kernel.msgmax", ever),
        ("net.ipv4.tcp_syncookies", 0),
    ] {
        let of = pod("sysctls", json!([{"name": name}]));
        let said = format!("forbidden sysctls ({name})");
        check(of, none(), BASELINE, (0, since), &said);
    }
    let open = || json!({"type": "Unconfined"});
    let said =
        "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")";
    check(
        pod("seccompProfile", open()),
        none(),
        BASELINE,
        (19, ever),
        said,
    );
    let key = "seccomp.security.alpha.kubernetes.io/pod";
    let annotated = json!({"metadata": {"annotations": {key: "unconfined"}}});
    let said = format!("seccompProfile (forbidden annotation {key}=\"unconfined\")");
    check(annotated, none(), BASELINE, (0, 19), &said);
    let said =
        "forbidden AppArmor profile (pod must not set AppArmor profile type to \"Unconfined\")";
    check(
        pod("appArmorProfile", open()),
        none(),
        BASELINE,
        (0, ever),
        said,
    );
    let key = "container.apparmor.security.beta.kubernetes.io/c";
    let annotated = json!({"metadata": {"annotations": {key: "unconfined"}}});
    let said = "forbidden AppArmor profile (annotation must not set AppArmor profile type to";
    check(annotated, none(), BASELINE, (0, ever), said);
    let process = json!({"hostProcess": true});
    let said = "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)";
    check(
        pod("windowsOptions", process),
        none(),
        BASELINE,
        (0, ever),
        said,
    );
}
