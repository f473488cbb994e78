//! The options that every writing verb takes in its query: `dryRun`,
//! `fieldManager`, `fieldValidation`, and for patches `force`.

use super::Call;
use api::field::{Errors, Path};
use api::status::{Qualified, Status};
use http::header;
use serde_json::json;

/// Most bytes of a manager's name.
const MANAGER_MAX: usize = 128;

/// How faults that only strictness sees are treated (`fieldValidation`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strictness {
    Strict,
    Warn,
    Ignore,
}

/// Which options are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Create,
    Update,
    Patch,
    /// A patch that is an applied configuration.
    Apply,
}

impl Verb {
    fn kind(self) -> &'static str {
        match self {
            Verb::Create => "CreateOptions",
            Verb::Update => "UpdateOptions",
            Verb::Patch | Verb::Apply => "PatchOptions",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: bool,
    /// Who owns what is written.
    pub(crate) manager: String,
    pub(crate) strictness: Strictness,
    pub(crate) force: bool,
}

/// Reads and checks them, all faults in one answer.
pub(crate) fn read(call: &Call, verb: Verb) -> Result<WriteOptions, Status> {
    let mut errors = Errors::default();
    let path = |name| Path::new(name);
    let force = call.query.get("force");
    let manager = call.query.text("fieldManager");
    match verb {
        Verb::Apply if manager.is_empty() => {
            errors.required(&path("fieldManager"), "is required for apply patch");
        }
        Verb::Patch if force.is_some() => {
            let why = "may not be specified for non-apply patch";
            errors.forbidden(&path("force"), why);
        }
        _ => {}
    }
    check_manager(manager, &path("fieldManager"), &mut errors);
    let dry_run: Vec<&str> = call.query.all("dryRun").filter(|v| !v.is_empty()).collect();
    if dry_run.iter().any(|v| *v != "All") {
        errors.not_supported_value(&path("dryRun"), json!(dry_run), &["All"]);
    }
    let strictness = match call.query.text("fieldValidation") {
        "Strict" => Strictness::Strict,
        "" | "Warn" => Strictness::Warn,
        "Ignore" => Strictness::Ignore,
        other => {
            let known = ["", "Ignore", "Strict", "Warn"];
            errors.not_supported(&path("fieldValidation"), other, &known);
            Strictness::Warn
        }
    };
    if !errors.is_empty() {
        let kind = Qualified {
            group: "meta.k8s.io",
            name: verb.kind(),
        };
        return Err(Status::invalid(kind, "", &errors));
    }
    Ok(WriteOptions {
        dry_run: !dry_run.is_empty(),
        manager: match manager {
            "" => agent(call),
            name => name.to_owned(),
        },
        strictness,
        force: call.query.flag("force"),
    })
}

fn check_manager(manager: &str, path: &Path, errors: &mut Errors) {
    if manager.len() > MANAGER_MAX {
        errors.too_long(path, MANAGER_MAX);
    }
    for (i, c) in manager.char_indices().filter(|(_, c)| !is_print(*c)) {
        let code = u32::from(c);
        let why = format!("invalid character U+{code:04X} (at position {i})");
        errors.invalid(path, manager, why);
    }
}

/// Go's `unicode.IsPrint`, as far as the standard library knows.
fn is_print(c: char) -> bool {
    c == ' ' || !(c.is_control() || c.is_whitespace())
}

/// The first word of the client's name, up to its version.
fn agent(call: &Call) -> String {
    let agent = call.headers.get(header::USER_AGENT);
    let agent = agent.and_then(|v| v.to_str().ok()).unwrap_or_default();
    let name = agent.split('/').next().unwrap_or_default();
    let mut out = String::new();
    for c in name.chars().filter(|c| is_print(*c)) {
        if out.len() + c.len_utf8() > MANAGER_MAX {
            break;
        }
        out.push(c);
    }
    out
}
