//! `image-build`: from packages and source to a bootable image.
//!
//! Each step is cached by the content of its inputs; see `cache`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use image_build::cache::Cache;
use image_build::programs::Profile;
use image_build::{guest_kernel, image, kubectls, objects, progress, python, setup};

#[derive(Parser)]
#[command(about)]
struct Arguments {
    #[command(subcommand)]
    step: Step,
}

#[derive(Subcommand)]
enum Step {
    /// Installs the packages that the build and the lab need, if any is missing.
    Setup,
    /// Prints every kubectl to test with, newest first, as ATOLL_KUBECTLS wants it.
    Kubectls,
    /// Prints where upstream's test objects are, as ATOLL_OBJECTS wants it.
    Objects,
    /// Prints where Python's Kubernetes client is, as ATOLL_PYTHON wants it.
    Python,
    /// Builds the guest kernel and prints where it is.
    GuestKernel,
    /// Builds everything into out/PROFILE and prints the sizes.
    All {
        #[arg(long, value_enum, default_value = "image")]
        profile: Profile,
    },
    /// Builds once more from the same inputs and compares with out/PROFILE.
    Verify {
        #[arg(long, value_enum, default_value = "image")]
        profile: Profile,
    },
}

fn main() -> ExitCode {
    progress::begin();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("image-build: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let root = root.canonicalize().context("the workspace")?;
    match Arguments::parse().step {
        Step::Setup => setup::setup(),
        Step::Kubectls => {
            let all: Vec<String> = kubectls::all()?
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            println!("{}", all.join(":"));
            Ok(())
        }
        Step::Objects => {
            println!("{}", objects::upstream()?.display());
            Ok(())
        }
        Step::Python => {
            println!("{}", python::client()?.display());
            Ok(())
        }
        Step::GuestKernel => {
            println!("{}", guest_kernel::build(&Cache::open()?)?.display());
            Ok(())
        }
        Step::All { profile } => image::build(&root, profile),
        Step::Verify { profile } => image::verify(&root, profile),
    }
}
