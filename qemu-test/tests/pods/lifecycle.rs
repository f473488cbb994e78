//! From created to running, ended, restarted.

use std::fs;

use anyhow::{Context, Result, ensure};
use qemu_test::appliance::{Appliance, POD};
use qemu_test::images::PAGE;
use qemu_test::pod::Pod;
use qemu_test::programs;
use qemu_test::wait;
use serde_json::{Value, json};

fn example(name: &str) -> Result<String> {
    let path = format!("{}/../examples/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).context(path)
}

/// Waits for what a container's status says at `pointer`.
fn until_container(
    appliance: &Appliance,
    pod: &str,
    pointer: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Result<Value> {
    let what = format!("{pointer} of {pod}");
    appliance.kubectl.until(&what, &["pod", pod], POD, |pod| {
        let value = pod["status"]["containerStatuses"][0].pointer(pointer)?;
        wanted(value).then(|| value.clone())
    })
}

/// The pod `nginx`, which may be there already.
pub(crate) fn nginx(appliance: &Appliance) -> Result<()> {
    let kubectl = &appliance.kubectl;
    kubectl.apply(&example("pod-nginx")?)?;
    let ready = [
        "wait",
        "--for=condition=Ready",
        "pod/nginx",
        "--timeout=90s",
    ];
    kubectl.run(&ready).map(drop)
}

pub(crate) fn nginx_serves_its_page(appliance: &mut Appliance) -> Result<()> {
    nginx(appliance)?;
    let kubectl = &appliance.kubectl;
    let page = appliance.fetch("nginx", 80, "/")?;
    ensure!(page == PAGE, "another page: {page:?}");
    let log = kubectl.run(&["logs", "nginx"])?;
    ensure!(
        log.contains("GET / HTTP/1.1"),
        "no request in the log: {log:?}"
    );
    Ok(())
}

pub(crate) fn phases_are_watched(appliance: &mut Appliance) -> Result<()> {
    let kubectl = &appliance.kubectl;
    let mut watch = kubectl.start(&["get", "pods", "--watch"])?;
    kubectl.apply(&example("pod-job")?)?;
    let seen = watch.until("Completed", POD, |said| {
        let all: Vec<String> = said
            .lines()
            .filter(|line| line.starts_with("job "))
            .filter_map(|line| line.split_whitespace().nth(2).map(str::to_owned))
            .collect();
        (all.last().map(String::as_str) == Some("Completed")).then_some(all)
    })?;
    let mut phases = seen;
    phases.dedup();
    let wanted = ["Pending", "ContainerCreating", "Running", "Completed"];
    ensure!(phases == wanted, "phases {phases:?}, wanted {wanted:?}");
    let log = kubectl.run(&["logs", "job"])?;
    ensure!(log == "begun\ndone\n", "log {log:?}");
    appliance.delete("job")
}

pub(crate) fn containers_share_the_network(appliance: &mut Appliance) -> Result<()> {
    appliance.kubectl.apply(&example("pod-two")?)?;
    appliance.until_phase("two", "Running")?;
    wait::until_equal(
        "what the client got",
        POD,
        &"from the server\n".to_owned(),
        || {
            appliance
                .kubectl
                .run(&["logs", "two", "-c", "client", "--tail=1"])
        },
    )?;
    let said = appliance
        .kubectl
        .say(&["exec", "two", "-c", "client", "--", "ls", "/www"])?;
    ensure!(said.code() == Some(1), "the file systems are one: {said:?}");
    let ready = appliance
        .kubectl
        .run(&["get", "pod", "two", "--no-headers"])?;
    ensure!(ready.contains("2/2"), "not 2/2: {ready}");
    appliance.delete("two")
}

/// A limit of CPU is so many virtual processors, each of which runs. The pod has a
/// long name, too, and what kubectl is told of that is printed.
pub(crate) fn a_pod_has_several_processors(appliance: &mut Appliance) -> Result<()> {
    let script = "for cpu in $(seq 0 3); do taskset -c $cpu echo on $cpu; done; nproc; \
        grep -c ^processor /proc/cpuinfo; hostname; grep svc /etc/hosts; exec sleep 1000";
    let resources = json!({
        "requests": { "cpu": "100m", "memory": "64Mi" },
        "limits": { "cpu": "4", "memory": "128Mi" },
    });
    let pod = Pod::script("wide", script)
        .with("/spec/containers/0/resources", resources)
        .with("/spec/subdomain", json!("db"))
        .with("/spec/setHostnameAsFQDN", json!(true))
        .with("/spec/terminationGracePeriodSeconds", json!(1));
    let said = appliance
        .kubectl
        .say_with(&["create", "-f", "-"], &pod.manifest())?;
    let warning = "Warning: spec.subdomain: there is no cluster DNS yet";
    ensure!(said.stderr.contains(warning), "{said:?}");
    appliance.until_phase("wide", "Running")?;
    let full = "wide.db.default.svc.cluster.local";
    let wanted = format!("on 0\non 1\non 2\non 3\n4\n4\n{full}\n127.0.0.1\t{full}\twide\n");
    wait::until_equal("the output of wide", POD, &wanted, || {
        appliance.kubectl.run(&["logs", "wide"])
    })?;
    resized(appliance)?;
    appliance.delete("wide")
}

/// Less, more again, and more than its machine has (KEP-1287).
fn resized(appliance: &mut Appliance) -> Result<()> {
    let ask = |cpu: &str, memory: &str| {
        let limits = json!({ "cpu": cpu, "memory": memory });
        let resources = json!({ "requests": { "cpu": "200m" }, "limits": limits });
        let containers = json!([{ "name": "main", "resources": resources }]);
        let patch = json!({ "spec": { "containers": containers } }).to_string();
        let arguments = ["patch", "pod", "wide", "--subresource=resize", "-p", &patch];
        appliance.kubectl.run(&arguments)
    };
    let files = "cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/memory.max";
    let inside = ["exec", "wide", "--", "sh", "-c", files];
    for (cpu, memory, seen) in [
        ("500m", "96Mi", "50000 100000\n100663296\n"),
        ("2", "128Mi", "200000 100000\n134217728\n"),
    ] {
        ask(cpu, memory)?;
        until_container(appliance, "wide", "/resources/limits/cpu", |now| now == cpu)?;
        let said = appliance.kubectl.run(&inside)?;
        ensure!(said == seen, "{cpu} {memory}: {said:?}");
    }
    ask("8", "128Mi")?;
    let what = "a resize that is infeasible";
    let message = appliance
        .kubectl
        .until(what, &["pod", "wide"], POD, |pod| {
            let mut conditions = pod["status"]["conditions"].as_array()?.iter();
            let found = conditions.find(|own| own["reason"] == "Infeasible")?;
            Some(found["message"].as_str()?.to_owned())
        })?;
    let wanted = "Machine didn't have enough capacity: cpu, requested: 8000, capacity: 4000";
    ensure!(message == wanted, "{message}");
    until_container(appliance, "wide", "/restartCount", |count| *count == 0)?;
    // Among others, its machine weighs what it asks for.
    let uid = ["get", "pod", "wide", "-o", "jsonpath={.metadata.uid}"];
    let uid = appliance.kubectl.run(&uid)?.replace('-', "");
    let weight = format!("/sys/fs/cgroup/vmm/{uid}/cpu.weight");
    let weight = appliance.agent()?.read(&weight)?;
    ensure!(weight == "20\n", "{weight:?}");
    Ok(())
}

/// All of them at once: each has a machine of its own.
pub(crate) fn restart_policies(appliance: &mut Appliance) -> Result<()> {
    // Kubernetes reads `$$` as an escaped `$`.
    let killed = "sh -c 'kill -9 $$$$'; exit $?";
    let ending = [
        ("never-bad", "Never", "exit 3", "Failed", 3),
        ("never-good", "Never", "exit 0", "Succeeded", 0),
        ("failure-good", "OnFailure", "exit 0", "Succeeded", 0),
        ("never-signal", "Never", killed, "Failed", 137),
    ];
    let restarted = [
        ("always-good", "Always", "exit 0"),
        ("failure-bad", "OnFailure", "exit 4"),
    ];
    let pods = ending.map(|(name, policy, script, _, _)| (name, policy, script));
    for (name, policy, script) in pods.iter().chain(&restarted) {
        appliance.create(&Pod::script(name, script).restart(policy))?;
    }
    for (name, _, _, phase, code) in ending {
        appliance.until_phase(name, phase)?;
        until_container(appliance, name, "/state/terminated/exitCode", |seen| {
            *seen == code
        })?;
        until_container(appliance, name, "/restartCount", |count| *count == 0)?;
    }
    for (name, _, _) in restarted {
        until_container(appliance, name, "/restartCount", |count| {
            count.as_u64().is_some_and(|count| count >= 1)
        })?;
    }
    for (name, _, _) in pods.iter().chain(&restarted) {
        appliance.delete(name)?;
    }
    Ok(())
}

pub(crate) fn back_off_and_previous_logs(appliance: &mut Appliance) -> Result<()> {
    let script = "echo run $(cat /proc/sys/kernel/random/uuid); exit 1";
    appliance.create(&Pod::script("crash", script).restart("Always"))?;
    until_container(appliance, "crash", "/state/waiting/reason", |reason| {
        reason == "CrashLoopBackOff"
    })?;
    let message = appliance.until_event("crash", "BackOff")?;
    ensure!(
        message.contains("Back-off restarting failed container"),
        "{message}"
    );
    until_container(appliance, "crash", "/restartCount", |count| {
        count.as_u64().is_some_and(|count| count >= 1)
    })?;
    let previous = appliance.kubectl.run(&["logs", "crash", "--previous"])?;
    ensure!(
        previous.starts_with("run ") && previous.lines().count() == 1,
        "{previous:?}"
    );
    appliance.delete("crash")
}

pub(crate) fn real_programs_run(appliance: &mut Appliance) -> Result<()> {
    programs::work(appliance, programs::FAST, 1)
}
