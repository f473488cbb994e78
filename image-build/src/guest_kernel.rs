//! The guest kernel: the distribution's source with our configuration.
//!
//! `allnoconfig` drops a line whose menu is off without a word; so each line of
//! `guest-kernel.config` is looked for in the `.config` that comes out.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cache::{Cache, Key};
use crate::command::{self, command};
use crate::packages;
use crate::progress::say;

const CONFIG: &str = include_str!("../guest-kernel.config");
const SOURCE: &str = "linux-source-6.12";
/// Lines that older updates of the source know by another name; each update
/// ignores the name that it doesn't know.
const RENAMED: &[(&str, &str)] = &[(
    "CONFIG_MEMORY_HOTPLUG_DEFAULT_ONLINE=y",
    "CONFIG_MHP_DEFAULT_ONLINE_TYPE_ONLINE_AUTO=y",
)];
const RECIPE: &str = "guest-kernel 1";
/// How often a running build says how far it is.
const REPORT: Duration = Duration::from_secs(10);
/// Steps of a build of this configuration, about: for the progress line only.
const STEPS: usize = 1900;

/// The stripped ELF kernel, built now if it is not in the cache.
pub fn build(cache: &Cache) -> Result<PathBuf> {
    let installed = packages::installed(&[SOURCE])?;
    let version = installed
        .get(SOURCE)
        .with_context(|| format!("{SOURCE} is not installed: run `image-build setup`"))?;
    let compiler = command::text(&mut command("gcc", ["-dumpfullversion"]))?;
    let key = Key::new(RECIPE)
        .with(version.as_bytes())
        .with(CONFIG.as_bytes())
        .with(compiler.as_bytes());
    let entry = cache.entry("guest-kernel", key, |draft| make(version, draft))?;
    Ok(entry.join("vmlinux"))
}

fn make(version: &str, draft: &Path) -> Result<()> {
    say(format!("guest kernel: unpacking {SOURCE} {version}"));
    let tarball = format!("/usr/src/{SOURCE}.tar.xz");
    let directory = draft.to_str().context("the cache's path is no UTF-8")?;
    command::output(&mut command("tar", ["-xf", &tarball, "-C", directory]))?;
    let source = draft.join(SOURCE);
    let fragment = draft.join("fragment");
    let old: String = RENAMED.iter().map(|(old, _)| format!("{old}\n")).collect();
    fs::write(&fragment, format!("{CONFIG}\n{old}"))?;
    command::output(
        kernel_make(&source)
            .env("KCONFIG_ALLCONFIG", &fragment)
            .arg("allnoconfig"),
    )?;
    let refused = refused(CONFIG, &fs::read_to_string(source.join(".config"))?);
    if !refused.is_empty() {
        bail!(
            "the kernel's configuration dropped:\n{}",
            refused.join("\n")
        );
    }
    compile(&source)?;
    let built = source.join("vmlinux");
    let place = draft.join("vmlinux");
    command::output(command("strip", ["-s", "-o"]).arg(&place).arg(&built))?;
    fs::copy(source.join(".config"), draft.join("config"))?;
    fs::remove_dir_all(&source)?;
    Ok(fs::remove_file(fragment)?)
}

/// `make` with what a build must not take from its surroundings.
fn kernel_make(source: &Path) -> Command {
    let mut make = Command::new("make");
    make.arg("-C")
        .arg(source)
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL")
        .env("KBUILD_BUILD_TIMESTAMP", "1970-01-01")
        .env("KBUILD_BUILD_USER", "atoll")
        .env("KBUILD_BUILD_HOST", "atoll")
        .env("KBUILD_BUILD_VERSION", "1")
        .env("LC_ALL", "C");
    make
}

fn compile(source: &Path) -> Result<()> {
    let jobs = std::thread::available_parallelism().map_or(2, usize::from);
    let log = source.join("build.log");
    let errors = fs::File::create(&log)?;
    let mut child = kernel_make(source)
        .arg(format!("-j{jobs}"))
        .arg("vmlinux")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()
        .context("starting make")?;
    let lines = BufReader::new(child.stdout.take().context("make's output")?).lines();
    let mut reported = Instant::now();
    let mut steps = 0;
    for line in lines {
        line?;
        steps += 1;
        if reported.elapsed() >= REPORT {
            reported = Instant::now();
            say(format!("guest kernel: {steps} of about {STEPS} steps"));
        }
    }
    let status = child.wait()?;
    if !status.success() {
        let said = fs::read_to_string(&log).unwrap_or_default();
        bail!("make vmlinux: {status}\n{}", command::tail(&said, 40));
    }
    say(format!("guest kernel: built in {steps} steps"));
    Ok(())
}

/// The lines of `wanted` that `config` does not hold.
fn refused<'a>(wanted: &'a str, config: &str) -> Vec<&'a str> {
    let lines: std::collections::BTreeSet<&str> = config.lines().collect();
    let set = |name: &str| {
        lines
            .iter()
            .any(|line| line.starts_with(&format!("{name}=")))
    };
    let renamed = |line: &str| {
        let known = RENAMED.iter().find(|(_, new)| *new == line);
        known.is_some_and(|(old, _)| lines.contains(old))
    };
    wanted
        .lines()
        .filter(|line| !renamed(line))
        .filter(|line| {
            if let Some(name) = off(line) {
                set(name)
            } else {
                line.starts_with("CONFIG_") && !lines.contains(line)
            }
        })
        .collect()
}

/// The option that a line turns off, in either spelling.
fn off(line: &str) -> Option<&str> {
    line.strip_suffix("=n")
        .or_else(|| line.strip_prefix("# ")?.strip_suffix(" is not set"))
        .filter(|name| name.starts_with("CONFIG_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_lines_are_found() {
        let config = "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=\"x\"\nCONFIG_DD=y\n\
             CONFIG_MEMORY_HOTPLUG_DEFAULT_ONLINE=y\n";
        for (wanted, dropped) in [
            ("CONFIG_A=y", false),
            ("CONFIG_A=n", true),
            ("# CONFIG_A is not set", true),
            ("CONFIG_B=n", false),
            ("CONFIG_B=y", true),
            ("CONFIG_C=\"x\"", false),
            ("CONFIG_C=\"y\"", true),
            ("CONFIG_D=n", false),
            ("CONFIG_MHP_DEFAULT_ONLINE_TYPE_ONLINE_AUTO=y", false),
            ("CONFIG_D=y", true),
            ("# --- a heading", false),
        ] {
            assert_eq!(!refused(wanted, config).is_empty(), dropped, "{wanted}");
        }
    }
}
