//! Bad input: each is refused with the field and the cause named.

use crate::session::Session;
use crate::{CONFIGMAP, POD};

#[test]
fn bad_input_is_refused_with_its_cause() {
    let s = Session::first();
    let create = ["create", "-f", "-"];
    let blind = ["create", "--validate=false", "-f", "-"];
    for (arguments, body, message) in [
        (
            &create[..],
            "kind: Pod\n  x: [",
            "error converting YAML to JSON",
        ),
        (&create[..], "{\"kind\": \"Pod\", ", "error"),
        (
            &create[..],
            &POD.replace("name: web", "name: Bad_Name"),
            "metadata.name: Invalid value: \"Bad_Name\": a lowercase RFC 1123 subdomain must consist of",
        ),
        (
            &create[..],
            &POD.replace("image:", "imag:"),
            "strict decoding error: unknown field \"spec.containers[0].imag\"",
        ),
        (
            &blind[..],
            &POD.replace("image: \"nginx:1.25\", ", ""),
            "Pod \"web\" is invalid: spec.containers[0].image: Required value",
        ),
        (
            &blind[..],
            &POD.replace("containerPort: 80", "containerPort: \"x\""),
            "json: cannot unmarshal string into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32",
        ),
        (
            &create[..],
            &POD.replace("spec:\n", "spec:\n  hostNetwork: true\n"),
            "spec.hostNetwork: Forbidden: pods are micro-VMs and cannot share the network of the host",
        ),
        (
            &create[..],
            &POD.replace("spec:\n", "spec:\n  hostPID: true\n  hostIPC: true\n"),
            "spec.hostIPC: Forbidden: pods are micro-VMs and cannot share the IPC namespace of the host",
        ),
        (
            &create[..],
            &CONFIGMAP.replace("{a: b}", "{\"a b\": c}"),
            "data[a b]: Invalid value: \"a b\": a valid config key must consist of",
        ),
        (
            &create[..],
            "apiVersion: apps/v2\nkind: Deployment\nmetadata: {name: d}",
            "no matches for kind \"Deployment\" in version \"apps/v2\"",
        ),
    ] {
        s.run_with(arguments, body).fails(message);
    }
    s.run(&["get", "gadgets"])
        .fails("the server doesn't have a resource type \"gadgets\"");
    s.run(&["get", "--raw", "/apis/apps/v1/gadgets"])
        .fails("the server could not find the requested resource");
    s.run(&["get", "pods", "--field-selector=spec.foo=x"])
        .fails("field label not supported: spec.foo");
    s.run(&["get", "pods", "-l", "a in"])
        .fails("unable to parse requirement");
}

#[test]
fn unknown_fields_are_warned_of_or_ignored_as_asked() {
    let s = Session::first();
    let odd = CONFIGMAP.replace("\ndata:", "\ncolour: red\ndata:");
    s.run_with(&["create", "--validate=warn", "-f", "-"], &odd)
        .says("created")
        .warns("Warning: unknown field \"colour\"");
    s.run(&["delete", "cm", "cm"]).says("deleted");
    s.run_with(&["create", "--validate=ignore", "-f", "-"], &odd)
        .says("created");
    s.run(&["get", "cm", "cm", "-o", "yaml"])
        .silent_of("colour");
}

#[test]
fn a_pod_keeps_what_may_not_change() {
    let s = Session::first();
    s.run_with(&["apply", "-f", "-"], POD).says("created");
    s.run(&[
        "patch",
        "pod",
        "web",
        "-p",
        r#"{"spec":{"restartPolicy":"Never"}}"#,
    ])
    .fails("pod updates may not change fields other than `spec.containers[*].image`");
    s.run(&[
        "patch",
        "pod",
        "web",
        "--type=merge",
        "-p",
        r#"{"status":{"phase":"Running"}}"#,
    ])
    .says("patched");
    s.run(&["get", "pod", "web", "-o", "jsonpath={.status.phase}"])
        .says("Pending");
    s.run(&[
        "patch",
        "pod",
        "web",
        "--subresource=status",
        "--type=merge",
        "-p",
        r#"{"status":{"phase":"Running"},"spec":{"nodeName":"x"}}"#,
    ])
    .says("patched");
    s.run(&[
        "get",
        "pod",
        "web",
        "-o",
        "jsonpath={.status.phase}:{.spec.nodeName}",
    ])
    .says("Running:")
    .silent_of("x");
}

#[test]
fn an_update_of_an_old_version_conflicts() {
    let s = Session::first();
    s.run_with(&["create", "-f", "-"], CONFIGMAP)
        .says("created");
    let old = s.run(&["get", "cm", "cm", "-o", "json"]).out();
    s.run(&["label", "cm", "cm", "a=b"]).says("labeled");
    s.run_with(&["replace", "-f", "-"], &old).fails(
        "Operation cannot be fulfilled on configmaps \"cm\": the object has been modified; please apply your changes to the latest version and try again",
    );
    s.run_with(&["create", "-f", "-"], CONFIGMAP)
        .fails("configmaps \"cm\" already exists");
}

#[test]
fn users_without_rights_are_told_so() {
    let s = Session::first();
    s.run_as("sesame", &["get", "pods"])
        .fails("pods is forbidden: User \"bob\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"");
    s.run_as("wrong", &["get", "pods"])
        .fails("You must be logged in to the server");
    let node = s.path("data/pki/nodes/n1/kubeconfig");
    let node = node.to_str().unwrap();
    s.run_config(node, &["get", "pods", "-A"])
        .fails("can only list/watch pods with spec.nodeName field selector");
    let own = "--field-selector=spec.nodeName=n1";
    s.run_config(node, &["get", "pods", "-A", own])
        .warns("No resources found");
    s.run_config(node, &["delete", "node", "n1"])
        .fails("User \"system:node:n1\" cannot delete resource \"nodes\"");
}
