//! A reverse proxy before the registry that misbehaves as told. One request
//! for each connection.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What happens to one request.
pub(crate) enum Act {
    Pass,
    /// The connection ends after so many bytes of the body.
    Cut(usize),
    /// The body is replaced, its length told rightly.
    Replace(Vec<u8>),
    /// One byte of the body is another.
    Flip(usize),
    /// All of it, as a registry answers that knows no ranges.
    IgnoreRange,
    /// Nothing more comes after so many bytes of the body.
    Stall(usize),
    /// The whole answer.
    Answer(String),
}

/// A request as the proxy sees it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    /// Lower-case names.
    pub(crate) headers: Vec<(String, String)>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn is_blob(&self) -> bool {
        self.target.contains("/blobs/")
    }
}

/// Decides by the request and how many came before it.
type Policy = dyn Fn(&Seen, usize) -> Act + Send + Sync;

pub(crate) struct Proxy {
    pub(crate) port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn start(
        upstream: u16,
        policy: impl Fn(&Seen, usize) -> Act + Send + Sync + 'static,
    ) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (log, policy): (_, Arc<Policy>) = (seen.clone(), Arc::new(policy));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, upstream, log.clone(), policy.clone()));
            }
        });
        Proxy { port, seen, task }
    }

    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut client: TcpStream,
    upstream: u16,
    log: Arc<Mutex<Vec<Seen>>>,
    policy: Arc<Policy>,
) -> Option<()> {
    let head = read_head(&mut client).await?;
    let request = parse(&head)?;
    let number = {
        let mut log = log.lock().unwrap();
        log.push(request.clone());
        log.len() - 1
    };
    let act = policy(&request, number);
    if let Act::Answer(answer) = act {
        client.write_all(answer.as_bytes()).await.ok()?;
        return client.shutdown().await.ok();
    }
    let mut asked = request.clone();
    if matches!(act, Act::IgnoreRange) {
        asked.headers.retain(|(name, _)| name != "range");
    }
    let (head, mut body) = forward(&asked, upstream).await?;
    if let Act::Flip(at) = act {
        body[at] ^= 1;
    }
    match act {
        Act::Pass | Act::Answer(_) | Act::Flip(_) | Act::IgnoreRange => {
            client.write_all(&head).await.ok()?;
            client.write_all(&body).await.ok()?;
        }
        Act::Cut(n) => {
            client.write_all(&head).await.ok()?;
            client.write_all(&body[..n.min(body.len())]).await.ok()?;
        }
        Act::Replace(bytes) => {
            let text = String::from_utf8_lossy(&head);
            let kept: Vec<&str> = text
                .trim_end()
                .lines()
                .filter(|l| !l.to_lowercase().starts_with("content-length"))
                .collect();
            let head = format!(
                "{}\r\nContent-Length: {}\r\n\r\n",
                kept.join("\r\n"),
                bytes.len()
            );
            client.write_all(head.as_bytes()).await.ok()?;
            client.write_all(&bytes).await.ok()?;
        }
        Act::Stall(n) => {
            client.write_all(&head).await.ok()?;
            client.write_all(&body[..n.min(body.len())]).await.ok()?;
            // Until the client gives up.
            let mut rest = [0; 1];
            let _ = client.read(&mut rest).await;
        }
    }
    client.shutdown().await.ok()
}

async fn read_head(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(head)
}

fn parse(head: &[u8]) -> Option<Seen> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.lines();
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers = lines
        .filter_map(|l| l.split_once(": "))
        .map(|(n, v)| (n.to_lowercase(), v.to_owned()))
        .collect();
    Some(Seen {
        method,
        target,
        headers,
    })
}

/// Asks the registry; gives the head and the body of its answer.
async fn forward(request: &Seen, upstream: u16) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut server = TcpStream::connect(("127.0.0.1", upstream)).await.ok()?;
    // Absolute form, if this is used as a forward proxy.
    let path = match request.target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/", |i| &rest[i..]),
        None => &request.target,
    };
    let mut text = format!(
        "{} {path} HTTP/1.1\r\nConnection: close\r\n",
        request.method
    );
    for (name, value) in &request.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    server.write_all(text.as_bytes()).await.ok()?;
    let mut all = Vec::new();
    server.read_to_end(&mut all).await.ok()?;
    let end = all.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let body = all.split_off(end);
    Some((all, body))
}
