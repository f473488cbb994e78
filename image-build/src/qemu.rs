//! The QEMU that boots the appliance: the installed one, unless it is too old to
//! emulate several processors.
//!
//! QEMU before 8.1 may keep translated code that another processor patched while
//! it was being translated: then a kernel dies of a breakpoint of its own that is
//! long gone. Debian 12 has 7.2, and 10.0 in its backports, which is unpacked into
//! the cache and runs with the libraries of the installed one. Hardware
//! virtualization translates nothing, so there the installed one will do.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cache::{Cache, Key};
use crate::command::{self, command};
use crate::progress::say;
use crate::release;

const PROGRAM: &str = "qemu-system-x86_64";
const RECIPE: &str = "qemu 1";
const BACKPORTS: &str = "bookworm-backports";
const PACKAGES: &[&str] = &[
    "qemu-system-x86",
    "qemu-system-common",
    "qemu-system-data",
    "seabios",
];
/// The first that locks a page of code while it translates it.
const SOUND: Version = (8, 1);
/// Modules and firmware beside the program; the network card's is the installed one.
const WRAPPER: &str = r#"#!/bin/sh
root=$(dirname "$(readlink -f "$0")")/contents/usr
export QEMU_MODULE_DIR="$root/lib/x86_64-linux-gnu/qemu"
exec "$root/bin/qemu-system-x86_64" -L "$root/share/qemu" -L "$root/share/seabios" \
	-L /usr/lib/ipxe/qemu "$@"
"#;

/// Major and minor number.
type Version = (u32, u32);

/// Whether the processor shows hardware virtualization; /dev/kvm alone proves
/// nothing.
#[must_use]
pub fn virtualizes() -> bool {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = info
        .lines()
        .find(|line| line.starts_with("flags"))
        .unwrap_or_default();
    let shown = flags
        .split_whitespace()
        .any(|flag| matches!(flag, "vmx" | "svm"));
    shown && Path::new("/dev/kvm").exists()
}

/// What to start: the installed program, or a newer one from the cache. When that
/// can't be had, the installed one, and a line that says so.
///
/// # Errors
/// That none is installed.
pub fn program() -> Result<PathBuf> {
    let installed = version(Path::new(PROGRAM))?;
    if virtualizes() || installed >= SOUND {
        return Ok(PROGRAM.into());
    }
    let newer = newer().and_then(|program| {
        version(&program)?;
        Ok(program)
    });
    newer.or_else(|error| {
        say(format!("QEMU of {BACKPORTS}: {error:#}"));
        Ok(PROGRAM.into())
    })
}

fn newer() -> Result<PathBuf> {
    let key = Key::new(RECIPE).with(WRAPPER.as_bytes());
    let entry = Cache::open()?.entry("qemu", key, |draft| {
        say(format!("fetching QEMU of {BACKPORTS}"));
        release::unpack(BACKPORTS, PACKAGES, draft)?;
        let wrapper = draft.join(PROGRAM);
        fs::write(&wrapper, WRAPPER)?;
        Ok(fs::set_permissions(
            &wrapper,
            fs::Permissions::from_mode(0o755),
        )?)
    })?;
    Ok(entry.join(PROGRAM))
}

fn version(program: &Path) -> Result<Version> {
    let said = command::text(&mut command(program, ["--version"]))?;
    parse(&said).with_context(|| format!("{}: version {said:?}", program.display()))
}

fn parse(said: &str) -> Option<Version> {
    let (_, rest) = said.split_once("version ")?;
    let mut numbers = rest.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_qemu_prints_them() {
        for (said, wanted) in [
            (
                "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright",
                Some((7, 2)),
            ),
            ("QEMU emulator version 10.0.2 (Debian", Some((10, 0))),
            ("QEMU emulator", None),
        ] {
            assert_eq!(parse(said), wanted);
        }
    }
}
