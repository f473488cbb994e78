//! The machine config that the lab hands to the appliance.

use anyhow::Result;
use serde_json::{Value, json};

use crate::credentials::Credentials;

/// What differs between labs.
pub struct Options<'a> {
    pub node: &'a str,
    pub credentials: &'a Credentials,
    /// The lab's registry, which speaks plain HTTP.
    pub registry: &'a str,
    /// More hosts that do.
    pub plain_http: &'a [String],
    /// Whether there are disks, to be formatted when empty.
    pub disks: bool,
    /// More fields of `node`.
    pub settings: Value,
}

/// YAML, as examples/machine.yaml describes it.
pub fn machine_config(options: &Options<'_>) -> Result<String> {
    let disk = |serial: &str| {
        if options.disks {
            json!({ "serial": serial, "format": true })
        } else {
            json!({ "memory": true })
        }
    };
    let mut node = options.settings.clone();
    node["name"] = json!(options.node);
    let mut document = json!({
        "apiVersion": "atoll.internal/v1alpha1",
        "kind": "MachineConfig",
        "node": node,
        "api": {
            "names": ["127.0.0.1", "localhost"],
            "ca": {
                "certificate": options.credentials.ca_certificate,
                "key": options.credentials.ca_key,
            },
        },
        "storage": { "state": disk("atoll-state"), "data": disk("atoll-data") },
        "images": { "registries": {
            options.registry: { "plainHttp": true },
            // Short names, too, come from the lab.
            "docker.io": { "mirrors": [format!("http://{}", options.registry)] },
        }},
    });
    for host in options.plain_http {
        document["images"]["registries"][host] = json!({ "plainHttp": true });
    }
    Ok(serde_yaml::to_string(&document)?)
}
