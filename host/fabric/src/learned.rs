//! What the interfaces learned from their networks, put together with what the
//! machine config says.

use crate::config::Config;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The resolver uses no more (resolv.conf(5), MAXNS, is 3).
const NAMESERVERS_MAX: usize = 3;
const SEARCH_MAX: usize = 6;

/// From one interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Learned {
    pub(crate) nameservers: Vec<IpAddr>,
    pub(crate) search: Vec<String>,
    pub(crate) time_servers: Vec<IpAddr>,
    /// `dhcp`, `static`, for the report.
    pub(crate) leased: Option<String>,
}

/// By interface name.
pub(crate) type All = BTreeMap<String, Learned>;

/// The content of resolv.conf; configured servers come first.
pub(crate) fn resolv_conf(config: &Config, all: &All) -> String {
    let learned = all.values().flat_map(|one| &one.nameservers);
    let mut servers: Vec<IpAddr> = Vec::new();
    for server in config.nameservers.iter().chain(learned) {
        if !servers.contains(server) && servers.len() < NAMESERVERS_MAX {
            servers.push(*server);
        }
    }
    let configured = config.search.iter().map(crate::config::Server::as_str);
    let learned = all
        .values()
        .flat_map(|one| one.search.iter().map(String::as_str));
    let mut search: Vec<&str> = Vec::new();
    for domain in configured.chain(learned) {
        if !search.contains(&domain) && search.len() < SEARCH_MAX {
            search.push(domain);
        }
    }
    let mut text = String::new();
    if !search.is_empty() {
        text.push_str(&format!("search {}\n", search.join(" ")));
    }
    for server in servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    text
}

/// Names and addresses of time servers, configured ones first.
pub(crate) fn time_servers(config: &Config, all: &All) -> Vec<String> {
    let configured = config.ntp.iter().map(|server| server.as_str().to_owned());
    let learned = all.values().flat_map(|one| &one.time_servers);
    configured.chain(learned.map(ToString::to_string)).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn configured_servers_come_first_and_none_twice() {
        let config = Config {
            nameservers: vec![[9, 9, 9, 9].into()],
            search: vec!["a.example".parse().unwrap()],
            ntp: vec!["ntp.example".parse().unwrap()],
            ..Config::default()
        };
        let learned = |last: u8| Learned {
            nameservers: vec![[9, 9, 9, 9].into(), [10, 0, 0, last].into()],
            search: vec!["a.example".into(), "b.example".into()],
            time_servers: vec![[10, 0, 0, last].into()],
            leased: None,
        };
        let all = All::from([("eth1".into(), learned(2)), ("eth0".into(), learned(1))]);
        assert_eq!(
            resolv_conf(&config, &all),
            "search a.example b.example\nnameserver 9.9.9.9\nnameserver 10.0.0.1\nnameserver 10.0.0.2\n"
        );
        assert_eq!(
            time_servers(&config, &all),
            ["ntp.example", "10.0.0.1", "10.0.0.2"]
        );
        assert_eq!(resolv_conf(&Config::default(), &All::new()), "");
    }
}
