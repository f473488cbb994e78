//! Which requests go through a proxy; pure.

use std::net::IpAddr;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;

use crate::config::Proxy;

/// `http://[user:password@]host[:port]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProxyUrl {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The value of `Proxy-Authorization`.
    pub(crate) authorization: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be http://[user:password@]host[:port]")]
pub(crate) struct ProxyUrlError;

impl FromStr for ProxyUrl {
    type Err = ProxyUrlError;

    fn from_str(s: &str) -> Result<ProxyUrl, ProxyUrlError> {
        let rest = match s.split_once("://") {
            Some(("http", rest)) => rest,
            Some(_) => return Err(ProxyUrlError),
            None => s,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (user, host) = match rest.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, rest),
        };
        let authority: http::uri::Authority = host.parse().map_err(|_| ProxyUrlError)?;
        let authorization = match user {
            None => None,
            Some(user) => {
                let plain = percent_decode(user).ok_or(ProxyUrlError)?;
                Some(format!("Basic {}", STANDARD.encode(plain)))
            }
        };
        Ok(ProxyUrl {
            host: bare_host(authority.host()).to_owned(),
            port: authority.port_u16().unwrap_or(80),
            authorization,
        })
    }
}

/// An IPv6 address without its brackets.
pub(crate) fn bare_host(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host)
}

fn percent_decode(s: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(s.len());
    let mut bytes = s.bytes();
    while let Some(b) = bytes.next() {
        match b {
            b'%' => {
                let hex = [bytes.next()?, bytes.next()?];
                let text = std::str::from_utf8(&hex).ok()?;
                out.push(u8::from_str_radix(text, 16).ok()?);
            }
            b => out.push(b),
        }
    }
    Some(out)
}

/// The proxy for a request, if it goes through one. Loopback never does.
pub(crate) fn choose(proxy: &Proxy, tls: bool, host: &str, port: u16) -> Option<ProxyUrl> {
    let url = match tls {
        true => proxy.https.as_deref(),
        false => proxy.http.as_deref(),
    }?;
    let host = bare_host(host);
    let address: Option<IpAddr> = host.parse().ok();
    let is_loopback = host == "localhost" || address.is_some_and(|a| a.is_loopback());
    let excluded = proxy
        .no_proxy
        .iter()
        .flat_map(|entry| entry.split(','))
        .any(|rule| excludes(rule.trim(), host, address, port));
    match is_loopback || excluded {
        true => None,
        false => url.parse().ok(),
    }
}

fn excludes(rule: &str, host: &str, address: Option<IpAddr>, port: u16) -> bool {
    if rule.is_empty() {
        return false;
    }
    if rule == "*" {
        return true;
    }
    if let (Ok(net), Some(address)) = (rule.parse::<IpNet>(), address) {
        return net.contains(&address);
    }
    if let Ok(rule) = bare_host(rule).parse::<IpAddr>() {
        return address == Some(rule);
    }
    let rule = match rule.rsplit_once(':') {
        Some((name, p)) if p.parse() == Ok(port) => name,
        Some(_) => return false,
        None => rule,
    };
    let (rule, host) = (rule.to_ascii_lowercase(), host.to_ascii_lowercase());
    let bare = rule.trim_start_matches("*.").trim_start_matches('.');
    let subdomain = host
        .strip_suffix(bare)
        .is_some_and(|before| before.ends_with('.'));
    subdomain || host == rule
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn proxy_urls_are_parsed_or_refused() {
        let p: ProxyUrl = "http://us%65r:p%40ss@proxy.internal:3128/".parse().unwrap();
        assert_eq!((p.host.as_str(), p.port), ("proxy.internal", 3128));
        let want = format!("Basic {}", STANDARD.encode("user:p@ss"));
        assert_eq!(p.authorization, Some(want));
        assert_eq!("http://[::1]".parse::<ProxyUrl>().unwrap().host, "::1");
        for bad in [
            "socks5://a:1",
            "https://a",
            "http://",
            "http://a b",
            "http://%zz@a",
        ] {
            assert!(bad.parse::<ProxyUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn no_proxy_reads_as_the_environment_variable_does() {
        let table = [
            ("example.com", "example.com", false),
            ("example.com", "a.example.com", false),
            ("example.com", "notexample.com", true),
            (".example.com", "a.example.com", false),
            (".example.com", "example.com", true),
            ("*.example.com", "a.b.example.com", false),
            ("10.0.0.0/8", "10.1.2.3", false),
            ("10.0.0.0/8", "11.1.2.3", true),
            ("fd00::/8", "[fd00::1]", false),
            ("1.2.3.4", "1.2.3.4", false),
            ("host:443", "host", false),
            ("host:80", "host", true),
            ("a, host", "host", false),
            ("*", "host", false),
            ("", "host", true),
            ("", "127.0.0.1", false),
            ("", "localhost", false),
        ];
        for (rule, host, proxied) in table {
            let proxy = Proxy {
                http: None,
                https: Some("http://proxy:3128".into()),
                no_proxy: vec![rule.into()],
            };
            let chosen = choose(&proxy, true, host, 443);
            assert_eq!(chosen.is_some(), proxied, "{rule:?} {host}");
            assert_eq!(choose(&proxy, false, host, 80), None);
        }
    }
}
