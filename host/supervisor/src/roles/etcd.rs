//! Where an etcd is that holds the store: upstream's options.

use std::path::PathBuf;

#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct EtcdArguments {
    /// The store is in this etcd (3.4 or later): http://HOST:PORT or
    /// https://HOST:PORT of each member, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "URL")]
    etcd_servers: Vec<String>,
    /// Who has signed the members' certificates.
    #[arg(long, requires = "etcd_servers", value_name = "FILE")]
    etcd_cafile: Option<PathBuf>,
    /// The certificate to show to etcd.
    #[arg(long, requires = "etcd_keyfile", value_name = "FILE")]
    etcd_certfile: Option<PathBuf>,
    #[arg(long, requires = "etcd_certfile", value_name = "FILE")]
    etcd_keyfile: Option<PathBuf>,
    /// What every key there begins with [default: /atoll].
    #[arg(long, requires = "etcd_servers")]
    etcd_prefix: Option<String>,
}

impl EtcdArguments {
    pub(super) fn given(self) -> Option<apiserver::Etcd> {
        (!self.etcd_servers.is_empty()).then_some(apiserver::Etcd {
            servers: self.etcd_servers,
            ca_file: self.etcd_cafile,
            cert_file: self.etcd_certfile,
            key_file: self.etcd_keyfile,
            prefix: self.etcd_prefix,
        })
    }
}
