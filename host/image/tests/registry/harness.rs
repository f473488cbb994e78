//! A real registry on loopback, images to push into it, and directories.

use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use image::{Config, Digest, Images};
use serde_json::{Value, json};

pub(crate) const CONVERTER: &str = env!("CARGO_BIN_EXE_convert-image");

/// False, and a loud line, if a program is missing.
pub(crate) fn have_tools() -> bool {
    ["docker-registry", "skopeo"].iter().all(|program| {
        let found = Path::new("/usr/bin").join(program).exists();
        if !found {
            eprintln!("SKIPPED: {program} isn't installed, this test did not run");
        }
        found
    })
}

/// Debian's docker-registry, killed when this is dropped.
pub(crate) struct Registry {
    child: Child,
    pub(crate) port: u16,
    pub(crate) dir: tempfile::TempDir,
}

impl Registry {
    pub(crate) fn start() -> Registry {
        Registry::with(|_| json!({}), Value::Null)
    }

    /// `http` gets the registry's directory and adds to that section.
    pub(crate) fn with(http: impl FnOnce(&Path) -> Value, auth: Value) -> Registry {
        let dir = tempfile::tempdir().unwrap();
        let probe = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = probe.local_addr().unwrap().port();
        drop(probe);
        let mut section = http(dir.path());
        section["addr"] = json!(format!("127.0.0.1:{port}"));
        let mut config = json!({
            "version": 0.1,
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": dir.path().join("data")}},
            "http": section,
        });
        if !auth.is_null() {
            config["auth"] = auth;
        }
        // JSON is YAML.
        let path = dir.path().join("config.yml");
        fs::write(&path, config.to_string()).unwrap();
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let registry = Registry { child, port, dir };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let log = fs::read_to_string(registry.dir.path().join("log"));
            assert!(
                Instant::now() < deadline,
                "registry does not listen: {log:?}"
            );
            std::thread::yield_now();
        }
        registry
    }

    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Copies an OCI layout to `name` with skopeo.
    pub(crate) fn push(&self, layout: &Path, name: &str, options: &[&str]) {
        let out = Command::new("skopeo")
            .args([
                "--insecure-policy",
                "copy",
                "--quiet",
                "--dest-tls-verify=false",
            ])
            .args(options)
            .arg(format!("oci:{}", layout.display()))
            .arg(format!("docker://{}/{name}", self.host()))
            .output()
            .unwrap();
        assert!(
            out.status.success(),
            "skopeo: {}",
            String::from_utf8_lossy(&out.stderr)
        );
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How the layers of a test image are packed.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

type Pack = fn(&[u8]) -> Vec<u8>;

/// An OCI layout with one image, or an index of several.
pub(crate) struct Layout {
    pub(crate) dir: tempfile::TempDir,
}

impl Layout {
    fn blob(&self, kind: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        let path = self.dir.path().join("blobs/sha256").join(digest.hex());
        fs::write(path, bytes).unwrap();
        json!({"mediaType": kind, "digest": digest.to_string(), "size": bytes.len()})
    }

    fn manifest(&self, layers: &[Vec<u8>], packing: Packing, arch: &str) -> Value {
        let ids: Vec<String> = layers.iter().map(|l| Digest::of(l).to_string()).collect();
        let config = json!({
            "architecture": arch, "os": "linux",
            "config": {
                "Entrypoint": ["/bin/app"], "Cmd": ["serve"], "Env": ["A=b"],
                "User": "65532:65532", "WorkingDir": "/srv", "StopSignal": "SIGQUIT",
                "ExposedPorts": {"80/tcp": {}}, "Labels": {"l": "v"},
            },
            "rootfs": {"type": "layers", "diff_ids": ids},
        });
        let config = self.blob(
            "application/vnd.oci.image.config.v1+json",
            config.to_string().as_bytes(),
        );
        let (suffix, pack): (&str, Pack) = match packing {
            Packing::Plain => ("", <[u8]>::to_vec),
            Packing::Gzip => ("+gzip", gzip),
            Packing::Zstd => ("+zstd", |b| zstd::stream::encode_all(b, 3).unwrap()),
        };
        let kind = format!("application/vnd.oci.image.layer.v1.tar{suffix}");
        let layers: Vec<Value> = layers.iter().map(|l| self.blob(&kind, &pack(l))).collect();
        let manifest = json!({
            "schemaVersion": 2, "config": config, "layers": layers,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
        });
        self.blob(
            "application/vnd.oci.image.manifest.v1+json",
            manifest.to_string().as_bytes(),
        )
    }

    fn empty() -> Layout {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("blobs/sha256")).unwrap();
        fs::write(
            dir.path().join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
        .unwrap();
        Layout { dir }
    }

    fn finish(&self, top: Value) {
        let index = json!({"schemaVersion": 2, "manifests": [top]});
        fs::write(self.dir.path().join("index.json"), index.to_string()).unwrap();
    }

    pub(crate) fn image(layers: &[Vec<u8>], packing: Packing) -> Layout {
        let layout = Layout::empty();
        let manifest = layout.manifest(layers, packing, "amd64");
        layout.finish(manifest);
        layout
    }

    /// amd64 has the layers, arm64 none.
    pub(crate) fn index(layers: &[Vec<u8>]) -> Layout {
        let layout = Layout::empty();
        let mut arm = layout.manifest(&layers[..0], Packing::Gzip, "arm64");
        arm["platform"] = json!({"os": "linux", "architecture": "arm64"});
        let mut amd = layout.manifest(layers, Packing::Gzip, "amd64");
        amd["platform"] = json!({"os": "linux", "architecture": "amd64"});
        let index = json!({
            "schemaVersion": 2, "manifests": [arm, amd],
            "mediaType": "application/vnd.oci.image.index.v1+json",
        });
        let kind = "application/vnd.oci.image.index.v1+json";
        let top = layout.blob(kind, index.to_string().as_bytes());
        layout.finish(top);
        layout
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A layer of plain files.
pub(crate) fn layer(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o755);
        header.set_mtime(1);
        tar.append_data(&mut header, path, *bytes).unwrap();
    }
    tar.into_inner().unwrap()
}

/// Bytes that don't compress; the same for the same seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(step)
        .flatten()
        .take(length)
        .collect()
}

/// Impatient, and without TLS for these hosts.
pub(crate) fn config(plain: &[&str]) -> Config {
    let mut config = Config::default();
    for host in plain {
        config
            .registries
            .entry((*host).to_owned())
            .or_default()
            .plain_http = true;
    }
    config.timeouts.backoff_millis = 5;
    config.timeouts.backoff_max_millis = 20;
    config.timeouts.stall_seconds = 1;
    config.timeouts.response_seconds = 5;
    config.timeouts.attempts = 3;
    config
}

pub(crate) async fn open(config: Config, dir: &Path) -> Images {
    Images::open(config, dir, PathBuf::from(CONVERTER))
        .await
        .unwrap()
}
