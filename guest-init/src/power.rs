//! Ending the machine: all containers stop, dirty data goes to its disks, and
//! the power goes off.

use crate::console::say;
use crate::guest::Guest;
use std::sync::Arc;
use std::time::Duration;

/// Begins to power off; returns at once. A second call does nothing new.
pub(crate) fn begin(guest: &Arc<Guest>, grace: Duration) {
    let first = guest.begin_power_off();
    for attempt in guest.all_running() {
        crate::stop::stop(guest, attempt, grace);
    }
    if first {
        let guest = Arc::clone(guest);
        crate::serve::thread("power", move || {
            // A start that was under way has entered its attempt after this.
            drop(guest.starting.lock());
            for attempt in guest.all_running() {
                crate::stop::stop(&guest, attempt, grace);
            }
            guest.wait_all_ended();
            off(guest.place.machine);
        });
    }
}

/// The one place where a machine ends on purpose. The console's last line
/// tells whoever reads it that this is no panic.
pub(crate) fn off(machine: bool) {
    rustix::fs::sync();
    say(format_args!("power off"));
    if machine {
        use nix::sys::reboot::{RebootMode, reboot};
        let Err(error) = reboot(RebootMode::RB_POWER_OFF);
        say(format_args!("power off: {error}"));
    } else {
        std::process::exit(0);
    }
}
