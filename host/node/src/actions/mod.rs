//! Carries out probes and hooks of a pod, over connections to its guest.
//!
//! ```text
//!   exec                 a process in the container (`Open::Exec`)
//!   httpGet, tcp, gRPC   a port of the pod's loopback address
//!                        (`Open::PortForward`): no packet leaves the machine
//! ```
//!
//! What a guest answers is bounded: 10 KiB of output or body (upstream's
//! `maxReadLength`), headers as hyper bounds them; and by the action's time. An
//! action that is dropped ends its connection, and so what runs in the guest.

mod exec;
mod grpc;
mod http;
mod tls;

use crate::guest::{self, GuestError};
use crate::machine::Control;
use crate::pod::action::Action;
use crate::pod::health::Outcome;
use guest_protocol::{Open, RefusalKind};
use std::time::Duration;
use tokio::net::UnixStream;

/// How much of what an action says is kept.
const OUTPUT_MAX: usize = 10 << 10;
/// As the kubelet names itself, with the API's level.
const PROBE_AGENT: &str = "kube-probe/1.36";
const HOOK_AGENT: &str = "kube-lifecycle/1.36";

/// Makes a probe, for at most `timeout`.
pub(crate) async fn probe(
    control: &Control,
    container: &str,
    action: &Action,
    timeout: Duration,
) -> Outcome {
    match action {
        Action::Exec(args) => match in_time(timeout, exec::run(control, container, args)).await {
            None => Outcome::Failure(format!("command {:?} timed out", args.join(" "))),
            Some(Ok((0, _))) => Outcome::Success,
            Some(Ok((_, output))) => Outcome::Failure(output),
            Some(Err(error)) => Outcome::Error(error.told()),
        },
        Action::Http(get) => {
            let got = in_time(timeout, http::probe(control, get, PROBE_AGENT)).await;
            got.unwrap_or_else(|| Outcome::Failure(http::timed_out(get)))
        }
        Action::Tcp(port) => match in_time(timeout, connect(control, *port)).await {
            None => Outcome::Failure(format!("dial tcp 127.0.0.1:{port}: i/o timeout")),
            Some(Ok(_)) => Outcome::Success,
            Some(Err(error)) => Outcome::Failure(error),
        },
        Action::Grpc { port, service } => {
            let got = in_time(timeout, grpc::probe(control, *port, service)).await;
            got.unwrap_or_else(|| Outcome::Failure(grpc::timed_out(timeout)))
        }
        Action::Sleep(_) => Outcome::Error("a probe does not sleep".to_owned()),
    }
}

/// Runs a hook, for at most `timeout` if there is one.
///
/// # Errors
/// Why it failed.
pub(crate) async fn hook(
    control: &Control,
    container: &str,
    action: &Action,
    timeout: Option<Duration>,
) -> Result<(), String> {
    let running = async {
        match action {
            Action::Exec(args) => match exec::run(control, container, args).await {
                Ok((0, _)) => Ok(()),
                Ok((code, output)) => Err(format!("exit code {code}: {output}")),
                Err(error) => Err(error.told()),
            },
            // Any answer will do, whatever its status.
            Action::Http(get) => http::ask(control, get, HOOK_AGENT).await.map(|_| ()),
            Action::Sleep(time) => {
                tokio::time::sleep(*time).await;
                Ok(())
            }
            Action::Tcp(port) => connect(control, *port).await.map(|_| ()),
            Action::Grpc { .. } => Err("invalid handler".to_owned()),
        }
    };
    let Some(timeout) = timeout else {
        return running.await;
    };
    // That the period is over is no failure of the hook.
    in_time(timeout, running).await.unwrap_or(Ok(()))
}

async fn in_time<T>(timeout: Duration, action: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(timeout, action).await.ok()
}

/// A connection to a port of the pod; the error is as Go tells it.
async fn connect(control: &Control, port: u16) -> Result<UnixStream, String> {
    let opened = guest::connect(control, &Open::PortForward { port }).await;
    opened.map(|stream| stream.0).map_err(|error| match error {
        GuestError::Refused(refusal) if refusal.kind == RefusalKind::NotFound => {
            format!("dial tcp 127.0.0.1:{port}: connect: connection refused")
        }
        error => format!("dial tcp 127.0.0.1:{port}: {}", error.told()),
    })
}
