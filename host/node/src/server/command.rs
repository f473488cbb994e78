//! `/exec` and `/attach`: the streams of a client joined to a process in a
//! guest, both bounded by the other's pace.

use super::routes::{Body, Refusal, Target};
use crate::guest::{GuestError, GuestStream, connect};
use crate::logs::boolean;
use crate::machine::Control;
use crate::pod::view::View;
use crate::worker::Shown;
use bytes::Bytes;
use guest_protocol::{Channel, DATA_MAX, Exec, Open, Stream};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Container;
use streams::{Kind, RemoteCommand, Status, StreamSet, remote_command};
use tokio::io::AsyncRead;
use tokio::net::unix::OwnedWriteHalf;

pub(super) fn exec<B>(
    shown: &Shown,
    target: &Target,
    query: &[(String, String)],
    request: Request<B>,
) -> Result<Response<Body>, Refusal> {
    let wants = wants(query)?;
    let args: Vec<String> = query
        .iter()
        .filter(|(name, _)| name == "command")
        .map(|(_, value)| value.clone())
        .collect();
    if args.is_empty() {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "you must specify at least one command for the container",
        ));
    }
    let open = Open::Exec(Box::new(Exec {
        container: target.container.clone(),
        args,
        stdin: wants.stdin,
        stdout: wants.stdout,
        stderr: wants.stderr && !wants.tty,
        tty: wants.tty,
    }));
    join(shown, target, wants, (open, InputEnd::Passes), request)
}

pub(super) fn attach<B>(
    shown: &Shown,
    target: &Target,
    query: &[(String, String)],
    request: Request<B>,
) -> Result<Response<Body>, Refusal> {
    let wants = wants(query)?;
    let open = Open::Attach {
        container: target.container.clone(),
        stdin: wants.stdin,
    };
    let container = View(&shown.pod).container(&target.container);
    let input = match container {
        Some((_, container)) if !closes(container) => InputEnd::Detaches,
        _ => InputEnd::Passes,
    };
    join(shown, target, wants, (open, input), request)
}

/// What the end of a client's input means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InputEnd {
    /// The process is told.
    Passes,
    /// The client is done; a container's input stays open for the next one, as
    /// containerd has it.
    Detaches,
}

/// Whether a container's input ends with its first client's.
fn closes(container: &Container) -> bool {
    container.stdin_once == Some(true) && container.tty != Some(true)
}

/// The kubelet's parameters; those of the API server's names are taken, too.
fn wants(query: &[(String, String)]) -> Result<StreamSet, Refusal> {
    let mut wants = StreamSet::default();
    for (name, value) in query {
        let field = match name.as_str() {
            "input" | "stdin" => &mut wants.stdin,
            "output" | "stdout" => &mut wants.stdout,
            "error" | "stderr" => &mut wants.stderr,
            "tty" => &mut wants.tty,
            _ => continue,
        };
        *field =
            boolean(name, value).map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error.0))?;
    }
    if wants.tty {
        wants.stderr = false;
    }
    if !wants.stdin && !wants.stdout && !wants.stderr {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "you must specify at least 1 of stdin, stdout, stderr",
        ));
    }
    Ok(wants)
}

fn join<B>(
    shown: &Shown,
    target: &Target,
    wants: StreamSet,
    (open, input): (Open, InputEnd),
    mut request: Request<B>,
) -> Result<Response<Body>, Refusal> {
    let running = shown
        .observed
        .record(&target.container)
        .is_some_and(|record| record.runs_since().is_some());
    let Some(control) = shown.control.clone().filter(|_| running) else {
        let message = format!("container not found (\"{}\")", target.container);
        return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, message));
    };
    let negotiated = streams::negotiate(request.headers(), Kind::RemoteCommand)
        .map_err(|refusal| Refusal::new(refusal.status, refusal.message))?;
    let upgrade = hyper::upgrade::on(&mut request);
    let empty = Empty::<Bytes>::new()
        .map_err(|never| match never {})
        .boxed();
    let response = negotiated.response(empty);
    tokio::spawn(async move {
        let io = match upgrade.await {
            Ok(io) => TokioIo::new(io),
            Err(error) => return log::debug!("upgrade: {error}"),
        };
        match remote_command(io, negotiated, wants).await {
            Ok(client) => serve(client, control, open, input).await,
            Err(error) => log::debug!("remote command: {error}"),
        }
    });
    Ok(response)
}

async fn serve(mut client: RemoteCommand, control: Control, open: Open, input: InputEnd) {
    let mut gone = client.gone.clone();
    let running = run(&mut client, &control, &open, input);
    let ended = tokio::select! {
        ended = running => ended,
        () = gone.wait() => return,
    };
    let status = match ended {
        Ok(0) => Status::Success,
        Ok(code) => Status::ExitCode(code),
        Err(error) => Status::Error(error.told()),
    };
    let RemoteCommand {
        stdout,
        stderr,
        status: writer,
        ..
    } = client;
    drop((stdout, stderr));
    if let Err(error) = writer.finish(status).await {
        log::debug!("remote command: {error}");
    }
}

/// Moves bytes until the process has ended; gives its exit code, or 0 for a
/// client that has detached.
async fn run(
    client: &mut RemoteCommand,
    control: &Control,
    open: &Open,
    input: InputEnd,
) -> Result<i32, GuestError> {
    let stream = connect(control, open).await?;
    let (reader, writer) = stream.0.into_split();
    let (stdin, resize) = (client.stdin.take(), client.resize.take());
    // Both halves go when the client does: then the guest sees the end.
    let feeding = feed(GuestStream(writer), stdin, resize, input);
    tokio::pin!(feeding);
    let mut fed = false;
    let draining = drain(client, GuestStream(reader));
    tokio::pin!(draining);
    loop {
        tokio::select! {
            ended = &mut draining => return ended,
            ended = &mut feeding, if !fed => match ended {
                Ok(()) => return Ok(0),
                Err(error) => {
                    log::debug!("remote command: {error}");
                    fed = true;
                }
            },
        }
    }
}

/// Ends when the client detaches; fails when the guest takes no more.
async fn feed(
    mut guest: GuestStream<OwnedWriteHalf>,
    mut stdin: Option<streams::InputReader>,
    mut resize: Option<tokio::sync::mpsc::Receiver<streams::TerminalSize>>,
    input: InputEnd,
) -> Result<(), GuestError> {
    loop {
        tokio::select! {
            bytes = read(&mut stdin) => match bytes {
                Some(bytes) => {
                    for piece in bytes.chunks(DATA_MAX) {
                        guest.write(Channel::Stdin, piece).await?;
                    }
                }
                None if input == InputEnd::Detaches => return Ok(()),
                None => {
                    stdin = None;
                    guest.write_json(&Stream::CloseStdin).await?;
                }
            },
            size = next(&mut resize) => match size {
                Some(size) => {
                    let streams::TerminalSize { columns, rows } = size;
                    guest.write_json(&Stream::Resize { columns, rows }).await?;
                }
                None => resize = None,
            },
        }
    }
}

async fn read(stdin: &mut Option<streams::InputReader>) -> Option<Bytes> {
    match stdin {
        Some(stdin) => stdin.read().await,
        None => std::future::pending().await,
    }
}

async fn next<T>(receiver: &mut Option<tokio::sync::mpsc::Receiver<T>>) -> Option<T> {
    match receiver {
        Some(receiver) => receiver.recv().await,
        None => std::future::pending().await,
    }
}

async fn drain<S: AsyncRead + Unpin>(
    client: &mut RemoteCommand,
    mut guest: GuestStream<S>,
) -> Result<i32, GuestError> {
    loop {
        let (channel, payload) = guest.read().await?.ok_or(GuestError::Closed)?;
        let out = match channel {
            Channel::Json => match serde_json::from_slice(&payload)? {
                Stream::Exit(end) => return Ok(end.exit_code()),
                Stream::Resize { .. } | Stream::CloseStdin => {
                    return Err(GuestError::Channel(channel));
                }
            },
            Channel::Stdout => &mut client.stdout,
            Channel::Stderr => &mut client.stderr,
            Channel::Stdin => return Err(GuestError::Channel(channel)),
        };
        // A stream that the client did not ask for, or has closed, is dropped.
        if let Some(writer) = out
            && writer.write(Bytes::from(payload)).await.is_err()
        {
            *out = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_for_one_ends_with_it() {
        for (stdin_once, tty, expected) in [
            (None, None, false),
            (Some(true), None, true),
            (Some(true), Some(true), false),
        ] {
            let container = Container {
                stdin_once,
                tty,
                ..Container::default()
            };
            assert_eq!(closes(&container), expected, "{stdin_once:?} {tty:?}");
        }
    }

    #[test]
    fn streams_are_asked_for_by_either_name() {
        let pairs = |text: &str| crate::logs::parameters(text).collect::<Vec<_>>();
        let set = wants(&pairs("input=1&output=true&error=1&tty=1")).expect("valid");
        assert!(set.stdin && set.stdout && set.tty && !set.stderr);
        let set = wants(&pairs("stdout=1&stderr=1")).expect("valid");
        assert!(!set.stdin && set.stdout && set.stderr);
        for wrong in ["", "stdin=0", "stdout=perhaps", "error=1&tty=1"] {
            let refusal = wants(&pairs(wrong)).expect_err(wrong);
            assert_eq!(refusal.status, StatusCode::BAD_REQUEST);
        }
    }
}
