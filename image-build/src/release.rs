//! Packages of another release of Debian, unpacked without being installed.
//!
//! apt looks them up with lists of its own, so that the machine's sources stay
//! as they are; the mirror is the machine's.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{self, command};
use crate::packages;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Suites whose mirror carries every other.
const RELEASES: &[&str] = &["bookworm", "trixie"];

/// Unpacks `names` of `release` into `draft/contents`; leaves nothing else there.
pub fn unpack(release: &str, names: &[&str], draft: &Path) -> Result<()> {
    let place = draft.join("apt");
    for directory in ["lists/partial", "cache", "archive"] {
        fs::create_dir_all(place.join(directory))?;
    }
    let mirror = mirror()?;
    let source = format!("deb [signed-by={KEYRING}] {mirror} {release} main\n");
    fs::write(place.join("sources.list"), source)?;
    apt(&place, &["update"])?;
    let mut download = vec!["download"];
    download.extend(names);
    apt(&place, &download)?;
    let contents = draft.join("contents");
    fs::create_dir(&contents)?;
    let mut unpacked = 0;
    for entry in fs::read_dir(&place)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            packages::unpack(&path, &contents)?;
            unpacked += 1;
        }
    }
    if unpacked != names.len() {
        bail!("apt-get download {names:?} left {unpacked} packages");
    }
    Ok(fs::remove_dir_all(&place)?)
}

/// Runs apt-get in `place`, with its lists and without the machine's.
fn apt(place: &Path, words: &[&str]) -> Result<()> {
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
        ("APT::Sandbox::User", "".into()),
        ("Acquire::Languages", "none".into()),
    ] {
        apt.arg("-o").arg(format!("{option}={}", value.display()));
    }
    apt.arg("-q").args(words).current_dir(place);
    command::output(&mut apt).map(drop)
}

/// Where this machine gets Debian from.
fn mirror() -> Result<String> {
    let format = ["--format", "$(CODENAME) $(REPO_URI)"];
    let text = command::text(command("apt-get", ["indextargets"]).args(format))?;
    let known = |line: &str| {
        let (codename, mirror) = line.split_once(' ')?;
        RELEASES.contains(&codename).then(|| mirror.to_owned())
    };
    text.lines()
        .find_map(known)
        .context("apt knows no mirror of Debian")
}
