//! What keeps the API's promises that nobody else keeps: pods get nodes,
//! namespaces get their defaults and go away whole, Services get endpoints,
//! certificates are signed, disruption budgets counted, nodes that fell silent are marked, what is orphaned
//! or old is removed.
//!
//! Each file is one controller: a pure plan from what the caches show to
//! writes, and a small loop that carries them out through the same client as
//! everybody. Time is an argument of plans. Nothing here touches the store.

mod certificates;
mod disruption;
mod election;
mod endpoints;
mod event_ttl;
mod garbage;
mod namespace;
mod namespace_defaults;
mod node_life;
mod pod_gc;
mod recorder;
mod role_aggregation;
mod scheduler;
mod service_ips;

pub use certificates::{Authority, AuthorityError};
pub use election::{Candidate, Timing};

use election::Election;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::ClusterRole;
use reconcile::resource::core;
use reconcile::{Client, Reflector};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

#[derive(Clone, Debug)]
pub struct Config {
    /// PEM of the CA that vouches for the API server: `kube-root-ca.crt`.
    pub root_ca: String,
    /// How long an Event is kept after its last occurrence.
    pub event_ttl: Duration,
    /// How long a node may be silent.
    pub node_grace: Duration,
    /// This process in the `reportingInstance` of events.
    pub instance: String,
    /// Where several servers share a store, who this one is: then the controllers
    /// run in the one that holds the Lease `kube-system/atoll-controllers`.
    pub candidate: Option<Candidate>,
    /// What signs certificates that are asked for; `None`: nobody here.
    pub authority: Option<Authority>,
}

impl Config {
    /// Upstream's defaults.
    pub fn new(root_ca: impl Into<String>) -> Config {
        Config {
            root_ca: root_ca.into(),
            event_ttl: Duration::from_secs(3600),
            node_grace: Duration::from_secs(40),
            instance: "atoll".to_owned(),
            candidate: None,
            authority: None,
        }
    }
}

/// As whom the controllers speak to the API.
#[derive(Clone)]
pub struct Clients {
    pub controllers: Client,
    pub scheduler: Client,
}

impl From<Client> for Clients {
    /// One user for everything.
    fn from(client: Client) -> Clients {
        Clients {
            controllers: client.clone(),
            scheduler: client,
        }
    }
}

/// The Lease of whose server's controllers run.
const LEASE: &str = "atoll-controllers";

/// Runs all controllers until `shutdown` resolves. What was under way then may
/// be half done; every plan starts from what is there.
pub async fn run(clients: impl Into<Clients>, config: Config, shutdown: impl Future<Output = ()>) {
    let clients = clients.into();
    let Some(candidate) = config.candidate.clone() else {
        tokio::select! {
            () = shutdown => {}
            () = Box::pin(run_all(clients, config)) => {}
        }
        return;
    };
    let mut election = Election::new(clients.controllers.clone(), LEASE, candidate);
    tokio::select! {
        () = shutdown => {}
        () = election.lead(|| run_all(clients.clone(), config.clone())) => {}
    }
    election.release().await;
}

async fn run_all(clients: Clients, config: Config) {
    let client = clients.controllers;
    let pods = Reflector::<Pod>::new(client.clone(), core::PODS);
    let nodes = Reflector::<Node>::new(client.clone(), core::NODES);
    let namespaces = Reflector::<Namespace>::new(client.clone(), core::NAMESPACES);
    let accounts = Reflector::<ServiceAccount>::new(client.clone(), core::SERVICE_ACCOUNTS)
        .field_selector("metadata.name=default");
    let root_cas = Reflector::<ConfigMap>::new(client.clone(), core::CONFIG_MAPS)
        .field_selector(format!("metadata.name={}", namespace_defaults::ROOT_CA));
    let leases =
        Reflector::<Lease>::new(client.clone(), core::LEASES).namespace(node_life::LEASE_NAMESPACE);
    let events = Reflector::<event_ttl::Stamp>::new(client.clone(), core::EVENTS);

    let roles = Reflector::<ClusterRole>::new(client.clone(), role_aggregation::CLUSTER_ROLES);
    let aggregation = role_aggregation::Aggregation::new(client.clone(), &roles.cache());
    let roles = aggregation.feed(roles);

    let requests =
        Reflector::<CertificateSigningRequest>::new(client.clone(), certificates::REQUESTS);
    let authority = config.authority.clone();
    let certificates =
        certificates::Certificates::new(client.clone(), authority, &requests.cache());
    let requests = certificates.feed(requests);

    let (pod_cache, node_cache) = (pods.cache(), nodes.cache());
    let (lease_cache, event_cache) = (leases.cache(), events.cache());
    let scheduler = scheduler::Scheduler::new(clients.scheduler, &config, &pod_cache, &node_cache);
    let (pods, nodes) = scheduler.feed(pods, nodes);
    let node_changed = Arc::new(Notify::new());
    let nodes = node_life::feed(nodes, &node_changed);
    let endpoints = endpoints::Controller::new(client.clone(), &pod_cache, &node_cache);
    let pods = endpoints.feed(pods);
    let disruption = disruption::Controller::new(client.clone(), &config.instance, &pod_cache);
    let pods = disruption.feed(pods);
    let defaults = namespace_defaults::Defaults::new(client.clone(), &config);
    let (namespaces, accounts, root_cas) = defaults.feed(namespaces, accounts, root_cas);
    let ending = namespace::Ending::new(client.clone(), namespaces.cache());
    let namespaces = ending.feed(namespaces);

    tokio::join!(
        pods.run(),
        nodes.run(),
        namespaces.run(),
        accounts.run(),
        root_cas.run(),
        leases.run(),
        roles.run(),
        aggregation.run(),
        requests.run(),
        certificates.run(),
        events.run(),
        scheduler.run(),
        defaults.run(),
        ending.run(),
        endpoints.run(),
        disruption.run(),
        service_ips::run(&client, &config.instance),
        node_life::run(&client, &config, &node_cache, &lease_cache, &node_changed),
        pod_gc::run(&client, &pod_cache, &node_cache),
        event_ttl::run(&client, &config, &event_cache),
        garbage::run(&client, &config.instance),
    );
}
