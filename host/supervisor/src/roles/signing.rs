//! Keys that several servers share: upstream's options of the API server and of
//! the controller manager.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct SigningArguments {
    /// PEM of the key, RSA or ECDSA, that signs tokens of service accounts, in place of
    /// those below the data directory.
    #[arg(long, value_name = "FILE")]
    service_account_signing_key_file: Option<PathBuf>,
    /// More keys, private or public, or certificates, that verify them; may be repeated.
    #[arg(
        long,
        requires = "service_account_signing_key_file",
        value_name = "FILE"
    )]
    service_account_key_file: Vec<PathBuf>,
    /// Who issues them, in their words.
    #[arg(long, default_value_t = apiserver::issuer())]
    service_account_issuer: String,
    /// PEM of the CA of clients and of this server, in place of the one below the
    /// data directory.
    #[arg(long, requires = "cluster_signing_key_file", value_name = "FILE")]
    cluster_signing_cert_file: Option<PathBuf>,
    #[arg(long, requires = "cluster_signing_cert_file", value_name = "FILE")]
    cluster_signing_key_file: Option<PathBuf>,
}

fn read(path: &Path) -> io::Result<String> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    fs::read_to_string(path).map_err(named)
}

impl SigningArguments {
    /// `config` with what was given.
    pub(super) fn apply(self, config: apiserver::Config) -> io::Result<apiserver::Config> {
        let ca = match (
            &self.cluster_signing_cert_file,
            &self.cluster_signing_key_file,
        ) {
            (Some(certificate), Some(key)) => Some(apiserver::Ca {
                certificate: read(certificate)?,
                key: read(key)?,
            }),
            _ => config.ca,
        };
        Ok(apiserver::Config {
            ca,
            service_account_signing_key_file: self.service_account_signing_key_file,
            service_account_key_files: self.service_account_key_file,
            service_account_issuer: self.service_account_issuer,
            ..config
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_ca_that_cannot_be_read_is_named() {
        let given = SigningArguments {
            cluster_signing_cert_file: Some("/nowhere/ca.crt".into()),
            cluster_signing_key_file: Some("/nowhere/ca.key".into()),
            ..SigningArguments::default()
        };
        let config = serde_json::json!({"listen": [], "dataDir": "/nowhere"});
        let config: apiserver::Config = serde_json::from_value(config).unwrap();
        let refused = given.apply(config).unwrap_err().to_string();
        assert!(refused.contains("/nowhere/ca.crt"), "{refused}");
    }
}
