//! The distribution's packages: what is installed, what can be had, and the
//! contents of a package, unpacked into the cache without being installed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::cache::{Cache, Key};
use crate::command::{self, command};
use crate::progress::say;

/// The version that apt would install of each of `packages` that it knows.
pub fn candidates(packages: &[&str]) -> Result<BTreeMap<String, String>> {
    let mut policy = command("apt-cache", ["policy"]);
    let text = command::text(policy.args(packages).env("LC_ALL", "C"))?;
    let mut found = BTreeMap::new();
    let mut package = None;
    for line in text.lines() {
        if let Some(name) = line.strip_suffix(':').filter(|name| !name.starts_with(' ')) {
            package = Some(name.to_owned());
        } else if let Some(version) = line.trim().strip_prefix("Candidate:")
            && let Some(package) = package.take()
            && version.trim() != "(none)"
        {
            found.insert(package, version.trim().to_owned());
        }
    }
    Ok(found)
}

/// The installed version of each of `packages` that is installed.
pub fn installed(packages: &[&str]) -> Result<BTreeMap<String, String>> {
    // Exit status 1 says that some are unknown; the rest is still printed.
    let done = Command::new("dpkg-query")
        .args(["-W", "-f", "${db:Status-Status} ${Package} ${Version}\n"])
        .args(packages)
        .stderr(Stdio::null())
        .output()
        .context("starting dpkg-query")?;
    let mut found = BTreeMap::new();
    for line in String::from_utf8_lossy(&done.stdout).lines() {
        let words: Vec<&str> = line.split(' ').collect();
        if let ["installed", package, version] = words[..] {
            found.insert(package.to_owned(), version.to_owned());
        }
    }
    Ok(found)
}

/// The first package that `package` depends on whose name starts with `prefix`.
pub fn dependency(package: &str, prefix: &str) -> Result<String> {
    let shown = command::text(&mut command(
        "apt-cache",
        ["show", "--no-all-versions", package],
    ))?;
    shown
        .lines()
        .filter_map(|line| line.strip_prefix("Depends:"))
        .flat_map(|line| line.split([',', '|']))
        .filter_map(|alternative| alternative.split_whitespace().next())
        .find(|name| name.starts_with(prefix))
        .map(str::to_owned)
        .with_context(|| format!("{package} depends on no {prefix}*"))
}

/// The package's files below `contents/` of a cache entry.
pub fn unpacked(cache: &Cache, package: &str) -> Result<PathBuf> {
    let version = candidates(&[package])?
        .remove(package)
        .with_context(|| format!("the package sources carry no {package}; apt-get update?"))?;
    unpacked_version(cache, package, &version)
}

/// As `unpacked`, of a version that apt has named.
pub fn unpacked_version(cache: &Cache, package: &str, version: &str) -> Result<PathBuf> {
    let key = Key::new("package 1")
        .with(package.as_bytes())
        .with(version.as_bytes());
    let entry = cache.entry(&format!("package-{package}"), key, |draft| {
        say(format!("fetching {package} {version}"));
        let archive = download(package, version, draft)?;
        let contents = draft.join("contents");
        fs::create_dir(&contents)?;
        unpack(&archive, &contents)?;
        Ok(fs::remove_file(archive)?)
    })?;
    Ok(entry.join("contents"))
}

/// Through links of directories: a tree may have /lib as a link to usr/lib.
pub fn unpack(archive: &Path, contents: &Path) -> Result<()> {
    let mut read = command("dpkg-deb", ["--fsys-tarfile".as_ref(), archive.as_os_str()])
        .stdout(Stdio::piped())
        .spawn()
        .context("starting dpkg-deb")?;
    let tar = read.stdout.take().context("dpkg-deb's output")?;
    let mut write = command("tar", ["-x", "--keep-directory-symlink", "-C"]);
    let wrote = write
        .arg(contents)
        .stdin(tar)
        .status()
        .context("starting tar")?;
    let read = read.wait()?;
    if !read.success() || !wrote.success() {
        bail!("{}: dpkg-deb {read}, tar {wrote}", archive.display());
    }
    Ok(())
}

/// Fetches the package into `place` and says where it is.
pub fn download(package: &str, version: &str, place: &Path) -> Result<PathBuf> {
    let wanted = format!("{package}={version}");
    // apt's own user may not write here; it is our own directory, so stay who we are.
    let sandbox = ["-o", "APT::Sandbox::User=", "-q", "download"];
    command::output(command("apt-get", sandbox).arg(&wanted).current_dir(place))?;
    for entry in fs::read_dir(place)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            return Ok(path);
        }
    }
    bail!("apt-get download {wanted} left no package");
}
