//! The machine config: one YAML document, checked whole before anything uses it.
//!
//! Only the child process (`config-check`) parses it. Unknown fields are
//! refused; errors begin with the field's path and, where YAML knows it, end
//! with line and column.

mod checked;
pub(crate) mod child;
mod derive;
mod static_pods;
#[cfg(test)]
mod tests;

pub(crate) use derive::NODE_CREDENTIALS;

use checked::{DeviceName, DiskText, LabelKey, LabelValue, NodeName, Pem};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// The longest document.
pub(crate) const LENGTH_MAX: u64 = 1 << 20;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct MachineConfig {
    api_version: ApiVersion,
    kind: Kind,
    #[serde(default)]
    node: Node,
    #[serde(default)]
    api: Api,
    #[serde(default)]
    storage: Storage,
    #[serde(default)]
    network: fabric::Config,
    #[serde(default)]
    images: image::Config,
    #[serde(default)]
    log: Log,
    #[serde(default)]
    watchdog: Watchdog,
}

#[derive(Clone, Copy, Debug, Deserialize)]
enum ApiVersion {
    #[serde(rename = "atoll.internal/v1alpha1")]
    V1Alpha1,
}

#[derive(Clone, Copy, Debug, Deserialize)]
enum Kind {
    MachineConfig,
}

/// What `node` is and offers.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Node {
    name: Option<NodeName>,
    labels: BTreeMap<LabelKey, LabelValue>,
    max_pods: Option<u32>,
    reserve: Reserve,
    guest: Guest,
    /// How it defends itself, in upstream's words.
    kubelet: node::Kubelet,
    /// Manifests; with their defaults once they are checked.
    static_pods: Vec<serde_json::Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Reserve {
    memory_mib: Option<u64>,
    cpu_milli: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Guest {
    memory_mib: Option<u32>,
    vcpus: Option<u8>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Api {
    listen: Vec<SocketAddr>,
    /// More names and addresses for the server's certificate.
    names: Vec<fabric::Server>,
    ca: Option<Ca>,
    tokens: Vec<Token>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ca {
    certificate: Pem,
    key: Pem,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Token {
    token: String,
    user: String,
    #[serde(default)]
    groups: Vec<String>,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token {{ user: {:?} }}", self.user)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Storage {
    state: Disk,
    data: Disk,
}

/// Without `label`, `device`, `serial`: the default label.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Disk {
    label: Option<DiskText>,
    device: Option<DeviceName>,
    serial: Option<DiskText>,
    memory: bool,
    format: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Log {
    level: Level,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Watchdog {
    /// 0 leaves it alone.
    seconds: u32,
}

impl Default for Watchdog {
    fn default() -> Self {
        Self { seconds: 60 }
    }
}

/// Why a document isn't used; begins with the field's path.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ConfigError(String);

/// What an empty machine config says.
pub(crate) fn defaults() -> MachineConfig {
    MachineConfig {
        api_version: ApiVersion::V1Alpha1,
        kind: Kind::MachineConfig,
        node: Node::default(),
        api: Api::default(),
        storage: Storage::default(),
        network: fabric::Config::default(),
        images: image::Config::default(),
        log: Log::default(),
        watchdog: Watchdog::default(),
    }
}

/// Parses and checks a document.
pub(crate) fn parse(bytes: &[u8]) -> Result<MachineConfig, ConfigError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| ConfigError(format!("not UTF-8 at byte {}", error.valid_up_to())))?;
    let mut config: MachineConfig =
        serde_yaml::from_str(text).map_err(|error| ConfigError(error.to_string()))?;
    config.check().map_err(ConfigError)?;
    config.node.static_pods =
        static_pods::checked(&config.node.static_pods).map_err(ConfigError)?;
    Ok(config)
}

impl MachineConfig {
    /// What single values can't show.
    fn check(&self) -> Result<(), String> {
        // Known by their types.
        let (ApiVersion::V1Alpha1, Kind::MachineConfig) = (self.api_version, self.kind);
        self.network
            .check()
            .map_err(|error| format!("network.{error}"))?;
        self.images
            .check()
            .map_err(|error| format!("images.{error}"))?;
        self.storage.state.check("storage.state")?;
        self.storage.data.check("storage.data")?;
        self.api.check()?;
        self.node.check()?;
        if self.watchdog.seconds > 3600 {
            return Err("watchdog.seconds: at most 3600".into());
        }
        Ok(())
    }
}

impl Node {
    fn check(&self) -> Result<(), String> {
        if self
            .max_pods
            .is_some_and(|pods| !(1..=4000).contains(&pods))
        {
            return Err("node.maxPods: between 1 and 4000".into());
        }
        let guest = &self.guest;
        if guest
            .memory_mib
            .is_some_and(|mib| !(32..=1 << 20).contains(&mib))
        {
            return Err("node.guest.memoryMib: between 32 and 1048576".into());
        }
        if guest.vcpus.is_some_and(|vcpus| !(1..=64).contains(&vcpus)) {
            return Err("node.guest.vcpus: between 1 and 64".into());
        }
        self.kubelet
            .check()
            .map_err(|error| format!("node.kubelet.{error}"))?;
        Ok(())
    }
}

impl Api {
    fn check(&self) -> Result<(), String> {
        for (index, token) in self.tokens.iter().enumerate() {
            if token.token.len() < 16 {
                return Err(format!("api.tokens[{index}].token: at least 16 characters"));
            }
            let visible = token.token.bytes().all(|byte| byte.is_ascii_graphic());
            if !visible {
                return Err(format!(
                    "api.tokens[{index}].token: visible ASCII only (RFC 6750)"
                ));
            }
            if token.user.is_empty() {
                return Err(format!("api.tokens[{index}].user: is empty"));
            }
        }
        Ok(())
    }
}

impl Disk {
    fn check(&self, path: &str) -> Result<(), String> {
        let ways = [
            self.label.is_some(),
            self.device.is_some(),
            self.serial.is_some(),
            self.memory,
        ];
        if ways.into_iter().filter(|way| *way).count() > 1 {
            return Err(format!(
                "{path}: label, device, serial and memory exclude each other"
            ));
        }
        if self.format && self.device.is_none() && self.serial.is_none() {
            return Err(format!(
                "{path}.format: device or serial is required, to know which disk"
            ));
        }
        Ok(())
    }
}
