//! `/portForward`: each connection of a client becomes one to the pod's
//! loopback address, through the guest's agent.

use super::routes::{Body, Refusal};
use crate::guest::{self, GuestStream};
use crate::machine::Control;
use crate::pod::view::View;
use crate::worker::Shown;
use bytes::Bytes;
use guest_protocol::Open;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use streams::{Forward, Kind, port_forward};
use tokio::io::copy_bidirectional;
use tokio::task::JoinSet;

pub(super) fn answer<B>(
    shown: &Shown,
    query: &[(String, String)],
    mut request: Request<B>,
) -> Result<Response<Body>, Refusal> {
    let label = View(&shown.pod).label();
    let Some(control) = shown.control.clone() else {
        let message = format!("pod {label} is not running");
        return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, message));
    };
    let ports = ports(query)?;
    let negotiated = streams::negotiate(request.headers(), Kind::PortForward)
        .map_err(|refusal| Refusal::new(refusal.status, refusal.message))?;
    if negotiated.wants_ports() && ports.is_empty() {
        let message = "query parameter \"port\" is required";
        return Err(Refusal::new(StatusCode::BAD_REQUEST, message));
    }
    let negotiated = negotiated.with_ports(ports);
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
        let mut listener = match port_forward(io, negotiated).await {
            Ok(listener) => listener,
            Err(error) => return log::debug!("port-forward: {error}"),
        };
        // All connections end with the client's.
        let mut connections = JoinSet::new();
        while let Some(forward) = listener.accept().await {
            connections.spawn(connect(forward, control.clone(), label.clone()));
            while connections.try_join_next().is_some() {}
        }
    });
    Ok(response)
}

fn ports(query: &[(String, String)]) -> Result<Vec<u16>, Refusal> {
    let values = query
        .iter()
        .filter(|(name, _)| name == "port" || name == "ports");
    let parse = |text: &str| match text.parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => {
            let message = format!("unable to parse \"{}\" as a port", text.escape_default());
            Err(Refusal::new(StatusCode::BAD_REQUEST, message))
        }
    };
    values
        .flat_map(|(_, value)| value.split(','))
        .map(parse)
        .collect()
}

async fn connect(forward: Forward, control: Control, label: String) {
    let Forward {
        port,
        mut data,
        error,
    } = forward;
    match guest::connect(&control, &Open::PortForward { port }).await {
        Ok(GuestStream(mut guest)) => {
            if let Err(error) = copy_bidirectional(&mut data, &mut guest).await {
                log::debug!("port {port} of pod {label}: {error}");
            }
        }
        Err(cause) => {
            let cause = cause.told();
            let message = format!("error forwarding port {port} to pod {label}: {cause}");
            if let Err(error) = error.fail(&message).await {
                log::debug!("port {port} of pod {label}: {error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_come_in_lists() {
        let asked = |text: &str| ports(&crate::logs::parameters(text).collect::<Vec<_>>());
        assert_eq!(asked("port=80&ports=81,82"), Ok(vec![80, 81, 82]));
        for wrong in ["port=0", "port=65536", "port=x", "port="] {
            assert!(asked(wrong).is_err(), "{wrong}");
        }
    }
}
