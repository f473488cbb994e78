//! Other servers that the API server reaches: real ones in this process, on
//! 127.0.0.1, and a dialer that leads the addresses of a cluster to them.

use apiserver::{Connecting, Destination, Dialer, Stream};
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use reconcile::Body;
use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// The network of a cluster that isn't there: what it is asked for stands for
/// a port of this machine, or refuses.
#[derive(Default)]
pub(crate) struct Network(Mutex<HashMap<String, Led>>);

/// Where an address leads, and what has gone there.
struct Led {
    port: u16,
    streams: Vec<std::net::TcpStream>,
}

impl Network {
    /// Leads `to` (as `Destination` is written) to `port`.
    pub(crate) fn lead(&self, to: &str, port: u16) {
        let streams = Vec::new();
        let mut led = self.0.lock().unwrap();
        led.insert(to.to_owned(), Led { port, streams });
    }

    /// What is open there ends, too.
    pub(crate) fn cut(&self, to: &str) {
        if let Some(led) = self.0.lock().unwrap().remove(to) {
            for stream in led.streams {
                // One that has ended is what is wanted.
                let _ = stream.shutdown(std::net::Shutdown::Both);
            }
        }
    }

    fn connected(&self, to: &str, stream: TcpStream) -> io::Result<TcpStream> {
        let stream = stream.into_std()?;
        match self.0.lock().unwrap().get_mut(to) {
            Some(led) => led.streams.push(stream.try_clone()?),
            None => return Err(io::Error::from(io::ErrorKind::ConnectionReset)),
        }
        TcpStream::from_std(stream)
    }
}

impl Dialer for Network {
    fn connect<'a>(&'a self, to: &'a Destination) -> Connecting<'a> {
        let port = self
            .0
            .lock()
            .unwrap()
            .get(&to.to_string())
            .map(|led| led.port);
        Box::pin(async move {
            let port = port.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionRefused))?;
            let stream = TcpStream::connect(("127.0.0.1", port)).await?;
            let stream = self.connected(&to.to_string(), stream)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

pub(crate) fn full(text: impl Into<Bytes>) -> Body {
    use http_body_util::BodyExt;
    http_body_util::Full::new(text.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A server, until it is dropped.
pub(crate) struct Server {
    pub(crate) port: u16,
    accepted: Arc<AtomicUsize>,
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    /// Answers each request by `answer`, over TLS if there is an acceptor.
    pub(crate) fn start<A, F>(tls: Option<TlsAcceptor>, answer: A) -> Server
    where
        A: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send,
    {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let accepted: Arc<AtomicUsize> = Arc::default();
        let count = accepted.clone();
        runtime.spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let (tls, answer) = (tls.clone(), answer.clone());
                tokio::spawn(async move {
                    let Some(acceptor) = tls else {
                        return serve(tcp, answer).await;
                    };
                    let Ok(tls) = acceptor.accept(tcp).await else {
                        return;
                    };
                    serve(tls, answer).await;
                });
            }
        });
        Server {
            port,
            accepted,
            _runtime: runtime,
        }
    }

    /// How many connections it has been opened.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

async fn serve<S, A, F>(stream: S, answer: A)
where
    S: Stream + 'static,
    A: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer.clone();
        async move { Ok::<_, Infallible>(answer(request).await) }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    let _ = builder
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .await;
}

/// A server's TLS, HTTP/2 preferred: its certificate, whose PEM comes along, is good for `names`;
/// clients may have one of `ca`'s.
pub(crate) fn tls(names: &[&str], ca: Option<&[u8]>) -> (TlsAcceptor, String) {
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let own = rcgen::generate_simple_self_signed(names).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = rustls::RootCertStore::empty();
            roots
                .add(CertificateDer::from_pem_slice(ca).unwrap())
                .unwrap();
            let roots = Arc::new(roots);
            let verifier =
                rustls::server::WebPkiClientVerifier::builder_with_provider(roots, provider)
                    .build()
                    .unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (TlsAcceptor::from(Arc::new(config)), own.cert.pem())
}
