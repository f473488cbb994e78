//! What the API server is told: a part of `control`'s configuration.

use crate::audit::AuditConfig;
use crate::authn::oidc::OidcConfig;
use serde::Deserialize;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use store::{EtcdOptions, StoreError};

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// Store and keys live here.
    pub data_dir: PathBuf,
    /// Made at first start under `data_dir/pki` if absent.
    #[serde(default)]
    pub ca: Option<Ca>,
    /// Names and addresses in the server's certificate, beside the addresses
    /// of `listen`, `localhost` and the `kubernetes` Service's names.
    #[serde(default)]
    pub server_names: Vec<String>,
    /// Bearer tokens that are valid as long as the server runs.
    #[serde(default)]
    pub tokens: Vec<Token>,
    /// Who issues service account tokens, in their words.
    #[serde(default = "issuer")]
    pub service_account_issuer: String,
    /// PEM of the P-256 key that signs their tokens, in place of those below
    /// `data_dir`: for servers that share an etcd.
    #[serde(default)]
    pub service_account_signing_key_file: Option<PathBuf>,
    /// More keys, private or public, that verify them.
    #[serde(default)]
    pub service_account_key_files: Vec<PathBuf>,
    /// Nodes for which credentials are kept under `data_dir/pki/nodes`.
    #[serde(default)]
    pub node_names: Vec<String>,
    /// Where to write a kubeconfig for the administrator.
    #[serde(default)]
    pub kubeconfig_out: Option<PathBuf>,
    /// `https://HOST:PORT` for kubeconfigs; by default the first listener.
    #[serde(default)]
    pub advertise: Option<String>,
    /// Where Services get their addresses: one range, or one of each family.
    /// Taken at the first start; later, ServiceCIDR objects add ranges.
    #[serde(default = "default_service_cidrs")]
    pub service_cidrs: Vec<String>,
    /// Where the store is, if not below `data_dir`.
    #[serde(default)]
    pub etcd: Option<Etcd>,
    /// Seats that requests share, beside `max_mutating_inflight` ones; upstream
    /// adds both up.
    #[serde(default = "reading")]
    pub max_inflight: u32,
    #[serde(default = "writing")]
    pub max_mutating_inflight: u32,
    /// Which front proxies may name users, if any.
    #[serde(default)]
    pub request_header: Option<RequestHeader>,
    /// What of requests is recorded, if anything.
    #[serde(default)]
    pub audit: Option<AuditConfig>,
    /// Whose ID tokens count as bearer tokens, if anybody's.
    #[serde(default)]
    pub oidc: Option<OidcConfig>,
    /// How long it serves on, not ready any more, once it is told to end.
    #[serde(default)]
    pub shutdown_delay_seconds: u32,
    /// A file that names more of them: an AuthenticationConfiguration.
    #[serde(default)]
    pub authentication_config: Option<PathBuf>,
}

/// Servers that name the user of a request in its headers: upstream's options.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestHeader {
    /// PEM of whoever certifies them.
    pub client_ca_file: PathBuf,
    /// Common names that their certificates may have; empty: any.
    #[serde(default)]
    pub allowed_names: Vec<String>,
    /// The first of these headers with a value has the user's name.
    #[serde(default)]
    pub username_headers: Vec<String>,
    /// The same for the UID.
    #[serde(default)]
    pub uid_headers: Vec<String>,
    /// All values of these are groups.
    #[serde(default)]
    pub group_headers: Vec<String>,
    /// What follows one of these in a header's name is a key of `extra`.
    #[serde(default)]
    pub extra_headers_prefix: Vec<String>,
}

/// An etcd that holds the store, and how to talk to it: upstream's options.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Etcd {
    /// `http://HOST:PORT` or `https://HOST:PORT`, one for each member.
    pub servers: Vec<String>,
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    #[serde(default)]
    pub cert_file: Option<PathBuf>,
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    #[serde(default)]
    pub prefix: Option<String>,
}

impl Etcd {
    /// With what the files hold.
    pub fn options(&self) -> Result<EtcdOptions, StoreError> {
        let read = |path: &PathBuf| {
            fs::read(path).map_err(|source| StoreError::Io {
                operation: "read",
                path: path.display().to_string(),
                source,
            })
        };
        let identity = match (&self.cert_file, &self.key_file) {
            (Some(certificate), Some(key)) => Some((read(certificate)?, read(key)?)),
            _ => None,
        };
        Ok(EtcdOptions {
            servers: self.servers.clone(),
            ca: self.ca_file.as_ref().map(read).transpose()?,
            identity,
            prefix: self.prefix.clone(),
        })
    }
}

/// What Services' addresses come from where nobody says otherwise.
pub fn default_service_cidrs() -> Vec<String> {
    vec!["10.96.0.0/12".to_owned()]
}

/// Upstream's `--max-requests-inflight`.
pub fn reading() -> u32 {
    400
}

/// Upstream's `--max-mutating-requests-inflight`.
pub fn writing() -> u32 {
    200
}

/// Upstream's usual one.
pub fn issuer() -> String {
    "https://kubernetes.default.svc.cluster.local".to_owned()
}

/// A certificate authority in PEM.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ca {
    pub certificate: String,
    pub key: String,
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ca { key: (hidden) }")
    }
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Token {
    pub token: String,
    pub user: String,
    #[serde(default)]
    pub groups: Vec<String>,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token {{ user: {:?} }}", self.user)
    }
}
