//! Errors of users: a clear answer that names field and cause.

use anyhow::{Result, ensure};
use qemu_test::appliance::{Appliance, POD};
use qemu_test::pod::Pod;
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
    appliance.create(&Pod::new("absent", &image, &["/bin/true"]))?;
    for reason in ["ErrImagePull", "ImagePullBackOff"] {
        appliance
            .kubectl
            .until(reason, &["pod", "absent"], POD, |pod| {
                let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
                (waiting["reason"] == reason).then_some(())
            })?;
    }
    appliance.until_event_with("absent", "Failed", "absent:1")?;
    appliance.delete("absent")
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
