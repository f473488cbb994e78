//! Starting and ending the API server.
//!
//! `run` opens the store, settles keys and certificates, makes the objects that
//! every cluster has, and listens. It is part of `control`, which composes it
//! with the controllers; it installs no signal handler and no logger.

use crate::admission::{Admission, quota};
use crate::aggregated::Aggregator;
use crate::audit::{Audit, AuditError};
use crate::authn::front_proxy::FrontProxy;
use crate::authn::keys::Keys;
use crate::authn::oidc::reload::Reload;
use crate::authn::oidc::{self, OidcError};
use crate::authn::{Authenticator, legacy::Filler};
use crate::authz::{Authorizer, bootstrap};
use crate::begun::Begun;
use crate::config::Config;
use crate::crd::Definitions;
use crate::dialer::{Dialer, HostDialer};
use crate::documents::Documents;
use crate::fairness::{self, Fairness};
use crate::kinds::Kinds;
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::pki::{Credential, Pki, PkiError, Subject, write};
use crate::proxy::Streams;
use crate::rest::create::ensure;
use crate::server::Server;
use crate::user::MASTERS;
use crate::webhook::Client as WebhookClient;
use crate::{compaction, initial, listen, policy_status, services, system, tls, usage};
use api::kinds;
use api::status::Status;
use serde_json::json;
use std::io;
use std::iter;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use store::{Options, Store, StoreError};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// The store's directory in the data directory.
pub const STORE: &str = "store";

/// Namespaces that are always there.
const NAMESPACES: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Audit(#[from] AuditError),
    #[error(transparent)]
    Oidc(#[from] OidcError),
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error("listen on {address}: {source}")]
    Listen { address: String, source: io::Error },
    #[error("object {name}: {message}")]
    Object { name: String, message: String },
}

/// A server that listens.
pub struct Running {
    server: Arc<Server>,
    addresses: Vec<SocketAddr>,
    kubeconfig: String,
    /// Told before `shutdown`, if clients shall have time to leave.
    ending: watch::Sender<bool>,
    delay: Duration,
    shutdown: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Running {
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Where it listens, ports resolved.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &str {
        &self.kubeconfig
    }

    /// Keeps the status of admission policies; ends with the server. For who
    /// runs the controllers: the server alone changes no object by itself that
    /// a client has made.
    pub fn policy_status(&self) -> impl Future<Output = ()> + Send + 'static {
        policy_status::run(self.server.clone(), self.shutdown.subscribe())
    }

    /// Ends when the store has failed: the process had better restart.
    pub async fn failed(&self) {
        self.server.store().stopped().await;
    }

    /// Isn't ready any more, but serves for as long as it was told to; stops
    /// accepting, lets open requests end within a few seconds, closes the store.
    pub async fn stop(mut self) -> Result<(), RunError> {
        self.ending.send_replace(true);
        tokio::time::sleep(self.delay).await;
        self.shutdown.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
        if let Some(audit) = &self.server.audit {
            audit.flush().await;
        }
        self.server.store().clone().close().await?;
        Ok(())
    }
}

/// Starts the server; everything that it needs is there when it returns.
/// It dials by the host's own network.
pub async fn run(config: Config) -> Result<Running, RunError> {
    run_through(config, None).await
}

/// As [`run`]; the way to webhooks, pods, Services and extension servers is
/// `dialer`'s, if there is one.
pub async fn run_through(
    config: Config,
    dialer: Option<Arc<dyn Dialer>>,
) -> Result<Running, RunError> {
    let audit = config.audit.as_ref().map(Audit::open).transpose()?;
    let pki = Pki::open(&config.data_dir.join("pki"), config.ca.as_ref())?;
    let (listeners, addresses) = bind(&config.listen).await?;
    let advertised = advertised(&config, &addresses);
    let credential = sign_server(&pki, &config, &addresses)?;
    let front_proxy = Pki::open(&config.data_dir.join("pki/front-proxy"), None)?;
    let kubeconfig = settle_clients(&pki, &config, &advertised)?;
    let store = open_store(&config).await?;
    let kinds: Arc<Kinds> = Arc::default();
    let peers = Peers::new(dialer.unwrap_or_else(|| own_dialer(&store)));
    let webhooks = Arc::new(WebhookClient::new(peers.clone()));
    let authorizer = Arc::new(Authorizer::new(&store));
    let clients = (kinds.clone(), webhooks.clone());
    let admission = Admission::new(&store, authorizer.clone(), clients.0, clients.1);
    let (authenticator, reload) = authenticator(&config, &store, &webhooks, &pki.ca)?;
    let (ending, told) = watch::channel(false);
    let server = Arc::new(Server {
        authorizer,
        fairness: Fairness::new(&store, seats(&config)),
        authenticator,
        admission: Arc::new(admission),
        audit,
        advertised: advertised.clone(),
        webhooks,
        store,
        streams: Arc::new(streams(&pki, peers)?),
        frames: Arc::default(),
        usages: Arc::default(),
        metrics: Metrics::default(),
        kinds,
        documents: Documents::default(),
        begun: OnceLock::new(),
        ending: told,
    });
    let own = system::Own {
        service_cidrs: &config.service_cidrs,
        addresses: &addresses,
        client_ca: &pki.ca,
        front_proxy_ca: &front_proxy.ca,
        front: server.authenticator.front.as_ref(),
    };
    make_objects(&server, &own).await?;
    let acceptor = acceptor(&server, &pki.ca, &credential)?;
    let (shutdown, seen) = watch::channel(false);
    let mut tasks = begin(&server, (&pki.ca, &front_proxy), reload, &seen).await?;
    for listener in listeners {
        tasks.spawn(serve(listener, &acceptor, &server, &seen));
    }
    Ok(Running {
        server,
        addresses,
        kubeconfig,
        ending,
        delay: Duration::from_secs(config.shutdown_delay_seconds.into()),
        shutdown,
        tasks,
    })
}

fn serve(
    listener: TcpListener,
    acceptor: &TlsAcceptor,
    server: &Arc<Server>,
    seen: &watch::Receiver<bool>,
) -> impl Future<Output = ()> + Send + 'static {
    listen::serve(listener, acceptor.clone(), server.clone(), seen.clone())
}

/// All that goes on beside requests.
async fn begin(
    server: &Arc<Server>,
    (ca, front_proxy): (&str, &Pki),
    reload: Reload,
    seen: &watch::Receiver<bool>,
) -> Result<JoinSet<()>, RunError> {
    let mut tasks = keepers(server, ca, seen);
    tasks.spawn(reload.run(seen.clone()));
    let mut definitions_task = None;
    if let Some(task) = definitions(server).await? {
        definitions_task = Some(tasks.spawn(task.run(seen.clone())));
    }
    let begun = Begun {
        definitions: definitions_task,
        fairness: tasks.spawn(fairness::keep::run(server.store.clone(), seen.clone())),
        aggregation: tasks.spawn(aggregator(server, front_proxy)?.run(seen.clone())),
    };
    // Nobody else sets it.
    drop(server.begun.set(begun));
    Ok(tasks)
}

/// Of requests, at once.
fn seats(config: &Config) -> u32 {
    let all = config
        .max_inflight
        .saturating_add(config.max_mutating_inflight);
    all.max(1)
}

fn acceptor(server: &Server, ca: &str, own: &Credential) -> Result<TlsAcceptor, PkiError> {
    let front = server.authenticator.front.as_ref();
    let cas: Vec<&str> = iter::once(ca).chain(front.map(|f| f.ca.as_str())).collect();
    Ok(TlsAcceptor::from(Arc::new(tls::server(&cas, own)?)))
}

fn own_dialer(store: &Store) -> Arc<dyn Dialer> {
    let store = store.clone();
    Arc::new(HostDialer { store })
}

/// What every cluster has.
async fn make_objects(server: &Server, own: &system::Own<'_>) -> Result<(), RunError> {
    make_namespaces(server).await?;
    initial::make(server).await?;
    bootstrap::reconcile(&server.store)
        .await
        .map_err(|e| RunError::Object {
            name: "roles".to_owned(),
            message: e.message,
        })?;
    system::make(&server.store, own).await
}

/// The task of custom kinds, which has looked once: what is defined is served
/// from the first request on.
async fn definitions(server: &Server) -> Result<Option<Definitions>, RunError> {
    let parts = (
        server.store.clone(),
        server.kinds.clone(),
        server.webhooks.clone(),
    );
    let Some(mut task) = Definitions::new(parts.0, parts.1, parts.2) else {
        return Ok(None);
    };
    task.pass().await.map_err(|e| RunError::Object {
        name: "customresourcedefinitions".to_owned(),
        message: e.message,
    })?;
    Ok(Some(task))
}

/// The task of other servers' group-versions, which knows what is registered.
fn aggregator(server: &Server, front_proxy: &Pki) -> Result<Aggregator, RunError> {
    let identity = front_proxy.kept(
        "client",
        &Subject {
            name: system::FRONT_PROXY,
            groups: &[],
            names: &[],
        },
    )?;
    let (store, kinds) = (server.store.clone(), server.kinds.clone());
    let peers = server.streams.peers.clone();
    let failed = |e: Status| RunError::Object {
        name: "apiservices".to_owned(),
        message: e.message,
    };
    let task = Aggregator::new(store, kinds, peers, identity).map_err(failed)?;
    task.begin().map_err(failed)?;
    Ok(task)
}

fn authenticator(
    config: &Config,
    store: &Store,
    client: &Arc<WebhookClient>,
    client_ca: &str,
) -> Result<(Arc<Authenticator>, Reload), RunError> {
    let front = config.request_header.as_ref();
    let front = front.map(|f| FrontProxy::open(f, client_ca)).transpose()?;
    let keys = match &config.service_account_signing_key_file {
        Some(signs) => Keys::of_files(signs, &config.service_account_key_files)?,
        None => Keys::open(&config.data_dir.join("pki/service-account"))?,
    };
    let issuer = &config.service_account_issuer;
    let (oidc, reload) = oidc::issuers(config, client)?;
    let authenticator = Authenticator::new(&config.tokens, keys, issuer, store, oidc, front);
    Ok((Arc::new(authenticator), reload))
}

/// What keeps objects right that no client writes.
fn keepers(server: &Server, ca: &str, seen: &watch::Receiver<bool>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let filler = Filler {
        store: server.store.clone(),
        authenticator: server.authenticator.clone(),
        ca: ca.to_owned(),
    };
    tasks.spawn(filler.run(seen.clone()));
    tasks.spawn(server.streams.peers.clone().run(seen.clone()));
    tasks.spawn(usage::run(
        server.store.clone(),
        server.kinds.clone(),
        server.streams.clone(),
        server.usages.clone(),
        seen.clone(),
    ));
    let (store, kinds) = (server.store.clone(), server.kinds.clone());
    tasks.spawn(quota::account::run(store, kinds, seen.clone()));
    let compacting = compaction::run(server.store.clone(), compaction::INTERVAL);
    let mut told = seen.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = compacting => {}
            () = listen::ended(&mut told) => {}
        }
    });
    tasks
}

async fn bind(wanted: &[SocketAddr]) -> Result<(Vec<TcpListener>, Vec<SocketAddr>), RunError> {
    let mut listeners = Vec::new();
    let mut addresses = Vec::new();
    for address in wanted {
        let failed = |source| RunError::Listen {
            address: address.to_string(),
            source,
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        addresses.push(listener.local_addr().map_err(failed)?);
        listeners.push(listener);
    }
    Ok((listeners, addresses))
}

/// The server's URL, for clients.
fn advertised(config: &Config, addresses: &[SocketAddr]) -> String {
    let own = || format!("https://{}", reachable(addresses.first()));
    config.advertise.clone().unwrap_or_else(own)
}

/// An address that a client on this machine can dial.
fn reachable(address: Option<&SocketAddr>) -> String {
    match address {
        Some(a) if a.ip().is_unspecified() => format!("127.0.0.1:{}", a.port()),
        Some(a) => a.to_string(),
        None => "127.0.0.1:6443".to_owned(),
    }
}

/// The server's own certificate, made at each start.
fn sign_server(
    pki: &Pki,
    config: &Config,
    addresses: &[SocketAddr],
) -> Result<Credential, PkiError> {
    pki.sign(&Subject {
        name: "kube-apiserver",
        groups: &[],
        names: &server_names(config, addresses),
    })
}

fn server_names(config: &Config, addresses: &[SocketAddr]) -> Vec<String> {
    let mut names: Vec<String> = [
        "localhost",
        "127.0.0.1",
        "::1",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ]
    .map(str::to_owned)
    .to_vec();
    let listened = addresses
        .iter()
        .filter(|a| !a.ip().is_unspecified())
        .map(|a| a.ip().to_string());
    let services = config.service_cidrs.iter();
    let own = services.filter_map(|c| services::first_address(c).map(|ip| ip.to_string()));
    for name in listened
        .chain(own)
        .chain(config.server_names.iter().cloned())
    {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Credentials of the administrator and of nodes; the former's kubeconfig.
fn settle_clients(pki: &Pki, config: &Config, url: &str) -> Result<String, RunError> {
    let admin = pki.kept(
        "admin",
        &Subject {
            name: "admin",
            groups: &[MASTERS],
            names: &[],
        },
    )?;
    let kubeconfig = pki.kubeconfig(url, "admin", &admin);
    if let Some(path) = &config.kubeconfig_out {
        write(path, &kubeconfig)?;
    }
    for name in &config.node_names {
        pki.write_node(name, url)?;
    }
    Ok(kubeconfig)
}

fn streams(pki: &Pki, peers: Arc<Peers>) -> Result<Streams, PkiError> {
    let client: Credential = pki.kept(
        "kubelet-client",
        &Subject {
            name: "kube-apiserver-kubelet-client",
            groups: &[MASTERS],
            names: &[],
        },
    )?;
    Ok(Streams {
        tls: Arc::new(tls::client(&pki.ca, &client)?),
        unverified: Arc::new(tls::unverified(None)?),
        peers,
    })
}

/// Reading the store blocks: not on a thread that serves.
async fn open_store(config: &Config) -> Result<Store, RunError> {
    if let Some(etcd) = &config.etcd {
        return Ok(Store::connect(&etcd.options()?, Options::default()).await?);
    }
    let dir = config.data_dir.join(STORE);
    let opened = tokio::task::spawn_blocking(move || Store::open(&dir, Options::default()));
    match opened.await {
        Ok(store) => Ok(store?),
        Err(e) => Err(RunError::Object {
            name: "store".to_owned(),
            message: e.to_string(),
        }),
    }
}

async fn make_namespaces(server: &Server) -> Result<(), RunError> {
    let Some(kind) = kinds::by_resource("", "v1", "namespaces") else {
        return Ok(());
    };
    for name in NAMESPACES {
        let object = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}});
        ensure(&server.store, &kind, object)
            .await
            .map_err(|e| RunError::Object {
                name: (*name).to_owned(),
                message: e.message,
            })?;
    }
    Ok(())
}
