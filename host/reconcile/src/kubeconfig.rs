//! A kubeconfig file: which server, whom to trust, who one is.
//!
//! Takes the current context. Refuses what a client here can't do, by name:
//! exec plugins, auth providers, passwords, impersonation, proxies and
//! unverified TLS.

use base64::Engine;
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};

/// All of it is read: nothing in here is a path.
#[derive(Clone)]
pub struct Kubeconfig {
    /// `https://HOST:PORT`, perhaps with a path.
    pub server: String,
    /// PEM; `None` when the file names no CA.
    pub ca: Option<Vec<u8>>,
    /// PEM: certificate chain and key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    pub token: Option<String>,
    /// Checked instead of the server's host name.
    pub server_name: Option<String>,
    pub namespace: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    #[error("read {path}: {source}")]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("kubeconfig: {0}")]
    Yaml(#[from] serde_yaml::Error),
    #[error("kubeconfig: {list} has no {name:?}")]
    Missing { list: &'static str, name: String },
    #[error("kubeconfig: {field} is no base64")]
    Base64 { field: &'static str },
    #[error("kubeconfig: {field} is not supported")]
    Unsupported { field: &'static str },
    #[error("kubeconfig: {first} needs {second}")]
    Half {
        first: &'static str,
        second: &'static str,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    current_context: String,
    #[serde(default)]
    clusters: Vec<Named<Cluster>>,
    #[serde(default)]
    users: Vec<Named<User>>,
    #[serde(default)]
    contexts: Vec<Named<Context>>,
}

#[derive(Deserialize)]
struct Named<T> {
    name: String,
    #[serde(alias = "cluster", alias = "user", alias = "context")]
    value: T,
}

#[derive(Deserialize)]
struct Context {
    cluster: String,
    #[serde(default)]
    user: String,
    namespace: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    tls_server_name: Option<String>,
    #[serde(default)]
    insecure_skip_tls_verify: bool,
    proxy_url: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
struct User {
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    exec: Option<serde_yaml::Value>,
    auth_provider: Option<serde_yaml::Value>,
    username: Option<String>,
    #[serde(rename = "as")]
    impersonate: Option<String>,
}

impl Kubeconfig {
    pub fn load(path: &Path) -> Result<Kubeconfig, KubeconfigError> {
        let text = String::from_utf8_lossy(&read(path)?).into_owned();
        Kubeconfig::parse(&text, path.parent().unwrap_or(Path::new(".")))
    }

    /// Relative paths are relative to `dir`.
    pub fn parse(text: &str, dir: &Path) -> Result<Kubeconfig, KubeconfigError> {
        let file: File = serde_yaml::from_str(text)?;
        let context = find("contexts", file.contexts, &file.current_context)?;
        let cluster = find("clusters", file.clusters, &context.cluster)?;
        let user = match context.user.is_empty() {
            true => User::default(),
            false => find("users", file.users, &context.user)?,
        };
        refuse(&cluster, &user)?;
        let ca = data(
            "certificate-authority-data",
            cluster.certificate_authority_data,
            cluster.certificate_authority,
            dir,
        )?;
        let certificate = data(
            "client-certificate-data",
            user.client_certificate_data,
            user.client_certificate,
            dir,
        )?;
        let key = data(
            "client-key-data",
            user.client_key_data,
            user.client_key,
            dir,
        )?;
        let (first, second) = ("client-certificate", "client-key");
        let identity = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => return Err(KubeconfigError::Half { first, second }),
            (None, Some(_)) => {
                return Err(KubeconfigError::Half {
                    first: second,
                    second: first,
                });
            }
        };
        let token = match (user.token, user.token_file) {
            (Some(token), _) => Some(token),
            (None, Some(path)) => {
                let text = read(&dir.join(path))?;
                Some(String::from_utf8_lossy(&text).trim().to_owned())
            }
            (None, None) => None,
        };
        Ok(Kubeconfig {
            server: cluster.server,
            ca,
            identity,
            token,
            server_name: cluster.tls_server_name,
            namespace: context.namespace,
        })
    }
}

fn refuse(cluster: &Cluster, user: &User) -> Result<(), KubeconfigError> {
    let refused = [
        (cluster.insecure_skip_tls_verify, "insecure-skip-tls-verify"),
        (cluster.proxy_url.is_some(), "proxy-url"),
        (user.exec.is_some(), "exec"),
        (user.auth_provider.is_some(), "auth-provider"),
        (user.username.is_some(), "username"),
        (user.impersonate.is_some(), "as"),
    ];
    match refused.iter().find(|(present, _)| *present) {
        Some((_, field)) => Err(KubeconfigError::Unsupported { field }),
        None => Ok(()),
    }
}

fn find<T>(list: &'static str, all: Vec<Named<T>>, name: &str) -> Result<T, KubeconfigError> {
    let found = all.into_iter().find(|named| named.name == name);
    let missing = || KubeconfigError::Missing {
        list,
        name: name.to_owned(),
    };
    found.map(|named| named.value).ok_or_else(missing)
}

/// Inline data wins over a path, as in client-go.
fn data(
    field: &'static str,
    inline: Option<String>,
    path: Option<PathBuf>,
    dir: &Path,
) -> Result<Option<Vec<u8>>, KubeconfigError> {
    if let Some(inline) = inline {
        let packed: String = inline.split_whitespace().collect();
        let decoded = base64::engine::general_purpose::STANDARD.decode(packed);
        return decoded
            .map(Some)
            .map_err(|_| KubeconfigError::Base64 { field });
    }
    path.map(|path| read(&dir.join(path))).transpose()
}

fn read(path: &Path) -> Result<Vec<u8>, KubeconfigError> {
    fs::read(path).map_err(|source| KubeconfigError::Read {
        path: path.to_owned(),
        source,
    })
}
