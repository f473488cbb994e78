//! Carries out steps. Each is a task that reports what came of it.

use super::launch::{Failure, attach, launch};
use super::running::report;
use super::{Happened, Shared, Worker, api, volumes};
use crate::guest::Command;
use crate::machine::Control;
use crate::pod::admission;
use crate::pod::container::{ImageConfig, Place, describe};
use crate::pod::disks::Disks;
use crate::pod::environment::sources;
use crate::pod::etc_files::guest_pod;
use crate::pod::observed::{ImageFailure, ImageFailureKind, ImageInfo, Pull, StartFailure};
use crate::pod::resources::{Size, limit, size, units};
use crate::pod::view::{PullPolicy, Role, View, field_path, image_of};
use crate::pod::{Observation, Pod, Step};
use crate::static_pods::is_static;
use guest_protocol::{Action, Answer, Refusal, RefusalKind};
use image::Reference;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};

/// How long a guest gets between SIGTERM and SIGKILL when it powers off; its
/// containers have ended before.
const POWER_OFF_GRACE_MS: u64 = 0;

impl Worker {
    pub(super) fn perform(&mut self, step: Step) {
        let (shared, pod) = (self.shared.clone(), self.pod.clone());
        match step {
            Step::EnsureImage { image } => {
                let reports = self.reports.clone();
                self.spawn(async move { ensure(&shared, &pod, image, &reports).await });
            }
            Step::LaunchMachine => {
                let disks = self.observed.disks.clone();
                let (wanted, unwanted) = oneshot::channel();
                self.wanted = Some(wanted);
                self.spawn_happened(async move { in_turn(&shared, &pod, &disks, unwanted).await });
            }
            Step::SetUpGuest => self.set_up_guest(),
            Step::FillVolumes => self.fill_volumes(),
            Step::StartContainer { container, attempt } => {
                let guest = self.guest();
                self.spawn(async move { start(&shared, &pod, container, attempt, guest).await });
            }
            Step::Act {
                container,
                attempt,
                act,
            } => self.act(container, attempt, act),
            Step::ResizeContainer { container, attempt } => self.resize(container, attempt),
            Step::SignalContainer {
                container,
                grace_ms,
            } => {
                drop(self.command(Action::Stop {
                    container,
                    grace_ms,
                }));
            }
            Step::PowerOff => drop(self.command(Action::PowerOff {
                grace_ms: POWER_OFF_GRACE_MS,
            })),
            Step::KillMachine { .. } => self.kill_machine(),
            Step::ForgetMachine => self.spawn(async move { forget(&shared, &pod).await }),
            Step::AnnounceImageBackOff { .. }
            | Step::AnnounceRestartBackOff { .. }
            | Step::StopContainer { .. }
            | Step::RestartAll
            | Step::StartAnew
            | Step::Expire => {}
            // What the API shows of it is its mirror's.
            Step::WriteStatus(status) if is_static(&pod) => {
                self.spawn(async move { Some(Observation::StatusWritten(status)) });
            }
            Step::Delete if is_static(&pod) => {
                self.spawn(async move { Some(Observation::PodDeleted) });
            }
            Step::WriteStatus(status) => {
                self.spawn(async move { Some(api::write_status(&shared, &pod, status).await) });
            }
            Step::Delete => self.spawn(async move { Some(api::delete(&shared, &pod).await) }),
        }
    }

    /// What the start of a container needs of the machine, if there is one.
    fn guest(&self) -> Option<Guest> {
        let running = self.running.as_ref()?;
        Some(Guest {
            commands: running.commands.clone(),
            control: running.control.clone(),
            disks: self.observed.disks.clone(),
            size: self.observed.size,
            reports: self.reports.clone(),
        })
    }

    fn set_up_guest(&self) {
        let view = View(&self.pod);
        let nameservers = self.shared.host.borrow().nameservers.clone();
        let guest_pod = guest_pod(
            view,
            &nameservers,
            self.shared.scratch(view, self.observed.size),
        );
        let answer = self.command(Action::SetUp(Box::new(guest_pod)));
        self.spawn(async move { set_up(answer).await });
    }

    fn fill_volumes(&self) {
        let (shared, pod) = (self.shared.clone(), self.pod.clone());
        let control = self.running.as_ref().map(|r| r.control.clone());
        let filled = self.filled.clone();
        let epoch = self.observed.epoch;
        self.spawn(async move {
            // Without a machine, its end is news enough.
            let failures = volumes::fill(&shared, &pod, &control?, &filled).await;
            Some(Observation::VolumesTold { epoch, failures })
        });
    }

    pub(super) fn kill_machine(&mut self) {
        let shared = self.shared.clone();
        let Some(id) = View(&self.pod).machine_id() else {
            return;
        };
        self.spawn(async move {
            if let Err(error) = shared.launcher.kill(id).await {
                log::warn!("kill machine {id}: {error}");
            }
            None
        });
    }

    /// The guest needs no output any more that is in the log.
    pub(super) fn remove_attempt(&self, container: String, attempt: u32) {
        drop(self.command(Action::Remove { container, attempt }));
    }

    /// Sends a command to the guest; its answer never comes if the session
    /// breaks, or if there is none.
    pub(super) fn command(&self, action: Action) -> oneshot::Receiver<Result<Answer, Refusal>> {
        let (answer, receiver) = oneshot::channel();
        if let Some(running) = &self.running {
            // A full queue is a guest that hangs; the session will notice.
            if let Err(error) = running.commands.try_send(Command { action, answer }) {
                log::warn!("command to a guest: {error}");
            }
        }
        receiver
    }

    pub(super) fn spawn(&self, effect: impl Future<Output = Option<Observation>> + Send + 'static) {
        let reports = self.reports.clone();
        tokio::spawn(async move {
            if let Some(observation) = effect.await {
                report(&reports, observation).await;
            }
        });
    }

    fn spawn_happened(&self, effect: impl Future<Output = Happened> + Send + 'static) {
        let reports = self.reports.clone();
        tokio::spawn(async move { drop(reports.send(effect.await).await) });
    }
}

/// Launches the machine when it is its turn; a pod that is deleted or over before
/// has none.
async fn in_turn(
    shared: &Shared,
    pod: &Pod,
    disks: &Disks,
    unwanted: oneshot::Receiver<()>,
) -> Happened {
    let place = tokio::select! {
        place = shared.starts.clone().acquire_owned() => place.ok(),
        _ = unwanted => None,
    };
    let Some(place) = place else {
        return Happened::Observed(Observation::MachineForgotten);
    };
    match launch(shared, pod, disks, place).await {
        Ok(launched) => launched,
        Err(Failure::ImageGone(image)) => Happened::Observed(Observation::ImageGone { image }),
        Err(error) => Happened::Observed(Observation::LaunchFailed {
            message: error.to_string(),
        }),
    }
}

async fn ensure(
    shared: &Shared,
    pod: &Pod,
    image: String,
    reports: &mpsc::Sender<Happened>,
) -> Option<Observation> {
    let failed = |image: String, kind, message: String| {
        let failure = ImageFailure { kind, message };
        Some(Observation::ImageFailed { image, failure })
    };
    let reference = match Reference::try_from(image.clone()) {
        Ok(reference) => reference,
        Err(error) => return failed(image, ImageFailureKind::Name, error.to_string()),
    };
    let policy = View(pod).pull_policy(&image);
    let policy = match policy.unwrap_or(PullPolicy::IfNotPresent) {
        PullPolicy::Always => image::PullPolicy::Always,
        PullPolicy::IfNotPresent => image::PullPolicy::IfNotPresent,
        PullPolicy::Never => image::PullPolicy::Never,
    };
    let present = shared.images.get(&reference).is_some();
    let pulls = match policy {
        image::PullPolicy::Always => true,
        image::PullPolicy::IfNotPresent => !present,
        image::PullPolicy::Never => false,
    };
    if pulls {
        let image = image.clone();
        report(reports, Observation::ImagePulling { image }).await;
    }
    let auth = api::pull_secrets(shared, pod, &reference).await;
    let began = Instant::now();
    match shared.images.ensure(&reference, policy, &auth).await {
        Ok(found) => Some(Observation::ImageReady {
            image,
            info: ImageInfo {
                name: reference.to_string(),
                id: found.repo_digest.clone(),
            },
            pull: pulls.then(|| Pull {
                took: began.elapsed().try_into().unwrap_or_default(),
                size: found.size,
            }),
        }),
        Err(error) if error.kind() == image::Kind::NotPresent => {
            failed(image, ImageFailureKind::Never, error.to_string())
        }
        Err(error) => failed(image, ImageFailureKind::Pull, error.to_string()),
    }
}

async fn forget(shared: &Shared, pod: &Pod) -> Option<Observation> {
    if let Some(id) = View(pod).machine_id()
        && let Err(error) = shared.launcher.forget(id).await
    {
        log::debug!("machine {id}: {error}");
    }
    Some(Observation::MachineForgotten)
}

async fn set_up(answer: oneshot::Receiver<Result<Answer, Refusal>>) -> Option<Observation> {
    match answer.await {
        Ok(Ok(_)) => Some(Observation::SetUpDone),
        Ok(Err(refusal)) => Some(Observation::SetUpFailed {
            message: format!("the guest could not be set up: {refusal}"),
        }),
        // The next snapshot says whether it was.
        Err(_) => None,
    }
}

/// What the start of a container needs of its machine.
struct Guest {
    commands: mpsc::Sender<Command>,
    control: Control,
    disks: Disks,
    size: Option<Size>,
    reports: mpsc::Sender<Happened>,
}

async fn start(
    shared: &Arc<Shared>,
    pod: &Pod,
    container: String,
    attempt: u32,
    guest: Option<Guest>,
) -> Option<Observation> {
    let failure = match guest {
        Some(guest) => ask_to_start(shared, pod, &container, attempt, &guest).await?,
        None => StartFailure::Unknown,
    };
    Some(Observation::StartFailed {
        container,
        attempt,
        failure,
    })
}

/// What kept the attempt from starting, if anything did.
async fn ask_to_start(
    shared: &Arc<Shared>,
    pod: &Pod,
    container: &str,
    attempt: u32,
    guest: &Guest,
) -> Option<StartFailure> {
    let blocked = |reason, message| Some(StartFailure::Blocked { reason, message });
    let disks = match attached(shared, View(pod), container, guest).await {
        Ok(disks) => disks,
        Err(failure) => {
            if let Failure::ImageGone(image) = &failure {
                let image = image.clone();
                report(&guest.reports, Observation::ImageGone { image }).await;
            }
            return blocked("CreateContainerError", failure.to_string());
        }
    };
    let description = match prepare(shared, pod, container, attempt, (&disks, guest.size)).await {
        Ok(description) => description,
        Err(message) => return blocked("CreateContainerConfigError", message),
    };
    let (answer, receiver) = oneshot::channel();
    let action = Action::Start(Box::new(description));
    let commands = &guest.commands;
    if commands.send(Command { action, answer }).await.is_err() {
        return Some(StartFailure::Unknown);
    }
    match receiver.await {
        Ok(Err(refusal)) => {
            let (reason, exit_code) = match refusal.kind {
                RefusalKind::NotFound => ("ContainerCannotRun", 127),
                _ => ("StartError", 128),
            };
            Some(StartFailure::Refused {
                reason,
                exit_code,
                message: refusal.message,
            })
        }
        // That it runs is told by the guest's own news.
        Ok(Ok(_)) => None,
        Err(_) => Some(StartFailure::Unknown),
    }
}

/// The disks that a container needs: its own, and those of the volumes that are
/// images, by volume.
struct Needed {
    own: String,
    volumes: BTreeMap<String, String>,
}

/// Sees to it that the machine has them all.
async fn attached(
    shared: &Shared,
    view: View<'_>,
    container: &str,
    guest: &Guest,
) -> Result<Needed, Failure> {
    let (_, container) = view
        .container(container)
        .ok_or_else(|| Failure::Other("the pod has no such container".to_owned()))?;
    let get = |image| attach(shared, &guest.control, &guest.disks, image);
    let own = get(image_of(container)).await?;
    let mut volumes = BTreeMap::new();
    for (volume, reference) in view.mounted_images(container) {
        volumes.insert(volume.to_owned(), get(reference).await?);
    }
    Ok(Needed { own, volumes })
}

async fn prepare(
    shared: &Shared,
    pod: &Pod,
    name: &str,
    attempt: u32,
    (disks, machine): (&Needed, Option<Size>),
) -> Result<guest_protocol::Container, String> {
    let view = View(pod);
    let (role, container) = view
        .container(name)
        .ok_or("the pod has no such container")?;
    // The others were looked at when the pod came.
    if role == Role::Ephemeral
        && let Some(field) = admission::container_field(container)
    {
        let path = field_path(role, name);
        return Err(format!("{path}: {field} is not supported"));
    }
    let reference = Reference::try_from(image_of(container).to_owned());
    let reference = reference.map_err(|error| error.to_string())?;
    let image = shared.images.get(&reference).ok_or("its image is gone")?;
    let config = ImageConfig {
        entrypoint: image.config.entrypoint.clone(),
        cmd: image.config.cmd.clone(),
        env: image.config.env.clone(),
        working_dir: image.config.working_dir.clone(),
        user: image.config.user.clone(),
        stop_signal: image.config.stop_signal.clone().unwrap_or_default(),
    };
    api::check_runtime_class(shared, view).await?;
    let found = api::sources(shared, view.namespace(), sources(container)).await?;
    let host = shared.host.borrow().facts.clone();
    let machine = machine.unwrap_or_else(|| size(view, shared.defaults));
    let memory = u64::from(machine.memory_mib) << 20;
    let asked = limit(container, "ephemeral-storage").and_then(units);
    let place = Place {
        disk: &disks.own,
        volumes: &disks.volumes,
        // A tmpfs can't hold more than the guest's memory anyway.
        overlay_size: asked.unwrap_or(memory / 2).min(memory / 2),
        host: &host,
    };
    describe(
        view,
        container,
        attempt,
        &config,
        &found,
        Vec::new(),
        &place,
    )
    .map_err(|error| error.to_string())
}
