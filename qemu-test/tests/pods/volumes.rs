//! Volumes: shared memory, files that follow their sources, and an image.

use std::time::Duration;

use anyhow::{Result, ensure};
use qemu_test::appliance::{Appliance, POD};
use qemu_test::images::PAGE;
use qemu_test::pod::Pod;
use qemu_test::wait;
use serde_json::json;

/// The node looks at sources each half minute.
const FOLLOWS: Duration = Duration::from_secs(120);
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// What the pod finds when it starts, and tries.
const LOOK: &str = "cat /files/color /files/sub/name /files/labels; echo; cat /one; echo
    touch /files/x 2>/dev/null || echo read-only
    dd if=/dev/zero of=/scratch/full bs=64k count=32 2>/dev/null || echo full
    rm /scratch/full; ls -ld /scratch | cut -c1-10
    cat /page/index.html; touch /page/x 2>/dev/null || echo kept
    /programs/busybox true 2>/dev/null || echo no program
    echo told > /scratch/dir/word; exec sleep 100000";

fn pod() -> Pod {
    let files = json!([
        {"configMap": {"name": "settings"}},
        {"downwardAPI": {"items": [
            {"path": "sub/name", "fieldRef": {"fieldPath": "metadata.name"}},
            {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
        ]}},
    ]);
    let mounts = json!([
        {"name": "files", "mountPath": "/files"},
        {"name": "hidden", "mountPath": "/one", "subPath": "key"},
        {"name": "scratch", "mountPath": "/scratch"},
        {"name": "scratch", "mountPath": "/scratch/dir", "subPath": "dir"},
        {"name": "nginx", "mountPath": "/page", "subPath": "srv/www"},
        {"name": "own", "mountPath": "/programs", "subPath": "bin"},
    ]);
    let other =
        json!([{"name": "scratch", "mountPath": "/in", "subPath": "dir", "readOnly": true}]);
    Pod::script("volumes", LOOK)
        .beside(
            "reader",
            "until cat /in/word 2>/dev/null; do sleep 1; done; touch /in/x; exec sleep 100000",
        )
        .with("/metadata/labels", json!({"tier": "web"}))
        .with(
            "/spec/volumes",
            json!([
                {"name": "files", "projected": {"sources": files}},
                {"name": "hidden", "secret": {"secretName": "hidden"}},
                {"name": "scratch", "emptyDir": {"sizeLimit": "1Mi"}},
                {"name": "nginx", "image": {"reference": "nginx"}},
                {"name": "own", "image": {"reference": "busybox"}},
            ]),
        )
        .with("/spec/containers/0/volumeMounts", mounts)
        .with("/spec/containers/1/volumeMounts", other)
}

pub(crate) fn volumes_hold_files_and_follow(appliance: &mut Appliance) -> Result<()> {
    let kubectl = &appliance.kubectl;
    kubectl.run(&[
        "create",
        "secret",
        "generic",
        "hidden",
        "--from-literal=key=word",
    ])?;
    appliance.create(&pod())?;
    let part = "configmap \"settings\" not found";
    let message = appliance.until_event_with("volumes", "FailedMount", part)?;
    let wanted = format!("MountVolume.SetUp failed for volume \"files\" : {part}");
    ensure!(message == wanted, "{message}");
    kubectl.run(&[
        "create",
        "configmap",
        "settings",
        "--from-literal=color=blue",
    ])?;
    appliance.until_phase("volumes", "Running")?;
    let files = "bluevolumestier=\"web\"\nword\nread-only\nfull\ndrwxrwxrwx\n";
    let wanted = format!("{files}{PAGE}kept\nno program\n");
    until_log(appliance, "main", &wanted)?;
    until_log(
        appliance,
        "reader",
        "told\ntouch: /in/x: Read-only file system\n",
    )?;
    token_is_the_accounts(appliance)?;
    follows(appliance)?;
    appliance.delete("volumes")?;
    kubectl.run(&["delete", "configmap/settings", "secret/hidden"])?;
    Ok(())
}

fn until_log(appliance: &Appliance, container: &str, wanted: &str) -> Result<()> {
    let what = format!("the log of {container}");
    wait::until_equal(what, POD, &wanted.to_owned(), || {
        appliance.kubectl.run(&["logs", "volumes", "-c", container])
    })
}

fn read(appliance: &Appliance, path: &str) -> Result<String> {
    appliance
        .kubectl
        .run(&["exec", "volumes", "-c", "main", "--", "cat", path])
}

fn token_is_the_accounts(appliance: &Appliance) -> Result<()> {
    let token = read(appliance, TOKEN)?;
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": {"token": token},
    });
    let create = [
        "create",
        "-f",
        "-",
        "-o",
        "jsonpath={.status.user.username}",
    ];
    let who = appliance.kubectl.run_with(&create, &review.to_string())?;
    ensure!(who == "system:serviceaccount:default:default", "{who}");
    Ok(())
}

fn follows(appliance: &Appliance) -> Result<()> {
    let kubectl = &appliance.kubectl;
    let patch = "{\"data\":{\"color\":\"green\"}}";
    kubectl.run(&["patch", "configmap", "settings", "-p", patch])?;
    kubectl.run(&["label", "pod", "volumes", "tier=db", "--overwrite"])?;
    for (path, wanted) in [("/files/labels", "tier=\"db\""), ("/files/color", "green")] {
        wait::until_equal(path, FOLLOWS, &wanted.to_owned(), || read(appliance, path))?;
    }
    Ok(())
}
