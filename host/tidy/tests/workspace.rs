//! The workspace itself, held to its conventions.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tidy::{Source, ban, graph, size};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// Every file that git tracks or would track, so that a build directory never counts.
fn files(suffix: &str) -> Vec<Source> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(listed.status.success(), "git ls-files");
    let mut all = Vec::new();
    for path in String::from_utf8(listed.stdout).unwrap().lines() {
        let Ok(text) = fs::read_to_string(root().join(path)) else {
            continue;
        };
        if path.ends_with(suffix) {
            let path = path.to_owned();
            all.push(Source { path, text });
        }
    }
    assert!(!all.is_empty(), "no *{suffix} found");
    all
}

fn check(violations: &[String]) {
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

#[test]
fn dependencies_point_downward() {
    let said = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version=1", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        said.status.success(),
        "{}",
        String::from_utf8_lossy(&said.stderr)
    );
    let metadata = serde_json::from_slice(&said.stdout).unwrap();
    check(&graph::violations(&metadata));
}

#[test]
fn files_and_functions_stay_small() {
    let found: Vec<String> = files(".rs").iter().flat_map(size::violations).collect();
    check(&found);
}

#[test]
fn files_hold_nothing_banned() {
    let found: Vec<String> = files(".rs").iter().flat_map(ban::violations).collect();
    check(&found);
}

#[test]
fn crates_inherit_the_lints() {
    let found: Vec<String> = files("Cargo.toml")
        .into_iter()
        .filter(|manifest| manifest.path != "Cargo.toml" && !ban::inherits_lints(&manifest.text))
        .map(|manifest| format!("{}: no [lints] workspace = true", manifest.path))
        .collect();
    check(&found);
}
