//! Port-forward: raw bytes to a TCP port of the pod's loopback address.

use super::{opened, refused};
use crate::errors::{refuse, text};
use crate::wire::WireError;
use guest_protocol::RefusalKind;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) fn serve(mut host: UnixStream, port: u16) -> Result<(), WireError> {
    let service = match connect(port) {
        Ok(service) => service,
        Err(message) => return refused(&mut host, refuse(RefusalKind::NotFound, message)),
    };
    opened(&mut host)?;
    host.set_write_timeout(None)?;
    let (from_host, to_service) = (host.try_clone()?, service.try_clone()?);
    super::thread("forward", move || {
        copy(&from_host, &to_service);
        // A host that is gone wakes the other direction by this.
        let _ = to_service.shutdown(Shutdown::Write);
    });
    copy(&service, &host);
    let _ = host.shutdown(Shutdown::Write);
    Ok(())
}

/// IPv4 first, as the kubelet's runtimes do.
fn connect(port: u16) -> Result<TcpStream, String> {
    let attempt = |address: SocketAddr| TcpStream::connect_timeout(&address, CONNECT_TIMEOUT);
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    attempt(v4).or_else(|first| {
        attempt(v6).map_err(|second| {
            format!(
                "failed to connect to localhost:{port}: IPv4: {}; IPv6: {}",
                text(&first),
                text(&second)
            )
        })
    })
}

/// Until the end or an error, which the shutdown that follows tells on.
fn copy(mut from: impl io::Read, mut to: impl io::Write) {
    let mut chunk = vec![0; 32 << 10];
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return,
            Ok(count) => {
                if to
                    .write_all(chunk.get(..count).unwrap_or_default())
                    .is_err()
                {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
