//! What a watcher sees while objects change.

use crate::session::{Lines, Session};
use crate::{NODE, POD};

#[test]
fn kubectl_sees_changes_as_they_happen() {
    let s = Session::first();
    s.run_with(&["apply", "-f", "-"], NODE).says("created");
    let mut lines = Lines::of(s.command(&["get", "pods", "-w"]));
    s.run_with(&["apply", "-f", "-"], POD).says("created");
    lines.wait_for("NAME");
    lines.wait_for("web    0/1     Pending");
    let binding = r#"{"apiVersion":"v1","kind":"Binding","metadata":{"name":"web"},"target":{"kind":"Node","name":"n1"}}"#;
    s.run_with(
        &[
            "create",
            "--raw",
            "/api/v1/namespaces/default/pods/web/binding",
            "-f",
            "-",
        ],
        binding,
    )
    .says("Success");
    let status = r#"{"status":{"phase":"Running","containerStatuses":[{"name":"main","ready":true,"restartCount":0,"image":"nginx","imageID":"","state":{"running":{}}}]}}"#;
    s.run(&[
        "patch",
        "pod",
        "web",
        "--subresource=status",
        "--type=merge",
        "-p",
        status,
    ])
    .says("patched");
    lines.wait_for("web    1/1     Running");
    s.run_with(
        &[
            "create",
            "--raw",
            "/api/v1/namespaces/default/pods/web/binding",
            "-f",
            "-",
        ],
        binding,
    )
    .fails("is already assigned to node");
    s.run(&["delete", "pod", "web", "--wait=false"])
        .says("deleted");
    lines.wait_for("web    1/1     Terminating");
    s.run(&[
        "get",
        "pod",
        "web",
        "-o",
        "jsonpath={.metadata.deletionGracePeriodSeconds}",
    ])
    .says("30");
    // The node's last word: removed at once.
    s.run(&["delete", "pod", "web", "--grace-period=0", "--force"])
        .says("deleted");
    s.run(&["get", "pod", "web"]).fails("not found");
}

#[test]
fn kubectl_waits_for_conditions() {
    let s = Session::first();
    s.run_with(&["apply", "-f", "-"], POD).says("created");
    let mut lines =
        Lines::of(s.command(&["wait", "--for=condition=Ready", "pod/web", "--timeout=30s"]));
    let status = r#"{"status":{"conditions":[{"type":"Ready","status":"True"}]}}"#;
    s.run(&[
        "patch",
        "pod",
        "web",
        "--subresource=status",
        "--type=merge",
        "-p",
        status,
    ])
    .says("patched");
    lines.wait_for("pod/web condition met");
    // kubectl watches until the pod is gone; a second kubectl could only start
    // to wait when nothing is left.
    s.run(&["delete", "pod", "web", "--wait=true", "--timeout=30s"])
        .says("deleted");
    s.run(&["wait", "--for=condition=Ready", "pod/web", "--timeout=1s"])
        .fails("not found");
}
