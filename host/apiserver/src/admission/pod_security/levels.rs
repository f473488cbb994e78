//! Which levels a namespace asks for, and in which version: its labels
//! (`pod-security-admission/api`).

use api::field::{Errors, Path};
use api::meta;
use serde_json::Value;
use std::fmt;

pub(super) const PREFIX: &str = "pod-security.kubernetes.io/";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// Of the checks; the newest orders last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    Minor(u32),
    Latest,
}

/// What one mode asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) level: Level,
    pub(super) version: Version,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Modes {
    pub(super) enforce: Asked,
    pub(super) audit: Asked,
    pub(super) warn: Asked,
}

impl Level {
    fn parse(text: &str) -> Option<Level> {
        match text {
            "privileged" => Some(Level::Privileged),
            "baseline" => Some(Level::Baseline),
            "restricted" => Some(Level::Restricted),
            _ => None,
        }
    }
}

impl Version {
    fn parse(text: &str) -> Option<Version> {
        if text == "latest" {
            return Some(Version::Latest);
        }
        let minor = text.strip_prefix("v1.")?;
        let plain = minor.bytes().all(|b| b.is_ascii_digit());
        let canonical = minor == "0" || !minor.starts_with('0');
        let minor = minor.parse().ok()?;
        (plain && canonical).then_some(Version::Minor(minor))
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.version {
            Version::Minor(minor) => write!(f, "{level}:v1.{minor}"),
            Version::Latest => write!(f, "{level}:latest"),
        }
    }
}

impl Modes {
    /// What a namespace's labels ask for, and what is wrong with them. What
    /// can't be read enforces the strictest, but neither warns nor is told to
    /// the audit log; its version is the latest.
    pub(super) fn of(namespace: &Value) -> (Modes, Errors) {
        let mut errors = Errors::default();
        let mut asked = |mode: &str, unread: Level| {
            let mut found = Asked {
                level: Level::Privileged,
                version: Version::Latest,
            };
            let mut given = None;
            if let Some(text) = label(namespace, mode) {
                let level = Level::parse(text);
                if level.is_none() {
                    let why = "must be one of privileged, baseline, restricted";
                    errors.invalid(&path(mode), text, why);
                }
                found.level = level.unwrap_or(unread);
                given = level;
            }
            let mode = format!("{mode}-version");
            let version = label(namespace, &mode);
            if let Some(text) = version {
                let version = Version::parse(text);
                if version.is_none() {
                    errors.invalid(&path(&mode), text, "must be \"latest\" or \"v1.x\"");
                }
                found.version = version.unwrap_or(Version::Latest);
            }
            (found, given, version.is_some())
        };
        let (enforce, enforced, _) = asked("enforce", Level::Restricted);
        let (audit, ..) = asked("audit", Level::Privileged);
        let (mut warn, _, has_version) = asked("warn", Level::Privileged);
        // Who enforces without a word of warnings is warned of the same.
        let silent = label(namespace, "warn").is_none();
        if silent && enforced.is_some_and(|level| level > warn.level) {
            warn.level = enforce.level;
            if !has_version {
                warn.version = enforce.version;
            }
        }
        let modes = Modes {
            enforce,
            audit,
            warn,
        };
        (modes, errors)
    }

    pub(super) fn are_privileged(&self) -> bool {
        let all = [self.enforce, self.audit, self.warn];
        all.iter().all(|of| of.level == Level::Privileged)
    }
}

fn label<'a>(namespace: &'a Value, mode: &str) -> Option<&'a str> {
    let labels = meta::at(namespace, &["metadata", "labels"])?;
    labels.get(format!("{PREFIX}{mode}"))?.as_str()
}

fn path(mode: &str) -> Path {
    Path::new("metadata.labels").key(&format!("{PREFIX}{mode}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn labels_ask_for_levels_in_versions() {
        for (labels, wanted, faults) in [
            (
                json!({}),
                "privileged:latest privileged:latest privileged:latest",
                0,
            ),
            (
                json!({"enforce": "baseline", "enforce-version": "v1.19"}),
                "baseline:v1.19 privileged:latest baseline:v1.19",
                0,
            ),
            (
                json!({"enforce": "restricted", "warn-version": "v1.30", "audit": "baseline"}),
                "restricted:latest baseline:latest restricted:v1.30",
                0,
            ),
            (
                json!({"enforce": "restricted", "warn": "privileged"}),
                "restricted:latest privileged:latest privileged:latest",
                0,
            ),
            (
                json!({"enforce": "strict", "audit": "strict", "warn": "strict"}),
                "restricted:latest privileged:latest privileged:latest",
                3,
            ),
            (
                json!({"enforce": "baseline", "enforce-version": "v1.01", "audit-version": "1.3",
                    "warn-version": "v2.0"}),
                "baseline:latest privileged:latest baseline:latest",
                3,
            ),
            (
                json!({"enforce": "baseline", "enforce-version": "v1.99"}),
                "baseline:v1.99 privileged:latest baseline:v1.99",
                0,
            ),
        ] {
            let labels = labels.as_object().into_iter().flatten();
            let labels: serde_json::Map<String, Value> = labels
                .map(|(k, v)| (format!("{PREFIX}{k}"), v.clone()))
                .collect();
            let (modes, errors) = Modes::of(&json!({"metadata": {"labels": labels}}));
            let found = format!("{} {} {}", modes.enforce, modes.audit, modes.warn);
            assert_eq!(
                (found.as_str(), errors.0.len()),
                (wanted, faults),
                "{labels:?}"
            );
        }
    }
}
