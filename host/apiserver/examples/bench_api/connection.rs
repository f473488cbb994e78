//! One connection of a client: HTTP/1.1 over TLS, kept open, a request at a
//! time. By hand, because what the client costs is taken from the cores that
//! the measured server shares with it.

use crate::Result;
use rustls_pki_types::ServerName;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const BUFFER: usize = 64 * 1024;

/// Where to, and with which credentials.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Arc<rustls::ClientConfig>,
}

pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    /// Received; what is before `at` has been used.
    buffer: Vec<u8>,
    at: usize,
    filled: usize,
    /// Of the last answer.
    pub(crate) body: Vec<u8>,
}

/// How long a body is.
enum Length {
    Known(usize),
    Chunked,
}

impl Connection {
    pub(crate) async fn open(target: &Target) -> Result<Connection> {
        let tcp = TcpStream::connect(target.address).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::from(target.address.ip());
        let connector = TlsConnector::from(target.tls.clone());
        Ok(Connection {
            stream: connector.connect(name, tcp).await?,
            buffer: vec![0; BUFFER],
            at: 0,
            filled: 0,
            body: Vec::new(),
        })
    }

    /// The status code; the body stands in `body`. `headers` are whole lines.
    pub(crate) async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> Result<u16> {
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {length}\r\n{headers}\r\n"
        );
        self.stream
            .write_all(&[head.as_bytes(), body].concat())
            .await?;
        self.stream.flush().await?;
        self.body.clear();
        let (code, length) = self.head().await?;
        match length {
            Length::Known(length) => self.take(length).await?,
            Length::Chunked => loop {
                let line = self.line().await?;
                let size = usize::from_str_radix(line.trim(), 16)?;
                self.take(size).await?;
                self.line().await?;
                if size == 0 {
                    break;
                }
            },
        }
        Ok(code)
    }

    /// Sends a request whose answer doesn't end, and reads its head.
    pub(crate) async fn watch(&mut self, path: &str) -> Result<()> {
        let head = format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n");
        self.stream.write_all(head.as_bytes()).await?;
        self.stream.flush().await?;
        match self.head().await? {
            (200, Length::Chunked) => Ok(()),
            (code, _) => Err(format!("watch: {code}").into()),
        }
    }

    /// How many lines of events have come, at least one.
    pub(crate) async fn events(&mut self) -> Result<usize> {
        loop {
            let pairs = self.buffer[self.at..self.filled].windows(2);
            let found = pairs.filter(|pair| *pair == b"}\n").count();
            // An end that is cut in two is found with what follows.
            let cut = self.filled > self.at && self.buffer[self.filled - 1] == b'}';
            self.at = self.filled - usize::from(cut);
            if found > 0 {
                return Ok(found);
            }
            self.fill().await?;
        }
    }

    async fn head(&mut self) -> Result<(u16, Length)> {
        let first = self.line().await?;
        let code = first.get(9..12).ok_or("no status line")?.parse()?;
        let mut length = Length::Known(0);
        loop {
            let line = self.line().await?.to_ascii_lowercase();
            match line.split_once(':') {
                Some(("content-length", value)) => length = Length::Known(value.trim().parse()?),
                Some(("transfer-encoding", _)) => length = Length::Chunked,
                Some(_) => {}
                None => return Ok((code, length)),
            }
        }
    }

    async fn line(&mut self) -> Result<String> {
        loop {
            let waiting = &self.buffer[self.at..self.filled];
            if let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8_lossy(&waiting[..end]).trim_end().into();
                self.at += end + 1;
                return Ok(line);
            }
            self.fill().await?;
        }
    }

    /// `size` bytes of the body.
    async fn take(&mut self, mut size: usize) -> Result<()> {
        loop {
            let there = size.min(self.filled - self.at);
            self.body
                .extend_from_slice(&self.buffer[self.at..self.at + there]);
            self.at += there;
            size -= there;
            if size == 0 {
                return Ok(());
            }
            self.fill().await?;
        }
    }

    /// More of what the server sends.
    async fn fill(&mut self) -> Result<()> {
        self.buffer.copy_within(self.at..self.filled, 0);
        self.filled -= self.at;
        self.at = 0;
        if self.filled == self.buffer.len() {
            return Err("a line longer than the buffer".into());
        }
        match self.stream.read(&mut self.buffer[self.filled..]).await? {
            0 => Err("the server closed the connection".into()),
            count => {
                self.filled += count;
                Ok(())
            }
        }
    }
}
