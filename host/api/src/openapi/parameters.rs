//! Parameters of operations, in either dialect.

use super::paths::Dialect;
use serde_json::{Value, json};

/// Name, type, what it is for.
type Parameter = (&'static str, &'static str, &'static str);

const ALL: &[Parameter] = &[
    (
        "allowWatchBookmarks",
        "boolean",
        "Whether a watch sends events that only tell how far it has come.",
    ),
    (
        "command",
        "string",
        "The command to run, a parameter for each of its words.",
    ),
    (
        "container",
        "string",
        "The container; a pod with only one needs none.",
    ),
    (
        "continue",
        "string",
        "Where the next page of a list begins, as the page before it said.",
    ),
    (
        "dryRun",
        "string",
        "With All nothing is stored, but everything else is done.",
    ),
    (
        "fieldManager",
        "string",
        "Who owns what the request sets; at most 128 printable characters.",
    ),
    (
        "fieldSelector",
        "string",
        "Only objects whose fields are so.",
    ),
    (
        "fieldValidation",
        "string",
        "What becomes of unknown and duplicate fields: Ignore, Warn or Strict.",
    ),
    ("follow", "boolean", "Whether the log goes on as it grows."),
    (
        "force",
        "boolean",
        "Whether an apply takes over what others own.",
    ),
    (
        "gracePeriodSeconds",
        "integer",
        "Seconds until the object goes; 0 is at once.",
    ),
    (
        "ignoreStoreReadErrorWithClusterBreakingPotential",
        "boolean",
        "Deletes what can't be read, without waiting for anything.",
    ),
    (
        "insecureSkipTLSVerifyBackend",
        "boolean",
        "Takes any certificate of the node.",
    ),
    (
        "labelSelector",
        "string",
        "Only objects whose labels are so.",
    ),
    (
        "limit",
        "integer",
        "At most so many objects; the rest is asked for with continue.",
    ),
    ("limitBytes", "integer", "At most so many bytes of the log."),
    ("name", "string", "The name of the object."),
    ("namespace", "string", "The namespace of the object."),
    (
        "orphanDependents",
        "boolean",
        "Deprecated: use propagationPolicy.",
    ),
    ("path", "string", "The path that the request goes on to."),
    ("ports", "integer", "The ports to forward."),
    ("pretty", "string", "Whether the answer is indented."),
    (
        "previous",
        "boolean",
        "The log of the container before it was started again.",
    ),
    (
        "propagationPolicy",
        "string",
        "What becomes of dependents: Orphan, Background or Foreground.",
    ),
    ("resourceVersion", "string", "How old what is read may be."),
    (
        "resourceVersionMatch",
        "string",
        "How resourceVersion is meant: NotOlderThan or Exact.",
    ),
    (
        "sendInitialEvents",
        "boolean",
        "Whether a watch begins with what is there.",
    ),
    (
        "sinceSeconds",
        "integer",
        "Only lines of the last so many seconds.",
    ),
    ("stderr", "boolean", "Whether standard error is redirected."),
    ("stdin", "boolean", "Whether standard input is redirected."),
    (
        "stdout",
        "boolean",
        "Whether standard output is redirected.",
    ),
    (
        "stream",
        "string",
        "Which stream of the container: All, Stdout or Stderr.",
    ),
    ("tailLines", "integer", "Only so many lines from the end."),
    (
        "timeoutSeconds",
        "integer",
        "When a list or watch ends, whatever happens.",
    ),
    (
        "timestamps",
        "boolean",
        "Whether each line begins with its time.",
    ),
    ("tty", "boolean", "Whether there is a terminal."),
    ("watch", "boolean", "Whether changes follow as events."),
];

const OF_WRITES: &[&str] = &["dryRun", "fieldManager", "fieldValidation"];
const OF_PATCHES: &[&str] = &["dryRun", "fieldManager", "fieldValidation", "force"];
const OF_LISTS: &[&str] = &[
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
];
const OF_DELETES: &[&str] = &[
    "dryRun",
    "gracePeriodSeconds",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "orphanDependents",
    "propagationPolicy",
];
const OF_COLLECTIONS: &[&str] = &[
    "continue",
    "dryRun",
    "fieldSelector",
    "gracePeriodSeconds",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "labelSelector",
    "limit",
    "orphanDependents",
    "propagationPolicy",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
];

/// The query of a verb on a whole object or a collection.
pub(super) fn of_verb(verb: &str) -> &'static [&'static str] {
    match verb {
        "list" | "watch" => OF_LISTS,
        "create" | "update" => OF_WRITES,
        "patch" => OF_PATCHES,
        "delete" => OF_DELETES,
        "deletecollection" => OF_COLLECTIONS,
        _ => &[],
    }
}

/// The query of a stream or log of a pod.
pub(super) fn of_stream(subresource: &str) -> &'static [&'static str] {
    match subresource {
        "log" => &[
            "container",
            "follow",
            "insecureSkipTLSVerifyBackend",
            "limitBytes",
            "previous",
            "sinceSeconds",
            "stream",
            "tailLines",
            "timestamps",
        ],
        "exec" => &["command", "container", "stderr", "stdin", "stdout", "tty"],
        "attach" => &["container", "stderr", "stdin", "stdout", "tty"],
        "portforward" => &["ports"],
        "proxy" => &["path"],
        _ => &[],
    }
}

pub(super) fn parameter(name: &str, place: &str, dialect: &Dialect) -> Value {
    let known = ALL.iter().find(|(n, ..)| *n == name);
    let (_, kind, text) = known.copied().unwrap_or(("", "string", ""));
    let mut p = json!({"name": name, "in": place, "description": text});
    if place == "path" {
        p["required"] = true.into();
    }
    if dialect.v3 {
        p["schema"] = json!({"type": kind, "uniqueItems": true});
    } else {
        p["type"] = kind.into();
        p["uniqueItems"] = true.into();
    }
    p
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_is_described() {
        let verbs = [
            "list",
            "create",
            "update",
            "patch",
            "delete",
            "deletecollection",
        ];
        let streams = ["log", "exec", "attach", "portforward", "proxy"];
        let named = verbs.iter().flat_map(|v| of_verb(v));
        for name in named.chain(streams.iter().flat_map(|s| of_stream(s))) {
            assert!(ALL.iter().any(|(n, ..)| n == name), "{name}");
        }
    }
}
