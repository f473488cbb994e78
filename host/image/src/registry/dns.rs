//! Names to addresses without `getaddrinfo`, which a static glibc can't do:
//! `/etc/hosts` first, then the servers of `/etc/resolv.conf` by hickory.
//! Both files are read at each look-up, since DHCP may have changed them;
//! there are a handful of look-ups in a pull.

use std::net::IpAddr;
use std::path::Path;

use hickory_resolver::Resolver;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::system_conf::parse_resolv_conf;

use crate::error::Failure;

const HOSTS: &str = "/etc/hosts";
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// All addresses of a host, in the order to try them.
pub(crate) async fn resolve(host: &str) -> Result<Vec<IpAddr>, Failure> {
    resolve_by(Path::new(HOSTS), Path::new(RESOLV_CONF), host).await
}

async fn resolve_by(hosts: &Path, servers: &Path, host: &str) -> Result<Vec<IpAddr>, Failure> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let listed = hosts_file(hosts, host);
    if !listed.is_empty() {
        return Ok(listed);
    }
    let failed = |e: &dyn std::fmt::Display| Failure::unavailable(format!("lookup {host}: {e}"));
    let text = std::fs::read(servers).map_err(|e| failed(&e))?;
    let (config, options) = parse_resolv_conf(text).map_err(|e| failed(&e))?;
    let resolver = Resolver::builder_with_config(config, TokioRuntimeProvider::default())
        .with_options(options)
        .build()
        .map_err(|e| failed(&e))?;
    let found = resolver.lookup_ip(host).await.map_err(|e| failed(&e))?;
    let addresses: Vec<IpAddr> = found.iter().collect();
    match addresses.is_empty() {
        true => Err(failed(&"no such host")),
        false => Ok(addresses),
    }
}

fn hosts_file(path: &Path, host: &str) -> Vec<IpAddr> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mut found: Vec<IpAddr> = text.lines().filter_map(|l| hosts_line(l, host)).collect();
    if found.is_empty() && host == "localhost" {
        found = vec![IpAddr::from([127, 0, 0, 1])];
    }
    found
}

fn hosts_line(line: &str, host: &str) -> Option<IpAddr> {
    let line = line.split('#').next().unwrap_or_default();
    let mut words = line.split_whitespace();
    let address = words.next()?.parse().ok()?;
    words
        .any(|name| name.eq_ignore_ascii_case(host))
        .then_some(address)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use tokio::net::UdpSocket;

    /// Answers A questions with 192.0.2.7, all others with nothing.
    async fn serve(socket: UdpSocket) {
        let mut buffer = [0; 512];
        while let Ok((n, from)) = socket.recv_from(&mut buffer).await {
            let question_end = 12 + buffer[12..n].iter().position(|b| *b == 0).unwrap() + 5;
            let is_a = buffer[question_end - 4..question_end - 2] == [0, 1];
            let mut answer = buffer[..question_end].to_vec();
            answer[2] = 0x81;
            answer[3] = 0x80;
            answer[6..12].copy_from_slice(&[0, u8::from(is_a), 0, 0, 0, 0]);
            if is_a {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7]);
            }
            socket.send_to(&answer, from).await.unwrap();
        }
    }

    /// This test is a static executable, as the appliance is.
    #[tokio::test]
    async fn names_are_asked_of_the_configured_servers() {
        let Ok(socket) = UdpSocket::bind("127.83.17.1:53").await else {
            eprintln!("SKIPPED: port 53 can't be had, no name was looked up");
            return;
        };
        let server = tokio::spawn(serve(socket));
        let dir = tempfile::tempdir().unwrap();
        let (hosts, servers) = (dir.path().join("hosts"), dir.path().join("resolv.conf"));
        std::fs::write(&hosts, "192.0.2.1 listed.test\n").unwrap();
        std::fs::write(&servers, "nameserver 127.83.17.1\noptions timeout:2\n").unwrap();
        for (host, want) in [
            ("listed.test", [192, 0, 2, 1]),
            ("registry.test", [192, 0, 2, 7]),
            ("192.0.2.9", [192, 0, 2, 9]),
        ] {
            let found = resolve_by(&hosts, &servers, host).await.unwrap();
            assert_eq!(found, [IpAddr::from(want)], "{host}");
        }
        server.abort();
    }

    #[test]
    fn hosts_lines_name_their_hosts() {
        let table = [
            ("10.0.0.1 a b.c # d", "b.c", true),
            ("10.0.0.1 a B.C", "b.c", true),
            ("10.0.0.1 a # d", "d", false),
            ("# 10.0.0.1 a", "a", false),
            ("bogus a", "a", false),
            ("", "a", false),
        ];
        for (line, host, found) in table {
            assert_eq!(hosts_line(line, host).is_some(), found, "{line}");
        }
    }
}
