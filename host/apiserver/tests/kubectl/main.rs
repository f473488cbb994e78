//! The API server in this process, driven by the real `kubectl`: by the one on
//! PATH, which has to be there, and by those that `ATOLL_KUBECTLS` names
//! (paths, separated by colons).
#![expect(clippy::unwrap_used, reason = "tests")]

mod access;
mod admission;
mod aggregated;
mod apply;
mod audit;
mod audit_ends;
mod authorizer;
mod conversion;
mod custom;
mod deletion;
mod fairness;
mod forms;
mod front_proxy;
mod fuzz;
mod groups;
mod hooks;
mod lists;
mod oidc;
mod others;
mod peers;
mod policies;
mod printed;
mod proxy;
mod refusals;
mod session;
mod sockets;
mod streams;
mod tokens;
mod typing;
mod usage;
mod watches;
mod webhooks;
mod websockets;
mod wire;

use session::Session;

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  containers:
  - {name: main, image: "nginx:1.25", ports: [{containerPort: 80}]}
"#;

const NODE: &str = r#"
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {node-role.kubernetes.io/worker: ""}}
"#;

const CONFIGMAP: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: cm}
data: {a: b}
"#;

#[test]
fn objects_live_and_die_by_every_kubectl() {
    for kubectl in session::kubectls() {
        let s = Session::start(&kubectl);
        s.run_with(&["create", "-f", "-"], NODE)
            .says("node/n1 created");
        s.run_with(&["create", "-f", "-"], POD)
            .says("pod/web created");
        s.run(&["get", "pods"]).says("NAME").says("Pending");
        s.run(&["get", "pods", "-o", "wide"]).says("NOMINATED NODE");
        s.run(&["get", "pod", "web", "-o", "yaml"])
            .says("terminationGracePeriodSeconds: 30");
        s.run(&["get", "ns"]).says("kube-node-lease").says("Active");
        s.run(&["get", "nodes", "-o", "wide"])
            .says("worker")
            .says("n1");
        s.run_with(&["apply", "-f", "-"], CONFIGMAP)
            .says("configmap/cm created");
        s.run(&["get", "cm", "cm", "-o", "jsonpath={.data.a}"])
            .says("b");
        s.run(&["label", "pod", "web", "x=y"]).says("labeled");
        s.run(&["get", "pods", "-l", "x=y", "-o", "name"])
            .says("pod/web");
        s.run(&["explain", "pod.spec.containers"])
            .says("FIELD")
            .says("imagePullPolicy");
        s.run(&["delete", "pod", "web"]).says("deleted");
        s.run(&["get", "pod", "web"])
            .fails("pods \"web\" not found");
    }
}

#[test]
fn kubectl_creates_what_it_can_create_by_itself() {
    let s = Session::first();
    s.run(&["create", "configmap", "c", "--from-literal=a=b"])
        .says("configmap/c created");
    s.run(&["create", "secret", "generic", "s", "--from-literal=k=v"])
        .says("secret/s created");
    s.run(&["get", "secret", "s", "-o", "jsonpath={.data.k}"])
        .says("dg==");
    s.run(&["get", "secret", "s"]).says("Opaque");
    s.run(&["create", "serviceaccount", "robot"])
        .says("serviceaccount/robot created");
    s.run(&["create", "namespace", "team"])
        .says("namespace/team created");
    s.run(&["run", "r", "--image=busybox", "--restart=Never"])
        .says("pod/r created");
    s.run(&["get", "all"])
        .says("pod/r   0/1     Pending")
        .says("service/kubernetes   ClusterIP   10.96.0.1    <none>        443/TCP");
    s.run(&["get", "events"]).warns("No resources found");
}

#[test]
fn apply_merges_what_was_applied_before() {
    let s = Session::first();
    s.run_with(&["apply", "-f", "-"], POD)
        .says("pod/web created");
    s.run_with(&["apply", "-f", "-"], POD).says("unchanged");
    s.run(&["annotate", "pod", "web", "by=hand"])
        .says("annotated");
    let newer = POD
        .replace("nginx:1.25", "nginx:1.26")
        .replace("app: web", "tier: front");
    s.run_with(&["diff", "-f", "-"], &newer).finds("nginx:1.26");
    s.run_with(&["apply", "-f", "-"], &newer).says("configured");
    s.run(&["get", "pod", "web", "-o", "json"])
        .says("nginx:1.26")
        .says("\"tier\": \"front\"")
        .says("\"by\": \"hand\"");
    s.run(&["get", "pods", "-l", "app=web", "-o", "name"])
        .silent_of("web");
    s.run_with(
        &["apply", "--dry-run=server", "-f", "-"],
        &CONFIGMAP.replace("cm", "dry"),
    )
    .says("created (server dry run)");
    s.run(&["get", "cm", "dry"]).fails("not found");
    s.run_with(&["replace", "-f", "-"], &CONFIGMAP.replace("cm", "none"))
        .fails("configmaps \"none\" not found");
}

#[test]
fn objects_are_described_edited_and_explained() {
    let s = Session::first();
    s.run_with(&["apply", "-f", "-"], NODE).says("created");
    s.run_with(&["apply", "-f", "-"], POD).says("created");
    s.run(&["describe", "pod", "web"])
        .says("Image:        nginx:1.25")
        .says("QoS Class:                   BestEffort")
        .says("/var/run/secrets/kubernetes.io/serviceaccount from kube-api-access-")
        .says("node.kubernetes.io/not-ready:NoExecute op=Exists for 300s");
    s.run(&["describe", "node", "n1"])
        .says("Roles:              worker");
    s.run(&["describe", "ns", "default"]).says("Active");
    s.run_env(
        &["edit", "pod", "web"],
        &[("KUBE_EDITOR", "sed -i s/nginx:1.25/nginx:1.27/")],
    )
    .says("pod/web edited");
    s.run(&[
        "get",
        "pod",
        "web",
        "-o",
        "jsonpath={.spec.containers[0].image}",
    ])
    .says("nginx:1.27");
    s.run(&["set", "image", "pod/web", "main=nginx:1.28"])
        .says("image updated");
    s.run(&[
        "patch",
        "pod",
        "web",
        "--type=json",
        "-p",
        r#"[{"op":"add","path":"/metadata/labels/j","value":"1"}]"#,
    ])
    .says("patched");
    s.run(&[
        "patch",
        "pod",
        "web",
        "--type=merge",
        "-p",
        r#"{"metadata":{"labels":{"j":null}}}"#,
    ])
    .says("patched");
    s.run(&["explain", "pod.spec.restartPolicy"])
        .says("FIELD: restartPolicy");
    s.run(&[
        "explain",
        "lease.spec",
        "--api-version=coordination.k8s.io/v1",
    ])
    .says("holderIdentity");
    s.run(&["explain", "events"]).says("involvedObject");
    s.run(&["api-resources"])
        .says("configmaps")
        .says("coordination.k8s.io/v1")
        .says("po ");
    s.run(&["api-versions"]).says("events.k8s.io/v1").says("v1");
    s.run(&["version"]).says("v1.36.0+atoll");
    s.run(&["cordon", "n1"]).says("cordoned");
    s.run(&["get", "nodes"]).says("Unknown,SchedulingDisabled");
    s.run(&["taint", "node", "n1", "a=b:NoSchedule"])
        .says("tainted");
    s.run(&[
        "get",
        "pods",
        "--sort-by=.metadata.name",
        "-A",
        "--show-labels",
    ])
    .says("app=web");
    s.run(&[
        "get",
        "pods",
        "--field-selector=spec.nodeName=,status.phase=Pending",
        "-o",
        "name",
    ])
    .says("pod/web");
    s.run(&["delete", "pods", "--all"]).says("\"web\" deleted");
}

#[test]
fn a_namespace_goes_when_its_finalizer_does() {
    let s = Session::first();
    s.run(&["create", "namespace", "team"]).says("created");
    s.run_with(&["-n", "team", "apply", "-f", "-"], CONFIGMAP)
        .says("created");
    s.run(&["delete", "ns", "team", "--wait=false"])
        .says("deleted");
    s.run(&["get", "ns", "team"]).says("Terminating");
    s.run_with(
        &["-n", "team", "apply", "-f", "-"],
        &CONFIGMAP.replace("cm", "late"),
    )
    .fails("unable to create new content in namespace team because it is being terminated");
    s.run(&["delete", "ns", "default"])
        .fails("this namespace may not be deleted");
    let body = r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"team"},"spec":{"finalizers":[]}}"#;
    s.run_with(
        &[
            "replace",
            "--raw",
            "/api/v1/namespaces/team/finalize",
            "-f",
            "-",
        ],
        body,
    )
    .says("Terminating");
    s.run(&["get", "ns", "team"])
        .fails("namespaces \"team\" not found");
    s.run_with(&["-n", "nowhere", "create", "-f", "-"], CONFIGMAP)
        .fails("namespaces \"nowhere\" not found");
}

#[test]
fn everything_acknowledged_is_there_after_a_restart() {
    let s = Session::first();
    s.run_with(&["apply", "-f", "-"], POD).says("created");
    let before = s.run(&["get", "pod", "web", "-o", "json"]).out();
    let s = s.restart();
    assert_eq!(s.run(&["get", "pod", "web", "-o", "json"]).out(), before);
}
