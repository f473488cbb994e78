//! What a pod may ask of its kernel: parameters, and for privileged containers
//! devices and networks of their own.

use anyhow::{Result, ensure};
use qemu_test::appliance::{Appliance, POD};
use qemu_test::pod::Pod;
use qemu_test::wait;
use serde_json::json;

/// A bridge with one end of a pair, a disk in a file, and the devices of TUN and
/// FUSE.
const PRIVILEGED: &str = "ip link add br0 type bridge && ip link add pair0 type veth &&
    ip link set pair0 master br0 && ip link set br0 up && echo bridge
    ip link add d0 type dummy && ip link set d0 up && echo dummy
    dd if=/dev/zero of=/disk/file bs=1M count=1 2>/dev/null
    losetup -f /disk/file && losetup -a | grep -c /disk/file
    echo hello | dd of=/dev/loop0 2>/dev/null; sync; head -n 1 /disk/file
    : <>/dev/net/tun && echo tun
    : <>/dev/fuse && echo fuse
    test -e /proc/sys/net/netfilter/nf_conntrack_max && echo conntrack
    unshare -U true && echo namespaces; exec sleep 100000";

pub(crate) fn the_kernel_is_the_pods_own(appliance: &mut Appliance) -> Result<()> {
    parameters(appliance)?;
    let pod = Pod::script("kernel", PRIVILEGED)
        .with(
            "/spec/containers/0/securityContext",
            json!({"privileged": true}),
        )
        .with("/spec/volumes", json!([{"name": "disk", "emptyDir": {}}]))
        .with(
            "/spec/containers/0/volumeMounts",
            json!([{"name": "disk", "mountPath": "/disk"}]),
        );
    appliance.create(&pod)?;
    appliance.until_phase("kernel", "Running")?;
    let wanted = "bridge\ndummy\n1\nhello\ntun\nfuse\nconntrack\nnamespaces\n";
    until_log(appliance, wanted)?;
    appliance.delete("kernel")
}

fn parameters(appliance: &mut Appliance) -> Result<()> {
    let with = |name: &str, value: &str| {
        let script = "cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/core/somaxconn
            mount | grep -c ' /proc/'; exec sleep 100000";
        Pod::script("kernel", script)
            .with(
                "/spec/securityContext",
                json!({"sysctls": [
                    {"name": "kernel.shm_rmid_forced", "value": "1"},
                    {"name": name, "value": value},
                ]}),
            )
            .with(
                "/spec/containers/0/securityContext",
                json!({"procMount": "Unmasked"}),
            )
    };
    appliance.create(&with("net.core.somaxconn", "1234"))?;
    appliance.until_phase("kernel", "Running")?;
    until_log(appliance, "1\n1234\n0\n")?;
    appliance.delete("kernel")?;
    // No kernel has it.
    appliance.create(&with("foo.bar", "1"))?;
    appliance.until_phase("kernel", "Failed")?;
    let get = [
        "get",
        "pod",
        "kernel",
        "-o",
        "jsonpath={.status.reason}: {.status.message}",
    ];
    let said = appliance.kubectl.run(&get)?;
    let wanted = "SysctlForbidden: forbidden sysctl: \"foo.bar\" not allowlisted";
    ensure!(said == wanted, "{said}");
    appliance.delete("kernel")?;
    // The guest's hasn't.
    appliance.create(&with("kernel.none", "1"))?;
    let part = "sysctl \"kernel/none\": this kernel has none";
    appliance.until_event_with("kernel", "FailedCreatePodSandBox", part)?;
    appliance.delete("kernel")
}

fn until_log(appliance: &Appliance, wanted: &str) -> Result<()> {
    wait::until_equal("the log", POD, &wanted.to_owned(), || {
        appliance.kubectl.run(&["logs", "kernel"])
    })
}
