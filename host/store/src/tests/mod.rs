//! The engine on a simulated disk: power cuts, failures and damage.

#![expect(clippy::unwrap_used, reason = "tests")]

use crate::types::{Compare, Event, EventKind, KeyValue, Op, Outcome, Range, RangeResult, Txn};

mod clients;
mod damage;
mod leases;
#[path = "../../tests/linear/mod.rs"]
mod linear;
mod model;
mod mutations;
mod power;
mod simdisk;
mod snapshots;

/// Runs `schedule` for as many seeds as are asked for; a failure prints its
/// own. `STORE_SEED=seed STORE_POWER_CUTS=1` runs that one alone.
fn schedules(mut schedule: impl FnMut(u64)) {
    const SCHEDULES: u64 = 1000;
    let number = |name: &str| -> Option<u64> { std::env::var(name).ok()?.parse().ok() };
    let count = number("STORE_POWER_CUTS").unwrap_or(fuzzing::rounds(SCHEDULES));
    let first = number("STORE_SEED").unwrap_or_else(|| {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        u64::from(now.subsec_nanos()) << 32
    });
    println!("seeds {first} to {}", first + count - 1);
    for seed in first..first + count {
        let run = std::panic::AssertUnwindSafe(|| schedule(seed));
        if let Err(cause) = std::panic::catch_unwind(run) {
            eprintln!("STORE_SEED={seed} STORE_POWER_CUTS=1 shows it again");
            std::panic::resume_unwind(cause);
        }
    }
}
