//! What `node` is told by the machine config.

use crate::kubelet::Kubelet;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Everything that differs from machine to machine.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// The Node's name: a DNS subdomain.
    pub node_name: String,
    /// Added to the Node's labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// How the API is reached, and as whom.
    pub kubeconfig: PathBuf,
    pub serving: Serving,
    /// The kubelet's own surface.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// Images, logs, checkpoints.
    pub data_dir: PathBuf,
    #[serde(default)]
    pub guest: Guest,
    #[serde(default)]
    pub images: image::Config,
    /// Run as `<converter> convert-image`.
    #[serde(default = "default_converter")]
    pub converter: PathBuf,
    #[serde(default)]
    pub reserve: Reserve,
    #[serde(default = "default_max_pods")]
    pub max_pods: u32,
    #[serde(default)]
    pub kubelet: Kubelet,
    /// Manifests, whole and checked.
    #[serde(default)]
    pub static_pods: Vec<serde_json::Value>,
}

/// PEM files of the kubelet's surface.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Serving {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Signs the clients' certificates.
    pub client_ca: PathBuf,
}

/// What every guest boots, and what a pod without limits gets.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Guest {
    pub kernel: PathBuf,
    pub initramfs: PathBuf,
    pub memory_mib: u32,
    pub vcpus: u8,
    /// Seconds until a guest whose agent is out of reach is given up.
    pub patience_seconds: u64,
    pub transport: machine_spec::Transport,
}

/// What the host keeps for itself.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Reserve {
    pub memory_mib: u64,
    pub cpu_milli: u64,
}

impl Default for Guest {
    fn default() -> Self {
        Self {
            kernel: "/usr/share/atoll/guest-kernel".into(),
            initramfs: "/usr/share/atoll/guest-initramfs".into(),
            memory_mib: 128,
            vcpus: 1,
            patience_seconds: 60,
            transport: machine_spec::Transport::Mmio,
        }
    }
}

impl Default for Reserve {
    fn default() -> Self {
        Self {
            memory_mib: 256,
            cpu_milli: 100,
        }
    }
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 10250))
}

fn default_converter() -> PathBuf {
    "/proc/self/exe".into()
}

const fn default_max_pods() -> u32 {
    110
}

#[cfg(test)]
mod tests {
    use super::Config;
    use serde_json::json;

    #[test]
    fn defaults_fill_what_is_absent_and_typos_are_refused() {
        let mut document = json!({
            "nodeName": "n1", "kubeconfig": "/k", "dataDir": "/d",
            "serving": {"certificate": "/c", "key": "/y", "clientCa": "/a"},
        });
        let config: Config = serde_json::from_value(document.clone()).expect("valid");
        assert_eq!(config.listen.port(), 10250);
        assert_eq!(config.guest.memory_mib, 128);
        document["reserve"] = json!({"memoryMb": 5});
        assert!(serde_json::from_value::<Config>(document).is_err());
    }
}
