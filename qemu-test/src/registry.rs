//! A real registry (docker-registry) beside the appliance, plain HTTP on loopback.
//!
//! The guest side reaches it as 10.0.2.2, QEMU's name for this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use image_build::command::{self, command};

use crate::oci::Layout;
use crate::process::{Bond, Process, free_port};
use crate::wait::{self, Seen};

const PATIENCE: Duration = Duration::from_secs(30);
const REFUSED_SHOWN: usize = 20;

pub struct Registry {
    process: Process,
    directory: PathBuf,
    port: u16,
}

impl Registry {
    /// Starts one that keeps its blobs in `directory`.
    pub fn start(directory: &Path, bond: Bond) -> Result<Self> {
        let port = free_port()?;
        fs::create_dir_all(directory)?;
        let config = serde_json::json!({
            "version": "0.1",
            "log": { "level": "info" },
            "storage": {
                "filesystem": { "rootdirectory": directory.join("blobs") },
                "delete": { "enabled": true },
            },
            "http": { "addr": format!("127.0.0.1:{port}") },
        });
        let place = directory.join("config.yml");
        fs::write(&place, serde_yaml::to_string(&config)?)?;
        let process = Process::start(
            "docker-registry",
            ["serve".as_ref(), place.as_os_str()],
            directory,
            &directory.join("registry.log"),
            bond,
        )?;
        wait::until("registry", PATIENCE, || {
            Ok(match std::net::TcpStream::connect(("127.0.0.1", port)) {
                Ok(_) => Seen::Done(()),
                Err(error) => Seen::NotYet(error.to_string()),
            })
        })?;
        Ok(Self {
            process,
            directory: directory.to_owned(),
            port,
        })
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// `host:port` as the appliance in QEMU's user network sees it.
    #[must_use]
    pub fn host(&self) -> String {
        format!("10.0.2.2:{}", self.port)
    }

    /// Pushes by skopeo, which skips blobs that are there.
    pub fn push(&self, image: &Layout, name: &str) -> Result<()> {
        let source = format!("oci:{}:{}", image.directory().display(), Layout::TAG);
        let target = format!("docker://127.0.0.1:{}/{name}", self.port);
        let fixed = [
            "--insecure-policy",
            "copy",
            "--quiet",
            "--dest-tls-verify=false",
        ];
        command::output(command("skopeo", fixed).args([source, target])).map(drop)
    }

    /// The last requests that it did not answer with success, without what
    /// each of its lines repeats; the whole log is in `registry.log`.
    #[must_use]
    pub fn refused(&self) -> String {
        let log = fs::read_to_string(self.directory.join("registry.log")).unwrap_or_default();
        // Its access log is the common log format.
        let failed = |line: &&str| {
            let status = line.split_once(" HTTP/1.1\" ").map(|(_, rest)| rest);
            status.is_some_and(|status| !status.starts_with(['2', '3']))
        };
        let lines: Vec<&str> = log.lines().filter(failed).collect();
        let last = lines.len().saturating_sub(REFUSED_SHOWN);
        lines[last..].join("\n")
    }

    /// Ends it; what was pushed stays.
    pub fn stop(&mut self) -> Result<()> {
        self.process.kill()
    }
}
