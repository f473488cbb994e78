//! Micro-VMs as processes: started by `init`, described over their control
//! sockets. Knows no Pod.

mod control;
mod launcher;
mod packets;

pub(crate) use control::{Control, ControlError};
pub(crate) use launcher::{Known, LaunchError, Launcher, Process};

use machine_spec::exit::{Code, Exit};

/// Why a vmm ended, in words: by what it told, or else by its wait status.
pub(crate) fn cause(told: Option<&Exit>, status: i32) -> String {
    match told {
        Some(Exit::PowerOff) => return "the guest powered itself off".to_owned(),
        Some(Exit::Reset) => return "the guest asked for a reset".to_owned(),
        Some(Exit::Panic) => return "the guest's kernel panicked".to_owned(),
        Some(Exit::TripleFault) => return "a vCPU shut down (triple fault)".to_owned(),
        Some(Exit::Killed) => return "the vmm was told to end".to_owned(),
        Some(Exit::GuestFault(text)) => return format!("guest fault: {text}"),
        Some(Exit::HostFault(text)) => return format!("host fault: {text}"),
        None => {}
    }
    // wait(2): the low seven bits are the signal, the next byte the status.
    let signal = status & 0x7f;
    if signal != 0 {
        return format!(
            "the vmm was killed by signal {signal}{}",
            signal_name(signal)
        );
    }
    let code = u8::try_from(status >> 8 & 0xff).unwrap_or(u8::MAX);
    match Code::from_status(code) {
        Some(Code::PowerOff) => "the guest powered itself off".to_owned(),
        Some(Code::Reset) => "the guest asked for a reset".to_owned(),
        Some(Code::Panic) => "the guest's kernel panicked".to_owned(),
        Some(Code::TripleFault) => "a vCPU shut down (triple fault)".to_owned(),
        Some(Code::Killed) => "the vmm was told to end".to_owned(),
        Some(Code::GuestFault) => "guest fault".to_owned(),
        Some(Code::HostFault) => "host fault".to_owned(),
        Some(Code::Usage) => "the vmm was started wrongly".to_owned(),
        None => format!("the vmm ended with status {code}"),
    }
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        6 => " (SIGABRT)",
        9 => " (SIGKILL)",
        11 => " (SIGSEGV)",
        15 => " (SIGTERM)",
        31 => " (SIGSYS)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_have_names() {
        for (told, status, text) in [
            (None, 31, "the vmm was killed by signal 31 (SIGSYS)"),
            (None, 0x80 | 11, "the vmm was killed by signal 11 (SIGSEGV)"),
            (None, 11 << 8, "the guest's kernel panicked"),
            (None, 77 << 8, "the vmm ended with status 77"),
            (Some(Exit::HostFault("x".to_owned())), 9, "host fault: x"),
        ] {
            assert_eq!(cause(told.as_ref(), status), text);
        }
    }
}
