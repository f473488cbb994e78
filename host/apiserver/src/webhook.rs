//! Asking webhooks: one POST of JSON over TLS, one answer of JSON, all bounded
//! in time and size. For conversion here, for admission by its plugins; and GET
//! of documents, for `authn::oidc`.

use crate::dialer::Destination;
use crate::peers::{Http, Peer, Peers};
use crate::respond;
use api::custom::conversion::{self, Converter, Target, Webhook};
use http::{Request, header};
use http_body_util::{BodyExt, Limited};
use reconcile::Body;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::{Handle, RuntimeFlavor};

/// Most bytes of an answer: as much as a request may have.
const MAX_ANSWER: usize = crate::server::MAX_BODY * 4;
/// Upstream's for conversion.
const CONVERSION_TIMEOUT: Duration = Duration::from_secs(30);

/// Authorities whose TLS settings are kept (upstream's cache of clients has as
/// many).
const MOST_TRUSTED: usize = 200;

/// Who asks.
pub(crate) struct Client {
    peers: Arc<Peers>,
    /// The settings for each CA bundle: connections are kept by them.
    trusted: Mutex<HashMap<Vec<u8>, Arc<ClientConfig>>>,
}

/// Trusts these authorities, in PEM, and no other.
pub(crate) fn trusting(ca: &[u8]) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca) {
        let certificate =
            certificate.map_err(|e| format!("unable to load root certificates: {e}"))?;
        roots
            .add(certificate)
            .map_err(|e| format!("unable to load root certificates: {e}"))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

impl Client {
    pub(crate) fn new(peers: Arc<Peers>) -> Client {
        let trusted = Mutex::default();
        Client { peers, trusted }
    }

    /// The same settings each time for the same bundle. Where there are too
    /// many, all are forgotten.
    fn trust(&self, ca: &[u8]) -> Result<Arc<ClientConfig>, String> {
        let mut trusted = self.trusted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = trusted.get(ca) {
            return Ok(known.clone());
        }
        let new = trusting(ca)?;
        if trusted.len() >= MOST_TRUSTED {
            trusted.clear();
        }
        trusted.insert(ca.to_vec(), new.clone());
        Ok(new)
    }

    /// The JSON that `target` answers to `body`; the error says which step
    /// failed. `query` is appended to the path, if it isn't empty.
    pub(crate) async fn post(
        &self,
        target: &Target,
        ca: &[u8],
        query: &str,
        body: &Value,
        timeout: Duration,
    ) -> Result<Value, String> {
        let (to, name, path) = Destination::of(target).ok_or("the webhook's URL is malformed")?;
        let path = match query {
            "" => path,
            query => format!("{path}?{query}"),
        };
        let url = url(target, &name, &path);
        let request = Request::post(&path)
            .header(header::HOST, &name)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .body(respond::body(body.to_string()))
            .map_err(|e| format!("Post {url:?}: {e}"))?;
        let asked = self.exchange(to, &name, self.trust(ca)?, request, MAX_ANSWER);
        match tokio::time::timeout(timeout, asked).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(Failed::Refused(why))) => Err(why),
            Ok(Err(Failed::Unreached(why))) => Err(format!("Post {url:?}: {why}")),
            Err(_) => Err(format!("Post {url:?}: context deadline exceeded")),
        }
    }

    /// The JSON at a URL of HTTPS, of `most` bytes at most. Redirections are
    /// refusals.
    pub(crate) async fn get(
        &self,
        url: &str,
        tls: Arc<ClientConfig>,
        most: usize,
        timeout: Duration,
    ) -> Result<Value, String> {
        let target = Target::Url(url.to_owned());
        let malformed = || format!("Get {url:?}: malformed");
        let (to, name, path) = Destination::of(&target).ok_or_else(malformed)?;
        let host = url.split('/').nth(2).unwrap_or_default();
        let request = Request::get(path)
            .header(header::HOST, host)
            .header(header::ACCEPT, "application/json")
            .body(respond::body(bytes::Bytes::new()))
            .map_err(|_| malformed())?;
        let asked = self.exchange(to, &name, tls, request, most);
        match tokio::time::timeout(timeout, asked).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(Failed::Refused(why) | Failed::Unreached(why))) => {
                Err(format!("Get {url:?}: {why}"))
            }
            Err(_) => Err(format!("Get {url:?}: context deadline exceeded")),
        }
    }

    async fn exchange(
        &self,
        to: Destination,
        name: &str,
        tls: Arc<ClientConfig>,
        request: Request<Body>,
        most: usize,
    ) -> Result<Value, Failed> {
        let failed = |e: &dyn std::fmt::Display| Failed::Unreached(e.to_string());
        let server = ServerName::try_from(name.to_owned()).map_err(|e| failed(&e))?;
        // As upstream: HTTP/2 would keep all to one of a Service's pods.
        let peer = Peer::network(to, Some((tls, server)), Http::One);
        let asked = self.peers.send(&peer, request).await;
        let answer = asked.map_err(Failed::Unreached)?;
        let code = answer.status();
        let read = Limited::new(answer.into_body(), most).collect().await;
        let bytes = read.map_err(|e| failed(&e))?.to_bytes();
        if !code.is_success() {
            return Err(Failed::Refused(refused(code, &bytes)));
        }
        serde_json::from_slice(&bytes)
            .map_err(|e| Failed::Refused(format!("the answer isn't JSON: {e}")))
    }
}

/// How far an exchange came.
enum Failed {
    /// There is no answer.
    Unreached(String),
    /// There is one, but not what was asked for.
    Refused(String),
}

/// The URL in messages: a Service's with its port.
fn url(target: &Target, name: &str, path: &str) -> String {
    match target {
        Target::Service { port, .. } => format!("https://{name}:{port}{path}"),
        Target::Url(url) => match url.split_once("://").and_then(|(_, rest)| rest.find('/')) {
            Some(at) => format!("{}{path}", &url[..at + "https://".len()]),
            None => format!("{url}{path}"),
        },
    }
}

/// What a code that is no success means (`errors.NewGenericServerResponse`).
fn refused(code: http::StatusCode, body: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(body).chars().take(1024).collect();
    match code.as_u16() {
        404 => "the server could not find the requested resource".to_owned(),
        500.. => format!(
            "an error on the server ({:?}) has prevented the request from succeeding",
            text.trim()
        ),
        code => format!(
            "the server responded with the status code {code} but did not return more information"
        ),
    }
}

/// The converter of one definition.
pub(crate) struct Conversions {
    pub(crate) client: Arc<Client>,
    pub(crate) webhook: Webhook,
}

impl Converter for Conversions {
    fn convert(&self, version: &str, objects: Vec<Value>) -> Result<Vec<Value>, String> {
        let uid = uuid::Uuid::new_v4().to_string();
        let review = conversion::review(&self.webhook, &uid, version, &objects);
        let asked = self.client.post(
            &self.webhook.target,
            &self.webhook.ca,
            "timeout=30s",
            &review,
            CONVERSION_TIMEOUT,
        );
        let answer = blocking(asked)?;
        conversion::converted(&self.webhook, &answer, &uid, version, &objects)
    }
}

/// Waits for a webhook where the caller can't: the store's readers are
/// synchronous. Other tasks go on, on other threads.
fn blocking<F>(asked: F) -> Result<Value, String>
where
    F: Future<Output = Result<Value, String>> + Send,
{
    match Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => {
            tokio::task::block_in_place(|| handle.block_on(asked))
        }
        _ => std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .map_err(|e| e.to_string())?
                    .block_on(asked)
            });
            waiting
                .join()
                .map_err(|_| "the webhook's client failed".to_owned())?
        }),
    }
}
