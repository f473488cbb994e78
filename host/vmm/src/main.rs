//! `atoll-vmm`: see the library. The exit status is a `machine_spec::exit::Code`.

use machine_spec::exit::Code;
use std::io::Write;
use std::process::ExitCode;
use vmm::start::{self, Inherited};

/// Lines to the log pipe; what doesn't fit in it is lost.
struct Log;

impl log::Log for Log {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Info
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let line = format!("atoll-vmm: {}: {}\n", record.level(), record.args());
            // A log that is gone must not end the guest.
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }

    fn flush(&self) {}
}

fn main() -> ExitCode {
    let exec_ns = sys::event::monotonic_ns();
    static LOG: Log = Log;
    if log::set_logger(&LOG).is_ok() {
        log::set_max_level(log::LevelFilter::Info);
    }
    let code = match Inherited::take() {
        Ok(inherited) => start::run(inherited, exec_ns),
        Err(error) => {
            log::error!("{error}");
            Code::Usage
        }
    };
    ExitCode::from(code as u8)
}
