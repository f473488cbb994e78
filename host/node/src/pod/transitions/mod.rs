//! How [`Observed`] changes: `begin` marks a step before it is carried out,
//! `observe` takes what came of it. Both give the notes for the pod's Events.
//!
//! Guest news are claims: an attempt that was never asked for, or that is
//! older than the newest, changes nothing.
//!
//! What they do to images, to containers and to the machine is in a module each.

mod containers;
mod health;
mod images;
mod machine;
mod volumes;

use super::backoff::later;
use super::observed::{
    ApiSide, DEADLINE_EXCEEDED, Filling, Machine, Note, Observation, Observed, Rejection,
};
use super::plan::Step;
use super::resize::Asked;
use super::view::View;
use jiff::{SignedDuration, Timestamp};

/// How long a failed API request rests.
const API_RETRY: SignedDuration = SignedDuration::from_secs(1);

impl Observed {
    /// Marks `step` as under way.
    pub(crate) fn begin(&mut self, view: View<'_>, step: &Step, now: Timestamp) -> Vec<Note> {
        match step {
            Step::EnsureImage { image, .. } => self.begin_image(image, now),
            Step::LaunchMachine => {
                self.epoch = self.epoch.wrapping_add(1);
                self.machine = Machine::Launching;
                self.size = None;
                self.filling = Filling::default();
                self.begin_disks(view);
            }
            Step::SetUpGuest => self.machine = Machine::SettingUp,
            Step::FillVolumes => self.begin_filling(),
            Step::StartContainer { container, attempt } => {
                return self.begin_container(view, container, *attempt, now);
            }
            Step::Act { container, act, .. } => self.begin_act(view, container, *act, now),
            Step::StopContainer {
                container,
                grace_ms,
                doom,
            } => return self.begin_stop(view, container, *grace_ms, *doom, now),
            Step::ResizeContainer { container, .. } => {
                if let Some(record) = self.containers.get_mut(container) {
                    record.asked = Asked::Busy;
                }
            }
            Step::SignalContainer {
                container,
                grace_ms,
            } => self.begin_signal(container, *grace_ms, now),
            Step::RestartAll => self.restarting_all = true,
            Step::StartAnew => self.start_anew(view, now),
            Step::PowerOff => self.machine = Machine::PoweringOff { since: now },
            Step::KillMachine { cause } => {
                self.machine_failure = Some(cause.clone());
                self.machine = Machine::Killing;
            }
            Step::ForgetMachine => self.machine = Machine::Forgetting,
            Step::AnnounceImageBackOff { image } => return self.announce_image(view, image),
            Step::AnnounceRestartBackOff { container } => {
                return self.announce_restart(view, container);
            }
            Step::Expire => {
                let message = "Pod was active on the node longer than the specified deadline";
                self.rejected = Some(Rejection {
                    reason: DEADLINE_EXCEEDED.to_owned(),
                    message: message.to_owned(),
                    ..Rejection::default()
                });
                return vec![Note::warning(DEADLINE_EXCEEDED, message.to_owned())];
            }
            Step::WriteStatus(_) => self.api = ApiSide::Writing,
            Step::Delete => self.api = ApiSide::Deleting,
        }
        Vec::new()
    }

    /// Takes one observation.
    pub(crate) fn observe(
        &mut self,
        view: View<'_>,
        observation: Observation,
        now: Timestamp,
    ) -> Vec<Note> {
        match observation {
            Observation::ImagePulling { image } => return self.image_pulling(view, &image),
            Observation::ImageReady { image, info, pull } => {
                return self.image_ready(view, image, info, pull);
            }
            Observation::ImageFailed { image, failure } => {
                return self.image_failed(view, image, failure, now);
            }
            Observation::ImageGone { image } => self.image_gone(&image),
            Observation::MachineLaunched => self.machine = Machine::Booting,
            Observation::LaunchFailed { message } => return self.launch_failed(message, now),
            Observation::SessionUp { set_up, containers } => {
                return self.session_up(view, set_up, containers, now);
            }
            Observation::SessionLost => self.session_lost(),
            Observation::AgentTimeout { message } | Observation::SetUpFailed { message } => {
                self.machine_useless(message);
            }
            Observation::SetUpDone => self.set_up_done(view),
            Observation::VolumesTold { epoch, failures } => {
                return self.volumes_told(epoch, failures, now);
            }
            Observation::Container(news) => return self.container_news(view, news, now),
            Observation::StartFailed {
                container,
                attempt,
                failure,
            } => return self.start_failed(view, &container, attempt, failure, now),
            Observation::LogsDrained {
                container,
                attempt,
                tail,
            } => self.logs_drained(view, &container, attempt, tail),
            Observation::Acted {
                container,
                attempt,
                acted,
            } => return self.acted(view, &container, attempt, &acted, now),
            Observation::Resized(news) => return self.resized(view, *news, now),
            Observation::MachineEnded { cause } => return self.machine_ended(&cause, now),
            Observation::MachineForgotten => self.machine_forgotten(),
            Observation::StatusWritten(status) => {
                self.written = Some(*status);
                self.api_side(ApiSide::Idle);
            }
            Observation::ApiFailed => self.api_side(ApiSide::RetryAt(later(now, API_RETRY))),
            Observation::PodDeleted => self.api = ApiSide::Deleted,
        }
        Vec::new()
    }

    /// What is gone from the API stays gone, whatever answers arrive late.
    fn api_side(&mut self, side: ApiSide) {
        if self.api != ApiSide::Deleted {
            self.api = side;
        }
    }
}
