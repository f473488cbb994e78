//! What takes too long for every run: large programs, large copies.
//!
//! Runs only when `ATOLL_SOAK` is set.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use qemu_test::appliance::{Appliance, DATA, Setup, Storage};
use qemu_test::machine::Image;
use qemu_test::pod::Pod;
use qemu_test::process::Bond;
use qemu_test::suite::{self, Scenario};
use qemu_test::{copy, images, programs};
use serde_json::json;

const COUNT: &str = "ATOLL_SOAK";
/// How much more the loads of the fast programs do here.
const TIMES: u32 = 5;

/// 1 GiB, under emulation.
const COPY: Duration = Duration::from_secs(3600);

const SCENARIOS: &[Scenario] = &[
    ("large_programs_run", large_programs_run),
    ("programs_run_on", programs_run_on),
    ("a_gibibyte_is_copied", a_gibibyte_is_copied),
];

fn main() -> ExitCode {
    if std::env::var_os(COUNT).is_none() {
        println!("not run: {COUNT} is not set (make soak sets it)");
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
        kubelet: json!({}),
        agent: true,
        bond: Bond::Tied,
    })?;
    appliance.until_api()?;
    appliance.until_node()?;
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
