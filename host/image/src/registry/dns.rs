//! Names to addresses without `getaddrinfo`, which a static glibc can't do:
//! `/etc/hosts` first, then the servers of `/etc/resolv.conf` by hickory.
//! Both files are read at each look-up, since DHCP may have changed them;
//! there are a handful of look-ups in a pull.

use std::net::IpAddr;
use std::path::Path;

use hickory_resolver::Resolver;

use crate::error::Failure;

const HOSTS: &str = "/etc/hosts";

/// All addresses of a host, in the order to try them.
pub(crate) async fn resolve(host: &str) -> Result<Vec<IpAddr>, Failure> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let listed = hosts_file(Path::new(HOSTS), host);
    if !listed.is_empty() {
        return Ok(listed);
    }
    let failed = |e: &dyn std::fmt::Display| Failure::unavailable(format!("lookup {host}: {e}"));
    let resolver = Resolver::builder_tokio()
        .and_then(|b| b.build())
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
    use super::*;

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
