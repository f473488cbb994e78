//! What remains of `init` when its code failed.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Duration;

/// Runs the life of PID 1; whatever ends it, the process stays.
pub(super) fn guard(life: impl FnOnce() -> Result<Infallible, std::io::Error>) -> ExitCode {
    let what = match catch_unwind(AssertUnwindSafe(life)) {
        Ok(Err(error)) => error.to_string(),
        Err(payload) => payload
            .downcast_ref::<&str>()
            .map(ToString::to_string)
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "panic".to_owned()),
    };
    log::error!("init can't continue: {what}; roles that run go on, power-cycle the machine");
    sys::machine::sync();
    loop {
        while let Ok(Some(_)) = sys::process::reap() {}
        std::thread::sleep(Duration::from_secs(1));
    }
}
