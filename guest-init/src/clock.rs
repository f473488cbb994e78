//! What a new control connection brings: entropy, and the time.

use crate::errors::{failed, invalid};
use crate::guest::Place;
use guest_protocol::Refusal;
use rustix::time::{ClockId, Timespec, clock_settime};
use std::fs::File;

/// Both in this order, because clones share the generator's state until then.
///
/// # Errors
/// A seed of another length than 32 bytes, or what the kernel says.
pub(crate) fn take(place: &Place, seed: &[u8], realtime_ns: u64) -> Result<(), Refusal> {
    let seed = <[u8; 32]>::try_from(seed).map_err(|_| invalid("entropy: not 32 bytes"))?;
    let random = File::options().write(true).open("/dev/urandom");
    let random = random.map_err(failed("/dev/urandom"))?;
    crate::sys::add_entropy(&random, seed).map_err(failed("RNDADDENTROPY"))?;
    crate::sys::reseed(&random).map_err(failed("RNDRESEEDCRNG"))?;
    // The clock of a machine that runs a test is not ours.
    if place.machine {
        let seconds = i64::try_from(realtime_ns / 1_000_000_000);
        let nanoseconds = i64::try_from(realtime_ns % 1_000_000_000);
        let (Ok(tv_sec), Ok(tv_nsec)) = (seconds, nanoseconds) else {
            return Err(invalid("realtime_ns: out of range"));
        };
        let time = Timespec { tv_sec, tv_nsec };
        clock_settime(ClockId::Realtime, time).map_err(failed("clock_settime"))?;
    }
    Ok(())
}
