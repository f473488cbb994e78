//! Random text and random programs: whatever a client writes, the process goes
//! on, and an evaluation stays within its budget of steps and memory.

use expressions::{Budget, EvalError, Program, from_json, isolated, to_json};
use fuzzing::{Random, rounds};
use serde_json::json;
use std::time::{Duration, Instant};

/// As much as a text may grow to, quoted, and what stands around it.
const LARGEST: usize = 16 << 20;

const ATOMS: &[&str] = &[
    "self",
    "self.n",
    "self.s",
    "self.list",
    "self.map",
    "self.absent",
    "x",
    "y",
    "0",
    "-1",
    "1u",
    "9223372036854775807",
    "1.5e300",
    "'a'",
    "b'\\xff'",
    "'%s%d'",
    "true",
    "null",
    "[]",
    "{}",
    "duration('1h')",
    "timestamp('2026-01-01T00:00:00Z')",
    "quantity('1Gi')",
];
const UNARY: &[&str] = &["!", "-", "size", "string", "int", "double", "bytes", "type"];
const BINARY: &[&str] = &[
    "+", "-", "*", "/", "%", "==", "!=", "<", "<=", "&&", "||", "in",
];
const METHODS: &[&str] = &[
    "startsWith",
    "matches",
    "find",
    "findAll",
    "split",
    "join",
    "replace",
    "format",
    "indexOf",
    "substring",
    "orValue",
    "isGreaterThan",
    "sum",
    "flatten",
];
const MACROS: &[&str] = &["all", "exists", "exists_one", "map", "filter"];
/// Text that scanners trip over.
const PIECES: &[&str] = &[
    "(", ")", "[", "]", "{", "}", ".", ",", ":", "?", "'", "\"", "\\", "\\u", "b", "r'", "self",
    "x", "0x", "1e", "&&", "||", "!", "-", "in", "has", "é", "\0", "\u{202e}", "\n", "//", "`",
    "'''", " ",
];

fn program(r: &mut Random, depth: usize) -> String {
    if depth == 0 {
        return r.pick(ATOMS).to_owned();
    }
    let part = |r: &mut Random| program(r, depth - 1);
    match r.below(9) {
        0 => format!("{}({})", r.pick(UNARY), part(r)),
        1 | 2 => format!("({} {} {})", part(r), r.pick(BINARY), part(r)),
        3 => format!("{}.{}({})", part(r), r.pick(METHODS), part(r)),
        4 => format!("{}.{}()", part(r), r.pick(METHODS)),
        5 => {
            let name = r.pick(&["x", "y"]);
            format!("{}.{}({name}, {})", part(r), r.pick(MACROS), part(r))
        }
        6 => format!("({} ? {} : {})", part(r), part(r), part(r)),
        7 => format!("[{}, {}][{}]", part(r), part(r), part(r)),
        _ => format!("{{{}: {}}}", part(r), part(r)),
    }
}

/// Runs it if it compiles; whether it did.
fn survives(text: &str) -> bool {
    let compiled = match Program::compile(text, &["self", "x", "y"]) {
        Ok(compiled) => compiled,
        Err(error) => {
            let said = error.to_string();
            assert!(said.starts_with("compilation failed: "), "{text}");
            return false;
        }
    };
    let object = json!({
        "n": 3, "s": "héllo", "list": [3, 1, 2], "map": {"k": "v", "l": [true, null]},
    });
    let variables = [
        ("self", from_json(&object)),
        ("x", from_json(&json!("aaaa"))),
        ("y", from_json(&json!([[1], ["b"]]))),
    ];
    let mut budget = Budget {
        steps: 10_000,
        deadline: Instant::now() + Duration::from_secs(5),
    };
    match isolated(|| compiled.evaluate(&variables, &mut budget)) {
        Some(Ok(value)) => {
            let length = to_json(&value).map_or(0, |value| value.to_string().len());
            assert!(length < LARGEST, "{length} bytes of {text}");
        }
        Some(Err(EvalError::Failed(why))) => assert!(why.chars().count() <= 1024, "{text}"),
        // Spent; or a panic of the interpreter, which ends the evaluation only.
        Some(Err(EvalError::Spent(_))) | None => {}
    }
    true
}

#[test]
fn programs_stay_within_their_budget() {
    let mut r = Random::seeded();
    let mut compiled = 0;
    for _ in 0..rounds(1500) {
        let depth = 1 + r.below(5);
        compiled += u64::from(survives(&program(&mut r, depth)));
    }
    assert!(compiled > 100, "{compiled} programs compiled");
}

#[test]
fn any_text_is_survived() {
    let mut r = Random::seeded();
    for _ in 0..rounds(1500) {
        let text: String = (0..r.below(30)).map(|_| r.pick(PIECES)).collect();
        survives(&text);
    }
}

/// Nesting of every sort, beyond what the parser's recursion can bear.
#[test]
fn depth_is_survived() {
    let mut r = Random::seeded();
    for _ in 0..rounds(20) {
        let n = 1 << (4 + r.below(9));
        for (open, middle, close) in [
            ("(", "1", ")"),
            ("[", "1", "]"),
            ("{1: ", "1", "}"),
            ("!", "true", ""),
            ("-", "1", ""),
            ("", "self", ".n"),
            ("1 + ", "1", ""),
            ("true ? 1 : ", "1", ""),
            ("size(", "'a'", ")"),
            ("[1].map(x, ", "x", ")"),
        ] {
            let text = format!("{}{middle}{}", open.repeat(n), close.repeat(n));
            survives(&text);
        }
    }
}
