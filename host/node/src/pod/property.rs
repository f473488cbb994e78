//! A world in which steps are carried out with delays, failures and crashes,
//! driven at random: whatever happens, no attempt runs twice, attempts only
//! grow, terminal pods stay terminal, and planning settles.
//!
//! Size: it is one world, all of whose parts know each other.

mod resize;

use super::health::{Act, Acted, Outcome};
use super::observed::{
    ImageFailure, ImageFailureKind, ImageInfo, Machine, Observation, Observed, StartFailure,
};
use super::samples::pod;
use super::status::{Phase, phase};
use super::view::{Role, View, role_of_init};
use super::{Pod, Step, plan, status};
use guest_protocol::{ContainerState as GuestContainer, End, Phase as GuestPhase};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::EphemeralContainer;
use serde_json::{Value, json};
use std::collections::BTreeMap;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }
}

/// The image that the first container mounts, in some pods.
const VOLUME: &str = "w:1";

/// A container with some of what a container may have.
fn container(random: &mut Random, name: &str) -> Value {
    let mut container = json!({"name": name, "image": format!("{name}:1")});
    let probe = json!({"tcpSocket": {"port": 1}, "failureThreshold": 2});
    for field in ["startupProbe", "readinessProbe", "livenessProbe"] {
        if random.one_in(4) {
            container[field] = probe.clone();
        }
    }
    for field in ["postStart", "preStop"] {
        if random.one_in(4) {
            container["lifecycle"][field] = json!({"sleep": {"seconds": 1}});
        }
    }
    if random.one_in(4) {
        container["terminationMessagePolicy"] = json!("FallbackToLogsOnError");
    }
    container
}

/// The truth outside: what the machine and the guest really do.
struct World {
    random: Random,
    seed: u64,
    now: Timestamp,
    pod: Pod,
    observed: Observed,
    machine: bool,
    set_up: bool,
    /// Whether the volumes of the machine have their files.
    filled: bool,
    session: bool,
    guest: BTreeMap<String, GuestContainer>,
    /// Steps that were begun and are not carried out yet.
    pending: Vec<(u32, Step)>,
    /// The newest attempt of each container in this machine.
    newest: BTreeMap<String, u32>,
    /// Every attempt that ever ran.
    ran: Vec<(String, u32)>,
    terminal: Option<Phase>,
    deleted: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let policies = ["Always", "OnFailure", "Never"];
        let policy = policies[usize::try_from(random.next() % 3).expect("small")];
        let mut mains = vec![container(&mut random, "a")];
        if random.one_in(2) {
            mains.push(container(&mut random, "b"));
        }
        let mut inits = vec![];
        if random.one_in(3) {
            let mut sidecar = container(&mut random, "s");
            sidecar["restartPolicy"] = json!("Always");
            inits.push(sidecar);
        }
        if random.one_in(3) {
            inits.push(json!({"name": "i", "image": "i:1"}));
        }
        let mut spec =
            json!({"restartPolicy": policy, "containers": mains, "initContainers": inits});
        if random.one_in(4) {
            let rule = json!({"action": "RestartAllContainers",
                "exitCodes": {"operator": "In", "values": [1]}});
            mains[0]["restartPolicy"] = json!("Never");
            mains[0]["restartPolicyRules"] = json!([rule]);
        }
        let mut volumes = vec![];
        if random.one_in(3) {
            volumes.push(json!({"name": "v", "configMap": {"name": "m"}}));
        }
        if random.one_in(3) {
            volumes.push(json!({"name": "w", "image": {"reference": VOLUME}}));
            let mounts = json!([{"name": "w", "mountPath": "/w"}]);
            spec["containers"][0]["volumeMounts"] = mounts;
        }
        spec["volumes"] = json!(volumes);
        let now = Timestamp::from_second(1_800_000_000).expect("in range");
        let mut pod = pod(spec);
        let mut observed = Observed::new(now);
        observed.take_on(&mut pod);
        Self {
            random,
            seed,
            now,
            pod,
            observed,
            machine: false,
            set_up: false,
            filled: false,
            session: false,
            guest: BTreeMap::new(),
            pending: Vec::new(),
            newest: BTreeMap::new(),
            ran: Vec::new(),
            terminal: None,
            deleted: false,
        }
    }

    fn settle(&mut self) {
        for _ in 0..64 {
            let plan = plan(&self.pod, &self.observed, self.now);
            if let Some(wake) = plan.wake {
                assert!(wake > self.now, "seed {}: wakes in the past", self.seed);
            }
            if plan.steps.is_empty() {
                return self.check();
            }
            for step in plan.steps {
                self.observed.begin(View(&self.pod), &step, self.now);
                self.pending.push((self.observed.epoch, step));
            }
        }
        panic!(
            "seed {}: planning does not settle: {:?}",
            self.seed, self.pending
        );
    }

    fn check(&mut self) {
        let seed = self.seed;
        let phase = phase(View(&self.pod), &self.observed);
        if let Some(terminal) = self.terminal {
            assert_eq!(phase, terminal, "seed {seed}: a terminal pod changed");
        }
        if matches!(phase, Phase::Succeeded | Phase::Failed) && !View(&self.pod).deleting() {
            self.terminal = Some(phase);
        }
        let first = status(&self.pod, &self.observed, self.now);
        let text = serde_json::to_string(&first).expect("serializes");
        assert!(!text.contains("null"), "seed {seed}: {text}");
        let copy = serde_json::to_string(&self.observed).expect("serializes");
        let copy: Observed = serde_json::from_str(&copy).expect("parses");
        let lasting = self.observed.lasting();
        assert_eq!(copy.containers, lasting.containers, "seed {seed}");
    }

    fn observe(&mut self, observation: Observation) {
        self.observed
            .observe(View(&self.pod), observation, self.now);
    }

    /// One thing happens.
    fn tick(&mut self) {
        let millis =
            [0, 1, 900, 11_000, 400_000][usize::try_from(self.random.next() % 5).expect("small")];
        self.now += SignedDuration::from_millis(millis);
        match self.random.next() % 12 {
            0..=5 => self.carry_out(),
            6 => self.container_ends(),
            7 if self.random.one_in(8) => self.machine_dies(),
            8 if self.session && self.random.one_in(4) => {
                self.session = false;
                self.observe(Observation::SessionLost);
            }
            9 => self.guest_lies(),
            10 if self.random.one_in(20) => self.node_restarts(),
            11 if self.random.one_in(30) => {
                self.pod.delete(self.now, None);
            }
            11 if self.random.one_in(8) => self.debug(),
            11 if self.random.one_in(8) => self.update(),
            11 if self.random.one_in(4) => self.resize(),
            _ => self.session_opens(),
        }
        self.observed.resize_goes_on(View(&self.pod));
    }

    /// Somebody adds an ephemeral container.
    fn debug(&mut self) {
        let mut pod = self.pod.as_api().clone();
        let spec = pod.spec.as_mut().expect("a specification");
        let list = spec.ephemeral_containers.get_or_insert_default();
        if list.is_empty() {
            list.push(EphemeralContainer {
                name: "e".to_owned(),
                image: Some("e:1".to_owned()),
                ..EphemeralContainer::default()
            });
        }
        self.pod = pod.into();
    }

    /// Somebody changes an image, or changes it back.
    fn update(&mut self) {
        let mut pod = self.pod.as_api().clone();
        let spec = pod.spec.as_mut().expect("a specification");
        let all = spec.init_containers.iter_mut().flatten();
        let mut all: Vec<_> = all.chain(&mut spec.containers).collect();
        let at = usize::try_from(self.random.next()).unwrap_or(0) % all.len();
        let container = &mut all[at];
        let other = [1, 2].map(|tag| format!("{}:{tag}", container.name));
        let other = other
            .into_iter()
            .find(|image| container.image.as_ref() != Some(image));
        container.image = other;
        self.pod = pod.into();
    }

    fn session_opens(&mut self) {
        if self.machine && !self.session && self.observed.machine == Machine::Booting {
            self.session = true;
            let containers = self.guest.values().cloned().collect();
            let set_up = self.set_up;
            self.observe(Observation::SessionUp { set_up, containers });
        }
    }

    fn container_ends(&mut self) {
        let now = u64::try_from(self.now.as_nanosecond()).expect("positive");
        let end = [End::Code(0), End::Code(1), End::Signal(9), End::OomKilled]
            [usize::try_from(self.random.next() % 4).expect("small")];
        let running = |c: &&mut GuestContainer| matches!(c.phase, GuestPhase::Running { .. });
        let Some(container) = self.guest.values_mut().find(running) else {
            return;
        };
        container.phase = GuestPhase::Ended {
            at_ns: now,
            end,
            message: String::new(),
        };
        let (news, session) = (container.clone(), self.session);
        if session {
            // Each comes on its own connection.
            let ended = Observation::Container(news.clone());
            let drained = Observation::LogsDrained {
                container: news.name,
                attempt: news.attempt,
                tail: Some("words".to_owned()),
            };
            match self.random.next() % 3 {
                0 => self.observe(ended),
                1 => [ended, drained]
                    .map(|one| self.observe(one))
                    .into_iter()
                    .collect(),
                _ => [drained, ended]
                    .map(|one| self.observe(one))
                    .into_iter()
                    .collect(),
            }
        }
    }

    fn machine_dies(&mut self) {
        if self.machine {
            self.machine = false;
            self.session = false;
            self.guest.clear();
            self.newest.clear();
            self.set_up = false;
            self.filled = false;
            self.observe(Observation::MachineEnded {
                cause: "test".to_owned(),
            });
        }
    }

    /// News that no honest guest sends.
    fn guest_lies(&mut self) {
        let attempt = u32::try_from(self.random.next() % 9).expect("small") + 50;
        let news = GuestContainer {
            name: ["a", "b", "zzz"][usize::try_from(attempt % 3).expect("small")].to_owned(),
            attempt,
            started_at_ns: self.random.next(),
            identity: None,
            phase: GuestPhase::Running { pid: 1 },
        };
        let before = self.observed.containers.clone();
        self.observe(Observation::Container(news));
        assert_eq!(
            self.observed.containers, before,
            "seed {}: believed a lie",
            self.seed
        );
    }

    /// A new node from the checkpoint; what was under way is lost.
    fn node_restarts(&mut self) {
        let text = serde_json::to_string(&self.observed).expect("serializes");
        self.observed = serde_json::from_str(&text).expect("parses");
        self.pending.clear();
        self.session = false;
        let ensuring = |image: &super::observed::Image| {
            matches!(image, super::observed::Image::Ensuring { .. })
        };
        self.observed.images.retain(|_, image| !ensuring(image));
        if self.observed.machine == Machine::Forgetting {
            self.observed.machine = Machine::Ended;
        }
        if self.machine {
            self.observe(Observation::MachineLaunched);
        } else if self.observed.machine != Machine::Absent {
            self.observe(Observation::MachineEnded {
                cause: "restart".to_owned(),
            });
        }
    }

    fn carry_out(&mut self) {
        if self.pending.is_empty() {
            return self.session_opens();
        }
        let at = usize::try_from(self.random.next()).unwrap_or(0) % self.pending.len();
        let (epoch, step) = self.pending.remove(at);
        // Commands go to the machine that they were meant for.
        let stale = epoch != self.observed.epoch;
        match step {
            Step::StartContainer { container, attempt } if stale => {
                self.start_failed(container, attempt, StartFailure::Unknown);
            }
            Step::EnsureImage { image, .. } => self.ensure(image),
            Step::LaunchMachine => self.launch(),
            Step::SetUpGuest if self.session => {
                self.set_up = true;
                self.observe(Observation::SetUpDone);
            }
            Step::FillVolumes => self.fill(epoch),
            Step::StartContainer { container, attempt } => self.start(container, attempt),
            Step::Act {
                container,
                attempt,
                act,
            } => {
                let acted = self.act(act);
                self.observe(Observation::Acted {
                    container,
                    attempt,
                    acted,
                });
            }
            Step::ResizeContainer { container, attempt } => {
                self.resized(container, attempt, stale);
            }
            Step::SignalContainer { container, .. } if self.session => self.signal(&container),
            Step::PowerOff | Step::KillMachine { .. } => self.machine_dies(),
            Step::ForgetMachine => self.observe(Observation::MachineForgotten),
            Step::WriteStatus(status) => {
                let failed = self.random.one_in(6);
                self.observe(if failed {
                    Observation::ApiFailed
                } else {
                    Observation::StatusWritten(status)
                });
            }
            Step::Delete => {
                assert!(!self.machine, "seed {}: deleted while it runs", self.seed);
                self.deleted = true;
                self.observe(Observation::PodDeleted);
            }
            _ => {}
        }
    }

    fn act(&mut self, act: Act) -> Acted {
        let failed = self.random.one_in(4);
        match act {
            Act::PostStart => Acted::PostStart { failed },
            Act::PreStop { .. } => Acted::PreStop { failed },
            Act::Probe(kind) => {
                let outcome = match self.random.next() % 4 {
                    0 | 1 => Outcome::Success,
                    2 => Outcome::Failure("no".to_owned()),
                    _ => Outcome::Error("none".to_owned()),
                };
                Acted::Probe(kind, outcome)
            }
        }
    }

    fn signal(&mut self, container: &str) {
        let now = u64::try_from(self.now.as_nanosecond()).expect("positive");
        if let Some(found) = self.guest.get_mut(container) {
            found.phase = GuestPhase::Ended {
                at_ns: now,
                end: End::Signal(15),
                message: String::new(),
            };
            let news = found.clone();
            self.observe(Observation::Container(news));
        }
    }

    fn fill(&mut self, epoch: u32) {
        let works = self.session && !self.random.one_in(3);
        self.filled |= works && epoch == self.observed.epoch;
        let failures = if works {
            Vec::new()
        } else {
            vec!["no".to_owned()]
        };
        self.observe(Observation::VolumesTold { epoch, failures });
    }

    fn ensure(&mut self, image: String) {
        let observation = if self.random.one_in(4) {
            let kind = ImageFailureKind::Pull;
            let message = "no".to_owned();
            let failure = ImageFailure { kind, message };
            Observation::ImageFailed { image, failure }
        } else {
            let info = ImageInfo {
                name: image.clone(),
                id: image.clone(),
            };
            let pull = None;
            Observation::ImageReady { image, info, pull }
        };
        self.observe(observation);
    }

    fn launch(&mut self) {
        assert!(!self.machine, "seed {}: two machines", self.seed);
        if self.random.one_in(5) {
            self.observe(Observation::LaunchFailed {
                message: "no".to_owned(),
            });
        } else {
            self.machine = true;
            self.observe(Observation::MachineLaunched);
        }
    }

    fn inits_done(&self) -> bool {
        View(&self.pod).inits().iter().all(|init| {
            let run = self.guest.get(&init.name);
            run.is_some_and(|c| {
                role_of_init(init) == Role::Sidecar
                    || matches!(
                        c.phase,
                        GuestPhase::Ended {
                            end: End::Code(0),
                            ..
                        }
                    )
            })
        })
    }

    fn start_failed(&mut self, container: String, attempt: u32, failure: StartFailure) {
        self.observe(Observation::StartFailed {
            container,
            attempt,
            failure,
        });
    }

    fn check_disks(&self, container: &str) {
        let view = View(&self.pod);
        let (_, described) = view.container(container).expect("the pod's");
        let own = &self.observed.containers[container].image;
        let mounted = view.mounted_images(described).map(|(_, image)| image);
        for image in mounted.chain([own.as_str()]) {
            let disk = self.observed.disks.of(image);
            assert!(
                disk.is_some(),
                "seed {}: {container} without {image}",
                self.seed
            );
        }
    }

    fn start(&mut self, container: String, attempt: u32) {
        let seed = self.seed;
        let volumes = super::volumes::of_files(View(&self.pod)).next().is_some();
        assert!(
            self.filled || !volumes || !self.machine,
            "seed {seed}: starts without its files"
        );
        if self.random.one_in(6) {
            let message = "no".to_owned();
            let reason = "CreateContainerConfigError";
            let failure = StartFailure::Blocked { reason, message };
            return self.start_failed(container, attempt, failure);
        }
        if !self.session || !self.machine {
            return self.start_failed(container, attempt, StartFailure::Unknown);
        }
        // The guest answers `Ok` to an attempt that it started before, and
        // refuses one that is older.
        if self
            .newest
            .get(&container)
            .is_some_and(|newest| *newest >= attempt)
        {
            return;
        }
        self.newest.insert(container.clone(), attempt);
        let key = (container.clone(), attempt);
        assert!(!self.ran.contains(&key), "seed {seed}: {key:?} runs twice");
        let older = self.ran.iter().filter(|(name, _)| *name == container);
        let newest = older.map(|(_, attempt)| *attempt).max();
        assert!(
            newest.is_none_or(|n| n < attempt),
            "seed {seed}: {key:?} after {newest:?}"
        );
        assert!(
            // Such a start may be under way when the others end.
            self.terminal.is_none() || ["s", "e"].contains(&container.as_str()),
            "seed {seed}: {key:?} in a terminal pod"
        );
        assert!(
            ["i", "s", "e"].contains(&container.as_str()) || self.inits_done(),
            "seed {seed}: {key:?} before its init containers"
        );
        self.check_disks(&container);
        self.ran.push(key);
        let news = GuestContainer {
            name: container.clone(),
            attempt,
            started_at_ns: u64::try_from(self.now.as_nanosecond()).expect("positive"),
            identity: None,
            phase: GuestPhase::Running { pid: 7 },
        };
        self.guest.insert(container, news.clone());
        if self.random.one_in(2) {
            self.observe(Observation::Container(news));
        } else {
            self.session = false;
            self.observe(Observation::SessionLost);
        }
    }
}

#[test]
fn whatever_happens_nothing_runs_twice() {
    let mut starts = 0;
    for seed in 1..fuzzing::rounds(1500) {
        let mut world = World::new(seed);
        for _ in 0..150 {
            world.settle();
            world.tick();
        }
        starts += world.ran.len();
    }
    assert!(starts > 3000, "the world is too quiet: {starts} starts");
}

#[test]
fn a_quiet_world_comes_to_rest() {
    for seed in 1..fuzzing::rounds(300) {
        let mut world = World::new(seed);
        for _ in 0..40 {
            world.settle();
            world.tick();
        }
        world.pod.delete(world.now, Some(1));
        for _ in 0..400 {
            world.settle();
            if world.deleted {
                break;
            }
            world.now += SignedDuration::from_secs(1);
            world.carry_out();
        }
        let rest = (&world.observed, &world.pending);
        assert!(world.deleted, "seed {seed}: a deleted pod stays: {rest:?}");
    }
}
