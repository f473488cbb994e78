//! Errors of users: a clear answer that names field and cause.

use anyhow::{Result, ensure};
use qemu_test::appliance::{Appliance, POD};
use qemu_test::pod::Pod;
use qemu_test::wait;
use serde_json::json;

pub(crate) fn bad_input_is_refused(appliance: &mut Appliance) -> Result<()> {
    let pod = || Pod::script("refused", "true");
    for (manifest, parts) in [
        (
            pod().with("/spec/hostPID", json!(true)).manifest(),
            &["spec.hostPID"][..],
        ),
        (
            pod().with("/spec/hostIPC", json!(true)).manifest(),
            &["spec.hostIPC"],
        ),
        (
            pod().with("/spec/hostNetwork", json!(true)).manifest(),
            &["spec.hostNetwork"],
        ),
        (
            pod().with("/metadata/name", json!("No_Label")).manifest(),
            &["metadata.name", "No_Label"],
        ),
        (
            pod().with("/spec/containers", json!([])).manifest(),
            &["spec.containers"],
        ),
        (
            pod().with("/spec/restartPolicy", json!("Maybe")).manifest(),
            &["spec.restartPolicy"],
        ),
        (
            pod().with("/spec/nonsense", json!(1)).manifest(),
            &["nonsense"],
        ),
        (
            "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",".to_owned(),
            &["error"],
        ),
        (
            "apiVersion: v1\nkind: Pod\n  metadata: [".to_owned(),
            &["error"],
        ),
    ] {
        let said = appliance
            .kubectl
            .say_with(&["create", "-f", "-"], &manifest)?;
        ensure!(!said.status.success(), "accepted: {manifest}");
        for part in parts {
            ensure!(
                said.stderr.contains(part),
                "{manifest}: no {part} in {}",
                said.stderr
            );
        }
    }
    let said = appliance.kubectl.say(&["get", "nonsense"])?;
    let wanted = "the server doesn't have a resource type \"nonsense\"";
    ensure!(said.stderr.contains(wanted), "{}", said.stderr);
    // Past kubectl's own checks, straight to the server.
    let raw = [
        "create",
        "--raw",
        "/api/v1/namespaces/default/pods",
        "-f",
        "-",
    ];
    for body in ["{", "[]", "{\"apiVersion\":\"v1\"}", "\u{1}\u{2}\u{3}"] {
        let said = appliance.kubectl.say_with(&raw, body)?;
        ensure!(!said.status.success(), "accepted: {body:?}");
        let server = said.stderr.contains("BadRequest")
            || said.stderr.contains("is invalid")
            || said.stderr.contains("Error from server");
        ensure!(server, "{body:?}: {}", said.stderr);
    }
    Ok(())
}

pub(crate) fn images_that_are_not_there(appliance: &mut Appliance) -> Result<()> {
    let image = appliance.image("absent:1");
    let pod = Pod::script("absent", "echo here; exec sleep 100000");
    let pod = pod.beside("other", "true");
    appliance.create(&pod.with("/spec/containers/1/image", json!(image)))?;
    for reason in ["ErrImagePull", "ImagePullBackOff"] {
        appliance
            .kubectl
            .until(reason, &["pod", "absent"], POD, |pod| {
                let waiting = &pod["status"]["containerStatuses"][1]["state"]["waiting"];
                (waiting["reason"] == reason).then_some(())
            })?;
    }
    appliance.until_event_with("absent", "Failed", "absent:1")?;
    // It holds no other back.
    until_runs(appliance, "containerStatuses")?;
    let log = ["logs", "absent", "-c", "main"];
    wait::until_equal("the log of main", POD, &"here\n".to_owned(), || {
        appliance.kubectl.run(&log)
    })?;
    appliance.until_phase("absent", "Pending")?;
    a_debugger_joins(appliance)?;
    appliance.delete("absent")
}

fn until_runs(appliance: &Appliance, list: &str) -> Result<()> {
    let what = format!("the first of {list} runs");
    appliance
        .kubectl
        .until(&what, &["pod", "absent"], POD, |pod| {
            pod["status"][list][0]["state"]["running"]
                .is_object()
                .then_some(())
        })
}

/// An ephemeral container, of an image that the machine has no disk of yet.
fn a_debugger_joins(appliance: &Appliance) -> Result<()> {
    let program = "import os, time\n\
        print(open('/proc/1/comm').read().strip(), flush=True)\n\
        while not os.path.exists('/tmp/end'): time.sleep(0.1)\n\
        raise SystemExit(7)";
    let arguments = [
        "debug",
        "absent",
        "-c",
        "debugger",
        "--target=main",
        "--image=python",
        "--",
        "python3",
        "-c",
        program,
    ];
    appliance.kubectl.run(&arguments)?;
    until_runs(appliance, "ephemeralContainerStatuses")?;
    let log = ["logs", "absent", "-c", "debugger"];
    let wanted = "sleep\n".to_owned();
    wait::until_equal("the log of the debugger", POD, &wanted, || {
        appliance.kubectl.run(&log)
    })?;
    let exec = ["exec", "absent", "-c", "debugger", "--", "python3", "-c"];
    let end = "open('/tmp/end', 'w')";
    appliance.kubectl.run(&[&exec[..], &[end]].concat())?;
    let what = "the end of the debugger";
    appliance
        .kubectl
        .until(what, &["pod", "absent"], POD, |pod| {
            let status = &pod["status"]["ephemeralContainerStatuses"][0];
            let code = &status["state"]["terminated"]["exitCode"];
            (code == 7 && status["restartCount"] == 0).then_some(())
        })
}

pub(crate) fn too_large_to_schedule(appliance: &mut Appliance) -> Result<()> {
    let resources = json!({ "requests": { "cpu": "64" } });
    let pod = Pod::script("large", "true").with("/spec/containers/0/resources", resources);
    appliance.create(&pod)?;
    let message = appliance.until_event("large", "FailedScheduling")?;
    ensure!(message.contains("Insufficient cpu"), "{message}");
    appliance.until_phase("large", "Pending")?;
    appliance.delete("large")
}
