//! Pods as a user runs them: one boot, many scenarios.

use std::process::ExitCode;

use anyhow::Result;
use qemu_test::appliance::{Appliance, Setup, Storage};
use qemu_test::images;
use qemu_test::machine::Image;
use qemu_test::process::Bond;
use qemu_test::suite::{self, Scenario};

const SCENARIOS: &[Scenario] = &[("processes", processes)];

fn main() -> ExitCode {
    suite::run(boot, SCENARIOS)
}

fn boot(image: &Image) -> Result<Appliance> {
    let directory = std::env::temp_dir().join(format!("atoll-pods-{}", std::process::id()));
    let mut a = Appliance::start(&Setup {
        image,
        directory,
        storage: Storage::Files,
        images: images::ALL,
        memory_mib: 2048,
        agent: true,
        bond: Bond::Tied,
    })?;
    println!("{:?}", a.agent()?.processes());
    Ok(a)
}

fn processes(appliance: &mut Appliance) -> Result<()> {
    println!("{:?}", appliance.agent()?.list("/lib/modules")?);
    println!("{}", appliance.machine.console());
    anyhow::bail!("x")
}
