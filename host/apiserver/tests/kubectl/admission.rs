//! What admission changes and refuses.

use crate::session::Session;

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: p}
spec: {containers: [{name: c, image: i}]}
"#;

#[test]
fn pods_get_their_account_and_priority() {
    let s = Session::first();
    s.run(&["create", "priorityclass", "high", "--value=1000"])
        .says("created");
    s.run_with(&["create", "-f", "-"], POD).says("created");
    s.run(&[
        "get",
        "pod",
        "p",
        "-o",
        "jsonpath={.spec.serviceAccountName} {.spec.priority} {.spec.preemptionPolicy}",
    ])
    .says("default 0 PreemptLowerPriority");
    let with = |name: &str, spec: &str| {
        POD.replace("name: p}", &format!("name: {name}}}"))
            .replace("spec: {", &format!("spec: {{{spec}, "))
    };
    s.run_with(
        &["create", "-f", "-"],
        &with("q", "priorityClassName: high"),
    )
    .says("created");
    s.run(&["get", "pod", "q", "-o", "jsonpath={.spec.priority}"])
        .says("1000");
    s.run_with(
        &["create", "-f", "-"],
        &with("r", "priorityClassName: none"),
    )
    .fails("pods \"r\" is forbidden: no PriorityClass with name none was found");
    s.run_with(
        &["create", "-f", "-"],
        &with("r", "serviceAccountName: none"),
    )
    .fails("error looking up service account default/none: serviceaccount \"none\" not found");
}

#[test]
fn who_asks_for_what_has_no_effect_is_warned() {
    let s = Session::first();
    let spread = "[{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}]";
    let pod = POD.replace(
        "spec: {",
        &format!(
            "spec: {{topologySpreadConstraints: {spread}, volumes: [{{name: h, hostPath: {{path: /}}}}], "
        ),
    );
    s.run_with(&["create", "-f", "-"], &pod)
        .says("created")
        .warns("spec.topologySpreadConstraints: not looked at yet")
        .warns("spec.volumes[0].hostPath: not supported yet: the node lets the pod fail");
    let deployment = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: d}}\n\
         spec: {{selector: {{matchLabels: {{a: b}}}}, template: {{metadata: {{labels: {{a: b}}}}, \
         spec: {{topologySpreadConstraints: {spread}, containers: [{{name: c, image: i}}]}}}}}}"
    );
    s.run_with(&["create", "-f", "-"], &deployment)
        .says("created")
        .warns("spec.template.spec.topologySpreadConstraints: not looked at yet");
    s.run(&["scale", "deployment", "d", "--replicas=0"])
        .says("scaled")
        .warns_of_nothing();
    s.run(&["label", "deployment", "d", "x=y"])
        .says("labeled")
        .warns_of_nothing();
}

#[test]
fn a_class_gives_pods_their_overhead() {
    let s = Session::first();
    let of = |name: &str, class: &str| {
        POD.replace("name: p}", &format!("name: {name}}}"))
            .replace("spec: {", &format!("spec: {{runtimeClassName: {class}, "))
    };
    let create = |manifest: &str| s.run_with(&["create", "-f", "-"], manifest);
    create(&of("p", "r"))
        .fails("pods \"p\" is forbidden: pod rejected: RuntimeClass \"r\" not found");
    create(
        "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {name: r}\nhandler: atoll\n\
         overhead: {podFixed: {cpu: 10m}}\nscheduling: {nodeSelector: {a: b}}\n",
    )
    .says("created");
    create(&of("p", "r")).says("created").warns_of_nothing();
    let shown = "jsonpath={.spec.overhead} {.spec.nodeSelector}";
    s.run(&["get", "pod", "p", "-o", shown])
        .says(r#"{"cpu":"10m"} {"a":"b"}"#);
    let own = POD.replace("spec: {", "spec: {overhead: {cpu: 1m}, ");
    create(&own.replace("name: p}", "name: q}"))
        .fails("Pod Overhead set without corresponding RuntimeClass defined Overhead");
}

#[test]
fn a_namespace_names_the_level_of_its_pods() {
    let s = Session::first();
    s.run(&[
        "label",
        "namespace",
        "default",
        "pod-security.kubernetes.io/warn=restricted",
        "pod-security.kubernetes.io/enforce=baseline",
    ])
    .says("labeled");
    s.run_with(&["create", "-f", "-"], POD)
        .says("created")
        .warns(
            "would violate PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false",
        );
    let able = POD.replace(
        "image: i",
        "image: i, securityContext: {capabilities: {add: [SYS_ADMIN]}}",
    );
    s.run_with(&["create", "-f", "-"], &able.replace("name: p", "name: h"))
        .fails("pods \"h\" is forbidden: violates PodSecurity \"baseline:latest\": non-default capabilities (container \"c\" must not include \"SYS_ADMIN\" in securityContext.capabilities.add)");
}

#[test]
fn a_namespace_names_the_version_of_its_level() {
    let s = Session::first();
    let label = |labels: &[&str]| {
        let own: Vec<String> = labels
            .iter()
            .map(|l| format!("pod-security.kubernetes.io/{l}"))
            .collect();
        let mut command = vec!["label", "--overwrite", "namespace", "default"];
        command.extend(own.iter().map(String::as_str));
        s.run(&command)
    };
    let pod = |name: &str| POD.replace("name: p}", &format!("name: {name}}}"));
    let create = |name: &str| s.run_with(&["create", "-f", "-"], &pod(name));
    // Before 1.8 restricted knew of little more than root.
    label(&["enforce=restricted", "enforce-version=v1.7"]).says("labeled");
    create("old").fails("violates PodSecurity \"restricted:v1.7\": runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true)");
    label(&["enforce-version=v1.8"]).says("labeled");
    create("old")
        .fails("violates PodSecurity \"restricted:v1.8\": allowPrivilegeEscalation != false");
    label(&["enforce=baseline", "warn=restricted", "warn-version=v1.21"]).says("labeled");
    create("p").warns("would violate PodSecurity \"restricted:v1.21\": allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), runAsNonRoot");
    // What will come is the latest for now.
    label(&["enforce=restricted", "enforce-version=v1.99"]).says("labeled");
    create("new")
        .fails("violates PodSecurity \"restricted:v1.99\": allowPrivilegeEscalation != false");
    for (wrong, why) in [
        (
            "enforce-version=v2.0",
            "metadata.labels[pod-security.kubernetes.io/enforce-version]: Invalid value: \"v2.0\": must be \"latest\" or \"v1.x\"",
        ),
        (
            "audit=strict",
            "metadata.labels[pod-security.kubernetes.io/audit]: Invalid value: \"strict\": must be one of privileged, baseline, restricted",
        ),
    ] {
        label(&[wrong]).fails(why);
    }
}

#[test]
fn containers_stay_within_the_limits_of_their_namespace() {
    let s = Session::first();
    s.run_with(&["create", "-f", "-"], r#"
apiVersion: v1
kind: LimitRange
metadata: {name: l}
spec:
  limits:
  - {type: Container, min: {cpu: 50m}, max: {cpu: 500m}, default: {cpu: 400m}, defaultRequest: {cpu: 100m}}
"#)
    .says("created");
    s.run_with(&["create", "-f", "-"], POD).says("created");
    s.run(&[
        "get",
        "pod",
        "p",
        "-o",
        "jsonpath={.spec.containers[0].resources}",
    ])
    .says(r#"{"limits":{"cpu":"400m"},"requests":{"cpu":"100m"}}"#);
    let greedy = POD.replace("image: i", "image: i, resources: {limits: {cpu: 2}}");
    s.run_with(
        &["create", "-f", "-"],
        &greedy.replace("name: p", "name: q"),
    )
    .fails("maximum cpu usage per Container is 500m, but limit is 2");
}

const QUOTA: &str = r#"
apiVersion: v1
kind: ResourceQuota
metadata: {name: q}
spec: {hard: {configmaps: "3", pods: "1", requests.cpu: "1", count/secrets: "1"}}
"#;

#[test]
fn a_quota_counts_what_is_made_and_what_goes() {
    let s = Session::first();
    let used = |name: &str, value: &str| {
        let name = name.replace('.', "\\.");
        s.run(&[
            "wait",
            "resourcequota/q",
            "--timeout=30s",
            &format!("--for=jsonpath={{.status.used.{name}}}={value}"),
        ])
        .says("condition met");
    };
    s.run_with(&["create", "-f", "-"], QUOTA).says("created");
    used("configmaps", "0");
    s.run(&["create", "configmap", "a"]).says("created");
    s.run(&["create", "configmap", "b"]).says("created");
    s.run(&["create", "configmap", "c"]).says("created");
    s.run(&["create", "configmap", "d"]).fails(
        "configmaps \"d\" is forbidden: exceeded quota: q, requested: configmaps=1, used: configmaps=3, limited: configmaps=3",
    );
    used("configmaps", "3");
    s.run(&["delete", "configmap", "a"]).says("deleted");
    used("configmaps", "2");
    s.run_with(&["create", "-f", "-"], POD)
        .fails("pods \"p\" is forbidden: failed quota: q: must specify requests.cpu for: c");
    let sized = POD.replace("image: i", "image: i, resources: {requests: {cpu: 600m}}");
    s.run_with(&["create", "-f", "-"], &sized).says("created");
    used("requests.cpu", "600m");
    s.run_with(&["create", "-f", "-"], &sized.replace("name: p", "name: q"))
        .fails("exceeded quota: q, requested: pods=1,requests.cpu=600m, used: pods=1,requests.cpu=600m, limited: pods=1,requests.cpu=1");
    s.run(&["delete", "pod", "p"]).says("deleted");
    used("pods", "0");
}

#[test]
fn a_quota_is_exact_however_many_ask_at_once() {
    let s = Session::first();
    s.run_with(
        &["create", "-f", "-"],
        &QUOTA.replace("configmaps: \"3\"", "configmaps: \"7\""),
    )
    .says("created");
    s.run(&[
        "wait",
        "resourcequota/q",
        "--timeout=30s",
        "--for=jsonpath={.status.used.configmaps}=0",
    ])
    .says("condition met");
    let transport = s
        .running()
        .server()
        .local_transport(apiserver::User::new("root", ["system:masters".to_owned()]));
    let made = s.runtime().block_on(async {
        let asked = (0..24).map(|i| {
            let body = format!(r#"{{"metadata":{{"name":"m{i}"}}}}"#);
            let request = http::Request::post("/api/v1/namespaces/default/configmaps")
                .header("content-type", "application/json")
                .body(body.into())
                .unwrap();
            transport.send(request)
        });
        let answers = futures_util::future::join_all(asked).await;
        let codes: Vec<u16> = answers
            .into_iter()
            .map(|a| a.unwrap().status().as_u16())
            .collect();
        assert!(codes.iter().all(|c| [201, 403].contains(c)), "{codes:?}");
        codes.into_iter().filter(|c| *c == 201).count()
    });
    assert_eq!(made, 7);
}
