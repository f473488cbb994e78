//! A pod's containers: each attempt from its start to its end.

use super::super::backoff::{Backoff, later};
use super::super::health::{Doom, Health};
use super::super::observed::{
    Drained, Note, Observed, Record, Stage, StartFailure, State, Terminated,
};
use super::super::resize::{Asked, resources};
use super::super::restart::{back_off, policy};
use super::super::view::{
    RestartPolicy, Role, View, field_path, image_of, post_start, pre_stop, wants_tail,
};
use super::images::pulled_message;
use guest_protocol::{ContainerState as GuestContainer, End, GROUPS_MAX, Phase};
use jiff::{SignedDuration, Timestamp};

/// How long a container that can't be described yet rests, as upstream's sync.
const BLOCKED_RETRY: SignedDuration = SignedDuration::from_secs(10);
/// How long a start whose answer was lost rests.
const RESEND: SignedDuration = SignedDuration::from_millis(100);
/// A guest's message is a claim about its length, too.
const MESSAGE_MAX: usize = 4096;

impl Observed {
    pub(super) fn begin_container(
        &mut self,
        view: View<'_>,
        container: &str,
        attempt: u32,
        now: Timestamp,
    ) -> Vec<Note> {
        let epoch = self.epoch;
        let Some((role, own)) = view.container(container) else {
            return Vec::new();
        };
        view.needed_images(own)
            .for_each(|image| self.disks.add(image));
        let record = self.record_mut(container);
        let resent = matches!(record.state, State::Starting { .. });
        if record.has_other_image(own) {
            record.backoff = Backoff::default();
        }
        if let State::Ended { end, .. } = &record.state {
            record.backoff.next(end.finished_at, now);
            record.last = Some(end.clone());
        }
        record.attempt = attempt;
        record.epoch = epoch;
        record.health = Health::default();
        record.user = None;
        record.resources = Some(resources(own));
        record.asked = Asked::No;
        record.state = State::Starting {
            resend: None,
            again: resent,
        };
        if resent {
            return Vec::new();
        }
        let image = image_of(own);
        image.clone_into(&mut record.image);
        if self.pulled.remove(image) {
            return Vec::new();
        }
        let note = Note::normal("Pulled", pulled_message(image, None));
        vec![note.at(Some(field_path(role, container)))]
    }

    pub(super) fn begin_stop(
        &mut self,
        view: View<'_>,
        container: &str,
        grace_ms: u64,
        doom: Option<Doom>,
        now: Timestamp,
    ) -> Vec<Note> {
        let grace = SignedDuration::from_millis(i64::try_from(grace_ms).unwrap_or(i64::MAX));
        let Some(record) = self.containers.get_mut(container) else {
            return Vec::new();
        };
        let Some(started_at) = record.runs_since() else {
            return Vec::new();
        };
        let first = !matches!(record.state, State::Stopping { .. });
        let hook = view.container(container).and_then(|(_, c)| pre_stop(c));
        if matches!(doom, Some(Doom::Changed | Doom::Resize)) {
            record.replaced = Some(record.attempt);
        }
        record.state = State::Stopping {
            started_at,
            deadline: later(now, grace),
            // A second, shorter period has no time for it.
            stage: if hook.is_some() && first && grace_ms > 0 {
                Stage::Hook { busy: false }
            } else {
                Stage::Signal { until: None }
            },
        };
        if !first {
            return Vec::new();
        }
        let text = killing(view, container, doom);
        vec![Note::normal("Killing", text).at(container_path(view, container))]
    }

    /// As a pod that has just come, but for its machine and volumes: a next
    /// attempt of each container that ran, with the back-off that it has.
    pub(super) fn start_anew(&mut self, view: View<'_>, now: Timestamp) {
        self.restarting_all = false;
        for (_, container) in view.declared() {
            let Some(record) = self.containers.get_mut(&container.name) else {
                continue;
            };
            let State::Ended { end, .. } = &record.state else {
                continue;
            };
            let end = end.clone();
            let due = record.due(container).filter(|due| *due > now);
            let delay = record.backoff.delay(end.finished_at).unwrap_or_default();
            record.backoff.next(end.finished_at, now);
            record.attempt = record.attempt.saturating_add(1);
            record.replaced = Some(end.attempt);
            record.health = Health::default();
            record.last = Some(end);
            record.state = match due {
                None => State::Waiting,
                Some(retry_at) => State::Blocked {
                    reason: "CrashLoopBackOff".to_owned(),
                    message: back_off(view, &container.name, delay),
                    retry_at,
                },
            };
        }
    }

    pub(super) fn announce_restart(&mut self, view: View<'_>, container: &str) -> Vec<Note> {
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

    pub(super) fn container_news(
        &mut self,
        view: View<'_>,
        news: GuestContainer,
        now: Timestamp,
    ) -> Vec<Note> {
        let hook = view.container(&news.name).and_then(|(_, c)| post_start(c));
        let Some(record) = self.containers.get_mut(&news.name) else {
            return Vec::new();
        };
        if record.attempt != news.attempt || !record.active() {
            return Vec::new();
        }
        if let Some(mut user) = news.identity {
            user.groups.truncate(GROUPS_MAX);
            record.user = Some(user);
        }
        let started_at = claimed_time(news.started_at_ns, now);
        let fresh = matches!(record.state, State::Starting { .. });
        match news.phase {
            Phase::Running { .. } if fresh && hook.is_some() => {
                record.state = State::PostStart {
                    started_at,
                    busy: false,
                };
            }
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
                    noticed_at: now,
                };
            }
        }
        self.take_drained(view, &news.name);
        if !fresh {
            return Vec::new();
        }
        let path = container_path(view, &news.name);
        vec![
            Note::normal("Created", "Container created".to_owned()).at(path.clone()),
            Note::normal("Started", "Container started".to_owned()).at(path),
        ]
    }

    pub(super) fn start_failed(
        &mut self,
        view: View<'_>,
        container: &str,
        attempt: u32,
        failure: StartFailure,
        now: Timestamp,
    ) -> Vec<Note> {
        match failure {
            StartFailure::Blocked { reason, message } => {
                self.start_blocked(view, container, attempt, reason, message, now)
            }
            StartFailure::Refused {
                reason,
                exit_code,
                message,
            } => {
                let end = refused(attempt, reason, exit_code, message, now);
                self.start_refused(view, container, end)
            }
            StartFailure::Unknown => {
                self.start_unknown(container, attempt, now);
                Vec::new()
            }
        }
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
            noticed_at: end.finished_at,
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

    fn start_unknown(&mut self, container: &str, attempt: u32, now: Timestamp) {
        if let Some(record) = self.starting(container, attempt) {
            record.state = State::Starting {
                resend: Some(later(now, RESEND)),
                again: true,
            };
        }
    }

    pub(super) fn logs_drained(
        &mut self,
        view: View<'_>,
        container: &str,
        attempt: u32,
        tail: Option<String>,
    ) {
        if let Some(record) = self.containers.get_mut(container)
            && record.attempt == attempt
        {
            record.drained = Some(Drained { attempt, tail });
            self.take_drained(view, container);
        }
    }

    /// Output and end of an attempt come on connections of their own, either
    /// first.
    fn take_drained(&mut self, view: View<'_>, container: &str) {
        let Some(record) = self.containers.get_mut(container) else {
            return;
        };
        let attempt = record.attempt;
        if let State::Ended { drained, end, .. } = &mut record.state
            && let Some(all) = record.drained.take_if(|all| all.attempt == attempt)
        {
            *drained = true;
            let described = view.container(container);
            if let (Some((_, own)), Some(tail)) = (described, all.tail)
                && wants_tail(own, end)
            {
                end.message = tail;
            }
        }
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

/// The end of an attempt that the guest could not run.
fn refused(
    attempt: u32,
    reason: &'static str,
    exit_code: i32,
    message: String,
    now: Timestamp,
) -> Terminated {
    Terminated {
        attempt,
        exit_code,
        signal: None,
        reason: reason.to_owned(),
        message,
        started_at: None,
        finished_at: now,
    }
}

/// The end of a container whose machine or guest is gone.
pub(super) fn lost(record: &Record, message: &str, now: Timestamp) -> State {
    let (started_at, exit_code) = match record.state {
        State::PostStart { started_at, .. } | State::Running { started_at } => {
            (Some(started_at), 255)
        }
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
        noticed_at: now,
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

/// Why a container is stopped, as upstream's event says it.
fn killing(view: View<'_>, container: &str, doom: Option<Doom>) -> String {
    let cause = match doom {
        None | Some(Doom::All) => return format!("Stopping container {container}"),
        Some(Doom::PostStart) => return "FailedPostStartHook".to_owned(),
        Some(Doom::Startup) => "failed startup probe",
        Some(Doom::Liveness) => "failed liveness probe",
        Some(Doom::Changed) => "definition changed",
        Some(Doom::Resize) => return format!("Container {container} resize requires restart"),
    };
    let described = view.container(container);
    if let Some((Role::Sidecar, _)) = described {
        return format!("Init container {container} {cause}");
    }
    let again = match described.map(|(_, own)| policy(view, own)) {
        _ if doom == Some(Doom::Changed) => ", will be restarted",
        Some(RestartPolicy::Always | RestartPolicy::OnFailure) => ", will be restarted",
        Some(RestartPolicy::Never) | None => "",
    };
    format!("Container {container} {cause}{again}")
}

pub(super) fn container_path(view: View<'_>, container: &str) -> Option<String> {
    view.container(container)
        .map(|(role, _)| field_path(role, container))
}

#[cfg(test)]
mod tests {
    use super::super::super::observed::{Machine, Observation};
    use super::super::super::samples::pod;
    use super::*;
    use guest_protocol::Identity;
    use serde_json::json;

    #[test]
    fn who_a_container_runs_as_is_told_and_what_it_mounts() {
        let mount = |name: &str, more: serde_json::Value| {
            let mut all = json!({"name": name, "mountPath": "/v"});
            all.as_object_mut()
                .expect("an object")
                .extend(more.as_object().cloned().expect("an object"));
            all
        };
        let pod = pod(
            json!({"containers": [{"name": "a", "image": "a:1", "volumeMounts": [
                mount("w", json!({})),
                mount("r", json!({"readOnly": true})),
                mount("x", json!({"readOnly": true, "recursiveReadOnly": "IfPossible"})),
            ]}]}),
        );
        let view = View(&pod);
        let now = Timestamp::UNIX_EPOCH;
        let mut observed = Observed::new(now);
        observed.machine = Machine::Ready;
        observed.begin_container(view, "a", 0, now);
        let news = Observation::Container(GuestContainer {
            name: "a".to_owned(),
            attempt: 0,
            started_at_ns: 0,
            identity: Some(Identity {
                uid: 1,
                gid: 2,
                groups: (2..10_000).collect(),
            }),
            phase: Phase::Running { pid: 1 },
        });
        observed.observe(view, news, now);
        let status = super::super::super::status(&pod, &observed, now);
        let status = serde_json::to_value(status).expect("serializes");
        let told = &status["containerStatuses"][0];
        let user = &told["user"]["linux"];
        assert_eq!((&user["uid"], &user["gid"]), (&json!(1), &json!(2)));
        let groups = user["supplementalGroups"].as_array().map(Vec::len);
        assert_eq!(groups, Some(GROUPS_MAX), "a guest's word has a bound");
        let wanted = json!([
            mount("w", json!({})),
            mount(
                "r",
                json!({"readOnly": true, "recursiveReadOnly": "Disabled"})
            ),
            mount(
                "x",
                json!({"readOnly": true, "recursiveReadOnly": "Enabled"})
            ),
        ]);
        assert_eq!(told["volumeMounts"], wanted);
        // The next attempt may be somebody else.
        observed.begin_container(view, "a", 1, now);
        assert_eq!(observed.record("a").and_then(|r| r.user.clone()), None);
    }

    #[test]
    fn output_and_end_come_in_any_order() {
        let pod = pod(json!({"restartPolicy": "Never", "containers": [
            {"name": "a", "image": "a:1", "terminationMessagePolicy": "FallbackToLogsOnError"}]}));
        let view = View(&pod);
        let now = Timestamp::UNIX_EPOCH;
        let news = |phase| {
            Observation::Container(GuestContainer {
                name: "a".to_owned(),
                attempt: 0,
                started_at_ns: 0,
                identity: None,
                phase,
            })
        };
        let ended = news(Phase::Ended {
            at_ns: 0,
            end: End::Code(3),
            message: String::new(),
        });
        let drained = Observation::LogsDrained {
            container: "a".to_owned(),
            attempt: 0,
            tail: Some("words".to_owned()),
        };
        for order in [[&ended, &drained], [&drained, &ended]] {
            let mut observed = Observed::new(now);
            observed.machine = Machine::Ready;
            observed.begin_container(view, "a", 0, now);
            observed.observe(view, news(Phase::Running { pid: 1 }), now);
            for observation in order {
                observed.observe(view, observation.clone(), now);
            }
            let record = observed.record("a").expect("it is there");
            let State::Ended { end, drained, .. } = &record.state else {
                panic!("{record:?}");
            };
            assert_eq!((end.message.as_str(), *drained), ("words", true));
        }
    }
}
