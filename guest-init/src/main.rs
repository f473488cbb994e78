//! PID 1 of a micro-VM: runs the containers of one pod as the host says.
//!
//! ```text
//!   main thread    boot, then accepts connections for ever
//!   reaper         learns how children end
//!   connection     one thread each, and one or two for its streams (serve)
//!   attempt        two threads each: output, end (supervise)
//!   stage          a child process that becomes a container (stage)
//! ```
//!
//! Owns namespaces, mounts, cgroups, streams and signals inside the guest. It
//! decides nothing: no restarts, no back-off, no probes. A panic of PID 1 is a
//! panic of the kernel, so nothing that host, image or container say may cause
//! one; every queue and every file that is read is bounded.

mod attempt;
mod boot;
mod cgroup;
mod clock;
mod console;
mod errors;
mod guest;
mod launch;
mod order;
mod output;
mod power;
mod process;
mod relay;
mod serve;
mod stage;
mod stats;
mod stop;
mod supervise;
mod sys;
mod sysctl;
mod volume;
mod wire;

use boot::Listener;
use guest::Guest;
use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::sync::Arc;

const USAGE: &str = "not PID 1: --listen SOCKET --run DIR --cgroup DIR --disks DIR are needed";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == "stage") {
        return stage::main();
    }
    if std::process::id() == 1 && args.iter().all(|arg| arg != "--listen") {
        return run_machine();
    }
    let Some((socket, place)) = boot::place_of_test(&args) else {
        console::say(format_args!("{USAGE}"));
        return ExitCode::from(2);
    };
    match UnixListener::bind(&socket) {
        Ok(listener) => run(place, &Listener::Unix(listener)),
        Err(error) => {
            console::say(format_args!("{}: {error}", socket.display()));
            ExitCode::FAILURE
        }
    }
}

fn run_machine() -> ExitCode {
    let listener = Listener::vsock(guest_protocol::PORT);
    console::say(format_args!(env!("CARGO_PKG_VERSION")));
    boot::mount_machine();
    match listener {
        Ok(listener) => run(boot::place_of_machine(), &listener),
        Err(error) => {
            // Nobody can reach this guest: whoever started it should know.
            console::say(format_args!("vsock: {error}"));
            power::off(true);
            ExitCode::FAILURE
        }
    }
}

fn run(place: guest::Place, listener: &Listener) -> ExitCode {
    boot::prepare(&place);
    // Before the first thread, so that all inherit it.
    if let Err(error) = process::block_sigchld() {
        console::say(format_args!("SIGCHLD: {error}"));
    }
    let guest = Arc::new(Guest::new(place));
    let reaper = Arc::clone(&guest);
    serve::thread("reaper", move || reaper.processes.reap());
    loop {
        match listener.accept() {
            Ok(stream) => serve::accept(&guest, stream),
            // Out of descriptors or memory: what runs will give some back.
            Err(error) => {
                console::say(format_args!("accept: {error}"));
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
        }
    }
}
