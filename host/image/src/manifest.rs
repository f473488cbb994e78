//! Manifests, indexes and image configurations: from a registry's bytes to
//! what a pull needs, within limits. Pure.
//!
//! OCI image specification 1.1 and Docker's schema 2. What a document is, is
//! decided by its content, and a document that reads as both index and
//! manifest is refused (CVE-2021-41190).

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::config::Limits;
use crate::digest::Digest;
use crate::error::{Failure, Kind};
use crate::image::ImageConfig;

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// The value of `Accept`.
pub(crate) const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

const CONFIG_TYPES: [&str; 2] = [
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
];

const LAYER_TYPES: [&str; 8] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
];

/// What is fetched by digest, and how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// A checked document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Manifest {
    /// The manifest for this platform is this one.
    Index(Digest),
    Image {
        config: Blob,
        layers: Vec<Blob>,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(default)]
    schema_version: u32,
    media_type: Option<String>,
    manifests: Option<Vec<RawDescriptor>>,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: i64,
    platform: Option<RawPlatform>,
}

#[derive(Deserialize)]
struct RawPlatform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    variant: String,
}

/// Reads an index or a manifest. `content_type` is what the registry called
/// it.
pub(crate) fn parse(
    bytes: &[u8],
    content_type: Option<&str>,
    limits: &Limits,
) -> Result<Manifest, Failure> {
    let raw: Raw = serde_json::from_slice(bytes)
        .map_err(|e| Failure::invalid(format!("manifest is not valid: {e}")))?;
    if raw.schema_version == 1 {
        return Err(Failure::invalid(
            "manifest has schema version 1, which is not supported",
        ));
    }
    let kind = raw.media_type.as_deref().or(content_type);
    match (raw.manifests, raw.config, raw.layers) {
        (Some(manifests), None, None) => {
            expect_type(kind, [OCI_INDEX, DOCKER_LIST])?;
            select(&manifests).map(Manifest::Index)
        }
        (None, Some(config), Some(layers)) => {
            expect_type(kind, [OCI_MANIFEST, DOCKER_MANIFEST])?;
            image(&config, &layers, limits)
        }
        (Some(_), _, _) => Err(Failure::invalid("manifest is both an index and an image")),
        (None, _, _) => Err(Failure::invalid("manifest has no config and layers")),
    }
}

/// A generic content type says nothing; a wrong specific one is a lie.
fn expect_type(kind: Option<&str>, fitting: [&str; 2]) -> Result<(), Failure> {
    let known = [OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST];
    match kind {
        Some(kind) if known.contains(&kind) && !fitting.contains(&kind) => Err(Failure::invalid(
            format!("manifest calls itself {kind} but its content differs"),
        )),
        _ => Ok(()),
    }
}

/// linux/amd64; an entry without a variant (or v1) is preferred to one that
/// wants a newer processor.
fn select(entries: &[RawDescriptor]) -> Result<Digest, Failure> {
    let fitting = entries.iter().filter(|entry| {
        entry
            .platform
            .as_ref()
            .is_some_and(|p| p.os == "linux" && p.architecture == "amd64")
    });
    let newer = |entry: &&RawDescriptor| {
        let variant = entry.platform.as_ref().map_or("", |p| &p.variant);
        !matches!(variant, "" | "v1")
    };
    let best = fitting.min_by_key(newer).ok_or_else(|| {
        Failure::new(
            Kind::NotFound,
            "no match for platform linux/amd64 in manifest: not found",
        )
    })?;
    best.digest.parse().map_err(Failure::invalid)
}

fn image(
    config: &RawDescriptor,
    layers: &[RawDescriptor],
    limits: &Limits,
) -> Result<Manifest, Failure> {
    if !CONFIG_TYPES.contains(&config.media_type.as_str()) {
        let message = format!("unsupported config media type {:?}", config.media_type);
        return Err(Failure::invalid(message));
    }
    let config = blob(config, limits.max_config_bytes, "limits.maxConfigBytes")?;
    if layers.len() > limits.max_layers {
        let (n, max) = (layers.len(), limits.max_layers);
        return Err(Failure::invalid(format!(
            "image has {n} layers, more than {max} (limits.maxLayers)"
        )));
    }
    let mut total = 0_u64;
    let mut checked = Vec::with_capacity(layers.len());
    for layer in layers {
        if !LAYER_TYPES.contains(&layer.media_type.as_str()) {
            let message = format!("unsupported layer media type {:?}", layer.media_type);
            return Err(Failure::invalid(message));
        }
        let layer = blob(layer, limits.max_layer_bytes, "limits.maxLayerBytes")?;
        total = total.saturating_add(layer.size);
        checked.push(layer);
    }
    if total > limits.max_download_bytes {
        let max = limits.max_download_bytes;
        return Err(Failure::invalid(format!(
            "layers have {total} bytes, more than {max} (limits.maxDownloadBytes)"
        )));
    }
    Ok(Manifest::Image {
        config,
        layers: checked,
    })
}

fn blob(raw: &RawDescriptor, max: u64, limit: &str) -> Result<Blob, Failure> {
    let digest: Digest = raw.digest.parse().map_err(Failure::invalid)?;
    match u64::try_from(raw.size) {
        Ok(size) if size <= max => Ok(Blob { digest, size }),
        Ok(size) => Err(Failure::invalid(format!(
            "{digest} has {size} bytes, more than {max} ({limit})"
        ))),
        Err(_) => Err(Failure::invalid(format!("{digest} has a negative size"))),
    }
}

#[derive(Deserialize)]
struct RawImage {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    config: Option<RawConfig>,
    rootfs: Option<RawRootfs>,
}

#[derive(Deserialize)]
struct RawRootfs {
    #[serde(default)]
    diff_ids: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct RawConfig {
    user: Option<String>,
    exposed_ports: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    volumes: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    working_dir: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    stop_signal: Option<String>,
}

/// Reads an image configuration; gives the digests of the unpacked layers
/// beside it.
pub(crate) fn parse_config(bytes: &[u8]) -> Result<(ImageConfig, Vec<Digest>), Failure> {
    let raw: RawImage = serde_json::from_slice(bytes)
        .map_err(|e| Failure::invalid(format!("image config is not valid: {e}")))?;
    let fits = |value: &str, want: &str| value.is_empty() || value == want;
    if !fits(&raw.os, "linux") || !fits(&raw.architecture, "amd64") {
        let message = format!(
            "no match for platform linux/amd64 in manifest: image is for {}/{}",
            raw.os, raw.architecture
        );
        return Err(Failure::new(Kind::NotFound, message));
    }
    let diff_ids = raw.rootfs.and_then(|r| r.diff_ids).unwrap_or_default();
    let diff_ids = diff_ids
        .iter()
        .map(|id| {
            id.parse()
                .map_err(|e| Failure::invalid(format!("image config: diff id: {e}")))
        })
        .collect::<Result<_, _>>()?;
    let c = raw.config.unwrap_or_default();
    let keys = |map: Option<BTreeMap<String, _>>| map.unwrap_or_default().into_keys().collect();
    Ok((
        ImageConfig {
            entrypoint: c.entrypoint.unwrap_or_default(),
            cmd: c.cmd.unwrap_or_default(),
            env: c.env.unwrap_or_default(),
            user: c.user.unwrap_or_default(),
            working_dir: c.working_dir.unwrap_or_default(),
            stop_signal: c.stop_signal.filter(|s| !s.is_empty()),
            exposed_ports: keys(c.exposed_ports),
            volumes: keys(c.volumes),
            labels: c.labels.unwrap_or_default(),
        },
        diff_ids,
    ))
}

#[cfg(test)]
mod tests;
