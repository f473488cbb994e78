//! `httpGet`: one request a connection; redirects are followed within the host.

use super::{OUTPUT_MAX, connect, tls};
use crate::machine::Control;
use crate::pod::action::HttpGet;
use crate::pod::health::Outcome;
use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, HOST, LOCATION, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// How many redirects are followed, as Go's client does.
const REDIRECTS_MAX: usize = 10;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    location: Option<String>,
    body: String,
}

pub(super) async fn probe(control: &Control, get: &HttpGet, agent: &str) -> Outcome {
    match ask(control, get, agent).await {
        Ok(answer) => judge(answer),
        Err(error) => Outcome::Failure(error),
    }
}

fn judge(answer: Answer) -> Outcome {
    let Answer { status, body, .. } = answer;
    match status.as_u16() {
        200..300 => Outcome::Success,
        300..400 => Outcome::Warning(format!("Probe terminated redirects, Response body: {body}")),
        code => Outcome::Failure(format!("HTTP probe failed with statuscode: {code}")),
    }
}

/// What was asked for, and what the last of its redirects within the host gave.
pub(super) async fn ask(control: &Control, get: &HttpGet, agent: &str) -> Result<Answer, String> {
    let mut get = get.clone();
    for _ in 0..=REDIRECTS_MAX {
        let answer = once(control, &get, agent).await?;
        let target = answer.location.as_deref();
        match target.and_then(|target| redirected(&get, target)) {
            Some(next) => get = next,
            None => return Ok(answer),
        }
    }
    Err(failed(
        &get,
        &format!("stopped after {REDIRECTS_MAX} redirects"),
    ))
}

pub(super) fn timed_out(get: &HttpGet) -> String {
    let cause = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
    failed(get, cause)
}

fn url(get: &HttpGet) -> String {
    let scheme = if get.https { "https" } else { "http" };
    format!("{scheme}://{}{}", authority(get), get.path)
}

fn authority(get: &HttpGet) -> String {
    let bare = get.host.contains(':') && !get.host.starts_with('[');
    match bare {
        true => format!("[{}]:{}", get.host, get.port),
        false => format!("{}:{}", get.host, get.port),
    }
}

/// As Go's client tells it.
fn failed(get: &HttpGet, cause: &str) -> String {
    format!("Get \"{}\": {cause}", url(get))
}

async fn once(control: &Control, get: &HttpGet, agent: &str) -> Result<Answer, String> {
    let stream = connect(control, get.port).await;
    let stream = stream.map_err(|error| failed(get, &error))?;
    let answer = if get.https {
        let secured = tls::connect(stream, &get.host).await;
        let secured = secured.map_err(|error| failed(get, &error.to_string()))?;
        talk(secured, get, agent).await
    } else {
        talk(stream, get, agent).await
    };
    answer.map_err(|error| failed(get, &error))
}

async fn talk<S>(stream: S, get: &HttpGet, agent: &str) -> Result<Answer, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request = request(get, agent)?;
    let said = |error: hyper::Error| {
        if error.is_incomplete_message() {
            return "EOF".to_owned();
        }
        error.to_string()
    };
    let io = TokioIo::new(stream);
    let (mut sender, connection) = http1::handshake(io).await.map_err(said)?;
    let asking = async {
        let response = sender.send_request(request).await.map_err(said)?;
        let (parts, mut body) = response.into_parts();
        let mut kept = Vec::new();
        while kept.len() < OUTPUT_MAX
            && let Some(frame) = body.frame().await
        {
            let data = frame.map_err(said)?.into_data().unwrap_or_default();
            let room = OUTPUT_MAX.saturating_sub(kept.len());
            kept.extend(data.into_iter().take(room));
        }
        let location = parts.headers.get(LOCATION);
        let location = location.filter(|_| parts.status.is_redirection());
        Ok(Answer {
            status: parts.status,
            location: location.and_then(|v| v.to_str().ok().map(str::to_owned)),
            body: String::from_utf8_lossy(&kept).into_owned(),
        })
    };
    tokio::pin!(asking);
    tokio::pin!(connection);
    tokio::select! {
        biased;
        answer = &mut asking => answer,
        // It ends when all has been said, or tells what is wrong.
        ended = &mut connection => match ended {
            Ok(()) => asking.await,
            Err(error) => Err(said(error)),
        },
    }
}

fn request(get: &HttpGet, agent: &str) -> Result<Request<Empty<Bytes>>, String> {
    let mut headers = HeaderMap::new();
    let mut host = authority(get);
    for (name, value) in &get.headers {
        if name.eq_ignore_ascii_case("host") {
            host.clone_from(value);
            continue;
        }
        let name = HeaderName::try_from(name.as_str()).map_err(|error| error.to_string())?;
        let value = HeaderValue::try_from(value.as_str()).map_err(|error| error.to_string())?;
        headers.append(name, value);
    }
    let agent = HeaderValue::try_from(agent).map_err(|error| error.to_string())?;
    headers.entry(USER_AGENT).or_insert(agent);
    headers
        .entry(ACCEPT)
        .or_insert(HeaderValue::from_static("*/*"));
    // An empty one asks for none.
    if headers.get(ACCEPT).is_some_and(HeaderValue::is_empty) {
        headers.remove(ACCEPT);
    }
    let host = HeaderValue::try_from(host).map_err(|error| error.to_string())?;
    headers.insert(HOST, host);
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    let uri = Uri::try_from(get.path.as_str()).map_err(|error| error.to_string())?;
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

/// Where a redirect leads, if that is the same host.
fn redirected(get: &HttpGet, target: &str) -> Option<HttpGet> {
    let mut next = get.clone();
    let absolute = target.split_once("://");
    let rest = match absolute {
        Some((scheme, rest)) => {
            next.https = match scheme {
                "http" => false,
                "https" => true,
                _ => return None,
            };
            Some(rest)
        }
        None => target.strip_prefix("//"),
    };
    let Some(rest) = rest else {
        next.path = match target.starts_with('/') {
            true => target.to_owned(),
            false => {
                let path = get.path.split('?').next().unwrap_or_default();
                let directory = path.rsplit_once('/').map_or("", |(before, _)| before);
                format!("{directory}/{target}")
            }
        };
        return Some(next);
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let authority: http::uri::Authority = authority.parse().ok()?;
    if authority.host() != get.host {
        return None;
    }
    let default = if next.https { 443 } else { 80 };
    next.port = authority.port_u16().unwrap_or(default);
    next.path = match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("/{path}"),
    };
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str) -> HttpGet {
        HttpGet {
            https: false,
            host: "127.0.0.1".to_owned(),
            port: 80,
            path: path.to_owned(),
            headers: Vec::new(),
        }
    }

    #[test]
    fn redirects_stay_with_the_host() {
        for (target, url_after) in [
            ("/b?c", Some("http://127.0.0.1:80/b?c")),
            ("b", Some("http://127.0.0.1:80/a/b")),
            ("https://127.0.0.1:8443/x", Some("https://127.0.0.1:8443/x")),
            ("https://127.0.0.1", Some("https://127.0.0.1:443/")),
            ("//127.0.0.1/x", Some("http://127.0.0.1:80/x")),
            ("http://127.0.0.1?q", Some("http://127.0.0.1:80/?q")),
            ("http://other.test/", None),
            ("ftp://127.0.0.1/", None),
            ("http://[broken/", None),
        ] {
            let next = redirected(&get("/a/z?y=/"), target).map(|next| url(&next));
            assert_eq!(next.as_deref(), url_after, "{target}");
        }
    }

    #[test]
    fn headers_of_the_probe_come_first() {
        let mut asked = get("/");
        let plain = request(&asked, "agent").expect("valid");
        assert_eq!(plain.headers()[HOST], "127.0.0.1:80");
        assert_eq!(plain.headers()[ACCEPT], "*/*");
        asked.headers = [
            ("Host", "web.test"),
            ("Accept", ""),
            ("User-Agent", "own"),
            ("X", "1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        let own = request(&asked, "agent").expect("valid");
        assert_eq!(own.headers()[HOST], "web.test");
        assert_eq!(own.headers()[USER_AGENT], "own");
        assert!(!own.headers().contains_key(ACCEPT));
        assert_eq!(own.headers()["x"], "1");
        asked.headers = vec![("bad name".to_owned(), String::new())];
        assert!(request(&asked, "agent").is_err());
        assert!(request(&get("/\u{1}"), "agent").is_err());
    }

    #[test]
    fn statuses_are_judged_as_upstream_does() {
        let answer = |code: u16| Answer {
            status: StatusCode::from_u16(code).expect("a status"),
            location: None,
            body: "b".to_owned(),
        };
        assert_eq!(judge(answer(204)), Outcome::Success);
        let warning = "Probe terminated redirects, Response body: b";
        assert_eq!(judge(answer(302)), Outcome::Warning(warning.to_owned()));
        let failure = "HTTP probe failed with statuscode: 500";
        assert_eq!(judge(answer(500)), Outcome::Failure(failure.to_owned()));
    }
}
