//! Ending the machine: all containers stop, dirty data goes to its disks, and
//! the power goes off.

use crate::console::say;
use crate::guest::Guest;
use nix::fcntl::OFlag;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::time::Duration;

/// How long the host is given to take the last news.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Begins to power off; returns at once. A second call does nothing new.
pub(crate) fn begin(guest: &Arc<Guest>, grace: Duration) {
    let first = guest.begin_power_off();
    for attempt in guest.all_running() {
        crate::stop::stop(attempt, grace);
    }
    if first {
        let guest = Arc::clone(guest);
        crate::serve::thread("power", move || {
            // A start that was under way has entered its attempt after this.
            drop(guest.starting.lock());
            for attempt in guest.all_running() {
                crate::stop::stop(attempt, grace);
            }
            guest.wait_all_ended();
            guest.wait_told(LAST_WORDS);
            if !guest.place.machine {
                crate::volume::remove(&guest.place);
            }
            off(guest.place.machine);
        });
    }
}

/// The one place where a machine ends on purpose. Without ACPI a kernel can
/// only reset; OUT1 of the serial port, set at that moment, tells the vmm that
/// this is a power-off (`vmm::ports`).
pub(crate) fn off(machine: bool) {
    rustix::fs::sync();
    say(format_args!("power off"));
    if machine {
        use nix::sys::reboot::{RebootMode, reboot};
        // The mark holds as long as the port is open.
        let port = File::options()
            .write(true)
            .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
            .open("/dev/ttyS0");
        let marked = port.map(|port| crate::sys::set_out1(&port).map(|()| port));
        let mode = match &marked {
            Ok(Ok(_)) => RebootMode::RB_AUTOBOOT,
            _ => RebootMode::RB_POWER_OFF,
        };
        let Err(error) = reboot(mode);
        say(format_args!("power off: {error}"));
    } else {
        std::process::exit(0);
    }
}
