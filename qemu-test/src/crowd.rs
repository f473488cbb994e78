//! Many pods at once, and pods that come and go: all run, all answer, and
//! nothing of them is left.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use serde_json::{Value, json};

use crate::appliance::Appliance;
use crate::kubectl::Kubectl;
use crate::traces::Traces;

/// From created to all running, for each pod, on a machine that does other
/// things, too.
const START: Duration = Duration::from_secs(15);
/// kubectl's that run at once.
const CALLERS: usize = 4;
/// Ends at once when it is told to.
const SCRIPT: &str = "trap 'exit 0' TERM; sleep 100000 & wait";
const LABEL: &str = "crowd=yes";

fn manifest(count: usize) -> String {
    let pod = |number: usize| {
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": name(number), "labels": { "crowd": "yes" } },
            "spec": {
                "terminationGracePeriodSeconds": 5,
                "containers": [{
                    "name": "main",
                    "image": "busybox",
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["/bin/sh", "-c", SCRIPT],
                    // The smallest machine.
                    "resources": { "limits": { "memory": "16Mi" } },
                }],
            },
        })
    };
    let pods: Vec<Value> = (0..count).map(pod).collect();
    json!({ "apiVersion": "v1", "kind": "List", "items": pods }).to_string()
}

fn name(number: usize) -> String {
    format!("crowd-{number}")
}

/// Creates so many pods by one call, has them all running at one moment, asks
/// each, and deletes them by one call. What the first pod of a node leaves by
/// intention, such as the directory of logs, one pod before them leaves.
pub fn comes_and_goes(appliance: &mut Appliance, count: usize) -> Result<()> {
    round(appliance, 1)?;
    let before = Traces::of(appliance.agent()?)?;
    round(appliance, count)?;
    before.until_again(appliance.agent()?)
}

fn round(appliance: &mut Appliance, count: usize) -> Result<()> {
    let began = Instant::now();
    appliance.kubectl.apply(&manifest(count))?;
    let all_run = |list: &Value| {
        let pods = list["items"].as_array()?;
        let runs = |pod: &&Value| {
            let ready = &pod["status"]["containerStatuses"][0]["ready"];
            pod["status"]["phase"] == "Running" && *ready == true
        };
        (pods.iter().filter(runs).count() == count).then_some(())
    };
    let patience = START * u32::try_from(count)?;
    let what = format!("{count} pods running");
    appliance
        .kubectl
        .until(&what, &["pods", "-l", LABEL], patience, all_run)?;
    let started = began.elapsed();
    let vmms = appliance.agent()?.of_role("vmm")?.len();
    ensure!(vmms >= count, "{vmms} machines for {count} pods");
    all_answer(&appliance.kubectl, count)?;
    let answered = began.elapsed();
    let words = ["delete", "pods", "-l", LABEL, "--timeout=80s"];
    appliance.kubectl.run(&words)?;
    println!(
        "{count} pods: {:.1} s until all ran, {:.1} s until all answered, {:.1} s in all",
        started.as_secs_f32(),
        answered.as_secs_f32(),
        began.elapsed().as_secs_f32()
    );
    Ok(())
}

fn all_answer(kubectl: &Kubectl, count: usize) -> Result<()> {
    thread::scope(|scope| {
        let answers = |caller: usize| {
            for pod in (caller..count).step_by(CALLERS).map(name) {
                let said = kubectl.run(&["exec", &pod, "--", "hostname"])?;
                ensure!(said.trim() == pod, "{pod} calls itself {said:?}");
            }
            Ok(())
        };
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| scope.spawn(move || answers(caller)))
            .collect();
        let ended = callers.into_iter().map(|caller| {
            let ended = caller.join();
            ended.map_err(|_| anyhow!("a caller panicked")).flatten()
        });
        ended.collect()
    })
}
