//! The client of the OCI distribution API, reading side only.
//!
//! A [`Session`] is one pull's view of one repository: endpoints in the order
//! to try them, and the authorization that each of them wants. Sessions share
//! nothing, so that no token serves anybody but whose credentials bought it.

mod challenge;
mod connect;
mod dns;
pub(crate) mod proxy;
mod request;
mod token;

use std::sync::Arc;

use http::header::{ACCEPT, AUTHORIZATION, HeaderName, HeaderValue, RANGE, WWW_AUTHENTICATE};
use http::{Method, Response, StatusCode, Uri};
use tokio::sync::Mutex;

use crate::config::{Config, mirror_parts};
use crate::credentials::Credentials;
use crate::digest::Digest;
use crate::error::{Failure, Kind};
use crate::manifest::ACCEPTED;
use crate::reference::{DOCKER_HUB, Reference};
pub(crate) use request::Body;
use request::{Ask, Http};

const DOCKER_HUB_HOST: &str = "registry-1.docker.io";
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// A registry's error document; what is longer isn't shown.
const MAX_ERROR_BODY: u64 = 64 << 10;

/// The host that serves a registry's API.
pub(crate) fn api_host(registry: &str) -> &str {
    match registry {
        DOCKER_HUB => DOCKER_HUB_HOST,
        other => other,
    }
}

/// What all sessions share.
pub(crate) struct Client {
    http: Http,
    config: Config,
}

/// One place that may have the image.
struct Endpoint {
    base: String,
    /// A mirror is told whose repository it stands for.
    query: String,
    credentials: Option<Credentials>,
    authorization: Mutex<Option<HeaderValue>>,
}

/// One pull's view of one repository.
pub(crate) struct Session {
    client: Arc<Client>,
    repository: String,
    reference: String,
    endpoints: Vec<Endpoint>,
}

/// What a registry says of a tag.
pub(crate) struct Resolved {
    pub(crate) bytes: Vec<u8>,
    pub(crate) media_type: Option<String>,
    pub(crate) digest: Digest,
}

impl Client {
    pub(crate) fn new(config: Config) -> Result<Arc<Client>, String> {
        let http = Http::new(&config)?;
        Ok(Arc::new(Client { http, config }))
    }

    /// `credentials` are for the registry itself, never for its mirrors.
    pub(crate) fn session(
        self: &Arc<Client>,
        reference: &Reference,
        credentials: Option<Credentials>,
    ) -> Session {
        let registry = reference.registry();
        let settings = |host: &str| self.config.registries.get(host);
        let endpoint = |plain: bool, host: &str, query: String, credentials| Endpoint {
            base: format!("{}://{host}", if plain { "http" } else { "https" }),
            query,
            credentials,
            authorization: Mutex::new(None),
        };
        let mut endpoints = Vec::new();
        for mirror in settings(registry).map_or(&[][..], |r| &r.mirrors) {
            if let Some((plain, host)) = mirror_parts(mirror) {
                let own = settings(host);
                let plain = plain || own.is_some_and(|r| r.plain_http);
                let login = own.and_then(|r| r.credentials.clone());
                endpoints.push(endpoint(plain, host, format!("?ns={registry}"), login));
            }
        }
        let own = settings(registry);
        let plain = own.is_some_and(|r| r.plain_http);
        let login = credentials.or_else(|| own.and_then(|r| r.credentials.clone()));
        endpoints.push(endpoint(plain, api_host(registry), String::new(), login));
        Session {
            client: self.clone(),
            repository: reference.repository().to_owned(),
            reference: reference.to_string(),
            endpoints,
        }
    }
}

impl Session {
    /// The digest of a tag without the manifest, which registries don't
    /// count against their limits. `None` if the registry won't say.
    pub(crate) async fn head(&self, identifier: &str) -> Result<Option<Digest>, Failure> {
        let path = format!("manifests/{identifier}");
        let response = self.first(Method::HEAD, &path).await?;
        Ok(content_digest(&response))
    }

    /// A manifest by tag or digest. With a digest the bytes must have it.
    pub(crate) async fn manifest(&self, identifier: &str) -> Result<Resolved, Failure> {
        let response = self
            .first(Method::GET, &format!("manifests/{identifier}"))
            .await?;
        let claimed = content_digest(&response);
        let media_type = response
            .headers()
            .get(http::header::CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .map(|v| v.split(';').next().unwrap_or(v).trim().to_owned());
        let max = self.client.config.limits.max_manifest_bytes;
        let bytes = response
            .into_body()
            .collect(max, "limits.maxManifestBytes")
            .await
            .map_err(|f| Failure::new(f.kind, format!("manifest {identifier}: {f}")))?;
        let digest = Digest::of(&bytes);
        let wanted = identifier.parse::<Digest>().ok().or(claimed);
        if wanted.is_some_and(|w| w != digest) {
            let message = format!(
                "manifest {identifier}: unexpected digest {digest}, expected {}",
                wanted.map(|w| w.to_string()).unwrap_or_default()
            );
            return Err(Failure::new(Kind::Digest, message));
        }
        Ok(Resolved {
            bytes,
            media_type,
            digest,
        })
    }

    /// A blob's bytes from `offset` on; the second value is where they
    /// really begin, since a registry may not know ranges.
    pub(crate) async fn blob(&self, digest: &Digest, offset: u64) -> Result<(Body, u64), Failure> {
        let path = format!("blobs/{digest}");
        let mut last = Failure::unavailable("no endpoint");
        for endpoint in &self.endpoints {
            match self.blob_from(endpoint, &path, offset).await {
                Ok(found) => return Ok(found),
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    async fn blob_from(
        &self,
        endpoint: &Endpoint,
        path: &str,
        offset: u64,
    ) -> Result<(Body, u64), Failure> {
        let mut ask = Ask::get(self.uri(endpoint, path)?);
        if offset > 0 {
            let range = HeaderValue::try_from(format!("bytes={offset}-"));
            ask = ask.with(RANGE, range.map_err(Failure::invalid)?);
        }
        let response = self.authorized(endpoint, ask).await?;
        match response.status() {
            StatusCode::OK => Ok((response.into_body(), 0)),
            StatusCode::PARTIAL_CONTENT => {
                let start = response
                    .headers()
                    .get(http::header::CONTENT_RANGE)
                    .and_then(|v| v.to_str().ok())
                    .and_then(|v| v.strip_prefix("bytes "))
                    .and_then(|v| v.split('-').next())
                    .and_then(|v| v.parse::<u64>().ok());
                match start {
                    Some(start) if start == offset => Ok((response.into_body(), start)),
                    _ => Err(Failure::unavailable(
                        "the registry answers with another range",
                    )),
                }
            }
            StatusCode::RANGE_NOT_SATISFIABLE => Err(Failure::new(
                Kind::Digest,
                "the blob is shorter than its descriptor says",
            )),
            _ => Err(self.refusal(response).await),
        }
    }

    /// The first endpoint's success; else the failure of the registry
    /// itself, which is the last.
    async fn first(&self, method: Method, path: &str) -> Result<Response<Body>, Failure> {
        let mut last = Failure::unavailable("no endpoint");
        for endpoint in &self.endpoints {
            let mut ask = Ask::get(self.uri(endpoint, path)?)
                .with(ACCEPT, HeaderValue::from_static(ACCEPTED));
            ask.method = method.clone();
            match self.authorized(endpoint, ask).await {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) => last = self.refusal(response).await,
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    fn uri(&self, endpoint: &Endpoint, path: &str) -> Result<Uri, Failure> {
        let text = format!(
            "{}/v2/{}/{path}{}",
            endpoint.base, self.repository, endpoint.query
        );
        text.parse()
            .map_err(|e| Failure::invalid(format!("{text}: {e}")))
    }

    /// Sends with what the endpoint accepted last; answers one challenge.
    async fn authorized(&self, endpoint: &Endpoint, ask: Ask) -> Result<Response<Body>, Failure> {
        let known = endpoint.authorization.lock().await.clone();
        let mut first = ask.clone();
        if let Some(value) = &known {
            first = first.with(AUTHORIZATION, value.clone());
        }
        let response = self.client.http.send(first).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let values = response.headers().get_all(WWW_AUTHENTICATE);
        let challenge = challenge::choose(values.iter().filter_map(|v| v.to_str().ok()));
        let Some(challenge) = challenge else {
            return Ok(response);
        };
        let answer = token::answer(
            &self.client.http,
            &challenge,
            endpoint.credentials.as_ref(),
            &self.repository,
            ask.uri.scheme_str() == Some("https"),
        )
        .await?;
        let Some(answer) = answer.filter(|a| Some(a) != known.as_ref()) else {
            return Ok(response);
        };
        *endpoint.authorization.lock().await = Some(answer.clone());
        self.client.http.send(ask.with(AUTHORIZATION, answer)).await
    }

    /// A status that isn't success, as users of containerd know it.
    async fn refusal(&self, response: Response<Body>) -> Failure {
        let status = response.status();
        let detail = match response
            .into_body()
            .collect(MAX_ERROR_BODY, "an error")
            .await
        {
            Ok(body) => server_message(&body),
            Err(_) => String::new(),
        };
        match status.as_u16() {
            404 => Failure::new(Kind::NotFound, format!("{}: not found", self.reference)),
            401 | 403 => {
                let said = match detail.is_empty() {
                    true => status.to_string(),
                    false => detail,
                };
                let message = format!(
                    "pull access denied, repository does not exist or may require \
                     authorization: server message: {said}"
                );
                Failure::new(Kind::Unauthorized, message)
            }
            _ => Failure::unavailable(format!(
                "unexpected status from registry: {status}{}{detail}",
                if detail.is_empty() { "" } else { ": " }
            )),
        }
    }
}

fn content_digest(response: &Response<Body>) -> Option<Digest> {
    response
        .headers()
        .get(CONTENT_DIGEST)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// The first error of a registry's error document, in one printable line.
fn server_message(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Vec<One>,
    }
    #[derive(serde::Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let Ok(Errors { errors }) = serde_json::from_slice(body) else {
        return String::new();
    };
    let Some(One { code, message }) = errors.into_iter().next() else {
        return String::new();
    };
    let line = format!("{}: {message}", code.to_lowercase());
    line.chars().filter(|c| !c.is_control()).take(300).collect()
}
