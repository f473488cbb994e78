//! Links of what a proxied server answers, made to lead through the proxy
//! (upstream's `apimachinery/pkg/util/proxy/transport.go`): absolute paths and
//! URLs of the server itself get the proxy's path in front; others stay.

/// What a link is judged by.
#[derive(Clone, Debug, Default)]
pub(crate) struct Links {
    /// The path of the proxy, encoded; empty: nothing is put in front.
    pub(crate) prefix: String,
    /// HOST:PORT that the request went to.
    pub(crate) server: String,
    /// The `Host` that the client asked for.
    pub(crate) asked: String,
}

/// A reference, taken apart as far as needed (RFC 3986, 4.1).
struct Reference<'a> {
    scheme: &'a str,
    /// With its slashes; empty without one.
    authority: &'a str,
    rest: &'a str,
}

fn parse(text: &str) -> Reference<'_> {
    let is_scheme = |s: &str| {
        s.starts_with(|c: char| c.is_ascii_alphabetic())
            && s.chars()
                .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    };
    let (scheme, after) = match text.split_once(':') {
        Some((scheme, after)) if is_scheme(scheme) => (scheme, after),
        _ => ("", text),
    };
    if !after.starts_with("//") {
        return Reference {
            scheme,
            authority: "",
            rest: after,
        };
    }
    let end = after[2..]
        .find(['/', '?', '#'])
        .map_or(after.len(), |at| at + 2);
    Reference {
        scheme,
        authority: &after[..end],
        rest: &after[end..],
    }
}

impl Links {
    /// What `text` becomes; `None`: it stays.
    pub(crate) fn rewrite(&self, text: &str) -> Option<String> {
        if text.chars().any(char::is_control) {
            return None;
        }
        let Reference {
            scheme,
            authority,
            rest,
        } = parse(text);
        let host = authority.trim_start_matches('/');
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        let other = !host.is_empty() && host != self.server && host != self.asked;
        if other || !rest.starts_with('/') {
            return None;
        }
        let mut out = String::new();
        // The client's own name for this server stays.
        if !host.is_empty() && host == self.asked {
            if !scheme.is_empty() {
                out += scheme;
                out.push(':');
            }
            out += authority;
        }
        if !rest.starts_with(&self.prefix) {
            out += &self.prefix;
        }
        out += rest;
        (out != text).then_some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_links_to_the_server_itself_change() {
        let links = Links {
            prefix: "/p/proxy".to_owned(),
            server: "10.0.0.1:80".to_owned(),
            asked: "127.0.0.1:6443".to_owned(),
        };
        for (text, wanted) in [
            ("/a/b/?c=d#e", "/p/proxy/a/b/?c=d#e"),
            ("/", "/p/proxy/"),
            ("/p/proxy/a", "/p/proxy/a"),
            ("a/b", "a/b"),
            ("?x", "?x"),
            ("#x", "#x"),
            ("", ""),
            ("http://10.0.0.1:80/a", "/p/proxy/a"),
            (
                "https://127.0.0.1:6443/a",
                "https://127.0.0.1:6443/p/proxy/a",
            ),
            ("//127.0.0.1:6443/a", "//127.0.0.1:6443/p/proxy/a"),
            ("http://10.0.0.1/a", "http://10.0.0.1/a"),
            ("http://elsewhere/a", "http://elsewhere/a"),
            ("//elsewhere/a", "//elsewhere/a"),
            ("mailto:/a", "/p/proxy/a"),
            ("javascript:x()", "javascript:x()"),
            ("http://10.0.0.1:80", "http://10.0.0.1:80"),
            ("/a\nb", "/a\nb"),
        ] {
            let found = links.rewrite(text);
            assert_eq!(found.as_deref().unwrap_or(text), wanted, "{text}");
        }
    }
}
