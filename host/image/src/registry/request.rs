//! One HTTP exchange: connection, redirects, deadlines, bounded bodies.
//!
//! A connection serves one request: a pull has about a dozen, redirects lead
//! to other hosts anyway, and no request can fail for a stale connection.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, USER_AGENT};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use crate::config::Config;
use crate::error::Failure;
use crate::registry::connect::Connector;

const MAX_REDIRECTS: u32 = 10;
const AGENT: &str = concat!("atoll/", env!("CARGO_PKG_VERSION"));

/// What to ask.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Ask {
    pub(crate) fn get(uri: Uri) -> Ask {
        Ask {
            method: Method::GET,
            uri,
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }

    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Ask {
        self.headers.insert(name, value);
        self
    }

    /// How errors name it, as Go's client does.
    fn describe(&self) -> String {
        let method = match self.method {
            Method::GET => "Get",
            Method::HEAD => "Head",
            Method::POST => "Post",
            _ => "Do",
        };
        format!("{method} \"{}\"", self.uri)
    }
}

/// A body that must not stall.
pub(crate) struct Body {
    incoming: Incoming,
    stall: Duration,
}

impl Body {
    /// `None` at the end. An error leaves what came before valid.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            let frame = timeout(self.stall, self.incoming.frame())
                .await
                .map_err(|_| {
                    let seconds = self.stall.as_secs_f32();
                    Failure::unavailable(format!("the body stalled for {seconds} s"))
                })?;
            match frame {
                None => return Ok(None),
                Some(Err(e)) => {
                    return Err(Failure::unavailable(format!("reading the body: {e}")));
                }
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// The whole body, if it has at most `max` bytes.
    pub(crate) async fn collect(mut self, max: u64, limit: &str) -> Result<Vec<u8>, Failure> {
        let mut all = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if (all.len() + chunk.len()) as u64 > max {
                let message = format!("larger than {max} bytes ({limit})");
                return Err(Failure::invalid(message));
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all)
    }
}

/// The HTTP client; it knows nothing of registries.
pub(crate) struct Http {
    connector: Connector,
    response: Duration,
    stall: Duration,
}

impl Http {
    pub(crate) fn new(config: &Config) -> Result<Http, String> {
        Ok(Http {
            connector: Connector::new(config)?,
            response: Duration::from_secs(config.timeouts.response_seconds),
            stall: Duration::from_secs(config.timeouts.stall_seconds),
        })
    }

    /// Sends, following redirects of reading requests. Credentials stay
    /// with the host that they are for, and TLS is not given up on the way.
    pub(crate) async fn send(&self, ask: Ask) -> Result<Response<Body>, Failure> {
        let mut hop = ask.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send_once(&hop).await.map_err(|f| {
                Failure::new(
                    f.kind,
                    format!("failed to do request: {}: {f}", hop.describe()),
                )
            })?;
            if !is_redirect(response.status()) || ask.method == Method::POST {
                return Ok(response);
            }
            let next = redirect_target(&hop.uri, response.headers())?;
            if next.authority() != hop.uri.authority() || next.scheme() != hop.uri.scheme() {
                hop.headers.remove(AUTHORIZATION);
            }
            hop.uri = next;
        }
        let message = format!("{}: more than {MAX_REDIRECTS} redirects", ask.describe());
        Err(Failure::unavailable(message))
    }

    async fn send_once(&self, ask: &Ask) -> Result<Response<Body>, Failure> {
        let authority = ask
            .uri
            .authority()
            .ok_or_else(|| Failure::invalid("no host in the address"))?;
        let tls = ask.uri.scheme() == Some(&Scheme::HTTPS);
        let connection = self.connector.connect(tls, authority).await?;
        let request = build(ask, authority, connection.forward_proxy.as_ref())?;
        let (mut sender, driver) =
            hyper::client::conn::http1::handshake(TokioIo::new(connection.stream))
                .await
                .map_err(Failure::unavailable)?;
        // Ends with the response's body: nobody else holds the connection.
        tokio::spawn(driver);
        let response = timeout(self.response, sender.send_request(request))
            .await
            .map_err(|_| {
                let seconds = self.response.as_secs_f32();
                Failure::unavailable(format!("no answer within {seconds} s"))
            })?
            .map_err(Failure::unavailable)?;
        Ok(response.map(|incoming| Body {
            incoming,
            stall: self.stall,
        }))
    }
}

fn build(
    ask: &Ask,
    authority: &Authority,
    forward: Option<&crate::registry::proxy::ProxyUrl>,
) -> Result<Request<Full<Bytes>>, Failure> {
    let path = ask.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let target = match forward {
        Some(_) => ask.uri.to_string(),
        None => path.to_owned(),
    };
    let mut request = Request::builder()
        .method(ask.method.clone())
        .uri(target)
        .header(HOST, authority.as_str())
        .header(USER_AGENT, AGENT);
    if let Some(authorization) = forward.and_then(|p| p.authorization.as_deref()) {
        request = request.header(http::header::PROXY_AUTHORIZATION, authorization);
    }
    let mut request = request
        .body(Full::new(ask.body.clone()))
        .map_err(Failure::invalid)?;
    for (name, value) in &ask.headers {
        request.headers_mut().append(name, value.clone());
    }
    Ok(request)
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// RFC 9110, 10.2.2; relative to `from`.
fn redirect_target(from: &Uri, headers: &HeaderMap) -> Result<Uri, Failure> {
    let bad = |why: &str| Failure::unavailable(format!("redirect of {from}: {why}"));
    let location = headers
        .get(LOCATION)
        .and_then(|l| l.to_str().ok())
        .ok_or_else(|| bad("no Location"))?;
    let location = location.split('#').next().unwrap_or_default();
    let parsed: Uri = match location.starts_with("//") {
        true => format!("{}:{location}", from.scheme_str().unwrap_or("https")).parse(),
        false => location.parse(),
    }
    .map_err(|_| bad("bad Location"))?;
    if parsed.scheme().is_none() {
        let mut parts = from.clone().into_parts();
        if !location.starts_with('/') {
            return Err(bad("Location is neither absolute nor a path"));
        }
        parts.path_and_query = Some(location.parse().map_err(|_| bad("bad Location"))?);
        return Uri::from_parts(parts).map_err(|_| bad("bad Location"));
    }
    let known = matches!(parsed.scheme_str(), Some("http" | "https"));
    if !known || parsed.authority().is_none_or(|a| a.as_str().contains('@')) {
        return Err(bad("bad Location"));
    }
    if from.scheme() == Some(&Scheme::HTTPS) && parsed.scheme() != Some(&Scheme::HTTPS) {
        return Err(bad("from TLS to plain HTTP"));
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn redirects_stay_safe() {
        let table = [
            ("https://a/x", "https://b/y?z=1#f", Some("https://b/y?z=1")),
            ("https://a:5/x", "/y?q", Some("https://a:5/y?q")),
            ("http://a/x", "//b/y", Some("http://b/y")),
            ("https://a/x", "http://b/y", None),
            ("http://a/x", "http://b/y", Some("http://b/y")),
            ("https://a/x", "file:///etc/passwd", None),
            ("https://a/x", "https://u:p@b/", None),
            ("https://a/x", "y", None),
            ("https://a/x", "", None),
        ];
        for (from, location, want) in table {
            let mut headers = HeaderMap::new();
            headers.insert(LOCATION, HeaderValue::from_str(location).unwrap());
            let got = redirect_target(&from.parse().unwrap(), &headers).ok();
            assert_eq!(got.map(|u| u.to_string()).as_deref(), want, "{location}");
        }
        assert!(redirect_target(&"https://a/".parse().unwrap(), &HeaderMap::new()).is_err());
    }
}
