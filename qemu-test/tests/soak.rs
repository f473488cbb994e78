//! What takes too long for every run: large programs, many pods.
//!
//! Runs only when `ATOLL_SOAK` says how many pods are to come and go.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use qemu_test::appliance::{Appliance, DATA, Setup, Storage};
use qemu_test::machine::Image;
use qemu_test::pod::Pod;
use qemu_test::process::Bond;
use qemu_test::suite::{self, Scenario};
use qemu_test::{copy, crowd, images, programs};
use serde_json::json;

const COUNT: &str = "ATOLL_SOAK";
/// Of the pods that come and go, so many at once.
const TOGETHER: usize = 10;
/// How much more the loads of the fast programs do here.
const TIMES: u32 = 5;

/// 1 GiB, under emulation.
const COPY: Duration = Duration::from_secs(3600);

const SCENARIOS: &[Scenario] = &[
    ("large_programs_run", large_programs_run),
    ("programs_run_on", programs_run_on),
    ("fifty_pods_at_once", fifty_pods_at_once),
    ("a_gibibyte_is_copied", a_gibibyte_is_copied),
    ("pods_come_and_go", pods_come_and_go),
];

fn main() -> ExitCode {
    if std::env::var_os(COUNT).is_none() {
        println!("not run: {COUNT} says no number (make soak sets it)");
        return ExitCode::SUCCESS;
    }
    suite::run(boot, SCENARIOS)
}

fn boot(image: &Image) -> Result<Appliance> {
    let mut appliance = Appliance::start(&Setup {
        image,
        directory: suite::directory("soak")?,
        storage: Storage::Files { data: DATA },
        images: &[images::ALL, images::LARGE].concat(),
        memory_mib: 6144,
        node: json!({}),
        agent: true,
        bond: Bond::Tied,
    })?;
    appliance.until_ready()?;
    Ok(appliance)
}

/// Not all at once: the largest would take each other's time.
fn large_programs_run(appliance: &mut Appliance) -> Result<()> {
    for program in programs::SLOW {
        programs::work(appliance, std::slice::from_ref(program), 1)?;
    }
    Ok(())
}

fn programs_run_on(appliance: &mut Appliance) -> Result<()> {
    programs::work(appliance, programs::FAST, TIMES)
}

fn fifty_pods_at_once(appliance: &mut Appliance) -> Result<()> {
    crowd::comes_and_goes(appliance, 50)
}

fn a_gibibyte_is_copied(appliance: &mut Appliance) -> Result<()> {
    let pod = Pod::script("copies", "exec sleep 100000")
        .with("/spec/volumes", json!([{"name": "data", "emptyDir": {}}]))
        .with(
            "/spec/containers/0/volumeMounts",
            json!([{"name": "data", "mountPath": "/data"}]),
        );
    appliance.create(&pod)?;
    appliance.until_phase("copies", "Running")?;
    let [there, back] = copy::there_and_back(appliance, "copies", "/data", 1024, COPY)?;
    println!("1 GiB: {there:.1?} there, {back:.1?} back");
    appliance.delete("copies")
}

/// Resident memory of the roles is compared after the first, when caches and
/// the like are filled, and after the last.
fn pods_come_and_go(appliance: &mut Appliance) -> Result<()> {
    let told = std::env::var(COUNT)?;
    let count: usize = told.parse().with_context(|| format!("{COUNT}={told}"))?;
    let rounds = count.div_ceil(TOGETHER);
    let mut early = Vec::new();
    for round in 0..rounds {
        crowd::comes_and_goes(appliance, TOGETHER)?;
        if round == rounds / 5 {
            early = resident(appliance)?;
        }
    }
    let late = resident(appliance)?;
    println!("KiB resident after a fifth of {count} pods: {early:?}; after all: {late:?}");
    for ((role, before), (_, after)) in early.iter().zip(&late) {
        let limit = before + growth(role);
        ensure!(*after <= limit, "{role}: {after} KiB, were {before}");
    }
    Ok(())
}

/// KiB that a role may grow by: `control` keeps the events of an hour.
fn growth(role: &str) -> u64 {
    match role {
        "control" => 32 << 10,
        _ => 4 << 10,
    }
}

fn resident(appliance: &mut Appliance) -> Result<Vec<(&'static str, u64)>> {
    let all = appliance.agent()?.processes()?;
    let of = |role: &'static str| {
        let process = all.iter().find(|process| process.role() == Some(role));
        Ok((role, process.with_context(|| role.to_owned())?.resident))
    };
    ["init", "control", "node", "fabric"]
        .map(of)
        .into_iter()
        .collect()
}
