//! Probes, hooks and sidecars, and what a container says last.

use std::time::Duration;

use anyhow::{Result, ensure};
use qemu_test::appliance::{Appliance, POD};
use qemu_test::pod::Pod;
use qemu_test::wait;
use serde_json::{Value, json};

/// Probes of an emulated machine take their time.
const SLOW: Duration = Duration::from_secs(120);
const SERVE: &str = "mkdir /tmp/www; echo yes > /tmp/www/ok
    until [ -e /tmp/hook ]; do sleep 1; done; echo hook ran
    exec httpd -f -p 8080 -h /tmp/www";
const SIDE: &str = "trap 'echo side ends; exit 0' TERM; echo side runs; touch /tmp/up
    while true; do sleep 1; done";

fn exec(words: &[&str]) -> Value {
    json!({"exec": {"command": words}})
}

fn probe(mut action: Value) -> Value {
    action["periodSeconds"] = json!(2);
    action["timeoutSeconds"] = json!(30);
    action["failureThreshold"] = json!(1);
    action
}

fn pod() -> Pod {
    let mut startup = probe(exec(&["test", "-e", "/tmp/up"]));
    startup["failureThreshold"] = json!(60);
    let ready = probe(json!({"httpGet": {"path": "/ok", "port": "web"}}));
    let alive = probe(exec(&["test", "!", "-e", "/tmp/bad"]));
    let side = json!({
        "name": "side", "image": "busybox", "command": ["/bin/sh", "-c", SIDE],
        "restartPolicy": "Always", "startupProbe": startup,
    });
    Pod::script("health", SERVE)
        .restart("Always")
        .with("/spec/initContainers", json!([side]))
        .with("/spec/terminationGracePeriodSeconds", json!(20))
        .with(
            "/spec/containers/0/ports",
            json!([{"name": "web", "containerPort": 8080}]),
        )
        .with("/spec/containers/0/readinessProbe", ready)
        .with("/spec/containers/0/livenessProbe", alive)
        .with(
            "/spec/containers/0/lifecycle",
            json!({"postStart": exec(&["touch", "/tmp/hook"])}),
        )
}

pub(crate) fn probes_decide(appliance: &mut Appliance) -> Result<()> {
    let kubectl = &appliance.kubectl;
    appliance.create(&pod())?;
    until_ready(appliance, "True")?;
    let main = |words: &[&str]| {
        let exec = ["exec", "health", "-c", "main", "--"];
        kubectl.run(&[&exec[..], words].concat())
    };
    main(&["rm", "/tmp/www/ok"])?;
    until_ready(appliance, "FalseContainersNotReady")?;
    let message = appliance.until_event_with("health", "Unhealthy", "Readiness")?;
    // Before the server listened, a first probe may have found nobody.
    let refused = "dial tcp 127.0.0.1:8080: connect: connection refused";
    let wanted = [
        "HTTP probe failed with statuscode: 404".to_owned(),
        format!("Get \"http://127.0.0.1:8080/ok\": {refused}"),
    ];
    let wanted = wanted.map(|cause| format!("Readiness probe failed: {cause}"));
    ensure!(wanted.contains(&message), "{message}");
    main(&["touch", "/tmp/bad"])?;
    let part = "Container main failed liveness probe, will be restarted";
    appliance.until_event_with("health", "Killing", part)?;
    let path = "jsonpath={.status.containerStatuses[0].restartCount}";
    wait::until_equal("restarts", SLOW, &"1".to_owned(), || {
        kubectl.run(&["get", "pod", "health", "-o", path])
    })?;
    until_ready(appliance, "True")?;
    ends_in_order(appliance)
}

/// Waits for the condition's status, with its reason if there is one.
fn until_ready(appliance: &Appliance, wanted: &str) -> Result<()> {
    let path = "jsonpath={range .status.conditions[?(@.type==\"Ready\")]}{.status}{.reason}{end}";
    wait::until_equal("condition Ready", SLOW, &wanted.to_owned(), || {
        appliance.kubectl.run(&["get", "pod", "health", "-o", path])
    })
}

/// The sidecar sees the main container's end, and ends well.
fn ends_in_order(appliance: &Appliance) -> Result<()> {
    let kubectl = &appliance.kubectl;
    let mut side = kubectl.start(&["logs", "-f", "health", "-c", "side"])?;
    appliance.delete("health")?;
    side.finish(POD)?;
    let said = side.output();
    ensure!(said == "side runs\nside ends\n", "{said:?}");
    Ok(())
}

pub(crate) fn last_words_are_kept(appliance: &mut Appliance) -> Result<()> {
    let words = Pod::script("words", "echo first; echo last words >&2; exit 3")
        .restart("Never")
        .with(
            "/spec/containers/0/terminationMessagePolicy",
            json!("FallbackToLogsOnError"),
        );
    appliance.create(&words)?;
    appliance.until_phase("words", "Failed")?;
    let path = "jsonpath={.status.containerStatuses[0].state.terminated.message}";
    let message = appliance
        .kubectl
        .run(&["get", "pod", "words", "-o", path])?;
    ensure!(message == "first\nlast words\n", "{message:?}");
    appliance.delete("words")
}
