//! Sessions of Python's client (`kubernetes` of its package registry), unchanged,
//! against the API server alone. Each is a script beside this file; what it
//! finds wrong is its traceback.
//!
//! `ATOLL_PYTHON` (`image-build python`) is where the client is; without it a
//! session says that it did not run.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use clients::Server;

/// Runs the script to its end. At its line `compact` it waits until history is
/// gone.
fn passes(script: &str) {
    let Some(packages) = std::env::var_os("ATOLL_PYTHON") else {
        println!("{script}: not run: no ATOLL_PYTHON");
        return;
    };
    assert!(!packages.is_empty(), "`image-build python` failed");
    let server = Server::start().unwrap();
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python");
    let mut child = Command::new("python3")
        // Nothing is written beside the scripts.
        .args(["-B", script])
        .current_dir(scripts)
        .env("PYTHONPATH", packages)
        .env("KUBECONFIG", server.kubeconfig())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut answers = child.stdin.take().unwrap();
    let mut faults = child.stderr.take().unwrap();
    let faults = std::thread::spawn(move || {
        let mut text = String::new();
        faults.read_to_string(&mut text).unwrap();
        text
    });
    let mut said = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if line == "compact" {
            server.compact().unwrap();
            writeln!(answers, "done").unwrap();
        }
        said.push(line);
    }
    let status = child.wait().unwrap();
    let faults = faults.join().unwrap();
    assert!(status.success(), "{script}: {status}\n{said:#?}\n{faults}");
    assert!(!said.is_empty(), "{script} did nothing");
}

#[test]
fn objects_are_made_read_patched_and_deleted() {
    passes("objects.py");
}

#[test]
fn watches_resume_and_recover() {
    passes("watches.py");
}

#[test]
fn definitions_bring_kinds_to_the_dynamic_client() {
    passes("custom.py");
}

#[test]
fn tokens_leases_and_streams_are_granted_and_refused() {
    passes("access.py");
}
