//! Asking webhooks: one POST of JSON over TLS, one answer of JSON, all bounded
//! in time and size. For conversion here, for admission by its plugins.

use crate::dialer::{Destination, Dialer};
use api::custom::conversion::{self, Converter, Target, Webhook};
use http::{Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Handle, RuntimeFlavor};

/// Most bytes of an answer: as much as a request may have.
const MAX_ANSWER: usize = crate::server::MAX_BODY * 4;
/// Upstream's for conversion.
const CONVERSION_TIMEOUT: Duration = Duration::from_secs(30);

/// Who asks.
pub struct Client {
    pub(crate) dialer: Arc<dyn Dialer>,
}

fn trusting(ca: &[u8]) -> Result<Arc<ClientConfig>, String> {
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
    pub fn new(dialer: Arc<dyn Dialer>) -> Client {
        Client { dialer }
    }

    /// The JSON that `target` answers to `body`; the error says which step
    /// failed. `query` is appended to the path, if it isn't empty.
    pub async fn post(
        &self,
        target: &Target,
        ca: &[u8],
        query: &str,
        body: &Value,
        timeout: Duration,
    ) -> Result<Value, String> {
        let asked = self.exchange(target, ca, query, body);
        match tokio::time::timeout(timeout, asked).await {
            Ok(answer) => answer,
            Err(_) => Err("context deadline exceeded".to_owned()),
        }
    }

    async fn exchange(
        &self,
        target: &Target,
        ca: &[u8],
        query: &str,
        body: &Value,
    ) -> Result<Value, String> {
        let (to, name, path) = Destination::of(target).ok_or("the webhook's URL is malformed")?;
        let url = format!("https://{name}{path}");
        let failed = |e: &dyn std::fmt::Display| format!("Post {url:?}: {e}");
        let stream = self.dialer.connect(&to).await.map_err(|e| failed(&e))?;
        let server = ServerName::try_from(name.clone()).map_err(|e| failed(&e))?;
        let tls = tokio_rustls::TlsConnector::from(trusting(ca)?)
            .connect(server, stream)
            .await
            .map_err(|e| failed(&e))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls))
            .await
            .map_err(|e| failed(&e))?;
        let running = tokio::spawn(connection);
        let path = match query {
            "" => path,
            query => format!("{path}?{query}"),
        };
        let request = Request::post(path)
            .header(header::HOST, &name)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .body(Full::new(bytes::Bytes::from(body.to_string())))
            .map_err(|e| failed(&e))?;
        let answer = sender.send_request(request).await.map_err(|e| failed(&e))?;
        let code = answer.status();
        let read = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        running.abort();
        let bytes = read.map_err(|e| failed(&e))?.to_bytes();
        if !code.is_success() {
            let text: String = String::from_utf8_lossy(&bytes).chars().take(1024).collect();
            return Err(format!("the server answered {code}: {text}"));
        }
        serde_json::from_slice(&bytes).map_err(|e| format!("the answer isn't JSON: {e}"))
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
