//! Power cuts at random moments, on disks that lose what was not flushed: every
//! object acknowledged before the cut is there after the boot, and pods run.
//!
//! ATOLL_POWER_CUTS sets how many boots (3 unless told); ATOLL_SEED repeats one.

use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use qemu_test::appliance::{Appliance, Setup, Storage};
use qemu_test::images;
use qemu_test::machine::Image;
use qemu_test::nbd::{Device, Random};
use qemu_test::pod::Pod;
use qemu_test::process::Bond;
use qemu_test::suite;

const STATE: u64 = 1 << 30;
const DATA: u64 = 8 << 30;
/// How long objects are written before the cut, at most.
const WRITING: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let Some(image) = suite::image() else {
        println!("not run: ATOLL_IMAGE names no image (make test sets it)");
        return ExitCode::SUCCESS;
    };
    let cuts = number("ATOLL_POWER_CUTS").unwrap_or(3);
    let seed = number("ATOLL_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.map_or(1, |now| now.as_secs())
    });
    println!("power cuts: {cuts}, ATOLL_SEED={seed}");
    match run(&image, cuts, seed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("power cuts FAILED (ATOLL_SEED={seed}): {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn run(image: &Image, cuts: u64, seed: u64) -> Result<()> {
    let directory = suite::directory("power")?;
    let state = Device::serve(&directory, "state", STATE)?;
    let data = Device::serve(&directory, "data", DATA)?;
    let mut appliance = Appliance::start(&Setup {
        image,
        directory,
        storage: Storage::Nbd {
            state: state.socket().to_owned(),
            data: data.socket().to_owned(),
        },
        images: &[images::TOOLS],
        memory_mib: 2048,
        agent: true,
        bond: Bond::Tied,
    })?;
    let mut random = Random(seed);
    let mut acknowledged = Vec::new();
    let done = (0..cuts).try_for_each(|cut| {
        let began = Instant::now();
        appliance.until_api()?;
        appliance.until_node()?;
        check(&appliance, &acknowledged)?;
        if cut == 0 {
            let script = "exec sleep 100000";
            appliance.create(&Pod::script("steady", script).restart("Always"))?;
        }
        appliance.until_phase("steady", "Running")?;
        write(&appliance, cut, &mut random, &mut acknowledged)?;
        appliance.machine.cut()?;
        let (kept, lost) = state.cut(random.draw())?;
        let (data_kept, data_lost) = data.cut(random.draw())?;
        println!(
            "cut {cut}: {} objects acknowledged; sectors kept and lost: state {kept}, {lost}; \
             data {data_kept}, {data_lost}; {:.1} s",
            acknowledged.len(),
            began.elapsed().as_secs_f32(),
        );
        appliance.boot_again()
    });
    let ended = done.and_then(|()| {
        appliance.until_api()?;
        appliance.until_node()?;
        check(&appliance, &acknowledged)?;
        appliance.until_phase("steady", "Running")
    });
    if ended.is_err() {
        println!("{}", appliance.evidence());
    }
    ended
}

/// Creates objects until a random moment; each that was answered counts.
fn write(
    appliance: &Appliance,
    cut: u64,
    random: &mut Random,
    acknowledged: &mut Vec<String>,
) -> Result<()> {
    let millis = u64::try_from(WRITING.as_millis())?;
    let until = Instant::now() + Duration::from_millis(random.draw() % millis);
    let mut count = 0;
    while count == 0 || Instant::now() < until {
        let name = format!("c{cut}-{count}");
        let literal = format!("--from-literal=value={name}");
        appliance
            .kubectl
            .run(&["create", "configmap", &name, &literal])?;
        acknowledged.push(name);
        count += 1;
    }
    Ok(())
}

fn check(appliance: &Appliance, acknowledged: &[String]) -> Result<()> {
    let list = appliance.kubectl.get(&["configmaps"])?;
    let items = list["items"].as_array().map_or(&[][..], Vec::as_slice);
    for name in acknowledged {
        let found = items.iter().find(|item| item["metadata"]["name"] == **name);
        let value = found.map(|item| item["data"]["value"].clone());
        ensure!(
            value == Some(name.as_str().into()),
            "{name} was lost: {value:?}"
        );
    }
    Ok(())
}
