//! `atoll node`: makes what is bound to this node real.
//!
//! ```text
//!   API --watch--> roster --> worker (one a pod) --plan--> effects
//!                                  |     |                   |
//!                        checkpoint      status, events      +-- image store
//!                                                            +-- init: vmm processes
//!   kubectl <--kubelet's surface-- logs, directory, metrics  +-- vmm: machine, vsock
//!                                                            +-- guest-init: containers
//! ```
//!
//! Owns pods, their machines and their logs on this machine. Refuses to know
//! packets, guest memory, layers and storage engines. It needs no privilege:
//! files and sockets of its own, and the launch socket that `init` gives it.
//!
//! **Ends.** Told to [`Shutdown::Restart`] (SIGTERM), or killed, it leaves its
//! machines running, and the next `node` takes them over. Told to
//! [`Shutdown::PowerOff`] (SIGUSR1), it stops every pod gracefully first.

mod actions;
mod checkpoint;
mod config;
mod events;
mod eviction;
mod guest;
mod images;
mod kubelet;
mod ledger;
mod logs;
mod machine;
mod metrics;
mod pod;
mod registration;
mod roster;
mod server;
mod shutdown;
mod static_pods;
mod worker;

#[cfg(test)]
mod tests;

pub use config::{Config, Guest, Reserve, Serving};
pub use kubelet::Kubelet;
pub use roster::RosterError;
pub use server::ServerError;

use roster::Directory;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// The environment variable with the number of the launch socket.
pub const LAUNCH_FD: &str = "ATOLL_LAUNCH_FD";

/// What becomes of the pods when `node` ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// They go on; another `node` follows.
    Restart,
    /// They stop first; the machine powers off.
    PowerOff,
}

/// Why `node` can't go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{LAUNCH_FD}: {0}")]
    LaunchSocket(String),
    #[error("kubeconfig: {0}")]
    Kubeconfig(#[from] reconcile::KubeconfigError),
    #[error("API: {0}")]
    Tls(#[from] reconcile::TlsError),
    #[error("images: {0}")]
    Images(#[from] image::OpenError),
    #[error("{0}: {1}")]
    File(&'static str, #[source] io::Error),
    #[error(transparent)]
    Pods(#[from] RosterError),
    #[error("kubelet's surface: {0}")]
    Server(#[from] ServerError),
    #[error("init is gone")]
    InitGone,
}

/// Takes the launch socket that `init` handed down. Call it at the start of
/// `main`, before descriptors are opened.
///
/// # Errors
/// That the variable or its descriptor is not there.
pub fn launch_socket() -> Result<OwnedFd, Error> {
    let wrong = |text: String| Error::LaunchSocket(text);
    let number = std::env::var(LAUNCH_FD).map_err(|error| wrong(error.to_string()))?;
    let number = number
        .parse()
        .map_err(|_| wrong("not a number".to_owned()))?;
    sys::inherit::take(number).map_err(|error| wrong(error.to_string()))
}

/// SIGTERM and SIGINT mean [`Shutdown::Restart`], SIGUSR1
/// [`Shutdown::PowerOff`].
///
/// # Errors
/// As installing signal handlers.
pub fn signals() -> io::Result<impl Future<Output = Shutdown>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let mut usr1 = signal(SignalKind::user_defined1())?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => Shutdown::Restart,
            _ = int.recv() => Shutdown::Restart,
            _ = usr1.recv() => Shutdown::PowerOff,
        }
    })
}

/// Runs the role until `shutdown`, with the launch socket of the environment.
///
/// # Errors
/// What makes a restart by `init` the only way out.
pub async fn run(config: Config, shutdown: impl Future<Output = Shutdown>) -> Result<(), Error> {
    run_with(config, launch_socket()?, shutdown).await
}

/// Runs the role until `shutdown`. A TLS provider must be installed.
///
/// # Errors
/// What makes a restart by `init` the only way out.
pub async fn run_with(
    config: Config,
    launch: OwnedFd,
    shutdown: impl Future<Output = Shutdown>,
) -> Result<(), Error> {
    let directory = Directory::default();
    let kubeconfig = reconcile::Kubeconfig::load(&config.kubeconfig)?;
    let transport = reconcile::TlsTransport::new(&kubeconfig)?;
    let client = reconcile::Client::new(Arc::new(transport));
    let (collector, metrics) = metrics::Collector::new(
        directory.clone(),
        config.node_name.clone(),
        config.data_dir.clone(),
        metrics::Sources::default(),
    );
    let surface = server::Surface {
        directory: directory.clone(),
        data: config.data_dir.clone(),
        metrics: metrics.clone(),
        gate: Arc::new(server::Gate::new(client.clone(), config.node_name.clone())),
    };
    let server = server::Server::bind(config.listen, &config.serving, surface).await?;
    let images = config.data_dir.join("images");
    let images =
        image::Images::open(config.images.clone(), &images, config.converter.clone()).await?;
    let parts = Parts {
        client,
        images: Arc::new(images),
        launch,
        directory,
        metrics,
        sources: metrics::Sources::default(),
    };
    tokio::select! {
        result = serve(config, parts, shutdown) => result,
        () = server.run() => Ok(()),
        () = collector.run() => Ok(()),
    }
}

/// What `node` works with; tests bring their own.
pub(crate) struct Parts {
    pub(crate) client: reconcile::Client,
    pub(crate) images: Arc<dyn images::ImageSource>,
    pub(crate) launch: OwnedFd,
    pub(crate) directory: Directory,
    pub(crate) metrics: metrics::Metrics,
    pub(crate) sources: metrics::Sources,
}

pub(crate) async fn serve(
    config: Config,
    parts: Parts,
    shutdown: impl Future<Output = Shutdown>,
) -> Result<(), Error> {
    let guest = &config.guest;
    let kernel = worker::Kernel::open(&guest.kernel, &guest.initramfs, guest.transport);
    let kernel = kernel.map_err(|error| Error::File("guest", error))?;
    let launcher = machine::Launcher::start(parts.launch);
    let launcher = launcher.map_err(|error| Error::File("launch socket", error))?;
    let identity = identity(&config);
    let facts = registration::Facts::new(&config.data_dir);
    let allocatable = registration::allocatable(&facts.look(), identity.reserve);
    let (sender, host) = tokio::sync::watch::channel(host(&config));
    let (pressed, pressure) = tokio::sync::watch::channel(eviction::Pressure::default());
    let (ends, ending) = tokio::sync::watch::channel(false);
    let events = events::Events::start(parts.client.clone(), config.node_name.clone());
    let registration = registration::Registration {
        client: parts.client.clone(),
        identity,
        images: parts.images.clone(),
        facts,
        host: sender,
        events: events.clone(),
        pressure: pressure.clone(),
        ending,
    };
    let shared = Arc::new(worker::Shared {
        events,
        client: parts.client,
        images: parts.images,
        launcher: launcher.clone(),
        kernel,
        data: config.data_dir.clone(),
        host,
        defaults: defaults(guest),
        ledger: ledger::Ledger::new(allocatable),
        patience: Duration::from_secs(guest.patience_seconds),
        starts: Arc::new(tokio::sync::Semaphore::new(starts())),
        scratch: worker::unlimited(&config.data_dir)
            .map_err(|error| Error::File("data directory", error))?,
        pressure,
    });
    let directory = parts.directory;
    let figures = (parts.metrics, parts.sources);
    let evictor = eviction::Evictor::new(&config, &shared, &directory, figures, pressed);
    let own = own(&config, ends);
    let roster = roster::Roster::new(shared, &config, directory, own);
    tokio::select! {
        result = roster.run(shutdown) => Ok(result?),
        () = registration.run() => Ok(()),
        () = evictor.run() => Ok(()),
        () = launcher.closed() => Err(Error::InitGone),
    }
}

/// What the machine config says of pods. A static one that is none was refused
/// there.
fn own(config: &Config, ends: tokio::sync::watch::Sender<bool>) -> roster::Own {
    let now = jiff::Timestamp::now();
    let prepared = config.static_pods.iter().filter_map(|manifest| {
        static_pods::prepare(manifest, &config.node_name, now)
            .inspect_err(|error| log::error!("static pod: {error}"))
            .ok()
    });
    roster::Own {
        static_pods: prepared.collect(),
        shutdown: config.kubelet.shutdown(),
        ends,
    }
}

/// What is known of the host before anybody looked.
fn host(config: &Config) -> worker::Host {
    let facts = pod::environment::HostFacts {
        node_name: config.node_name.clone(),
        ..Default::default()
    };
    worker::Host {
        facts,
        ..Default::default()
    }
}

/// How many machines may start at once: each keeps a processor busy, and a guest
/// that gets too little of one would be given up.
fn starts() -> usize {
    2 * std::thread::available_parallelism().map_or(1, usize::from)
}

fn defaults(guest: &Guest) -> pod::resources::Defaults {
    pod::resources::Defaults {
        memory: u64::from(guest.memory_mib) << 20,
        vcpus: guest.vcpus,
    }
}

/// What the Node object says of this node, whatever it looks like.
fn identity(config: &Config) -> registration::Identity {
    registration::Identity {
        name: config.node_name.clone(),
        labels: config.labels.clone(),
        port: config.listen.port(),
        max_pods: config.max_pods,
        reserve: pod::resources::Amount {
            cpu_milli: config.reserve.cpu_milli,
            memory: config.reserve.memory_mib << 20,
        },
    }
}
