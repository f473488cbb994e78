//! What the machine config means for each role, and for `init`.

use super::{Disk, Level, MachineConfig};
use crate::init::{Decision, Disk as InitDisk, Locator};
use serde_json::{Value, json};
use std::path::Path;

/// The appliance's paths that roles share.
const CONTROL_DATA: &str = "/var/lib/atoll/state/control";
const NODE_DATA: &str = "/var/lib/atoll/data/node";
pub(crate) const NODE_CREDENTIALS: &str = "/run/atoll/node-credentials";
const API_PORT: u16 = 6443;

/// Everything that comes of a machine config.
pub(super) struct Derived {
    pub(super) control: Value,
    pub(super) node: Value,
    pub(super) fabric: Value,
    pub(super) decision: Decision,
}

/// `default_name` is for a config without a node's name.
pub(super) fn derive(config: &MachineConfig, default_name: &str) -> Derived {
    let name = config.node.name.as_ref();
    let name = name.map_or(default_name, |name| name.as_str());
    Derived {
        control: control(config, name),
        node: node(config, name),
        fabric: json!(config.network),
        decision: decision(config, name),
    }
}

fn control(config: &MachineConfig, name: &str) -> Value {
    let api = &config.api;
    let listen = if api.listen.is_empty() {
        json!([format!("0.0.0.0:{API_PORT}")])
    } else {
        json!(api.listen)
    };
    let ca = api
        .ca
        .as_ref()
        .map(|ca| json!({"certificate": ca.certificate.as_str(), "key": ca.key.as_str()}));
    let tokens = api
        .tokens
        .iter()
        .map(|token| json!({"token": token.token, "user": token.user, "groups": token.groups}));
    json!({
        "listen": listen,
        "dataDir": CONTROL_DATA,
        "ca": ca,
        "serverNames": api.names,
        "tokens": tokens.collect::<Vec<_>>(),
        "nodeNames": [name],
    })
}

fn node(config: &MachineConfig, name: &str) -> Value {
    let node = &config.node;
    let labels = node
        .labels
        .iter()
        .map(|(key, value)| (key.as_str().to_owned(), json!(value.as_str())));
    let file = |name: &str| format!("{NODE_CREDENTIALS}/{name}");
    let mut document = json!({
        "nodeName": name,
        "labels": Value::Object(labels.collect()),
        "kubeconfig": file("kubeconfig"),
        "serving": {
            "certificate": file("kubelet.crt"),
            "key": file("kubelet.key"),
            "clientCa": file("ca.crt"),
        },
        "dataDir": NODE_DATA,
        "images": config.images,
        "kubelet": node.kubelet,
        "staticPods": node.static_pods,
    });
    // Absent values are the node's own defaults.
    let optional = [
        ("/maxPods", json!(node.max_pods)),
        ("/reserve/memoryMib", json!(node.reserve.memory_mib)),
        ("/reserve/cpuMilli", json!(node.reserve.cpu_milli)),
        ("/guest/memoryMib", json!(node.guest.memory_mib)),
        ("/guest/vcpus", json!(node.guest.vcpus)),
    ];
    for (path, value) in optional {
        if value.is_null() {
            continue;
        }
        let mut place = &mut document;
        for part in path.split('/').skip(1) {
            if place.get(part).is_none() {
                place[part] = json!({});
            }
            place = &mut place[part];
        }
        *place = value;
    }
    document
}

fn decision(config: &MachineConfig, name: &str) -> Decision {
    Decision {
        state: disk(&config.storage.state, "ATOLL-STATE"),
        data: disk(&config.storage.data, "ATOLL-DATA"),
        node_name: name.to_owned(),
        log_level: match config.log.level {
            Level::Error => log::LevelFilter::Error,
            Level::Warn => log::LevelFilter::Warn,
            Level::Info => log::LevelFilter::Info,
            Level::Debug => log::LevelFilter::Debug,
            Level::Trace => log::LevelFilter::Trace,
        },
        watchdog_seconds: config.watchdog.seconds,
        shutdown_seconds: u32::try_from(config.node.kubelet.shutdown_seconds()).unwrap_or(u32::MAX),
        broken: false,
        show_credentials: config.api.ca.is_none() && config.api.tokens.is_empty(),
    }
}

fn disk(disk: &Disk, default: &str) -> InitDisk {
    let locator = match disk {
        Disk { memory: true, .. } => Locator::Memory,
        Disk {
            device: Some(name), ..
        } => {
            let name = name.as_str();
            Locator::Device(name.strip_prefix("/dev/").unwrap_or(name).to_owned())
        }
        Disk {
            serial: Some(serial),
            ..
        } => Locator::Serial(serial.as_str().to_owned()),
        Disk { label, .. } => {
            let label = label.as_ref().map_or(default, |label| label.as_str());
            Locator::Label(label.to_owned())
        }
    };
    InitDisk {
        locator,
        format: disk.format,
    }
}

/// `atoll-` and the end of the first network device's hardware address; `atoll`
/// without one.
pub(super) fn default_node_name(class_net: &Path) -> String {
    let entries = std::fs::read_dir(class_net).into_iter().flatten().flatten();
    let mut devices: Vec<_> = entries.map(|entry| entry.path()).collect();
    devices.retain(|path| path.join("device").exists());
    devices.sort();
    let address = devices
        .iter()
        .find_map(|path| std::fs::read_to_string(path.join("address")).ok());
    let digits: String = address
        .unwrap_or_default()
        .chars()
        .filter(char::is_ascii_hexdigit)
        .map(|digit| digit.to_ascii_lowercase())
        .collect();
    match digits.get(6..12) {
        Some(end) => format!("atoll-{end}"),
        None => "atoll".to_owned(),
    }
}
