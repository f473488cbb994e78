//! Scenarios that share a machine: run one after the other, each timed, and
//! when one fails, everything is printed that tells why.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

use crate::appliance::Appliance;
use crate::machine::Image;

/// A name and what to do with the appliance.
pub type Scenario = (&'static str, fn(&mut Appliance) -> Result<()>);

/// The image to boot, from ATOLL_IMAGE; make always sets it.
#[must_use]
pub fn image() -> Option<Image> {
    std::env::var_os("ATOLL_IMAGE").map(|path| Image(path.into()))
}

/// A new directory for a suite's machine; what an earlier run left is removed.
pub fn directory(suite: &str) -> Result<PathBuf> {
    let place = std::env::temp_dir().join(format!("atoll-{suite}"));
    if place.exists() {
        fs::remove_dir_all(&place)?;
    }
    fs::create_dir_all(&place)?;
    Ok(place)
}

/// Whether a scenario is to run: all are, unless arguments of the command line
/// name parts of their names.
#[must_use]
pub fn chosen(name: &str) -> bool {
    let mut filters = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-') && !argument.is_empty())
        .peekable();
    filters.peek().is_none() || filters.any(|filter| name.contains(&filter))
}

/// How often the scenarios are gone through: ATOLL_LOOPS, or once.
fn loops() -> u32 {
    let told = std::env::var("ATOLL_LOOPS").ok();
    told.and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Boots what `boot` makes and runs the scenarios whose name holds an argument
/// of the command line, or all.
pub fn run(boot: impl Fn(&Image) -> Result<Appliance>, scenarios: &[Scenario]) -> ExitCode {
    let Some(image) = image() else {
        println!("not run: ATOLL_IMAGE names no image (make test sets it)");
        return ExitCode::SUCCESS;
    };
    if !scenarios.iter().any(|(name, _)| chosen(name)) {
        println!("FAILED: no scenario has such a name");
        return ExitCode::FAILURE;
    }
    let rounds = (0..loops()).flat_map(|_| scenarios);
    let chosen: Vec<Scenario> = rounds.filter(|(name, _)| chosen(name)).copied().collect();
    match through(&|| boot(&image), &chosen) {
        Ok(failed) if failed.is_empty() => ExitCode::SUCCESS,
        Ok(failed) => {
            println!("failed: {}", failed.join(", "));
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("boot FAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// How many scenarios of a suite run again when the emulator broke a kernel.
const AGAIN_MAX: u32 = 3;

/// The names of those that failed; an error if nothing could boot.
fn through(
    boot: &dyn Fn() -> Result<Appliance>,
    scenarios: &[Scenario],
) -> Result<Vec<&'static str>> {
    let mut appliance = timed(boot)?;
    let mut failed = Vec::new();
    let mut again = AGAIN_MAX;
    for (name, scenario) in scenarios {
        let said = appliance.machine.said();
        let mut outcome = attempt(name, *scenario, &mut appliance);
        if let Err(text) = &outcome
            && again > 0
            && appliance.machine.died_of_emulation(said)
        {
            println!("{text}");
            println!("the emulator broke a kernel (see docs/testing.md): once more");
            again -= 1;
            drop(appliance);
            appliance = timed(boot)?;
            outcome = attempt(name, *scenario, &mut appliance);
        }
        let Err(text) = outcome else { continue };
        failed.push(*name);
        let death = appliance.machine.obituary();
        for line in death.iter().chain([&text, &appliance.evidence()]) {
            println!("{line}");
        }
        if death.is_some() {
            drop(appliance);
            appliance = timed(boot)?;
        }
    }
    Ok(failed)
}

fn timed(boot: &dyn Fn() -> Result<Appliance>) -> Result<Appliance> {
    let began = Instant::now();
    let appliance = boot()?;
    println!("boot ... ok ({:.1} s)", began.elapsed().as_secs_f32());
    Ok(appliance)
}

/// What went wrong, if anything did.
fn attempt(
    name: &str,
    scenario: fn(&mut Appliance) -> Result<()>,
    appliance: &mut Appliance,
) -> Result<(), String> {
    let began = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| scenario(appliance)));
    let seconds = began.elapsed().as_secs_f32();
    let (verdict, result) = match outcome {
        Ok(Ok(())) => ("ok", Ok(())),
        Ok(Err(error)) => ("FAILED", Err(format!("{error:#}"))),
        Err(_) => ("PANICKED", Err("see above".to_owned())),
    };
    println!("scenario {name} ... {verdict} ({seconds:.1} s)");
    result
}
