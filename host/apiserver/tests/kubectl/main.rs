//! The API server in this process, driven by the real `kubectl`: by the one on
//! PATH, which has to be there, and by those that `ATOLL_KUBECTLS` names
//! (paths, separated by colons).
#![expect(clippy::unwrap_used, reason = "tests")]

mod session;

use session::Session;

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  containers:
  - {name: main, image: "nginx:1.25", ports: [{containerPort: 80}]}
"#;

const CONFIGMAP: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: cm}
data: {a: b}
"#;

const NODE: &str = r#"
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {node-role.kubernetes.io/worker: ""}}
"#;

#[test]
fn objects_live_and_die_by_every_kubectl() {
    for kubectl in session::kubectls() {
        let s = Session::start(&kubectl);
        s.run_with(&["create", "-f", "-", "--validate=false"], NODE)
            .says("node/n1 created");
        s.run_with(&["create", "-f", "-", "--validate=false"], POD)
            .says("pod/web created");
        s.run(&["get", "pods"]).says("NAME").says("Pending");
        s.run(&["get", "pods", "-o", "wide"]).says("NOMINATED NODE");
        s.run(&["get", "pod", "web", "-o", "yaml"])
            .says("terminationGracePeriodSeconds: 30");
        s.run(&["get", "ns"]).says("kube-node-lease").says("Active");
        s.run(&["get", "nodes", "-o", "wide"])
            .says("worker")
            .says("n1");
        s.run_with(&["create", "-f", "-", "--validate=false"], CONFIGMAP)
            .says("configmap/cm created");
        s.run(&["get", "cm", "cm", "-o", "jsonpath={.data.a}"])
            .says("b");
        s.run(&["delete", "pod", "web"]).says("deleted");
        s.run(&["get", "pod", "web"])
            .fails("pods \"web\" not found");
    }
}
