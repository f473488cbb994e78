//! A booted appliance with everything that tests want beside it: registry,
//! credentials, kubectl, agent, disks.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use image_build::cache::Cache;
use image_build::command;
use serde_json::Value;

use crate::agent::Agent;
use crate::config::{self, Options};
use crate::credentials::Credentials;
use crate::faulty::Faulty;
use crate::http;
use crate::images::{self, Recipe};
use crate::kubectl::{Kubectl, Said};
use crate::machine::{Clock, Disk, Image, Machine, Plan, Start};
use crate::pod::Pod;
use crate::process::{Bond, free_port};
use crate::registry::Registry;
use crate::wait::{self, Seen};

/// Kernel entry to API under TCG, on a machine that does other things, too.
pub const BOOT: Duration = Duration::from_secs(180);
/// From created to running or ended, image pull included.
pub const POD: Duration = Duration::from_secs(150);
pub const NODE: &str = "lab";
/// DATA of a machine that nothing is to run out on.
pub const DATA: u64 = 16 << 30;
const GIB: u64 = 1 << 30;

/// Which disks the appliance has.
#[derive(Clone, Debug)]
pub enum Storage {
    /// None: it runs live, in memory.
    Live,
    /// Sparse files; DATA has so many bytes.
    Files { data: u64 },
    /// Block devices of the harness.
    Nbd { state: PathBuf, data: PathBuf },
}

/// What to boot and what to push.
pub struct Setup<'a> {
    pub image: &'a Image,
    /// Kept for as long as the appliance runs.
    pub directory: PathBuf,
    pub storage: Storage,
    pub images: &'a [Recipe],
    pub memory_mib: u32,
    /// What the machine config says of the node beside its name.
    pub node: Value,
    pub agent: bool,
    pub bond: Bond,
}

pub struct Appliance {
    pub machine: Machine,
    pub registry: Registry,
    /// The same images, from a registry that misbehaves when told.
    pub faulty: Faulty,
    pub kubectl: Kubectl,
    agent: Option<Agent>,
    plan: Plan,
}

impl Appliance {
    /// Starts registry and machine; doesn't wait for the API.
    pub fn start(setup: &Setup<'_>) -> Result<Self> {
        Self::start_with(setup, Clock::Time, None)
    }

    /// `start`, by another clock or with an archive beside the image.
    pub fn start_with(setup: &Setup<'_>, clock: Clock, beside: Option<PathBuf>) -> Result<Self> {
        let directory = &setup.directory;
        fs::create_dir_all(directory)?;
        let mut registry = registry(setup.images, directory, setup.bond)?;
        let started = Self::beside(setup, &registry, clock, beside);
        let (machine, faulty, kubectl, agent, plan) = match started {
            Ok(parts) => parts,
            Err(error) => {
                // One that is to be left running would be left alone.
                registry.stop()?;
                return Err(error);
            }
        };
        Ok(Self {
            machine,
            registry,
            faulty,
            kubectl,
            agent,
            plan,
        })
    }

    /// Everything but the registry.
    fn beside(
        setup: &Setup<'_>,
        registry: &Registry,
        clock: Clock,
        beside: Option<PathBuf>,
    ) -> Result<(Machine, Faulty, Kubectl, Option<Agent>, Plan)> {
        let directory = &setup.directory;
        let faulty = Faulty::start(registry.port())?;
        let credentials = Credentials::generate()?;
        let port = free_port()?;
        let kubeconfig = directory.join("kubeconfig");
        fs::write(&kubeconfig, credentials.kubeconfig(port)?)?;
        let config = config::machine_config(&Options {
            node: NODE,
            credentials: &credentials,
            registry: &registry.host(),
            plain_http: &[faulty.host()],
            disks: !matches!(setup.storage, Storage::Live),
            settings: setup.node.clone(),
        })?;
        let plan = Plan {
            image: setup.image.clone(),
            directory: directory.clone(),
            start: Start::Direct(String::new()),
            config: Some(config),
            api_port: port,
            address: None,
            disks: disks(&setup.storage),
            memory_mib: setup.memory_mib,
            agent: setup.agent,
            bond: setup.bond,
            clock,
            beside,
        };
        let programs = Kubectl::found()?;
        let newest = programs.first().context("no kubectl")?;
        let machine = Machine::boot(&plan)?;
        let agent = setup.agent.then(|| Agent::connect(directory)).transpose()?;
        let kubectl = Kubectl::new(newest, &kubeconfig);
        Ok((machine, faulty, kubectl, agent, plan))
    }

    /// Boots again with the same disks, configuration and ports.
    pub fn boot_again(&mut self) -> Result<()> {
        self.machine = Machine::boot(&self.plan)?;
        if self.plan.agent {
            self.agent = Some(Agent::connect(&self.plan.directory)?);
        }
        Ok(())
    }

    /// Waits for the API to say that it is ready. Under emulation one boot in
    /// some dozens ends before `init` says a word: then it is booted once more.
    pub fn until_api(&mut self) -> Result<()> {
        match self.api_ready() {
            Err(error) if !self.machine.spoke() => {
                println!("no word from init, booting once more: {error:#}");
                self.machine.cut()?;
                self.boot_again()?;
                self.api_ready()
            }
            outcome => outcome,
        }
    }

    fn api_ready(&mut self) -> Result<()> {
        wait::until("API ready", BOOT, || {
            if let Some(status) = self.machine.ended()? {
                anyhow::bail!("QEMU ended: {status}\n{}", self.console_tail());
            }
            let said = self.ready()?;
            Ok(if said.status.success() {
                Seen::Done(())
            } else {
                Seen::NotYet(said.stderr)
            })
        })
        .with_context(|| self.console_tail())
    }

    fn ready(&self) -> Result<Said> {
        self.kubectl
            .say(&["get", "--raw", "/readyz", "--request-timeout=5s"])
    }

    /// Until pods can be created.
    pub fn until_ready(&mut self) -> Result<()> {
        self.until_api()?;
        self.until_node()
    }

    /// Waits for the node to be Ready.
    pub fn until_node(&self) -> Result<()> {
        self.kubectl
            .until("node Ready", &["node", NODE], BOOT, |node| {
                let conditions = node["status"]["conditions"].as_array()?;
                conditions
                    .iter()
                    .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
                    .then_some(())
            })
    }

    pub fn agent(&mut self) -> Result<&mut Agent> {
        self.agent.as_mut().context("booted without the test agent")
    }

    /// `host:port/name` as pods name an image of the registry.
    #[must_use]
    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.registry.host())
    }

    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.plan.directory.join("kubeconfig")
    }

    fn console_tail(&self) -> String {
        format!("console:\n{}", command::tail(&self.machine.console(), 60))
    }

    /// Creates a pod.
    pub fn create(&self, pod: &Pod) -> Result<()> {
        let manifest = pod.manifest();
        self.kubectl.run_with(&["create", "-f", "-"], &manifest)?;
        Ok(())
    }

    /// Deletes a pod and waits for it to be gone.
    pub fn delete(&self, pod: &str) -> Result<()> {
        self.kubectl.run(&["delete", "pod", pod, "--timeout=60s"])?;
        Ok(())
    }

    /// Waits for `status.phase`.
    pub fn until_phase(&self, pod: &str, phase: &str) -> Result<()> {
        let what = format!("pod {pod} {phase}");
        self.kubectl.until(&what, &["pod", pod], POD, |pod| {
            (pod["status"]["phase"] == phase).then_some(())
        })
    }

    /// Waits for an event of an object by reason, and gives its message.
    pub fn until_event(&self, name: &str, reason: &str) -> Result<String> {
        self.until_event_with(name, reason, "")
    }

    /// As `until_event`, of those whose message holds `part`.
    pub fn until_event_with(&self, name: &str, reason: &str, part: &str) -> Result<String> {
        let what = format!("event {reason} of {name} with {part:?}");
        self.kubectl.until(&what, &["events"], POD, |events| {
            let all = events["items"].as_array()?;
            all.iter()
                .filter(|event| event["involvedObject"]["name"] == name)
                .filter(|event| event["reason"] == reason)
                .filter_map(|event| event["message"].as_str())
                .find(|message| message.contains(part))
                .map(str::to_owned)
        })
    }

    /// Fetches a page of a pod through port-forward.
    ///
    /// kubectl ends a forward when a connection is refused, as it is until the
    /// server inside listens: then another one is started.
    pub fn fetch(&self, pod: &str, port: u16, path: &str) -> Result<String> {
        let pod = format!("pod/{pod}");
        wait::until(format!("page {path} of {pod}"), POD, || {
            let local = free_port()?;
            let ports = format!("{local}:{port}");
            let mut forward = self.kubectl.start(&["port-forward", &pod, &ports])?;
            let page = forward
                .until("port-forward", POD, |said| {
                    said.contains("Forwarding from").then_some(())
                })
                .and_then(|()| http::get(local, path));
            Ok(match page {
                Ok(page) => Seen::Done(page),
                Err(error) => Seen::NotYet(format!("{error:#}; {}", forward.output())),
            })
        })
    }

    /// Everything that tells why something failed.
    pub fn evidence(&mut self) -> String {
        let mut text = self.console_tail();
        let dumps: [&[&str]; 3] = [
            &["get", "events", "-A", "--request-timeout=10s"],
            &[
                "get",
                "nodes,pods",
                "-A",
                "-o",
                "yaml",
                "--request-timeout=10s",
            ],
            &["describe", "pods", "-A", "--request-timeout=10s"],
        ];
        let answers = self.ready().is_ok_and(|said| said.status.success());
        for dump in dumps.into_iter().filter(|_| answers) {
            text.push_str(&format!("\n--- kubectl {}\n", dump.join(" ")));
            match self.kubectl.say(dump) {
                Ok(said) => text.push_str(&(said.stdout + &said.stderr)),
                Err(error) => text.push_str(&error.to_string()),
            }
        }
        if let Some(processes) = self.agent.as_mut().map(Agent::processes) {
            text.push_str(&format!("\n--- processes\n{processes:#?}"));
        }
        text.push_str(&format!("\n--- registry\n{}\n", self.registry.refused()));
        text
    }
}

/// A registry with `recipes` in it.
pub fn registry(recipes: &[Recipe], directory: &Path, bond: Bond) -> Result<Registry> {
    let cache = Cache::open()?;
    let registry = Registry::start(&directory.join("registry"), bond)?;
    for recipe in recipes {
        let image = images::build(&cache, recipe)?;
        registry.push(&image, &format!("{}:latest", recipe.name))?;
        // Where a mirror of the public hub has a short name.
        registry.push(&image, &format!("library/{}:latest", recipe.name))?;
    }
    Ok(registry)
}

fn disks(storage: &Storage) -> Vec<Disk> {
    match storage {
        Storage::Live => Vec::new(),
        Storage::Files { data } => vec![
            Disk::File {
                serial: "atoll-state",
                bytes: GIB,
            },
            Disk::File {
                serial: "atoll-data",
                bytes: *data,
            },
        ],
        Storage::Nbd { state, data } => vec![
            Disk::Nbd {
                serial: "atoll-state",
                socket: state.clone(),
            },
            Disk::Nbd {
                serial: "atoll-data",
                socket: data.clone(),
            },
        ],
    }
}
