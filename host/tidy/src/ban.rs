//! What no file may hold, and what each must.

use crate::Source;

/// Where `unsafe` lives: host code in `sys` alone, the guest's own small module.
const UNSAFE: &[&str] = &[
    "host/sys/src/",
    "guest-init/src/sys.rs",
    "guest-init/src/sys/",
];

/// Host names of public registries, split so that this file has none.
const REGISTRIES: &[(&str, &str)] = &[
    ("docker", ".io"),
    ("quay", ".io"),
    ("ghcr", ".io"),
    ("gcr", ".io"),
    ("k8s", ".io/pause"),
    ("public.ecr", ".aws"),
];
/// Where registries are the subject: short names are Docker Hub's.
const NAMES_REGISTRIES: &[&str] = &["host/image/", "qemu-test/src/config.rs"];

/// The lines of a file that break a rule, a line each.
#[must_use]
pub fn violations(source: &Source) -> Vec<String> {
    let path = &source.path;
    let mut found = Vec::new();
    if !source.text.trim_start().starts_with("//!") && !path.ends_with("tests.rs") {
        found.push(format!("{path}: no module comment at its head"));
    }
    for (number, line) in (1..).zip(source.text.lines()) {
        if let Some(what) = banned(path, line) {
            found.push(format!("{path}:{number}: {what}"));
        }
    }
    found
}

fn banned(path: &str, line: &str) -> Option<&'static str> {
    let code = line.split("//").next().unwrap_or_default();
    let attribute = code.trim_start();
    if attribute.starts_with("#[allow(") || attribute.starts_with("#![allow(") {
        return Some("allow: use #[expect(…, reason = \"…\")]");
    }
    if attribute.starts_with("#[ignore") {
        return Some("an ignored test");
    }
    if code.contains(concat!("to", "do!(")) || code.contains(concat!("unimple", "mented!(")) {
        return Some("not written yet");
    }
    let unsafe_code =
        code.contains(concat!("unsafe", " {")) || code.contains(concat!("unsafe", " fn"));
    if unsafe_code && !UNSAFE.iter().any(|home| path.starts_with(home)) {
        return Some("unsafe outside its home");
    }
    let names = |(host, zone): &(&str, &str)| line.contains(&format!("{host}{zone}"));
    if REGISTRIES.iter().any(names) && !NAMES_REGISTRIES.iter().any(|home| path.starts_with(home)) {
        return Some("names a public registry");
    }
    None
}

/// Whether a manifest takes the workspace's lints.
#[must_use]
pub fn inherits_lints(manifest: &str) -> bool {
    manifest
        .split_once("[lints]")
        .is_some_and(|(_, rest)| rest.trim_start().starts_with("workspace = true"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_judged() {
        let unsafe_block = concat!("    unsafe", " { call() }");
        let unwritten = concat!("    to", "do!()");
        let hub = format!("let image = \"{}{}/library/x\";", "docker", ".io");
        for (path, line, fine) in [
            ("host/x/src/lib.rs", "#[allow(dead_code)]", false),
            (
                "host/x/src/lib.rs",
                "#[expect(dead_code, reason = \"r\")]",
                true,
            ),
            (
                "host/x/src/lib.rs",
                "// #[allow(dead_code)] is refused",
                true,
            ),
            ("host/x/src/lib.rs", "    #[ignore]", false),
            ("host/x/src/lib.rs", unwritten, false),
            ("host/x/src/lib.rs", unsafe_block, false),
            ("host/sys/src/kvm.rs", unsafe_block, true),
            ("host/x/src/lib.rs", &hub, false),
            ("host/image/src/reference.rs", &hub, true),
        ] {
            assert_eq!(banned(path, line).is_none(), fine, "{path}: {line}");
        }
    }

    #[test]
    fn a_file_has_a_head() {
        let source = |text: &str| Source {
            path: "host/x/src/lib.rs".to_owned(),
            text: text.to_owned(),
        };
        assert!(violations(&source("//! What it owns.\n")).is_empty());
        assert_eq!(violations(&source("fn main() {}\n")).len(), 1);
    }

    #[test]
    fn manifests_inherit_lints() {
        assert!(inherits_lints("[package]\n[lints]\nworkspace = true\n"));
        assert!(!inherits_lints(
            "[package]\n[lints]\n[dependencies]\nworkspace = true\n"
        ));
    }
}
