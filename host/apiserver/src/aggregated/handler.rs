//! A request for another server's group-version, passed on in its user's name
//! (upstream's `handler_proxy.go`).

use super::Remote;
use crate::peers::{Http, Peers};
use crate::proxy::forward::{self, Passing, Towards};
use crate::proxy::rewrite::Links;
use crate::respond;
use crate::rest::Answer;
use crate::user::User;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use reconcile::Body;
use std::fmt::Write as _;
use std::sync::Arc;

const USER: &str = "x-remote-user";
const UID: &str = "x-remote-uid";
const GROUP: &str = "x-remote-group";
const EXTRA: &str = "x-remote-extra-";

/// Adds who asks to a request's headers (client-go's `SetAuthProxyHeaders`).
pub(super) fn identify(user: &User, headers: &mut HeaderMap) -> Result<(), String> {
    let value = |text: &str| HeaderValue::from_bytes(text.as_bytes()).map_err(|e| e.to_string());
    headers.insert(USER, value(&user.name)?);
    if !user.uid.is_empty() {
        headers.insert(UID, value(&user.uid)?);
    }
    for group in &user.groups {
        headers.append(GROUP, value(group)?);
    }
    for (key, values) in &user.extra {
        let name = format!("{EXTRA}{}", escaped(key));
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|e| e.to_string())?;
        for one in values {
            headers.append(name.clone(), value(one)?);
        }
    }
    Ok(())
}

/// A key as a header's name may have it (RFC 9110, 5.6.2), the rest
/// percent-encoded.
fn escaped(key: &str) -> String {
    let mut out = String::new();
    for b in key.bytes() {
        if b.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&b) {
            out.push(char::from(b));
        } else {
            // Writing to a String can't fail.
            let _ = write!(out, "%{b:02X}");
        }
    }
    out
}

/// A refusal, as Go's `http.Error` writes it.
fn refused(code: u16, why: &str) -> Response<Body> {
    let mut response = respond::text(code, format!("{why}\n"));
    response.headers_mut().insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

impl Remote {
    /// Passes a request for `target` (path and query) on.
    pub(crate) async fn pass(
        &self,
        peers: &Arc<Peers>,
        user: &User,
        target: &str,
        id: &str,
        passing: Passing,
    ) -> Answer {
        if !self.available {
            return Ok(refused(503, "service unavailable"));
        }
        let peer = match self.peer(Http::Any) {
            Ok(peer) => peer,
            Err(why) => return Ok(refused(500, &why)),
        };
        let host = self.host();
        let mut headers = HeaderMap::new();
        if let Err(why) = identify(user, &mut headers) {
            return Ok(refused(500, &why));
        }
        for (name, text) in [
            (header::HOST, &host),
            (HeaderName::from_static("audit-id"), &id.to_owned()),
        ] {
            if let Ok(value) = HeaderValue::from_str(text) {
                headers.insert(name, value);
            }
        }
        let asked = passing.headers.get(header::HOST);
        let links = Links {
            prefix: String::new(),
            server: host,
            asked: asked
                .and_then(|v| v.to_str().ok())
                .unwrap_or_default()
                .to_owned(),
        };
        let towards = Towards {
            target: target.to_owned(),
            links,
            headers,
        };
        let upgrade = passing.upgrade.is_some() && forward::wants_upgrade(&passing.headers);
        match forward::pass(passing, towards, peers, &peer).await {
            Ok(answer) => Ok(answer),
            Err(e) => Ok(refused(503, &e.status(upgrade).message)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn users_are_written_as_headers() {
        let mut user = User::new("alice", ["devs".to_owned()]);
        user.uid = "7".to_owned();
        let values = vec!["a".to_owned(), "b".to_owned()];
        user.extra
            .insert("example.org/Some key%".to_owned(), values);
        let mut headers = HeaderMap::new();
        identify(&user, &mut headers).unwrap();
        let all = |name: &str| -> Vec<&str> {
            let values = headers.get_all(name).iter();
            values.map(|v| v.to_str().unwrap()).collect()
        };
        assert_eq!(all("x-remote-user"), ["alice"]);
        assert_eq!(all("x-remote-uid"), ["7"]);
        assert_eq!(all("x-remote-group"), ["devs", "system:authenticated"]);
        assert_eq!(
            all("x-remote-extra-example.org%2Fsome%20key%25"),
            ["a", "b"]
        );
        user.name = "a\nb".to_owned();
        assert!(identify(&user, &mut headers).is_err());
    }
}
