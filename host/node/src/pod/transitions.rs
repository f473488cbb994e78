//! How [`Observed`] changes: `begin` marks a step before it is carried out,
//! `observe` takes what came of it. Both give the notes for the pod's Events.
//!
//! Guest news are claims: an attempt that was never asked for, or that is
//! older than the newest, changes nothing.

use super::backoff::{Backoff, go_duration, later};
use super::observed::{
    ApiSide, Image, ImageFailure, ImageFailureKind, Machine, Note, Observation, Observed, Pull,
    Record, Rejection, State, Terminated,
};
use super::plan::Step;
use super::view::{View, field_path};
use guest_protocol::{ContainerState as GuestContainer, End, Phase};
use jiff::{SignedDuration, Timestamp};

/// How long a failed API request rests.
const API_RETRY: SignedDuration = SignedDuration::from_secs(1);
/// How long a container that can't be described yet rests, as upstream's sync.
const BLOCKED_RETRY: SignedDuration = SignedDuration::from_secs(10);
/// How long a start whose answer was lost rests.
const RESEND: SignedDuration = SignedDuration::from_millis(100);
/// A guest's message is a claim about its length, too.
const MESSAGE_MAX: usize = 4096;

impl Observed {
    /// Marks `step` as under way.
    pub(crate) fn begin(&mut self, view: View<'_>, step: &Step, now: Timestamp) -> Vec<Note> {
        match step {
            Step::EnsureImage { image, .. } => self.begin_image(image, now),
            Step::LaunchMachine => {
                self.epoch = self.epoch.wrapping_add(1);
                self.machine = Machine::Launching;
            }
            Step::SetUpGuest => self.machine = Machine::SettingUp,
            Step::StartContainer { container, attempt } => {
                return self.begin_container(view, container, *attempt, now);
            }
            Step::StopContainer {
                container,
                grace_ms,
            } => return self.begin_stop(view, container, *grace_ms, now),
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
                    reason: "DeadlineExceeded".to_owned(),
                    message: message.to_owned(),
                });
                return vec![Note::warning("DeadlineExceeded", message.to_owned())];
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
            Observation::ImagePulling { image } => {
                return about_image(
                    view,
                    &image,
                    "Pulling",
                    format!("Pulling image \"{image}\""),
                );
            }
            Observation::ImageReady { image, info, pull } => {
                let message = pulled_message(&image, pull);
                self.images.insert(image.clone(), Image::Ready(info));
                return about_image(view, &image, "Pulled", message);
            }
            Observation::ImageFailed { image, failure } => {
                return self.image_failed(view, image, failure, now);
            }
            Observation::ImageGone { image } => {
                self.images.remove(&image);
                self.machine = Machine::Absent;
            }
            Observation::MachineLaunched => self.machine = Machine::Booting,
            Observation::LaunchFailed { message } => return self.launch_failed(message, now),
            Observation::SessionUp { set_up, containers } => {
                return self.session_up(view, set_up, containers, now);
            }
            Observation::SessionLost => {
                if matches!(
                    self.machine,
                    Machine::Up | Machine::SettingUp | Machine::Ready
                ) {
                    self.machine = Machine::Booting;
                }
            }
            Observation::AgentTimeout { message } | Observation::SetUpFailed { message } => {
                // Whoever noticed kills it, too.
                if !matches!(
                    self.machine,
                    Machine::Absent | Machine::Ended | Machine::Forgetting
                ) {
                    self.machine_failure = Some(message);
                    self.machine = Machine::Killing;
                }
            }
            Observation::SetUpDone => {
                if self.machine == Machine::SettingUp {
                    self.machine = Machine::Ready;
                    self.machine_failure = None;
                }
            }
            Observation::Container(news) => return self.container_news(view, news, now),
            Observation::StartBlocked {
                container,
                attempt,
                reason,
                message,
            } => return self.start_blocked(view, &container, attempt, reason, message, now),
            Observation::StartRefused {
                container,
                attempt,
                reason,
                exit_code,
                message,
            } => {
                let end = Terminated {
                    attempt,
                    exit_code,
                    signal: None,
                    reason: reason.to_owned(),
                    message,
                    started_at: None,
                    finished_at: now,
                };
                return self.start_refused(view, &container, end);
            }
            Observation::StartUnknown { container, attempt } => {
                if let Some(record) = self.starting(&container, attempt) {
                    record.state = State::Starting {
                        resend: Some(later(now, RESEND)),
                        again: true,
                    };
                }
            }
            Observation::LogsDrained { container, attempt } => {
                if let Some(record) = self.containers.get_mut(&container)
                    && record.attempt == attempt
                    && let State::Ended { drained, .. } = &mut record.state
                {
                    *drained = true;
                }
            }
            Observation::MachineEnded { cause } => return self.machine_ended(&cause, now),
            Observation::MachineForgotten => {
                if matches!(self.machine, Machine::Forgetting | Machine::Ended) {
                    self.machine = Machine::Absent;
                }
            }
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

    fn begin_image(&mut self, image: &str, now: Timestamp) {
        let (backoff, failure) = match self.images.get(image) {
            Some(Image::Failed {
                failure,
                at,
                backoff,
                ..
            }) => {
                let mut backoff = *backoff;
                backoff.next(*at, now);
                (backoff, Some(failure.clone()))
            }
            Some(Image::Ensuring { backoff, failure }) => (*backoff, failure.clone()),
            Some(Image::Ready(_)) | None => (Backoff::default(), None),
        };
        let ensuring = Image::Ensuring { backoff, failure };
        self.images.insert(image.to_owned(), ensuring);
    }

    fn image_failed(
        &mut self,
        view: View<'_>,
        image: String,
        failure: ImageFailure,
        now: Timestamp,
    ) -> Vec<Note> {
        let mut backoff = match self.images.get(&image) {
            Some(Image::Ensuring { backoff, .. }) => *backoff,
            _ => Backoff::default(),
        };
        // An image is not retried at once: its first delay is 10 s.
        if backoff.delay(now).is_none() {
            backoff.next(now, now);
        }
        let message = &failure.message;
        let (first, second) = match failure.kind {
            ImageFailureKind::Pull => (
                Note::warning(
                    "Failed",
                    format!("Failed to pull image \"{image}\": {message}"),
                ),
                "Error: ErrImagePull",
            ),
            ImageFailureKind::Name => {
                let text = format!("Failed to apply default image tag \"{image}\": {message}");
                (
                    Note::warning("InspectFailed", text),
                    "Error: InvalidImageName",
                )
            }
            ImageFailureKind::Never => {
                let text =
                    format!("Container image \"{image}\" is not present with pull policy of Never");
                (
                    Note::warning("ErrImageNeverPull", text),
                    "Error: ErrImageNeverPull",
                )
            }
        };
        let path = image_path(view, &image);
        let notes = vec![
            first.at(path.clone()),
            Note::warning("Failed", second.to_owned()).at(path),
        ];
        self.images.insert(
            image,
            Image::Failed {
                failure,
                at: now,
                backoff,
                announced: false,
            },
        );
        notes
    }

    fn announce_image(&mut self, view: View<'_>, image: &str) -> Vec<Note> {
        if let Some(Image::Failed { announced, .. }) = self.images.get_mut(image) {
            *announced = true;
        }
        let path = image_path(view, image);
        let text = format!("Back-off pulling image \"{image}\"");
        vec![
            Note::normal("BackOff", text).at(path.clone()),
            Note::warning("Failed", "Error: ImagePullBackOff".to_owned()).at(path),
        ]
    }

    fn announce_restart(&mut self, view: View<'_>, container: &str) -> Vec<Note> {
        if let Some(record) = self.containers.get_mut(container)
            && let State::Ended { announced, .. } = &mut record.state
        {
            *announced = true;
        }
        let text = format!(
            "Back-off restarting failed container {container} in pod {}",
            view.label()
        );
        vec![Note::warning("BackOff", text).at(container_path(view, container))]
    }

    fn begin_container(
        &mut self,
        view: View<'_>,
        container: &str,
        attempt: u32,
        now: Timestamp,
    ) -> Vec<Note> {
        let epoch = self.epoch;
        let record = self.record_mut(container);
        let resent = matches!(record.state, State::Starting { .. });
        if let State::Ended { end, .. } = &record.state {
            record.backoff.next(end.finished_at, now);
            record.last = Some(end.clone());
        }
        record.attempt = attempt;
        record.epoch = epoch;
        record.state = State::Starting {
            resend: None,
            again: resent,
        };
        if attempt == 0 || resent {
            return Vec::new();
        }
        let image = view.container(container).map(|(_, c)| c.image.clone());
        let image = image.flatten().unwrap_or_default();
        let note = Note::normal("Pulled", pulled_message(&image, None));
        vec![note.at(container_path(view, container))]
    }

    fn begin_stop(
        &mut self,
        view: View<'_>,
        container: &str,
        grace_ms: u64,
        now: Timestamp,
    ) -> Vec<Note> {
        let grace = SignedDuration::from_millis(i64::try_from(grace_ms).unwrap_or(i64::MAX));
        let Some(record) = self.containers.get_mut(container) else {
            return Vec::new();
        };
        let (started_at, first) = match record.state {
            State::Running { started_at } => (started_at, true),
            State::Stopping { started_at, .. } => (started_at, false),
            State::Waiting
            | State::Blocked { .. }
            | State::Starting { .. }
            | State::Ended { .. } => {
                return Vec::new();
            }
        };
        record.state = State::Stopping {
            started_at,
            deadline: later(now, grace),
        };
        if !first {
            return Vec::new();
        }
        let text = format!("Stopping container {container}");
        vec![Note::normal("Killing", text).at(container_path(view, container))]
    }

    fn launch_failed(&mut self, message: String, now: Timestamp) -> Vec<Note> {
        let text = format!("Failed to create pod machine: {message}");
        self.machine = Machine::Absent;
        self.machine_failed(message, now);
        vec![Note::warning("FailedCreatePodSandBox", text)]
    }

    fn machine_failed(&mut self, message: String, now: Timestamp) {
        self.machine_failure = Some(message);
        self.machine_ended_at = Some(now);
        self.machine_backoff.next(now, now);
    }

    fn session_up(
        &mut self,
        view: View<'_>,
        set_up: bool,
        containers: Vec<GuestContainer>,
        now: Timestamp,
    ) -> Vec<Note> {
        match self.machine {
            Machine::Booting | Machine::Up | Machine::SettingUp | Machine::Ready => {}
            _ => return Vec::new(),
        }
        self.machine = if set_up { Machine::Ready } else { Machine::Up };
        if set_up {
            self.machine_failure = None;
        }
        // A start that never reached the guest is asked for again: same attempt.
        for (name, record) in &mut self.containers {
            let known = containers
                .iter()
                .any(|news| news.name == *name && news.attempt == record.attempt);
            if known || !record.active() {
                continue;
            }
            record.state = match &record.state {
                State::Starting { .. } => State::Starting {
                    resend: Some(now),
                    again: true,
                },
                _ => lost(
                    record,
                    "The guest does not know the container any more",
                    now,
                ),
            };
        }
        let mut notes = Vec::new();
        for news in containers {
            notes.extend(self.container_news(view, news, now));
        }
        notes
    }

    fn container_news(
        &mut self,
        view: View<'_>,
        news: GuestContainer,
        now: Timestamp,
    ) -> Vec<Note> {
        let Some(record) = self.containers.get_mut(&news.name) else {
            return Vec::new();
        };
        if record.attempt != news.attempt || !record.active() {
            return Vec::new();
        }
        let started_at = claimed_time(news.started_at_ns, now);
        let fresh = matches!(record.state, State::Starting { .. });
        match news.phase {
            Phase::Running { .. } if fresh => record.state = State::Running { started_at },
            Phase::Running { .. } => {}
            Phase::Ended {
                at_ns,
                end,
                message,
            } => {
                record.state = State::Ended {
                    end: terminated(news.attempt, started_at, at_ns, end, message, now),
                    drained: false,
                    announced: false,
                };
            }
        }
        if !fresh {
            return Vec::new();
        }
        let path = container_path(view, &news.name);
        vec![
            Note::normal("Created", "Container created".to_owned()).at(path.clone()),
            Note::normal("Started", "Container started".to_owned()).at(path),
        ]
    }

    fn start_blocked(
        &mut self,
        view: View<'_>,
        container: &str,
        attempt: u32,
        reason: &'static str,
        message: String,
        now: Timestamp,
    ) -> Vec<Note> {
        let Some(record) = self.starting(container, attempt) else {
            return Vec::new();
        };
        if let State::Starting { again: true, .. } = record.state {
            // The guest may run it by now: it stays the same attempt.
            let resend = Some(later(now, BLOCKED_RETRY));
            record.state = State::Starting {
                resend,
                again: true,
            };
            return Vec::new();
        }
        let text = format!("Error: {message}");
        record.state = State::Blocked {
            reason: reason.to_owned(),
            message,
            retry_at: later(now, BLOCKED_RETRY),
        };
        vec![Note::warning("Failed", text).at(container_path(view, container))]
    }

    fn start_refused(&mut self, view: View<'_>, container: &str, end: Terminated) -> Vec<Note> {
        let Some(record) = self.starting(container, end.attempt) else {
            return Vec::new();
        };
        let text = format!("Error: {}", end.message);
        record.state = State::Ended {
            end,
            drained: true,
            announced: false,
        };
        let path = container_path(view, container);
        vec![
            Note::normal("Created", "Container created".to_owned()).at(path.clone()),
            Note::warning("Failed", text).at(path),
        ]
    }

    fn machine_ended(&mut self, cause: &str, now: Timestamp) -> Vec<Note> {
        match self.machine {
            Machine::Absent | Machine::Ended | Machine::Forgetting => return Vec::new(),
            _ => {}
        }
        // What node noticed before it killed says more than how it died.
        let known = match self.machine {
            Machine::Killing => self.machine_failure.take(),
            _ => None,
        };
        let asked = matches!(self.machine, Machine::PoweringOff { .. });
        let ready = self.machine == Machine::Ready;
        let cause = known.unwrap_or_else(|| cause.to_owned());
        let message = format!("The micro-VM ended: {cause}");
        self.machine = Machine::Ended;
        let mut ran = false;
        for record in self.containers.values_mut() {
            if record.active() {
                ran = true;
                record.state = lost(record, &message, now);
            }
        }
        if asked && !ran {
            self.machine_failure = None;
            return Vec::new();
        }
        if ran || ready {
            self.machine_failure = None;
            return vec![Note::warning("MachineFailed", message)];
        }
        self.machine_failed(cause, now);
        let text = format!("Failed to create pod machine: {message}");
        vec![Note::warning("FailedCreatePodSandBox", text)]
    }

    fn record_mut(&mut self, container: &str) -> &mut Record {
        self.containers
            .entry(container.to_owned())
            .or_insert_with(Record::new)
    }

    fn starting(&mut self, container: &str, attempt: u32) -> Option<&mut Record> {
        self.containers
            .get_mut(container)
            .filter(|record| record.attempt == attempt)
            .filter(|record| matches!(record.state, State::Starting { .. }))
    }
}

/// The end of a container whose machine or guest is gone.
fn lost(record: &Record, message: &str, now: Timestamp) -> State {
    let (started_at, exit_code) = match record.state {
        State::Running { started_at } => (Some(started_at), 255),
        State::Stopping { started_at, .. } => (Some(started_at), 137),
        _ => (None, 255),
    };
    State::Ended {
        end: Terminated {
            attempt: record.attempt,
            exit_code,
            signal: None,
            reason: "Error".to_owned(),
            message: message.to_owned(),
            started_at,
            finished_at: now,
        },
        drained: true,
        announced: false,
    }
}

fn terminated(
    attempt: u32,
    started_at: Timestamp,
    at_ns: u64,
    end: End,
    mut message: String,
    now: Timestamp,
) -> Terminated {
    let exit_code = end.exit_code();
    let reason = match end {
        End::OomKilled => "OOMKilled",
        End::Code(0) => "Completed",
        End::Code(_) | End::Signal(_) => "Error",
    };
    let mut cut = message.len().min(MESSAGE_MAX);
    while !message.is_char_boundary(cut) {
        cut -= 1;
    }
    message.truncate(cut);
    let finished_at = claimed_time(at_ns, now).max(started_at);
    Terminated {
        attempt,
        exit_code,
        signal: match end {
            End::Signal(signal) => Some(i32::from(signal)),
            End::Code(_) | End::OomKilled => None,
        },
        reason: reason.to_owned(),
        message,
        started_at: Some(started_at),
        finished_at,
    }
}

/// A guest's clock is a claim: it is not believed about the future, nor about
/// what is more than a year ago.
fn claimed_time(ns: u64, now: Timestamp) -> Timestamp {
    let year = SignedDuration::from_hours(366 * 24);
    Timestamp::from_nanosecond(i128::from(ns))
        .ok()
        .filter(|at| *at <= now && now.duration_since(*at) < year)
        .unwrap_or(now)
}

fn pulled_message(image: &str, pull: Option<Pull>) -> String {
    match pull {
        Some(Pull { took, size }) => {
            let took = go_duration(took);
            format!(
                "Successfully pulled image \"{image}\" in {took} ({took} including waiting). \
                 Image size: {size} bytes."
            )
        }
        None => format!(
            "Container image \"{image}\" already present on machine and can be accessed by the pod"
        ),
    }
}

fn about_image(view: View<'_>, image: &str, reason: &'static str, message: String) -> Vec<Note> {
    vec![Note::normal(reason, message).at(image_path(view, image))]
}

/// The first container that uses `image`.
fn image_path(view: View<'_>, image: &str) -> Option<String> {
    view.containers()
        .find(|(_, c)| c.image.as_deref() == Some(image))
        .map(|(role, c)| field_path(role, &c.name))
}

fn container_path(view: View<'_>, container: &str) -> Option<String> {
    view.container(container)
        .map(|(role, _)| field_path(role, container))
}

impl Note {
    pub(crate) fn normal(reason: &'static str, message: String) -> Self {
        Self {
            warning: false,
            reason,
            message,
            field_path: None,
        }
    }

    pub(crate) fn warning(reason: &'static str, message: String) -> Self {
        Self {
            warning: true,
            ..Self::normal(reason, message)
        }
    }

    fn at(mut self, field_path: Option<String>) -> Self {
        self.field_path = field_path;
        self
    }
}
