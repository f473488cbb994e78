//! Server-side apply and field ownership, by kubectl.

use crate::session::{Session, kubectls};
use crate::{CONFIGMAP, POD};

const SSA: &[&str] = &["apply", "--server-side", "-f", "-"];

#[test]
fn appliers_share_conflict_and_force() {
    for kubectl in kubectls() {
        let s = Session::start(&kubectl);
        s.run_with(SSA, CONFIGMAP)
            .says("configmap/cm serverside-applied");
        let before = s.run(&["get", "cm", "cm", "-o", "json"]).out();
        s.run_with(SSA, CONFIGMAP).says("serverside-applied");
        assert_eq!(s.run(&["get", "cm", "cm", "-o", "json"]).out(), before);

        let other = CONFIGMAP.replace("{a: b}", "{a: c, d: e}");
        let mine: Vec<&str> = SSA.iter().copied().chain(["--field-manager=me"]).collect();
        s.run_with(&mine, &other)
            .fails("Apply failed with 1 conflict: conflict with \"kubectl\": .data.a");
        let force: Vec<&str> = mine.iter().copied().chain(["--force-conflicts"]).collect();
        s.run_with(&force, &other).says("serverside-applied");
        s.run(&["get", "cm", "cm", "-o", "jsonpath={.data}"])
            .says(r#"{"a":"c","d":"e"}"#);
        // What nobody else owns goes with its applier's last mention.
        s.run_with(&mine, &CONFIGMAP.replace("{a: b}", "{a: c}"))
            .says("serverside-applied");
        s.run(&["get", "cm", "cm", "-o", "jsonpath={.data}"])
            .says(r#"{"a":"c"}"#);
    }
}

#[test]
fn ownership_is_told_for_every_writer() {
    let s = Session::first();
    s.run_with(&["create", "-f", "-"], POD).says("created");
    s.run(&["label", "pod", "web", "x=y"]).says("labeled");
    let shown = s.run(&["get", "pod", "web", "-o", "json", "--show-managed-fields"]);
    shown
        .says("\"manager\": \"kubectl-create\"")
        .says("\"manager\": \"kubectl-label\"")
        .says("k:{\\\"containerPort\\\":80,\\\"protocol\\\":\\\"TCP\\\"}");
    let status = r#"{"status":{"phase":"Running"}}"#;
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
    s.run(&["get", "pod", "web", "-o", "json", "--show-managed-fields"])
        .says("\"subresource\": \"status\"");
}

#[test]
fn client_side_apply_goes_over_to_server_side_and_back() {
    let s = Session::first();
    s.run_with(&["apply", "-f", "-"], CONFIGMAP).says("created");
    let newer = CONFIGMAP.replace("{a: b}", "{a: c}");
    // What kubectl applied before is no conflict for kubectl.
    s.run_with(SSA, &newer).says("serverside-applied");
    s.run(&["get", "cm", "cm", "-o", "jsonpath={.data.a}"])
        .says("c");
    s.run_with(&["apply", "-f", "-"], &newer).says("configured");
    s.run_with(&["apply", "-f", "-"], &newer).says("unchanged");
    s.run_with(
        &["apply", "-f", "-"],
        &CONFIGMAP.replace("{a: b}", "{d: e}"),
    )
    .says("configured");
    s.run(&["get", "cm", "cm", "-o", "jsonpath={.data}"])
        .says(r#"{"d":"e"}"#);
}

#[test]
fn bad_configurations_are_refused() {
    let s = Session::first();
    let pod = POD.replace(
        "ports: [{containerPort: 80}]",
        "ports: [{containerPort: 80}, {containerPort: 80}]",
    );
    let blind: Vec<&str> = SSA.iter().copied().chain(["--validate=false"]).collect();
    s.run_with(&blind, &pod)
        .fails(".spec.containers[name=\"main\"].ports: duplicate entries for key [containerPort=80,protocol=\"TCP\"]");
    s.run_with(&blind, &POD.replace("image:", "imag:"))
        .fails(".spec.containers[name=\"main\"].imag: field not declared in schema");
    let dry: Vec<&str> = SSA.iter().copied().chain(["--dry-run=server"]).collect();
    s.run_with(&dry, POD)
        .says("serverside-applied (server dry run)");
    s.run(&["get", "pod", "web"]).fails("not found");
}
