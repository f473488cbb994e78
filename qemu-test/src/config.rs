//! The machine config that the lab hands to the appliance.

use anyhow::Result;
use serde_json::{Value, json};

use crate::credentials::Credentials;

/// What differs between labs.
pub struct Options<'a> {
    pub node: &'a str,
    pub credentials: &'a Credentials,
    /// Hosts of registries that speak plain HTTP.
    pub plain_http: Vec<String>,
    /// Whether empty disks are formatted; false for a machine without disks.
    pub disks: bool,
}

/// YAML, as examples/machine.yaml describes it.
pub fn machine_config(options: &Options<'_>) -> Result<String> {
    let mut document = json!({
        "apiVersion": "atoll.internal/v1",
        "kind": "MachineConfig",
        "node": { "name": options.node },
        "api": {
            "certificateAuthority": {
                "certificate": options.credentials.ca_certificate,
                "key": options.credentials.ca_key,
            },
            "subjectAltNames": ["127.0.0.1", "localhost"],
        },
        "images": { "plainHttp": options.plain_http },
    });
    if options.disks {
        document["disks"] = Value::Null;
    }
    Ok(serde_yaml::to_string(&document)?)
}
