//! The part of the machine config that says where images come from and how
//! large they may get. [`Config::check`] names the field that is wrong.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};

use crate::credentials::Credentials;
use crate::registry::proxy::ProxyUrl;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Everything has a default: an empty document pulls from public registries.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// By host and port as they stand in references (`docker.io`,
    /// `registry.internal:5000`).
    pub registries: BTreeMap<String, Registry>,
    /// PEM certificates trusted for every registry, besides `caBundle`.
    pub ca_roots: Vec<String>,
    /// A PEM file with the public roots.
    pub ca_bundle: CaBundle,
    pub proxy: Proxy,
    pub limits: Limits,
    pub timeouts: Timeouts,
}

/// How one registry host is reached.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Registry {
    /// HTTP without TLS.
    pub plain_http: bool,
    /// PEM certificates trusted for this host only.
    pub ca_roots: Vec<String>,
    /// Tried in order before the host itself: `host[:port]`, or
    /// `http://host[:port]` for one without TLS.
    pub mirrors: Vec<String>,
    /// Used where the pod brings none.
    pub credentials: Option<Credentials>,
}

/// Where the public roots are read from; absent is no error.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CaBundle(pub PathBuf);

impl Default for CaBundle {
    fn default() -> Self {
        CaBundle(PathBuf::from("/etc/ssl/certs/ca-certificates.crt"))
    }
}

/// As the environment variables of these names mean it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Proxy {
    /// For requests without TLS: `http://[user:password@]host:port`.
    pub http: Option<String>,
    /// For requests with TLS, by `CONNECT`.
    pub https: Option<String>,
    /// Hosts, `.suffixes`, addresses, networks (CIDR), or `*`.
    pub no_proxy: Vec<String>,
}

/// What an image may cost; an error names the limit by its field.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Limits {
    pub max_manifest_bytes: u64,
    pub max_config_bytes: u64,
    pub max_layers: usize,
    /// One layer as it is downloaded.
    pub max_layer_bytes: u64,
    /// All layers of an image as they are downloaded.
    pub max_download_bytes: u64,
    /// All layers unpacked, hidden files included.
    pub max_unpacked_bytes: u64,
    /// The size that one file claims to have, holes included.
    pub max_file_bytes: u64,
    /// The EROFS file.
    pub max_image_bytes: u64,
    /// Files, directories and links of one layer stack.
    pub max_inodes: u32,
    /// Address space of the converter.
    pub converter_memory_bytes: u64,
    pub converter_cpu_seconds: u64,
    /// Who the converter runs as.
    pub converter_uid: u32,
    /// Blobs on the wire at once, over all pulls.
    pub parallel_downloads: usize,
    /// Layer stacks converted at once.
    pub parallel_conversions: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_manifest_bytes: 4 * MIB,
            max_config_bytes: 4 * MIB,
            max_layers: 200,
            max_layer_bytes: 32 * GIB,
            max_download_bytes: 64 * GIB,
            max_unpacked_bytes: 128 * GIB,
            max_file_bytes: 1024 * GIB,
            max_image_bytes: 128 * GIB,
            max_inodes: 3_000_000,
            converter_memory_bytes: 2 * GIB,
            converter_cpu_seconds: 1800,
            converter_uid: 64_500,
            parallel_downloads: 3,
            parallel_conversions: 2,
        }
    }
}

/// Patience, in seconds (back-off in milliseconds).
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Timeouts {
    /// Name, TCP, proxy and TLS together.
    pub connect_seconds: u64,
    /// From the request to the header of its answer.
    pub response_seconds: u64,
    /// Between two pieces of a body.
    pub stall_seconds: u64,
    /// Tries of one blob or manifest before the pull fails; progress made
    /// by a try is kept, and a blob that made some starts counting anew.
    pub attempts: u32,
    /// Before the second try; doubles up to `backoffMaxMillis`.
    pub backoff_millis: u64,
    pub backoff_max_millis: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            connect_seconds: 15,
            response_seconds: 30,
            stall_seconds: 30,
            attempts: 5,
            backoff_millis: 250,
            backoff_max_millis: 8_000,
        }
    }
}

/// What is wrong with a config, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct ConfigError {
    pub field: String,
    pub problem: String,
}

impl Config {
    /// Checks what the types can't: PEM, proxy addresses, mirrors, limits.
    pub fn check(&self) -> Result<(), ConfigError> {
        let error = |field: String, problem: String| Err(ConfigError { field, problem });
        if let Err(problem) = certificates(&self.ca_roots) {
            return error("caRoots".into(), problem);
        }
        for (field, url) in [
            ("proxy.http", &self.proxy.http),
            ("proxy.https", &self.proxy.https),
        ] {
            if let Some(Err(problem)) = url.as_deref().map(str::parse::<ProxyUrl>) {
                return error(field.into(), problem.to_string());
            }
        }
        for (host, registry) in &self.registries {
            if let Err(problem) = certificates(&registry.ca_roots) {
                return error(format!("registries[{host}].caRoots"), problem);
            }
            for (i, mirror) in registry.mirrors.iter().enumerate() {
                if mirror_parts(mirror).is_none() {
                    let field = format!("registries[{host}].mirrors[{i}]");
                    return error(field, "must be [http://|https://]host[:port]".into());
                }
            }
        }
        let l = &self.limits;
        for (field, value, most) in [
            ("limits.maxLayers", l.max_layers, 1000),
            ("limits.parallelDownloads", l.parallel_downloads, 64),
            ("limits.parallelConversions", l.parallel_conversions, 64),
        ] {
            if value == 0 || value > most {
                return error(field.into(), format!("must be between 1 and {most}"));
            }
        }
        if l.converter_uid == 0 {
            return error("limits.converterUid".into(), "must not be root".into());
        }
        Ok(())
    }
}

/// Whether a mirror is reached without TLS, and its host.
pub(crate) fn mirror_parts(mirror: &str) -> Option<(bool, &str)> {
    let (plain, host) = match mirror.split_once("://") {
        Some(("http", host)) => (true, host),
        Some(("https", host)) => (false, host),
        Some(_) => return None,
        None => (false, mirror),
    };
    let host = host.strip_suffix('/').unwrap_or(host);
    let good = !host.is_empty() && !host.contains(['/', '@', ' ', '?']);
    good.then_some((plain, host))
}

/// All certificates of some PEM texts; each must hold at least one.
pub(crate) fn certificates(pems: &[String]) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut all = Vec::new();
    for (i, pem) in pems.iter().enumerate() {
        let before = all.len();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            all.push(certificate.map_err(|e| format!("certificate {i}: {e}"))?);
        }
        if all.len() == before {
            return Err(format!("certificate {i}: no PEM certificate in it"));
        }
    }
    Ok(all)
}
