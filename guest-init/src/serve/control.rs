//! Control: commands in, answers and news out.
//!
//! Commands of one connection are carried out one after another; stopping takes
//! long and is answered when it has begun, powering off just before. Answers and
//! news share one bounded queue, so a host that does not read is not read from.

use super::{opened, shut};
use crate::errors::{failed, invalid, refuse};
use crate::guest::{Guest, News};
use crate::volume;
use crate::wire::{self, WireError};
use guest_protocol::{Action, Answer, Command, Event, Pod, Refusal, RefusalKind};
use nix::mount::{MsFlags, mount};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

pub(super) fn serve(guest: &Arc<Guest>, mut stream: UnixStream) -> Result<(), WireError> {
    opened(&mut stream)?;
    let Some((events, queue)) = guest.subscribe(stream.try_clone()?) else {
        return Ok(());
    };
    let mut writer = stream.try_clone()?;
    super::thread("events", move || {
        for news in queue {
            let News::Event(event) = news else { continue };
            if wire::write_json(&mut writer, &event).is_err() {
                break;
            }
        }
        shut(&writer);
    });
    let result = commands(guest, &mut stream, |event| {
        events.send(News::Event(event)).is_ok()
    });
    shut(&stream);
    result
}

fn commands(
    guest: &Arc<Guest>,
    stream: &mut UnixStream,
    answer: impl Fn(Event) -> bool,
) -> Result<(), WireError> {
    while let Some(frame) = wire::read(stream)? {
        let Command { id, action } = frame.json()?;
        let power_off = match action {
            Action::PowerOff { grace_ms } => Some(Duration::from_millis(grace_ms)),
            _ => None,
        };
        let result = carry_out(guest, action);
        let answered = answer(Event::Answer { id, result });
        // After the answer: with nothing to stop, the power is off at once.
        if let Some(grace) = power_off {
            crate::power::begin(guest, grace);
        }
        if !answered {
            break;
        }
    }
    Ok(())
}

fn carry_out(guest: &Arc<Guest>, action: Action) -> Result<Answer, Refusal> {
    match action {
        Action::SetUp(pod) => set_up(guest, *pod)?,
        Action::Start(container) => crate::launch::start(guest, *container)?,
        Action::Stop {
            container,
            grace_ms,
        } => {
            // A container that does not run is stopped.
            if let Some(attempt) = guest.running(&container) {
                crate::stop::stop(attempt, Duration::from_millis(grace_ms));
            }
        }
        Action::Resize {
            container,
            attempt,
            limits,
        } => {
            let running = guest.running(&container);
            let running = running.filter(|one| one.number() == attempt);
            let running = running.ok_or_else(|| super::not_running(&container))?;
            running.group.change(&container, limits)?;
        }
        Action::Remove { container, attempt } => {
            if !guest.remove(&container, attempt) {
                let message = format!("container {container:?} is running");
                return Err(refuse(RefusalKind::Conflict, message));
            }
        }
        Action::Stats => return Ok(Answer::Stats(crate::stats::collect(guest))),
        // Begins after its answer.
        Action::PowerOff { .. } => {}
    }
    Ok(Answer::Done)
}

fn set_up(guest: &Guest, pod: Pod) -> Result<(), Refusal> {
    // Held against a second set-up and against starts.
    let _starting = guest.starting.lock();
    if let Some(before) = guest.pod() {
        if before == pod {
            return Ok(());
        }
        let message = "the pod is set up otherwise";
        return Err(refuse(RefusalKind::Conflict, message));
    }
    if pod.hostname.len() > 64 {
        return Err(invalid("hostname: more than 64 bytes"));
    }
    volume::check(&pod)?;
    crate::sysctl::set(&pod.sysctls)?;
    volume::make(&guest.place, &pod)?;
    share(guest, &pod).inspect_err(|_| volume::remove(&guest.place))?;
    guest.set_pod(pod);
    Ok(())
}

/// `/dev/shm` and the host name of all containers.
fn share(guest: &Guest, pod: &Pod) -> Result<(), Refusal> {
    let shm = guest.place.run.join("shm");
    let size = pod.shm_size.max(4096);
    let options = format!("mode=1777,size={size}");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let tmpfs = Some("tmpfs");
    mount(tmpfs, &shm, tmpfs, flags, Some(options.as_str())).map_err(failed("shm"))?;
    nix::unistd::sethostname(&pod.hostname).map_err(failed("hostname"))
}
