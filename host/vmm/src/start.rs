//! The life of the process, from its first line to its exit code.

use crate::assemble::assemble;
use crate::control::{Control, Incoming, user};
use crate::jail;
use crate::machine::Machine;
use machine_spec::control::{Answer, Event, Failure, Family, FromVmm, Request};
use machine_spec::exit::{Code, Exit};
use rustix::fd::OwnedFd;
use std::io;

const CONTROL: i32 = 3;
const KVM: i32 = 4;
const FIRST_UNKNOWN: u32 = 5;

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("descriptor {0}: {1}")]
    Descriptor(i32, #[source] io::Error),
    #[error("giving up privileges: {0}")]
    Jail(#[source] io::Error),
}

/// What the launcher handed over.
pub struct Inherited {
    control: OwnedFd,
    kvm: OwnedFd,
}

impl Inherited {
    /// Gives up every privilege, closes what is not expected, takes the rest, and
    /// from there on makes no call but those of `jail`.
    ///
    /// # Errors
    /// Any of `StartError`; the process must end then.
    pub fn take() -> Result<Self, StartError> {
        sys::jail::confine().map_err(StartError::Jail)?;
        sys::inherit::close_from(FIRST_UNKNOWN).map_err(StartError::Jail)?;
        let take = |number| {
            sys::inherit::take(number).map_err(|error| StartError::Descriptor(number, error))
        };
        let inherited = Self {
            control: take(CONTROL)?,
            kvm: take(KVM)?,
        };
        jail::confine_setup().map_err(StartError::Jail)?;
        Ok(inherited)
    }
}

/// Waits for the specification, runs the machine to its end.
#[must_use]
pub fn run(inherited: Inherited, exec_ns: u64) -> Code {
    let mut control = Control::new(inherited.control);
    let (id, spec, fds) = loop {
        match control.receive(true) {
            Incoming::Request(message, fds) => match message.request {
                Request::Start(spec) => break (message.id, spec, fds),
                Request::Kill => return Code::Killed,
                Request::ConnectVsock { .. }
                | Request::AttachDisk(_)
                | Request::Pause
                | Request::Resume
                | Request::Freeze { .. }
                | Request::Status => {
                    reply(&control, message.id, Err(user("nothing was started yet")));
                }
            },
            Incoming::Nonsense(what) => {
                log::error!("control: {what}");
                return Code::Usage;
            }
            Incoming::Nothing => {}
            // Nobody is left who could ever start it.
            Incoming::Closed => return Code::Usage,
        }
    };
    let kvm = sys::kvm::open(inherited.kvm);
    let machine = assemble(&kvm, &spec, fds).and_then(|parts| {
        let machine = Machine::new(parts, *spec, exec_ns, &control)?;
        jail::confine_main().map_err(crate::control::host)?;
        Ok(machine)
    });
    // Only creating the machine needed it.
    drop(kvm);
    match machine {
        Ok(machine) => {
            reply(&control, id, Ok(Answer::Done));
            let exit = machine.run(&mut control);
            control.event(Event::Exited(exit.clone()));
            exit.code()
        }
        Err(failure) => {
            log::error!("{failure}");
            let code = match failure.family {
                Family::User => Code::Usage,
                Family::Guest | Family::Host => Code::HostFault,
            };
            let exit = Exit::HostFault(failure.message.clone());
            reply(&control, id, Err(failure));
            if code == Code::HostFault {
                control.event(Event::Exited(exit));
            }
            code
        }
    }
}

pub(crate) fn reply(control: &Control, id: u32, result: Result<Answer, Failure>) {
    control.send(&FromVmm::Reply { id, result });
}
