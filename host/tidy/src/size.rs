//! Sizes, measured on text as rustfmt leaves it.
//!
//! Code is what is neither blank nor a comment, up to the file's test module.
//! A function is what stands between its `fn` line and the line that closes it at
//! the same indentation, blank lines and comments not counted. A function that is
//! one table says so above it: `// Table: REASON`. Files of tests may be long.

use crate::Source;

/// Past this a file's head gives a reason in a line `//! Size: …`.
const REASONED: usize = 500;
/// Past this there is no reason.
const FILE: usize = 700;
const FUNCTION: usize = 60;
const TABLE: &str = "// Table:";
const REASON: &str = "//! Size:";

/// Files and functions that are too large, a line each.
#[must_use]
pub fn violations(source: &Source) -> Vec<String> {
    let path = &source.path;
    let mut found = Vec::new();
    if is_tests(path) {
        return found;
    }
    let lines = code_lines(&source.text);
    if lines > FILE {
        found.push(format!("{path}: {lines} lines of code, more than {FILE}"));
    } else if lines > REASONED && !source.text.contains(REASON) {
        found.push(format!("{path}: {lines} lines of code and no `{REASON} …`"));
    }
    for (line, name, length) in long_functions(&source.text) {
        found.push(format!(
            "{path}:{line}: {name} has {length} lines, more than {FUNCTION}"
        ));
    }
    found
}

fn is_tests(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("tests.rs") || path.contains("/benches/")
}

/// Whether a line counts.
fn counts(line: &str) -> bool {
    let line = line.trim_start();
    !line.is_empty() && !line.starts_with("//")
}

fn code_lines(text: &str) -> usize {
    let mut count = 0;
    // Lines that wait for what their attribute belongs to.
    let mut attributes = 0;
    for line in text.lines() {
        if line == "#[cfg(test)]" || (attributes > 0 && line.starts_with("#[")) {
            attributes += 1;
        } else if attributes > 0 && line.starts_with("mod ") {
            return count;
        } else if counts(line) {
            count += 1 + attributes;
            attributes = 0;
        }
    }
    count
}

/// Line, name and length of each function that is too long.
fn long_functions(text: &str) -> Vec<(usize, String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else {
            continue;
        };
        let indent = line.len() - line.trim_start().len();
        let closes = |line: &&str| {
            line.len() - line.trim_start().len() == indent && line.trim_start().starts_with('}')
        };
        // A declaration without a body, or a body on the same line.
        let ends = lines[at..].iter().position(|line| {
            closes(line) || (line.len() - line.trim_start().len() == indent && line.ends_with(';'))
        });
        let body = &lines[at..at + ends.map_or(0, |end| end + 1)];
        let length = body
            .iter()
            .filter(|line| counts(line))
            .count()
            .saturating_sub(2);
        let table = lines[..at]
            .iter()
            .rev()
            .take_while(|line| {
                let line = line.trim_start();
                line.starts_with("//") || line.starts_with("#[")
            })
            .any(|line| line.trim_start().starts_with(TABLE));
        if length > FUNCTION && !table && !line.trim_end().ends_with('}') {
            found.push((at + 1, name.to_owned(), length));
        }
    }
    found
}

/// The name, if a function begins on this line.
fn function_name(line: &str) -> Option<&str> {
    let mut words = line.trim_start();
    let starts = [
        "pub(crate) ",
        "pub(super) ",
        "pub ",
        "default ",
        "const ",
        "async ",
        "unsafe ",
        "extern \"C\" ",
    ];
    while let Some(rest) = starts.iter().find_map(|start| words.strip_prefix(start)) {
        words = rest;
    }
    let name = words.strip_prefix("fn ")?;
    name.split(['(', '<']).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: String) -> Source {
        Source {
            path: "host/x/src/lib.rs".to_owned(),
            text,
        }
    }

    #[test]
    fn functions_are_measured_without_comments() {
        let marked = "/// Docs.\n// Table: all calls.\n#[must_use]\n";
        for (lines, comments, marker, fine) in [
            (60, 0, "", true),
            (60, 40, "", true),
            (61, 0, "", false),
            (61, 0, marked, true),
        ] {
            let text = format!(
                "{marker}pub(crate) async fn long(\n    a: u8,\n) {{\n{}{}}}\nfn short() {{}}\n",
                "    // why\n\n".repeat(comments),
                "    a();\n".repeat(lines - 2),
            );
            let found = violations(&source(text));
            assert_eq!(
                found.is_empty(),
                fine,
                "{lines} {comments} {marker} {found:?}"
            );
        }
    }

    #[test]
    fn files_are_measured_without_their_tests() {
        for (lines, head, fine) in [
            (500, "", true),
            (501, "", false),
            (501, "//! Size: one table.\n", true),
            (701, "//! Size: one table.\n", false),
        ] {
            let text = format!(
                "{head}{}#[cfg(test)]\n#[expect(x, reason = \"tests\")]\nmod tests {{\n{}}}\n",
                "const A: u8 = 0;\n".repeat(lines),
                "    const A: u8 = 0;\n".repeat(900),
            );
            let found = violations(&source(text));
            assert_eq!(found.is_empty(), fine, "{lines} {head} {found:?}");
        }
    }
}
