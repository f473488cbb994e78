//! Power cuts at random moments while sectors are pending, on disks that lose
//! what was not flushed: every object acknowledged before the cut is there after
//! the boot, and pods run.
//!
//! ATOLL_POWER_CUTS sets how many boots (3 unless told); ATOLL_SEED repeats one.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, anyhow, ensure};
use qemu_test::appliance::{Appliance, Setup, Storage};
use qemu_test::images;
use qemu_test::kubectl::Kubectl;
use qemu_test::machine::Image;
use qemu_test::nbd::{Device, Random, Supply};
use qemu_test::pod::Pod;
use qemu_test::process::Bond;
use qemu_test::suite;

const STATE: u64 = 1 << 30;
const DATA: u64 = 8 << 30;
/// How long objects are written before the cut, at most.
const WRITING: Duration = Duration::from_secs(10);
/// Then the power goes after so many writes and flushes of disks, at most.
const REQUESTS: u64 = 40;
/// For these to come.
const PATIENCE: Duration = Duration::from_secs(60);
/// Clients that write at once.
const WRITERS: u64 = 3;

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
    let supply = Supply::default();
    let state = Device::serve(&directory, "state", STATE, &supply)?;
    let data = Device::serve(&directory, "data", DATA, &supply)?;
    let mut appliance = Appliance::start(&Setup {
        image,
        directory,
        storage: Storage::Nbd {
            state: state.socket().to_owned(),
            data: data.socket().to_owned(),
        },
        images: &[images::TOOLS],
        memory_mib: 2048,
        node: serde_json::json!({}),
        agent: true,
        bond: Bond::Tied,
    })?;
    let mut random = Random(seed);
    let mut acknowledged = Vec::new();
    let done = (0..cuts).try_for_each(|cut| {
        let began = Instant::now();
        appliance.until_ready()?;
        check(&appliance, &acknowledged)?;
        if cut == 0 {
            let script = "exec sleep 100000";
            appliance.create(&Pod::script("steady", script).restart("Always"))?;
        }
        appliance.until_phase("steady", "Running")?;
        write(&mut appliance, cut, &supply, &mut random, &mut acknowledged)?;
        let (kept, lost) = state.cut(random.draw())?;
        let (data_kept, data_lost) = data.cut(random.draw())?;
        println!(
            "cut {cut}: {} objects acknowledged; sectors kept and lost: state {kept}, {lost}; \
             data {data_kept}, {data_lost}; {:.1} s",
            acknowledged.len(),
            began.elapsed().as_secs_f32(),
        );
        ensure!(
            kept + lost + data_kept + data_lost > 0,
            "the cut found nothing pending"
        );
        supply.restore();
        appliance.boot_again()
    });
    let ended = done.and_then(|()| {
        appliance.until_ready()?;
        check(&appliance, &acknowledged)?;
        appliance.until_phase("steady", "Running")
    });
    if ended.is_err() {
        println!("{}", appliance.evidence());
    }
    ended
}

/// Creates objects until the power goes at a random moment, while requests are
/// under way; each that was answered counts.
fn write(
    appliance: &mut Appliance,
    cut: u64,
    supply: &Supply,
    random: &mut Random,
    acknowledged: &mut Vec<String>,
) -> Result<()> {
    let millis = u64::try_from(WRITING.as_millis())?;
    let moment = Duration::from_millis(millis / 4 + random.draw() % (millis * 3 / 4));
    let off = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (kubectl, off) = (appliance.kubectl.clone(), Arc::clone(&off));
            thread::spawn(move || create_until(&kubectl, &format!("c{cut}-{writer}"), &off))
        })
        .collect();
    // The moment itself is what is random.
    thread::sleep(moment);
    supply.arm(random.draw() % REQUESTS);
    let gone = supply.gone(PATIENCE);
    off.store(true, Ordering::Release);
    appliance.machine.cut()?;
    let before = acknowledged.len();
    for writer in writers {
        let created = writer.join().map_err(|_| anyhow!("a writer panicked"))?;
        acknowledged.extend(created?);
    }
    ensure!(gone, "nothing was written for {PATIENCE:?}");
    ensure!(acknowledged.len() > before, "nothing was acknowledged");
    Ok(())
}

/// The names of what was acknowledged before the power went.
fn create_until(kubectl: &Kubectl, prefix: &str, off: &AtomicBool) -> Result<Vec<String>> {
    let mut created = Vec::new();
    loop {
        let name = format!("{prefix}-{}", created.len());
        let literal = format!("--from-literal=value={name}");
        match kubectl.run(&["create", "configmap", &name, &literal]) {
            Ok(_) => created.push(name),
            Err(_) if off.load(Ordering::Acquire) => return Ok(created),
            Err(error) => return Err(error),
        }
    }
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
