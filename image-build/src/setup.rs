//! What the build and the tests need from the distribution, installed if absent.
//!
//! Only Debian 12 and 13 are known. Nothing is done when all is there. QEMU's
//! tools are never named: a machine may carry a newer qemu-utils that conflicts
//! with the system emulator unless apt may choose.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{self, command};
use crate::packages;
use crate::progress::say;
use crate::qemu;

/// Which use each package has.
const PACKAGES: &[(&str, &str)] = &[
    ("bc", "guest kernel"),
    ("bison", "guest kernel"),
    ("flex", "guest kernel"),
    ("gcc", "guest kernel, linker"),
    ("libelf-dev", "guest kernel"),
    ("libssl-dev", "guest kernel"),
    ("linux-source-6.12", "guest kernel"),
    ("make", "guest kernel"),
    ("perl", "guest kernel"),
    ("xz-utils", "kernel source, modules"),
    ("binutils", "stripping"),
    ("ca-certificates", "roots of the image"),
    ("kmod", "module index"),
    ("systemd-boot-efi", "EFI stub"),
    ("xfsprogs", "mkfs.xfs and xfs_repair of the image"),
    ("busybox-static", "test images"),
    ("docker-registry", "registry of tests"),
    ("etcd-server", "peer of the API's bench, engine in tests"),
    ("nginx-light", "peer of the API's bench"),
    ("erofs-utils", "oracle of the image writer's tests"),
    ("mtools", "disks with the EFI image in tests"),
    ("ovmf", "UEFI firmware of the lab"),
    ("qemu-system-x86", "the lab"),
    ("python3-venv", "a client of the API in tests"),
    ("skopeo", "pushing test images"),
];

/// `linux-source-6.12` is in Debian 12's security archive; in 13 it is the release's own.
pub fn supported() -> Result<u32> {
    let text = fs::read_to_string("/etc/os-release").context("reading /etc/os-release")?;
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .map(|value| value.trim_matches('"').to_owned())
            .unwrap_or_default()
    };
    match (field("ID").as_str(), field("VERSION_ID").parse()) {
        ("debian", Ok(version @ (12 | 13))) => Ok(version),
        (id, version) => bail!("the build knows Debian 12 and 13, this is {id} {version:?}"),
    }
}

/// Installs what is missing, and has a QEMU that can emulate several processors.
pub fn setup() -> Result<()> {
    install(supported()?)?;
    qemu::program().map(drop)
}

fn install(release: u32) -> Result<()> {
    let names: Vec<&str> = PACKAGES.iter().map(|(name, _)| *name).collect();
    let there = packages::installed(&names)?;
    let mut missing: Vec<&str> = names
        .into_iter()
        .filter(|name| !there.contains_key(*name))
        .collect();
    if !on_path("kubectl") {
        missing.push("kubernetes-client");
    }
    let mut wanted = missing.clone();
    wanted.push(kernel_package(release));
    if packages::candidates(&wanted)?.len() < wanted.len() {
        say("reading the package lists (apt-get update)");
        apt(&["-q", "update"])?;
    }
    if missing.is_empty() {
        return Ok(());
    }
    for name in &missing {
        let why = PACKAGES.iter().find(|(known, _)| known == name);
        say(format!(
            "installing {name}: {}",
            why.map_or("tests", |(_, why)| why)
        ));
    }
    let mut arguments = vec!["-q", "-y", "--no-install-recommends", "install"];
    arguments.extend(&missing);
    let installed = without_starting(|| apt(&arguments));
    for (_, unit) in SERVERS.iter().filter(|(name, _)| missing.contains(name)) {
        if Path::new("/run/systemd/system").exists() {
            as_root("systemctl", &["--quiet", "disable", unit])?;
        }
    }
    installed
}

/// Packages that would start a server now and at each boot, and its unit; the
/// build and the tests want the program alone.
const SERVERS: &[(&str, &str)] = &[
    ("docker-registry", "docker-registry"),
    ("etcd-server", "etcd"),
    ("nginx-light", "nginx"),
];

/// What maintainer scripts ask before they start something (invoke-rc.d(8)).
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs with a policy that forbids to start servers, unless there is one.
fn without_starting(install: impl FnOnce() -> Result<()>) -> Result<()> {
    if Path::new(POLICY).exists() {
        return install();
    }
    let forbid = format!("printf '#!/bin/sh\\nexit 101\\n' >{POLICY} && chmod 755 {POLICY}");
    as_root("sh", &["-c", &forbid])?;
    let installed = install();
    as_root("rm", &[POLICY])?;
    installed
}

/// The package whose dependency is the newest signed 6.12 kernel.
pub fn kernel_package(release: u32) -> &'static str {
    if release == 12 {
        "linux-image-6.12-amd64"
    } else {
        "linux-image-amd64"
    }
}

fn apt(arguments: &[&str]) -> Result<()> {
    let mut all = vec!["DEBIAN_FRONTEND=noninteractive", "apt-get"];
    all.extend(arguments);
    as_root("env", &all)
}

fn as_root(program: &str, arguments: &[&str]) -> Result<()> {
    let root = command::text(&mut command("id", ["-u"]))?.trim() == "0";
    let mut command = Command::new(if root { program } else { "sudo" });
    if !root {
        command.arg(program);
    }
    command::run(command.args(arguments))
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}
