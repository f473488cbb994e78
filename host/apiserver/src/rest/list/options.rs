//! The options of lists and watches, and which revision they ask for
//! (`apimachinery/pkg/apis/meta/internalversion/validation`,
//! `apiserver/pkg/storage`).

use super::super::Call;
use super::token::Continue;
use crate::registry;
use api::field::{Errors, Path};
use api::status::{Qualified, Status};
use store::Revision;

/// Which state a list shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// The newest, which is at least what was asked for.
    Newest,
    Exactly(Revision),
}

#[derive(Debug)]
pub(super) struct ListOptions {
    /// Most items of a page; 0 is no limit.
    pub(super) limit: usize,
    pub(super) at: At,
    /// Where to go on, relative to the list's prefix.
    pub(super) start: Option<String>,
}

/// What a list's query asks for.
pub(super) fn list_options(call: &Call) -> Result<ListOptions, Status> {
    let limit = call.query.number("limit")?.unwrap_or(0).max(0);
    let mut limit = usize::try_from(limit).unwrap_or(usize::MAX);
    validate(call, false)?;
    let (version, token) = (
        call.query.text("resourceVersion"),
        call.query.text("continue"),
    );
    if !token.is_empty() {
        let token = Continue::decode(token)
            .map_err(|why| Status::bad_request(format!("invalid continue token: {why}")))?;
        if !matches!(version, "" | "0") {
            return Err(Status::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        return Ok(ListOptions {
            limit,
            at: token.revision.map_or(At::Newest, At::Exactly),
            start: Some(token.start),
        });
    }
    let wanted = not_yet_there(call, version)?;
    let at = match (call.query.text("resourceVersionMatch"), wanted) {
        ("Exact", Some(wanted)) => At::Exactly(wanted),
        // Before there was a match rule, a limit made it exact.
        ("", Some(wanted)) if limit > 0 => At::Exactly(wanted),
        _ => At::Newest,
    };
    if version == "0" {
        // From a cache, as upstream has it: whole.
        limit = 0;
    }
    Ok(ListOptions {
        limit,
        at,
        start: None,
    })
}

/// The revision that a resourceVersion names; `None` for any.
pub(crate) fn version(text: &str) -> Result<Option<Revision>, Status> {
    if matches!(text, "" | "0") {
        return Ok(None);
    }
    let why = |what| {
        Status::bad_request(format!(
            "invalid resource version: resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: {what}"
        ))
    };
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().map(|n| Some(Revision(n))).map_err(|_| {
        why(match digits {
            true => "value out of range",
            false => "invalid syntax",
        })
    })
}

/// Refuses a resourceVersion that isn't one or hasn't happened.
pub(crate) fn not_yet_there(call: &Call, text: &str) -> Result<Option<Revision>, Status> {
    let wanted = version(text)?;
    let newest = call.store.revision();
    match wanted {
        Some(wanted) if wanted > newest => Err(registry::too_large(wanted.0, newest.0)),
        other => Ok(other),
    }
}

/// Which options go together.
pub(crate) fn validate(call: &Call, watch: bool) -> Result<(), Status> {
    let mut errors = Errors::default();
    let rule = call.query.text("resourceVersionMatch");
    let initial = call.query.get("sendInitialEvents").is_some();
    let continued = !call.query.text("continue").is_empty();
    let (matching, sending) = (
        Path::new("resourceVersionMatch"),
        Path::new("sendInitialEvents"),
    );
    if watch {
        validate_watch(rule, initial, continued, &mut errors);
    } else {
        if !rule.is_empty() {
            if call.query.text("resourceVersion").is_empty() {
                errors.forbidden(
                    &matching,
                    "resourceVersionMatch is forbidden unless resourceVersion is provided",
                );
            }
            if continued {
                errors.forbidden(
                    &matching,
                    "resourceVersionMatch is forbidden when continue is provided",
                );
            }
            if !matches!(rule, "Exact" | "NotOlderThan") {
                errors.not_supported(&matching, rule, &["Exact", "NotOlderThan", ""]);
            }
            if rule == "Exact" && call.query.text("resourceVersion") == "0" {
                errors.forbidden(
                    &matching,
                    "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
                );
            }
        }
        if initial {
            errors.forbidden(&sending, "sendInitialEvents is forbidden for list");
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    const OPTIONS: Qualified<'_> = Qualified {
        group: "meta.k8s.io",
        name: "ListOptions",
    };
    Err(Status::invalid(OPTIONS, "", &errors))
}

fn validate_watch(rule: &str, initial: bool, continued: bool, errors: &mut Errors) {
    let path = Path::new("resourceVersionMatch");
    if initial && rule != "NotOlderThan" {
        errors.forbidden(
            &path,
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        );
    }
    if rule.is_empty() {
        return;
    }
    if !initial {
        errors.forbidden(
            &path,
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        );
    }
    if rule != "NotOlderThan" {
        errors.not_supported(&path, rule, &["NotOlderThan"]);
    }
    if continued {
        errors.forbidden(
            &path,
            "resourceVersionMatch is forbidden when continue is provided",
        );
    }
}
