//! `atoll-bench`: one table of what the start of a pod costs, beside a peer.
//!
//! Three boots of the same image:
//!
//! ```text
//! plain          seconds to the API, idle memory; nothing but the test agent
//! time           2 vCPUs, disks: milliseconds, resident memory, exits
//! instructions   1 vCPU, live: QEMU's icount, a nanosecond each
//! ```
//!
//! In the latter two, an archive beside the image brings QEMU, its libraries
//! and firmware, and the programs that measure (`archive`); all is measured
//! inside, by the appliance's clock, so that nothing outside adds to it.

mod archive;
mod figures;
mod runs;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use figures::{Times, median};
use image_build::progress::{self, say};
use qemu_test::appliance::{Appliance, DATA, Setup, Storage};
use qemu_test::images;
use qemu_test::machine::{Clock, Image};
use qemu_test::memory::Memory;
use qemu_test::process::Bond;
use runs::Measured;
use table::{Against, Pair, Row, section};

const PEER: &str = "QEMU microvm";
const OFF: Duration = Duration::from_secs(60);

#[derive(Parser)]
#[command(about = "Measures the start of a pod")]
struct Arguments {
    #[arg(long, default_value = "out/image")]
    image: PathBuf,
    /// Where the programs `boot` and `pod_start` are.
    #[arg(long, default_value = "target/x86_64-unknown-linux-gnu/ci/examples")]
    programs: PathBuf,
    /// Repetitions; the median counts.
    #[arg(long, default_value_t = 3)]
    count: u32,
}

fn main() -> ExitCode {
    progress::begin();
    match bench(&Arguments::parse()) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("atoll-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What is no start: of the machine as a whole.
struct Whole {
    image_mib: f64,
    to_api: f64,
    idle_mib: f64,
    vmm_mib: f64,
    peer_mib: f64,
    /// A second, by the host kernel's names.
    quiet: Vec<(String, f64)>,
    /// The largest of /proc/meminfo on the idle machine.
    idle: String,
}

fn bench(arguments: &Arguments) -> Result<String> {
    let place = std::env::temp_dir().join("atoll-bench");
    if place.exists() {
        fs::remove_dir_all(&place)?;
    }
    fs::create_dir_all(&place)?;
    let image = Image(arguments.image.clone());
    let beside = archive::write(&image.0, &arguments.programs, &place)?;
    say("plain boot");
    let (to_api, idle_mib, idle) = plain(&image, &place.join("plain"))?;
    say("boot by time");
    let mut appliance = booted(&image, &place.join("time"), Clock::Time, &beside)?;
    let timed = explained(&mut appliance, |a| runs::measure(a, arguments.count))?;
    let (vmm, peer, quiet) = explained(&mut appliance, |appliance| {
        let peer = runs::peer_resident(appliance.agent()?)?;
        runs::start_pod(appliance, "quiet", true)?;
        let agent = appliance.agent()?;
        let quiet = runs::quiet(agent)?;
        Ok((runs::vmm_resident(agent)?, peer, quiet))
    })?;
    appliance.machine.power_off(OFF)?;
    drop(appliance);
    say("boot by instructions");
    let directory = place.join("instructions");
    let mut appliance = booted(&image, &directory, Clock::Instructions, &beside)?;
    let counted = explained(&mut appliance, |a| runs::measure(a, arguments.count))?;
    appliance.machine.cut()?;
    let whole = Whole {
        image_mib: mib(fs::metadata(image.0.join("atoll.efi"))?.len() / 1024),
        to_api,
        idle_mib,
        vmm_mib: mib(vmm),
        peer_mib: mib(peer),
        quiet,
        idle,
    };
    Ok(tables(&counted, &timed, &whole))
}

fn booted(image: &Image, directory: &Path, clock: Clock, beside: &Path) -> Result<Appliance> {
    let setup = setup(image, directory, clock == Clock::Time);
    let mut appliance = Appliance::start_with(&setup, clock, Some(beside.to_owned()))?;
    appliance.until_ready()?;
    Ok(appliance)
}

/// By instructions there are no disks: waiting for them would count as work.
fn setup<'a>(image: &'a Image, directory: &Path, disks: bool) -> Setup<'a> {
    Setup {
        image,
        directory: directory.to_owned(),
        storage: if disks {
            Storage::Files { data: DATA }
        } else {
            Storage::Live
        },
        images: &[images::TOOLS],
        memory_mib: 2560,
        node: serde_json::json!({}),
        agent: true,
        bond: Bond::Tied,
    }
}

fn explained<T>(
    appliance: &mut Appliance,
    work: impl FnOnce(&mut Appliance) -> Result<T>,
) -> Result<T> {
    let done = work(appliance);
    if done.is_err() {
        eprintln!("{}", appliance.evidence());
    }
    done
}

/// Where memory may be that nobody can get back at once.
const USES: &[&str] = &[
    "AnonPages",
    "Shmem",
    "Unevictable",
    "Slab",
    "KernelStack",
    "PageTables",
    "Percpu",
];

/// Seconds on the kernel's clock when the API was found ready, MiB in use when
/// nothing runs, and of what.
fn plain(image: &Image, directory: &Path) -> Result<(f64, f64, String)> {
    let mut appliance = Appliance::start(&setup(image, directory, true))?;
    let began = Instant::now();
    appliance.until_api()?;
    let outside = began.elapsed().as_secs_f64();
    let uptime = appliance.agent()?.read("/proc/uptime")?;
    let uptime = uptime.split(' ').next().context("uptime")?.parse()?;
    say(format!(
        "API ready {outside:.1} s after QEMU's start, firmware included"
    ));
    appliance.until_node()?;
    let memory = Memory::of(appliance.agent()?)?;
    let used = memory.in_use()?;
    appliance.machine.power_off(OFF)?;
    let uses = USES.iter().filter_map(|name| {
        let size = memory.field(name).ok()?;
        Some(format!("{name} {:.1}", mib(size)))
    });
    Ok((uptime, mib(used), uses.collect::<Vec<_>>().join(", ")))
}

fn mib(kib: u64) -> f64 {
    f64::from(u32::try_from(kib).unwrap_or(u32::MAX)) / 1024.0
}

fn millis(micros: Option<u64>) -> Option<f64> {
    Some(f64::from(u32::try_from(micros?).ok()?) / 1000.0)
}

/// The median by both clocks of what `of` makes of each run.
fn pair(counted: &[Times], timed: &[Times], of: impl Fn(&Times) -> Option<u64>) -> Pair {
    let middle = |all: &[Times]| millis(median(all.iter().filter_map(&of).collect()));
    Pair {
        counted: middle(counted),
        timed: middle(timed),
    }
}

fn tables(counted: &Measured, timed: &Measured, whole: &Whole) -> String {
    let peer = Pair {
        counted: millis(median(counted.peer.clone())),
        timed: millis(median(timed.peer.clone())),
    };
    let clocks = ["instr.", "time"];
    let pods = section(
        "Start of a pod, since the request was sent",
        clocks,
        &pod_rows(counted, timed, peer),
    );
    let machines = section(
        "Start of a machine of 128 MiB",
        clocks,
        &machine_rows(counted, timed, peer),
    );
    let rates = whole.quiet.iter().take(12);
    let rates: Vec<String> = rates.map(|(name, rate)| format!("{name} {rate}")).collect();
    let notes = format!(
        "\nQuiet guest, a second: {}.\nIdle appliance, MiB: {}.\n",
        rates.join(", "),
        whole.idle
    );
    pods + &machines + &section("The whole", ["value", ""], &whole_rows(whole)) + &notes
}

fn pod_rows(counted: &Measured, timed: &Measured, peer: Pair) -> Vec<Row> {
    let watched = |name: &'static str| {
        pair(&counted.watched, &timed.watched, |times| {
            times.get(name).copied()
        })
    };
    let bound = watched("bound");
    let add = |a: Option<f64>, b: Option<f64>| Some(a? + b?);
    // The node sees a pod when the watcher does.
    let since_bound = |name: &'static str| {
        let phase = pair(&counted.phases, &timed.phases, |times| {
            times.get(name).copied()
        });
        Pair {
            counted: add(bound.counted, phase.counted),
            timed: add(bound.timed, phase.timed),
        }
    };
    let row = |what, value| Row {
        what,
        unit: "ms",
        value,
        against: Against::Nothing,
    };
    let mut rows = vec![
        row("API has accepted it", watched("accepted")),
        row("bound, seen by a watcher", bound),
        row("node: image at hand", since_bound("images")),
        row("node: vmm launched", since_bound("launched")),
        row("vmm: first KVM_RUN", since_bound("first_run")),
        row("guest-init reached by the node", since_bound("agent")),
        row("pod set up in the guest", since_bound("set_up")),
        row("container exec", since_bound("started")),
        row("Running, seen by a watcher", watched("running")),
    ];
    if let Some(last) = rows.last_mut() {
        last.against = Against::Peer(PEER, peer);
    }
    rows
}

fn machine_rows(counted: &Measured, timed: &Measured, peer: Pair) -> Vec<Row> {
    let of = |of: fn(&Times) -> Option<u64>| pair(&counted.boots, &timed.boots, of);
    let before = |times: &Times| Some(times.get("exec")? + times.get("run")?);
    let first_run = of(|times| Some(times.get("exec")? + times.get("run")?));
    let guest = pair(&counted.boots, &timed.boots, |times| {
        times.get("mark")?.checked_sub(before(times)?)
    });
    let whole = of(|times| times.get("mark").copied());
    let row = |what, value, against| Row {
        what,
        unit: "ms",
        value,
        against,
    };
    vec![
        row("vmm exec to first KVM_RUN", first_run, Against::Limit(5.0)),
        row(
            "guest kernel entry to guest-init",
            guest,
            Against::Limit(60.0),
        ),
        row("vmm exec to guest-init", whole, Against::Limit(80.0)),
        row("vmm exec to guest-init", whole, Against::Peer(PEER, peer)),
    ]
}

fn whole_rows(whole: &Whole) -> Vec<Row> {
    let plain = |value| Pair {
        counted: Some(value),
        timed: None,
    };
    let row = |what, unit, value, against| Row {
        what,
        unit,
        value: plain(value),
        against,
    };
    let exits = whole.quiet.iter().find(|(name, _)| name == "exits");
    let exits = exits.map_or(0.0, |(_, rate)| *rate);
    vec![
        row(
            "vmm beside its guest, resident",
            "MiB",
            whole.vmm_mib,
            Against::Limit(3.0),
        ),
        row(
            "vmm beside its guest, resident",
            "MiB",
            whole.vmm_mib,
            Against::Peer(PEER, plain(whole.peer_mib)),
        ),
        row("exits of a quiet guest", "/s", exits, Against::Limit(5.0)),
        row(
            "image (atoll.efi)",
            "MiB",
            whole.image_mib,
            Against::Limit(100.0),
        ),
        row(
            "idle appliance, memory in use",
            "MiB",
            whole.idle_mib,
            Against::Limit(200.0),
        ),
        row(
            "kernel's clock when the API is ready",
            "s",
            whole.to_api,
            Against::Nothing,
        ),
    ]
}
