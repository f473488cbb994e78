//! The real kubectl, old and new: what is on the path, and those that Debian's
//! releases carry, unpacked into the cache without being installed.
//!
//! Another release is looked up by apt with lists of its own, so that the
//! machine's sources stay as they are; its mirror is the machine's.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cache::{Cache, Key};
use crate::command::{self, command};
use crate::packages;
use crate::progress::say;

const RECIPE: &str = "kubectl 1";
/// Release and package: 1.20 and 1.32.
const RELEASES: &[(&str, &str)] = &[("bookworm", "kubernetes-client"), ("trixie", "kubectl")];
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Major and minor number.
type Version = (u32, u32);

/// One of each minor version, newest first. A release that can't be fetched is
/// told and left out.
///
/// # Errors
/// That there is none.
pub fn all() -> Result<Vec<PathBuf>> {
    let cache = Cache::open()?;
    let mut found: BTreeMap<Version, PathBuf> = BTreeMap::new();
    for (release, package) in RELEASES {
        match fetched(&cache, release, package) {
            Ok(program) => {
                found.insert(version(&program)?, program);
            }
            Err(error) => say(format!("kubectl of {release}: {error:#}")),
        }
    }
    for program in on_path() {
        found.insert(version(&program)?, program);
    }
    if found.is_empty() {
        bail!("no kubectl on the path, and none to be fetched");
    }
    Ok(found.into_values().rev().collect())
}

fn fetched(cache: &Cache, release: &str, package: &str) -> Result<PathBuf> {
    let key = Key::new(RECIPE).with(package.as_bytes());
    let entry = cache.entry(&format!("kubectl-{release}"), key, |draft| {
        say(format!("fetching kubectl of {release}"));
        let contents = draft.join("contents");
        download(release, package, draft, &contents)?;
        fs::rename(contents.join("usr/bin/kubectl"), draft.join("kubectl"))?;
        Ok(fs::remove_dir_all(contents)?)
    })?;
    Ok(entry.join("kubectl"))
}

/// Leaves nothing in `draft` but the package's files in `contents`.
fn download(release: &str, package: &str, draft: &Path, contents: &Path) -> Result<()> {
    let place = draft.join("apt");
    for directory in ["lists/partial", "cache", "archive"] {
        fs::create_dir_all(place.join(directory))?;
    }
    let mirror = mirror()?;
    let source = format!("deb [signed-by={KEYRING}] {mirror} {release} main\n");
    fs::write(place.join("sources.list"), source)?;
    let apt = |words: &[&str]| {
        let mut apt = Command::new("apt-get");
        for (option, value) in [
            ("Dir::Etc::sourcelist", place.join("sources.list")),
            ("Dir::Etc::sourceparts", place.join("archive")),
            ("Dir::Etc::preferences", place.join("none")),
            ("Dir::Etc::preferencesparts", place.join("archive")),
            ("Dir::State::lists", place.join("lists")),
            ("Dir::State::status", "/dev/null".into()),
            ("Dir::Cache", place.join("cache")),
            // It may not write here; it is our own directory, so stay who we are.
            ("APT::Sandbox::User", PathBuf::new()),
            ("Acquire::Languages", "none".into()),
        ] {
            apt.arg("-o").arg(format!("{option}={}", value.display()));
        }
        apt.arg("-q").args(words).current_dir(&place);
        command::output(&mut apt).map(drop)
    };
    apt(&["update"])?;
    apt(&["download", package])?;
    let archive = fs::read_dir(&place)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("apt-get download left no package")?;
    fs::create_dir(contents)?;
    packages::unpack(&archive, contents)?;
    Ok(fs::remove_dir_all(&place)?)
}

/// Where this machine gets Debian from.
fn mirror() -> Result<String> {
    let format = ["--format", "$(CODENAME) $(REPO_URI)"];
    let text = command::text(command("apt-get", ["indextargets"]).args(format))?;
    let known = |line: &str| {
        let (codename, mirror) = line.split_once(' ')?;
        let release = RELEASES.iter().any(|(release, _)| *release == codename);
        release.then(|| mirror.to_owned())
    };
    text.lines()
        .find_map(known)
        .context("apt knows no mirror of Debian")
}

/// Debian's, and others beside it: kubectl, kubectl1.33, kubectl.1.20.
fn on_path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let numbered = |rest: &str| rest.chars().all(|c| c.is_ascii_digit() || c == '.');
    std::env::split_paths(&path)
        .filter_map(|directory| fs::read_dir(directory).ok())
        .flat_map(|listing| listing.flatten())
        .filter(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.strip_prefix("kubectl").is_some_and(numbered)
        })
        .map(|entry| entry.path())
        .collect()
}

fn version(program: &Path) -> Result<Version> {
    let said = command::text(&mut command(
        program,
        ["version", "--client", "--output", "json"],
    ))?;
    parse(&said).with_context(|| format!("{}: version {said:?}", program.display()))
}

/// `"minor": "32+"` happens, too.
fn parse(said: &str) -> Option<Version> {
    let number = |field: &str| {
        let (_, rest) = said.split_once(&format!("\"{field}\": \""))?;
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse().ok()
    };
    Some((number("major")?, number("minor")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_kubectl_prints_them() {
        for (said, wanted) in [
            (
                "{\n  \"clientVersion\": {\n    \"major\": \"1\",\n    \"minor\": \"20\",",
                Some((1, 20)),
            ),
            ("{\"major\": \"1\", \"minor\": \"32+\"}", Some((1, 32))),
            ("Client Version: v1.2", None),
        ] {
            assert_eq!(parse(said), wanted);
        }
    }
}
