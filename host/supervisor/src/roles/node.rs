//! `atoll node`: waits for its credentials, then runs.

use super::{read_config, run};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

const LOOK_AGAIN: Duration = Duration::from_millis(100);

pub(crate) fn main(words: &[&str]) -> ExitCode {
    // Before anything opens a descriptor.
    let launch = node::launch_socket();
    run("node", async {
        let config: node::Config = read_config(words)?;
        let shutdown = node::signals()?;
        wait_for(&config.kubeconfig).await;
        node::run_with(config, launch?, shutdown).await?;
        Ok(())
    })
}

/// `control` writes them when it serves.
async fn wait_for(path: &Path) {
    while !path.exists() {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
