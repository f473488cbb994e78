//! Debian's etcd, on a port of its own and in a directory of its own.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use store::EtcdOptions;
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(60);

/// Who signed, and what both sides show.
struct Certificates {
    ca: String,
    certificate: String,
    key: String,
}

pub(crate) struct Etcd {
    name: String,
    /// All members: NAME=URL, separated by commas.
    cluster: String,
    dir: TempDir,
    tls: Option<Certificates>,
    ports: [u16; 3],
    child: Child,
}

/// Ports that nobody had a moment ago: for clients, for peers, for metrics.
fn ports() -> [u16; 3] {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|l| l.local_addr().unwrap().port())
}

/// One certificate that server and clients show.
fn certificates() -> Certificates {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(params, ca_key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    Certificates {
        ca: ca.pem(),
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    }
}

impl Etcd {
    pub(crate) fn start() -> Etcd {
        Etcd::start_with(None)
    }

    pub(crate) fn start_tls() -> Etcd {
        Etcd::start_with(Some(certificates()))
    }

    fn start_with(tls: Option<Certificates>) -> Etcd {
        let dir = tempfile::tempdir().unwrap();
        if let Some(tls) = &tls {
            for (name, text) in [
                ("ca", &tls.ca),
                ("crt", &tls.certificate),
                ("key", &tls.key),
            ] {
                std::fs::write(dir.path().join(name), text).unwrap();
            }
        }
        let ports = ports();
        let name = "test".to_owned();
        let cluster = format!("test=http://127.0.0.1:{}", ports[1]);
        let child = spawn(&name, &cluster, &dir, tls.is_some(), ports);
        let mut etcd = Etcd {
            name,
            cluster,
            dir,
            tls,
            ports,
            child,
        };
        etcd.wait();
        etcd
    }

    /// Members of one etcd.
    pub(crate) fn members(count: usize) -> Vec<Etcd> {
        let ports: Vec<[u16; 3]> = (0..count).map(|_| ports()).collect();
        let name = |i: usize| format!("m{i}");
        let urls = ports.iter().enumerate();
        let urls = urls.map(|(i, p)| format!("{}=http://127.0.0.1:{}", name(i), p[1]));
        let cluster = urls.collect::<Vec<_>>().join(",");
        let begin = |(i, ports)| {
            let dir = tempfile::tempdir().unwrap();
            let child = spawn(&name(i), &cluster, &dir, false, ports);
            Etcd {
                name: name(i),
                cluster: cluster.clone(),
                dir,
                tls: None,
                ports,
                child,
            }
        };
        let mut all: Vec<Etcd> = ports.into_iter().enumerate().map(begin).collect();
        all.iter_mut().for_each(Etcd::wait);
        all
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.ports[0])
    }

    pub(crate) fn options(&self) -> EtcdOptions {
        EtcdOptions {
            servers: vec![self.url()],
            ca: self.tls.as_ref().map(|tls| tls.ca.clone().into_bytes()),
            identity: self.tls.as_ref().map(|tls| {
                let (certificate, key) = (tls.certificate.clone(), tls.key.clone());
                (certificate.into_bytes(), key.into_bytes())
            }),
            prefix: None,
        }
    }

    /// As a power cut would, if the page cache survived it.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn start_again(&mut self) {
        let tls = self.tls.is_some();
        self.child = spawn(&self.name, &self.cluster, &self.dir, tls, self.ports);
        self.wait();
    }

    /// What it will be when it is started again is another etcd.
    pub(crate) fn forget(&self) {
        std::fs::remove_dir_all(self.dir.path().join("data")).unwrap();
    }

    fn wait(&mut self) {
        let start = Instant::now();
        while !self.healthy() {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "etcd has ended: {}", self.log());
            assert!(
                start.elapsed() < DEADLINE,
                "etcd is not ready: {}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn healthy(&self) -> bool {
        let ask = || {
            let mut stream = TcpStream::connect(("127.0.0.1", self.ports[2]))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            std::io::Result::Ok(text)
        };
        ask().is_ok_and(|text| text.contains("\"health\":\"true\""))
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

fn spawn(
    name: &str,
    cluster: &str,
    dir: &TempDir,
    tls: bool,
    [client, peer, metrics]: [u16; 3],
) -> Child {
    let scheme = if tls { "https" } else { "http" };
    let of_clients = format!("{scheme}://127.0.0.1:{client}");
    let url = |port| format!("http://127.0.0.1:{port}");
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(dir.path().join("log"))
        .unwrap();
    let mut command = Command::new("etcd");
    command
        .args(["--name", name, "--logger", "zap", "--log-outputs", "stderr"])
        .args(["--heartbeat-interval", "50", "--election-timeout", "500"])
        .args(["--listen-client-urls", &of_clients])
        .args(["--advertise-client-urls", &of_clients])
        .args(["--listen-metrics-urls", &url(metrics)])
        .args(["--listen-peer-urls", &url(peer)])
        .args(["--initial-advertise-peer-urls", &url(peer)])
        .args(["--initial-cluster", cluster])
        .arg("--data-dir")
        .arg(dir.path().join("data"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    if tls {
        let path = |name| dir.path().join(name);
        command
            .arg("--client-cert-auth")
            .arg("--trusted-ca-file")
            .arg(path("ca"));
        command
            .arg("--cert-file")
            .arg(path("crt"))
            .arg("--key-file")
            .arg(path("key"));
    }
    command.spawn().unwrap_or_else(|error| {
        panic!("etcd: {error}; install the package etcd-server (`make setup` does)")
    })
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
