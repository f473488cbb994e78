//! Scratch space on the node's disk: volumes and writable layers.

use anyhow::{Result, ensure};
use qemu_test::appliance::{Appliance, POD};
use qemu_test::pod::Pod;
use qemu_test::wait;
use serde_json::json;

/// More than the pod's memory, twice in a volume and once in its root.
const FILL: &str = "cat /shared/word 2>/dev/null; ls /tmp/root 2>/dev/null; rm -f /shared/word
    dd if=/dev/zero of=/shared/big bs=1M count=96 2>/dev/null && echo filled
    dd if=/dev/zero of=/small/big bs=64k count=32 2>&1 | grep -o 'No space left on device'
    rm /small/big; cd /small; i=0; while [ $i -lt 200 ]; do echo x > f$i; i=$((i + 1)); done; rm f*
    df -k /small | tail -1 | awk '{ print ($2 < 1100) }'
    dd if=/dev/zero of=/tmp/root bs=1M count=96 2>/dev/null && echo root
    dd if=/dev/zero of=/memory/x bs=64k count=32 2>/dev/null || echo memory full
    grep -c ' /memory tmpfs ' /proc/mounts
    stat -c %a /shared /memory; echo word > /shared/word
    trap 'exit 3' TERM; while :; do sleep 1; done";

fn pod() -> Pod {
    let mounts = json!([
        {"name": "shared", "mountPath": "/shared"},
        {"name": "small", "mountPath": "/small"},
        {"name": "memory", "mountPath": "/memory"},
    ]);
    let other = json!([{"name": "shared", "mountPath": "/shared", "readOnly": true}]);
    let limits = json!({"limits": {"memory": "32Mi"}});
    Pod::script("storage", FILL)
        .beside(
            "reader",
            "until cat /shared/word 2>/dev/null; do sleep 1; done; exec sleep 100000",
        )
        .restart("Always")
        .with(
            "/spec/volumes",
            json!([
                {"name": "shared", "emptyDir": {}},
                {"name": "small", "emptyDir": {"sizeLimit": "1Mi"}},
                {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            ]),
        )
        .with("/spec/containers/0/volumeMounts", mounts)
        .with("/spec/containers/1/volumeMounts", other)
        .with(
            "/spec/containers/0/resources",
            json!({"limits": {"memory": "32Mi", "ephemeral-storage": "1Gi"}}),
        )
        .with("/spec/containers/1/resources", limits)
}

pub(crate) fn scratch_space_is_on_the_disk(appliance: &mut Appliance) -> Result<()> {
    appliance.create(&pod())?;
    appliance.until_phase("storage", "Running")?;
    let wanted = "filled\nNo space left on device\n1\nroot\nmemory full\n1\n777\n777\n".to_owned();
    let logs = ["logs", "storage", "-c", "main"];
    wait::until_equal("the log of main", POD, &wanted, || {
        appliance.kubectl.run(&logs)
    })?;
    wait::until_equal("the log of reader", POD, &"word\n".to_owned(), || {
        appliance.kubectl.run(&["logs", "storage", "-c", "reader"])
    })?;
    // A new attempt finds the volume as it was, and a layer of its own.
    let again = ["exec", "storage", "-c", "main", "--", "/bin/sh", "-c"];
    let script = ["echo again > /shared/word; kill 1"];
    appliance.kubectl.run(&[&again[..], &script].concat())?;
    let restarts = "{.status.containerStatuses[?(@.name==\"main\")].restartCount}";
    let get = [
        "get",
        "pod",
        "storage",
        "-o",
        &format!("jsonpath={restarts}"),
    ];
    wait::until_equal("restarts of main", POD, &"1".to_owned(), || {
        appliance.kubectl.run(&get)
    })?;
    let wanted = format!("again\n{wanted}");
    wait::until_equal("the log of main, again", POD, &wanted, || {
        appliance.kubectl.run(&logs)
    })?;
    appliance.delete("storage")?;
    // What was written is gone with the machine.
    let fresh = Pod::script("storage", "ls -A /shared; echo end; exec sleep 100000")
        .with("/spec/volumes", json!([{"name": "shared", "emptyDir": {}}]))
        .with(
            "/spec/containers/0/volumeMounts",
            json!([{"name": "shared", "mountPath": "/shared"}]),
        );
    appliance.create(&fresh)?;
    appliance.until_phase("storage", "Running")?;
    wait::until_equal("the log of a new pod", POD, &"end\n".to_owned(), || {
        appliance.kubectl.run(&["logs", "storage"])
    })?;
    appliance.delete("storage")?;
    let agent = appliance.agent()?;
    for vmm in agent.of_role("vmm")? {
        let open = agent.descriptors(vmm.pid)?;
        let scratch = open.iter().any(|target| target.ends_with(" (deleted)"));
        ensure!(!scratch, "{vmm:?} still has a scratch disk: {open:?}");
    }
    Ok(())
}
