//! Container images for tests, written as OCI layouts (image-spec 1.1).
//!
//! Reproducible: entries sorted, owned by root, dated 1970.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use flate2::Compression;
use flate2::write::GzEncoder;
use image_build::cache::hex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

/// An uncompressed layer in the making.
pub struct Layer(tar::Builder<Vec<u8>>);

impl Default for Layer {
    fn default() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }
}

impl Layer {
    pub fn directory(&mut self, path: &str, mode: u32) -> Result<()> {
        let mut header = header(EntryType::Directory, mode, 0);
        Ok(self
            .0
            .append_data(&mut header, format!("{path}/"), &[][..])?)
    }

    pub fn file(&mut self, path: &str, mode: u32, bytes: &[u8]) -> Result<()> {
        let mut header = header(EntryType::Regular, mode, bytes.len() as u64);
        Ok(self.0.append_data(&mut header, path, bytes)?)
    }

    pub fn link(&mut self, path: &str, target: &str) -> Result<()> {
        let mut header = header(EntryType::Symlink, 0o777, 0);
        Ok(self.0.append_link(&mut header, path, target)?)
    }

    pub fn hard_link(&mut self, path: &str, target: &str) -> Result<()> {
        let mut header = header(EntryType::Link, 0o644, 0);
        Ok(self.0.append_link(&mut header, path, target)?)
    }

    /// Removes what a lower layer has (image-spec, layer.md, Whiteouts).
    pub fn whiteout(&mut self, path: &str) -> Result<()> {
        let path = Path::new(path);
        let name = path.file_name().context("whiteout of the root")?;
        let place = path.with_file_name(format!(".wh.{}", name.to_string_lossy()));
        self.file(&place.to_string_lossy(), 0o644, &[])
    }

    /// A whole directory of this machine, but for names below `skip`.
    pub fn tree(&mut self, root: &Path, skip: &[&str]) -> Result<()> {
        self.below(root, "", skip)
    }

    fn below(&mut self, root: &Path, inside: &str, skip: &[&str]) -> Result<()> {
        let mut names = fs::read_dir(root.join(inside))?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<Result<Vec<_>>>()?;
        names.sort();
        for name in names {
            let path = if inside.is_empty() {
                name
            } else {
                format!("{inside}/{name}")
            };
            if skip.contains(&path.as_str()) {
                continue;
            }
            let source = root.join(&path);
            let metadata = fs::symlink_metadata(&source)?;
            let kind = metadata.file_type();
            let mode = metadata.mode() & 0o7777;
            if kind.is_dir() {
                self.directory(&path, mode)?;
                self.below(root, &path, skip)?;
            } else if kind.is_symlink() {
                self.link(&path, &fs::read_link(&source)?.to_string_lossy())?;
            } else if kind.is_file() {
                self.file(&path, mode, &fs::read(&source)?)?;
            } else if !kind.is_socket() {
                bail!("{}: neither file, link nor directory", source.display());
            }
        }
        Ok(())
    }

    pub fn finish(self) -> Result<Vec<u8>> {
        Ok(self.0.into_inner()?)
    }
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// An image on disk.
pub struct Layout(PathBuf);

impl Layout {
    pub const TAG: &str = "test";

    /// One that was written before.
    #[must_use]
    pub fn open(directory: PathBuf) -> Self {
        Self(directory)
    }

    /// Writes `layers`, lowest first, with the `config` member of the image
    /// configuration (`Cmd`, `Env`, `User` and so on).
    pub fn write(directory: &Path, layers: &[Vec<u8>], config: &Value) -> Result<Self> {
        let blobs = directory.join("blobs/sha256");
        fs::create_dir_all(&blobs)?;
        let mut descriptors = Vec::new();
        let mut diff_ids = Vec::new();
        for layer in layers {
            diff_ids.push(format!("sha256:{}", hex(&Sha256::digest(layer))));
            let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
            gzip.write_all(layer)?;
            let kind = "application/vnd.oci.image.layer.v1.tar+gzip";
            descriptors.push(blob(&blobs, kind, &gzip.finish()?)?);
        }
        let document = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": config,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let kind = "application/vnd.oci.image.config.v1+json";
        let config = blob(&blobs, kind, &serde_json::to_vec(&document)?)?;
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let document = json!({
            "schemaVersion": 2, "mediaType": kind, "config": config, "layers": descriptors,
        });
        let mut manifest = blob(&blobs, kind, &serde_json::to_vec(&document)?)?;
        manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": Self::TAG });
        let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
        fs::write(directory.join("index.json"), serde_json::to_vec(&index)?)?;
        fs::write(
            directory.join("oci-layout"),
            "{\"imageLayoutVersion\":\"1.0.0\"}",
        )?;
        Ok(Self(directory.to_owned()))
    }

    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.0
    }
}

fn blob(blobs: &Path, kind: &str, bytes: &[u8]) -> Result<Value> {
    let digest = hex(&Sha256::digest(bytes));
    fs::write(blobs.join(&digest), bytes)?;
    Ok(json!({
        "mediaType": kind, "digest": format!("sha256:{digest}"), "size": bytes.len(),
    }))
}
