//! A registry that misbehaves: stands before the real one and spoils answers.
//!
//! One request for each connection; the real registry's answer is read whole,
//! spoilt as `Fault` says, and sent. Only layers are spoilt where it matters:
//! answers to GET of a blob that are larger than `LAYER`.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Who may pull from a private registry: name and password.
pub const LOGIN: (&str, &str) = ("lab", "open sesame");
/// Manifests and configurations are smaller.
const LAYER: usize = 16 << 10;
/// What a breaking registry sends at least before it breaks off.
const PIECE: usize = 256 << 10;
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Connections are closed at once.
    Down,
    /// Every answer waits so long.
    Slow(Duration),
    /// Status 200 and nonsense.
    Garbage,
    /// A byte in the middle of a layer is another.
    WrongDigest,
    /// A layer's connection ends in its middle, for good.
    Truncated,
    /// `LOGIN` is asked for (RFC 7617).
    Private,
    /// Half of what is left of a layer, at least `PIECE`, then the connection
    /// ends: progress is made by who asks for the rest.
    Broken,
}

pub struct Faulty {
    port: u16,
    fault: Arc<Mutex<Fault>>,
}

impl Faulty {
    /// In front of the registry on `upstream`.
    pub fn start(upstream: u16) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let fault = Arc::new(Mutex::new(Fault::None));
        let shared = Arc::clone(&fault);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let fault = *shared.lock().unwrap_or_else(PoisonError::into_inner);
                thread::spawn(move || {
                    // Clients hang up as they like.
                    let _ = serve(stream, upstream, fault);
                });
            }
        });
        Ok(Self { port, fault })
    }

    pub fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// `host:port` as the appliance sees it.
    #[must_use]
    pub fn host(&self) -> String {
        format!("10.0.2.2:{}", self.port)
    }
}

fn serve(mut client: TcpStream, upstream: u16, fault: Fault) -> Result<()> {
    if fault == Fault::Down {
        return Ok(());
    }
    client.set_read_timeout(Some(PATIENCE))?;
    let request = head(&mut client)?;
    if let Fault::Slow(time) = fault {
        thread::sleep(time);
    }
    if fault == Fault::Private && !knows_login(&request) {
        client.write_all(
            b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"lab\"\r\n\
              Content-Length: 0\r\nConnection: close\r\n\r\n",
        )?;
        return Ok(());
    }
    if fault == Fault::Garbage {
        client.write_all(
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\n\xff{nonsense",
        )?;
        return Ok(());
    }
    let mut server = TcpStream::connect(("127.0.0.1", upstream))?;
    server.set_read_timeout(Some(PATIENCE))?;
    let kept = request
        .split("\r\n")
        .filter(|line| !line.is_empty() && !line.to_ascii_lowercase().starts_with("connection:"))
        .collect::<Vec<_>>()
        .join("\r\n");
    server.write_all(format!("{kept}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    let start = find(&answer, b"\r\n\r\n").context("an answer without end of head")? + 4;
    let layer = request.starts_with("GET ")
        && request.contains("/blobs/")
        && (answer.len() - start > LAYER || request.to_ascii_lowercase().contains("\r\nrange:"));
    if layer {
        let middle = start + (answer.len() - start) / 2;
        match fault {
            Fault::WrongDigest => answer[middle] ^= 1,
            Fault::Broken => answer.truncate((middle + 1).max(start + PIECE)),
            Fault::Truncated => answer.truncate(start + 1000.min(answer.len() - start)),
            Fault::None | Fault::Down | Fault::Slow(_) | Fault::Garbage | Fault::Private => {}
        }
    }
    Ok(client.write_all(&answer)?)
}

fn knows_login(request: &str) -> bool {
    let (user, password) = LOGIN;
    let wanted = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    request.split("\r\n").any(|line| {
        let field = line.split_once(": ");
        field.is_some_and(|(name, value)| {
            name.eq_ignore_ascii_case("authorization") && value == wanted
        })
    })
}

/// A request's head; requests of a pull have no body.
fn head(client: &mut TcpStream) -> Result<String> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    while find(&bytes, b"\r\n\r\n").is_none() {
        let count = client.read(&mut buffer)?;
        if count == 0 {
            return Err(std::io::Error::from(ErrorKind::UnexpectedEof).into());
        }
        bytes.extend(&buffer[..count]);
    }
    Ok(String::from_utf8(bytes)?)
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
