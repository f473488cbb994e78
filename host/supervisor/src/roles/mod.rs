//! Where each role gets its configuration and its crates.

mod audit;
mod control;
mod etcd;
mod front_proxy;
mod heap;
mod node;
mod oidc;
mod signing;
mod store;

use crate::logging;
use serde::de::DeserializeOwned;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(crate) use control::CONSOLE_FD;
pub(crate) use control::main as control;
pub(crate) use node::main as node;
pub(crate) use store::main as store;

const FABRIC_DIRECTORY: &str = "/run/atoll/fabric";

/// Runs a role to its end, which is an error for all of them.
fn run<F>(role: &str, body: F) -> ExitCode
where
    F: Future<Output = anyhow::Result<()>>,
{
    logging::start(role);
    // Other crates pull in another provider, which makes the default ambiguous.
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        log::error!("TLS: a provider was installed before");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            log::error!("runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let body = async {
        tokio::select! {
            ended = body => ended,
            never = heap::keep_small() => match never {},
        }
    };
    match runtime.block_on(body) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The value after `--config`.
fn config_path(words: &[&str]) -> Option<PathBuf> {
    let at = words.iter().position(|word| *word == "--config")?;
    words.get(at + 1).map(PathBuf::from)
}

fn read_config<T: DeserializeOwned>(words: &[&str]) -> anyhow::Result<T> {
    let path = config_path(words).ok_or_else(|| anyhow::anyhow!("--config FILE is missing"))?;
    let bytes = fs::read(&path).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
    serde_json::from_slice(&bytes).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))
}

/// The end that `init`, a terminal or a service manager asks for.
async fn asked_to_stop() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

pub(crate) fn fabric(words: &[&str]) -> ExitCode {
    run("fabric", async {
        let config: fabric::Config = read_config(words)?;
        tokio::select! {
            ended = fabric::run(config, Path::new(FABRIC_DIRECTORY)) => Ok(ended?),
            stopped = asked_to_stop() => Ok(stopped?),
        }
    })
}

pub(crate) fn convert_image() -> ExitCode {
    image::convert_child()
}
