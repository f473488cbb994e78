//! `atoll control`: API server and controllers.
//!
//! Alone (`--data-dir D --listen ADDRESS --kubeconfig-out F`) it runs on any
//! Linux machine without root. On the appliance (`--config FILE`) it also hands
//! the node its credentials, and shows those of the administrator on the console
//! if it made them at this start and `init` gave it the console.

use super::audit::AuditArguments;
use super::etcd::EtcdArguments;
use super::front_proxy::RequestHeaderArguments;
use super::oidc::OidcArguments;
use super::signing::SigningArguments;
use super::{asked_to_stop, read_config, run};
use crate::config::NODE_CREDENTIALS;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Set by `init` when credentials made at first boot are to be shown.
pub(crate) const CONSOLE_FD: &str = "ATOLL_CONSOLE_FD";
/// How long the API server waits for an address to put into its certificate.
const FOR_ADDRESS: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
const CREDENTIALS: [&str; 4] = ["kubeconfig", "kubelet.crt", "kubelet.key", "ca.crt"];

#[derive(clap::Parser)]
#[command(name = "atoll control", about = "The API server and its controllers")]
struct Arguments {
    /// Store and keys live here.
    #[arg(long, required_unless_present = "config")]
    data_dir: Option<PathBuf>,
    /// ADDRESS:PORT, may be repeated.
    #[arg(long, default_value = "127.0.0.1:6443")]
    listen: Vec<SocketAddr>,
    /// Where to write the administrator's kubeconfig.
    #[arg(long)]
    kubeconfig_out: Option<PathBuf>,
    /// What `init` had written for this role, instead of the others.
    #[arg(long, conflicts_with = "data_dir")]
    config: Option<PathBuf>,
    /// Seats that requests share; those for mutating ones are added.
    #[arg(long, default_value_t = apiserver::reading())]
    max_requests_inflight: u32,
    #[arg(long, default_value_t = apiserver::writing())]
    max_mutating_requests_inflight: u32,
    /// How long it serves on, not ready any more, once it is told to end: 5s, 1m
    #[arg(long, default_value = "0s", value_parser = seconds, value_name = "TIME")]
    shutdown_delay_duration: u32,
    #[command(flatten)]
    etcd: EtcdArguments,
    #[command(flatten)]
    signing: SigningArguments,
    #[command(flatten)]
    audit: AuditArguments,
    #[command(flatten)]
    oidc: OidcArguments,
    #[command(flatten)]
    front_proxy: RequestHeaderArguments,
}

/// Whole seconds of a duration as Go writes it.
fn seconds(text: &str) -> Result<u32, String> {
    let nanoseconds = api::time::parse_go_duration(text).ok_or("not a duration, as 5s or 1m30s")?;
    u32::try_from(nanoseconds / 1_000_000_000).map_err(|_| "too long, or negative".to_owned())
}

pub(crate) fn main(words: &[&str]) -> ExitCode {
    use clap::Parser;
    let all = ["atoll control"].iter().chain(words);
    let arguments = match Arguments::try_parse_from(all) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help goes to standard output; nobody there is no reason to fail.
            drop(error.print());
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    // Before anything opens a descriptor.
    let console = console();
    run("control", serve(words, arguments, console))
}

/// The console, if `init` handed it in.
fn console() -> Option<File> {
    let number = std::env::var(CONSOLE_FD).ok()?.parse().ok()?;
    sys::inherit::take(number).ok().map(File::from)
}

async fn serve(words: &[&str], arguments: Arguments, console: Option<File>) -> anyhow::Result<()> {
    let appliance = arguments.config.is_some();
    let config = match arguments.data_dir {
        Some(data_dir) => arguments.signing.apply(apiserver::Config {
            etcd: arguments.etcd.given(),
            max_inflight: arguments.max_requests_inflight,
            max_mutating_inflight: arguments.max_mutating_requests_inflight,
            shutdown_delay_seconds: arguments.shutdown_delay_duration,
            audit: arguments.audit.given(),
            authentication_config: arguments.oidc.file(),
            oidc: arguments.oidc.given(),
            request_header: arguments.front_proxy.given(),
            ..alone(data_dir, arguments.listen, arguments.kubeconfig_out)
        })?,
        None => on_appliance(read_config(words)?).await,
    };
    let first_start = !config.data_dir.join("pki/admin.key").exists();
    let data_dir = config.data_dir.clone();
    let given_ca = config.ca.as_ref().map(|ca| ca.certificate.clone());
    let names = config.node_names.clone();
    // An etcd may have other servers, too.
    let candidate = config.etcd.is_some().then(controllers::Candidate::here);
    let running = apiserver::run(config).await?;
    for address in running.addresses() {
        log::info!("the API is served at https://{address}");
    }
    if appliance {
        for name in &names {
            hand_out(
                &data_dir.join("pki/nodes").join(name),
                Path::new(NODE_CREDENTIALS),
            )?;
        }
        if let Some(console) = console
            && first_start
        {
            show(console, running.kubeconfig());
        }
    }
    let controllers_config = controllers::Config {
        candidate,
        ..controllers_config(&data_dir, given_ca)?
    };
    let client = |user| reconcile::Client::new(running.server().local_transport(user));
    let clients = controllers::Clients {
        controllers: client(apiserver::User::controllers()),
        scheduler: client(apiserver::User::scheduler()),
    };
    // It needs the schemas that the server serves: it isn't one of theirs.
    tokio::spawn(running.policy_status());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let controllers = tokio::spawn(controllers::run(clients, controllers_config, async {
        drop(stopped.await)
    }));
    tokio::select! {
        () = running.failed() => anyhow::bail!("the store has failed"),
        stopped = asked_to_stop() => stopped?,
    }
    log::info!("stopping");
    drop(stop);
    controllers.await?;
    running.stop().await?;
    Ok(())
}

/// The controllers sign with the CA that the API server trusts.
fn controllers_config(
    data_dir: &Path,
    given_ca: Option<String>,
) -> anyhow::Result<controllers::Config> {
    let root_ca = match given_ca {
        Some(certificate) => certificate,
        None => fs::read_to_string(data_dir.join("pki/ca.crt"))?,
    };
    let key = fs::read_to_string(data_dir.join("pki/ca.key"))?;
    Ok(controllers::Config {
        authority: Some(controllers::Authority::open(&root_ca, &key)?),
        ..controllers::Config::new(root_ca)
    })
}

fn alone(data_dir: PathBuf, listen: Vec<SocketAddr>, out: Option<PathBuf>) -> apiserver::Config {
    apiserver::Config {
        listen,
        data_dir,
        ca: None,
        server_names: Vec::new(),
        tokens: Vec::new(),
        node_names: Vec::new(),
        kubeconfig_out: out,
        advertise: None,
        service_cidrs: apiserver::default_service_cidrs(),
        service_account_issuer: apiserver::issuer(),
        service_account_signing_key_file: None,
        service_account_key_files: Vec::new(),
        etcd: None,
        max_inflight: apiserver::reading(),
        max_mutating_inflight: apiserver::writing(),
        shutdown_delay_seconds: 0,
        audit: None,
        oidc: None,
        authentication_config: None,
        request_header: None,
    }
}

/// Adds the node's addresses, so that its certificate is good for them.
async fn on_appliance(mut config: apiserver::Config) -> apiserver::Config {
    let own = tokio::time::timeout(FOR_ADDRESS, addresses()).await;
    match own {
        Ok(own) => config
            .server_names
            .extend(own.iter().map(IpAddr::to_string)),
        Err(_) => log::warn!("no address yet: the API's certificate has none of this node"),
    }
    config
}

/// Waits until `fabric` reports an address.
async fn addresses() -> Vec<IpAddr> {
    let path = Path::new(fabric::STATE_FILE);
    loop {
        let report = fabric::Report::read(path).unwrap_or_default();
        let addresses = report.addresses();
        if !addresses.is_empty() {
            return addresses;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Copies the node's credentials to where it reads them. The directory is this
/// role's, its group `node`'s; the kubeconfig comes last, it is waited for.
fn hand_out(from: &Path, to: &Path) -> io::Result<()> {
    for name in CREDENTIALS.iter().rev() {
        let beside = to.join(format!("{name}.new"));
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o640);
        let mut file = options.open(&beside)?;
        file.write_all(&fs::read(from.join(name))?)?;
        fs::rename(beside, to.join(name))?;
    }
    Ok(())
}

/// Whoever sees the console is the administrator.
fn show(mut console: File, kubeconfig: &str) {
    let report = fabric::Report::read(Path::new(fabric::STATE_FILE)).unwrap_or_default();
    let address = report.addresses().first().copied();
    let kubeconfig = match address {
        Some(IpAddr::V4(address)) => kubeconfig.replace("127.0.0.1", &address.to_string()),
        _ => kubeconfig.to_owned(),
    };
    let text = format!(
        "\n----- kubeconfig of the administrator, shown once; keep it -----\n{}\n----- end -----\n",
        kubeconfig.trim_end()
    );
    if let Err(error) = console.write_all(text.as_bytes()) {
        log::error!("the console did not take the kubeconfig: {error}");
    }
}
