//! DATA is full: pulls fail with a reason, what runs goes on, and all is well
//! again when there is room.

use std::time::Duration;

use anyhow::{Result, ensure};
use qemu_test::appliance::{Appliance, NODE, POD};
use qemu_test::pod::Pod;
use serde_json::json;

use crate::{DATA, unharmed};

const TAINT: &str = "node.kubernetes.io/disk-pressure";
const FILLER: &str = "/var/lib/atoll/data/filler";
/// Under a tenth there is pressure; the image of python needs more than the rest.
const ROOM: u64 = DATA / 10 + (4 << 20);
const LITTLE: u64 = 1 << 20;
/// The node looks at itself every ten seconds; a back-off may have to end.
const PATIENCE: Duration = Duration::from_secs(150);

fn until_pressure(appliance: &Appliance, wanted: &str) -> Result<()> {
    let what = format!("DiskPressure {wanted}");
    appliance
        .kubectl
        .until(&what, &["node", NODE], PATIENCE, |node| {
            let conditions = node["status"]["conditions"].as_array()?;
            let none = Vec::new();
            let taints = node["spec"]["taints"].as_array().unwrap_or(&none);
            let of_disk = |condition: &&serde_json::Value| condition["type"] == "DiskPressure";
            let condition = conditions.iter().find(of_disk)?;
            // The taint follows, and only that keeps pods away.
            let tainted = taints.iter().any(|taint| taint["key"] == TAINT);
            (condition["status"] == wanted && tainted == (wanted == "True")).then_some(())
        })
}

pub(crate) fn data_is_full(appliance: &mut Appliance) -> Result<()> {
    until_pressure(appliance, "False")?;
    appliance.agent()?.fill(FILLER, ROOM)?;
    let done = pull_fails(appliance).and_then(|()| pressure_keeps_pods_away(appliance));
    appliance.agent()?.remove(FILLER)?;
    done?;
    until_pressure(appliance, "False")?;
    for name in ["no-room", "kept-away"] {
        appliance.until_phase(name, "Succeeded")?;
        appliance.delete(name)?;
    }
    unharmed(appliance)
}

fn pull_fails(appliance: &Appliance) -> Result<()> {
    appliance.create(&Pod::new("no-room", "python", &["/bin/true"]))?;
    let message = appliance.until_event_with("no-room", "Failed", "python")?;
    ensure!(message.contains("No space left on device"), "{message}");
    appliance
        .kubectl
        .until("a reason", &["pod", "no-room"], POD, |pod| {
            let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
            let reason = waiting["reason"].as_str()?;
            ["ErrImagePull", "ImagePullBackOff"]
                .contains(&reason)
                .then_some(())
        })?;
    unharmed(appliance)
}

/// What runs goes on, and a small pod of a cached image finds no node; one that
/// tolerates the pressure is turned away by the node itself, as upstream's does.
fn pressure_keeps_pods_away(appliance: &mut Appliance) -> Result<()> {
    appliance
        .agent()?
        .fill("/var/lib/atoll/data/filler-too", LITTLE)?;
    let done = (|| {
        until_pressure(appliance, "True")?;
        appliance.create(&Pod::script("kept-away", "true"))?;
        let message = appliance.until_event("kept-away", "FailedScheduling")?;
        ensure!(message.contains("taint"), "{message}");
        let tolerations = json!([{ "operator": "Exists" }]);
        let pod = Pod::script("tolerant", "true").with("/spec/tolerations", tolerations);
        appliance.create(&pod)?;
        appliance.until_phase("tolerant", "Failed")?;
        let pod = appliance.kubectl.get(&["pod", "tolerant"])?;
        let (reason, message) = (&pod["status"]["reason"], &pod["status"]["message"]);
        ensure!(reason == "Evicted", "{pod:#}");
        let why = message.as_str().unwrap_or_default();
        ensure!(why.contains("DiskPressure"), "{pod:#}");
        appliance.delete("tolerant")?;
        unharmed(appliance)
    })();
    appliance
        .agent()?
        .remove("/var/lib/atoll/data/filler-too")?;
    done
}
