//! The workspace's own programs, built by cargo for the image.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::command::{self, command};
use crate::progress::say;

/// How much time goes into making the image small and fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// Quick to build, for tests.
    Ci,
    /// What users get: link-time optimization, strongest compression.
    Image,
}

impl Profile {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ci => "ci",
            Self::Image => "image",
        }
    }

    /// zstd's level for what changes with each build.
    pub fn compression(self) -> i32 {
        match self {
            Self::Ci => 3,
            Self::Image => 19,
        }
    }
}

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The executables, with their symbols still in.
pub struct Programs {
    pub atoll: PathBuf,
    pub vmm: PathBuf,
    pub guest_init: PathBuf,
    pub test_agent: PathBuf,
}

/// `atoll` unwinds, since `init` catches what panics; all others abort.
pub fn build(root: &Path, profile: Profile) -> Result<Programs> {
    let unwinding = profile.name().to_owned();
    let aborting = format!("{}-abort", profile.name());
    say(format!("compiling atoll ({unwinding})"));
    cargo(root, &unwinding, &["-p", "supervisor", "--bin", "atoll"])?;
    say(format!(
        "compiling atoll-vmm, guest-init, test-agent ({aborting})"
    ));
    cargo(root, &aborting, &["-p", "vmm", "--bin", "atoll-vmm"])?;
    cargo(root, &aborting, &["-p", "guest-init"])?;
    cargo(root, &aborting, &["-p", "test-agent"])?;
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), |path| root.join(path))
        .join(TARGET);
    Ok(Programs {
        atoll: target.join(&unwinding).join("atoll"),
        vmm: target.join(&aborting).join("atoll-vmm"),
        guest_init: target.join(&aborting).join("guest-init"),
        test_agent: target.join(&aborting).join("test-agent"),
    })
}

fn cargo(root: &Path, profile: &str, what: &[&str]) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let fixed = ["build", "--quiet", "--target", TARGET, "--profile", profile];
    command::run(command(cargo, fixed).args(what).current_dir(root))
}

/// The program without what only a debugger reads.
pub fn stripped(program: &Path) -> Result<Vec<u8>> {
    let draft = std::env::temp_dir().join(format!("atoll-strip-{}", std::process::id()));
    command::output(
        command("strip", ["--strip-all", "-o"])
            .arg(&draft)
            .arg(program),
    )?;
    let bytes = std::fs::read(&draft).with_context(|| draft.display().to_string())?;
    std::fs::remove_file(&draft)?;
    Ok(bytes)
}
