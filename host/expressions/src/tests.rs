#![expect(clippy::unwrap_used, reason = "tests")]
use super::*;
use serde_json::json;
use std::time::{Duration, Instant};

fn budget() -> Budget {
    Budget {
        steps: 10_000_000,
        deadline: Instant::now() + Duration::from_secs(1),
    }
}

fn run(text: &str, object: &serde_json::Value) -> Result<Value, EvalError> {
    let program = Program::compile(text, &["self"]).unwrap();
    let variables = [("self", from_json(object))];
    isolated(|| program.evaluate(&variables, &mut budget())).unwrap()
}

#[test]
fn expressions_hold() {
    let object = json!({
        "n": 3, "s": "hello", "list": [1, 2, 3], "names": ["a", "b"], "map": {"k": "v"},
    });
    for text in [
        "self.n > 2 && self.s.startsWith('he')",
        "self.list.all(x, x > 0) && self.list.exists(x, x == 2)",
        "self.list.map(x, x * 2) == [2, 4, 6]",
        "self.list.filter(x, x > 1).size() == 2",
        "has(self.n) && !has(self.missing)",
        "'k' in self.map && self.map['k'] == 'v'",
        "self.s.matches('^h.*o$') && self.s.find('l+') == 'll'",
        "quantity('1Gi').isGreaterThan(quantity('1Mi'))",
        "isIP('10.0.0.1') && cidr('10.0.0.0/8').containsIP('10.1.2.3')",
        "url('https://example.com/x').getHost() == 'example.com'",
        "isSemver('1.2.3') && self.list.isSorted() && self.list.sum() == 6",
        "self.names.join(',') == 'a,b' && 'a-b'.split('-') == ['a', 'b']",
        "duration('1h') > duration('1m') && timestamp('2024-01-01T00:00:00Z').getFullYear() == 2024",
        "'%s has %d'.format([self.s, self.n]) == 'hello has 3'",
        "self.?missing.orValue(5) == 5",
    ] {
        assert_eq!(run(text, &object), Ok(Value::Bool(true)), "{text}");
    }
}

#[test]
fn what_does_not_compile_is_refused() {
    let deep = format!("{}1{}", "(".repeat(200), ")".repeat(200));
    let signs = format!("{}true", "!".repeat(5000));
    let long = format!("true{}", " || true".repeat(10_000));
    for (text, why) in [
        ("self.", "Syntax error"),
        ("", ""),
        ("other == 1", "undeclared reference to 'other'"),
        ("nosuch(self)", "undeclared reference to 'nosuch'"),
        ("Thing{a: 1}.a == 1", "undeclared reference"),
        (deep.as_str(), "recursion limit"),
        (signs.as_str(), "recursion limit"),
        (long.as_str(), "exceeds limit"),
    ] {
        let refused = Program::compile(text, &["self"]).unwrap_err();
        assert!(refused.to_string().contains(why), "{refused}");
    }
}

#[test]
fn no_expression_runs_away() {
    let list: Vec<i64> = (0..3000).collect();
    let object = json!({"l": list, "s": "x".repeat(1000)});
    for text in [
        "self.l.all(a, self.l.all(b, self.l.all(c, a + b + c >= 0)))",
        "self.l.map(a, self.l.map(b, a * b)).size() > 0 && self.l.all(a, self.l.all(b, true))",
        "[self.s].map(a, a+a+a+a).map(a, a+a+a+a).map(a, a+a+a+a).map(a, a+a+a+a).map(a, a+a+a+a).map(a, a+a+a+a).map(a, a+a+a+a)[0] != ''",
        "self.s.replace('x', self.s).replace('x', self.s) != ''",
    ] {
        let spent = run(text, &object).unwrap_err();
        assert!(matches!(spent, EvalError::Spent(_)), "{spent:?} {text}");
    }
    let mut small = Budget {
        steps: 10,
        ..budget()
    };
    let program = Program::compile("self.l.all(x, x >= 0)", &["self"]).unwrap();
    let variables = [("self", from_json(&object))];
    let outcome = isolated(|| program.evaluate(&variables, &mut small)).unwrap();
    assert_eq!(outcome, Err(EvalError::Spent(Spent::Budget)));
    let mut late = Budget {
        steps: 10_000_000,
        deadline: Instant::now().checked_sub(Duration::from_secs(1)).unwrap(),
    };
    let outcome = isolated(|| program.evaluate(&variables, &mut late)).unwrap();
    assert_eq!(outcome, Err(EvalError::Spent(Spent::Time)));
}

#[test]
fn types_are_known_where_they_can_be() {
    let fields = [
        ("n".to_owned(), Type::Scalar("int")),
        ("s".to_owned(), Type::String),
    ];
    let object = Type::Object(std::sync::Arc::new(fields.into()));
    let scope = [("self", object)];
    for (text, wanted) in [
        ("self.n > 1", Ok(Type::Bool)),
        ("self.s", Ok(Type::String)),
        ("self.n + 1", Ok(Type::Scalar("int"))),
        ("self.nothing == 1", Err("undefined field 'nothing'")),
        ("[1].all(x, self.nothing)", Err("undefined field 'nothing'")),
        ("[1].all(x, x > self.n)", Ok(Type::Bool)),
        (
            "self.n.inner == 1",
            Err("type 'int' does not support field selection"),
        ),
    ] {
        let found = Program::compile(text, &["self"]).unwrap().check(&scope);
        match wanted {
            Ok(wanted) => assert_eq!(found.unwrap(), wanted, "{text}"),
            Err(why) => assert!(found.unwrap_err().to_string().contains(why), "{text}"),
        }
    }
}

#[test]
fn names_are_escaped_as_upstream_does() {
    for (name, escaped) in [
        ("plain", Some("plain")),
        ("a-b", Some("a__dash__b")),
        ("a.b/c", Some("a__dot__b__slash__c")),
        ("in", Some("__in__")),
        ("a__b", Some("a__underscores__b")),
        ("1a", None),
        ("a b", None),
    ] {
        assert_eq!(escape(name).as_deref(), escaped, "{name}");
    }
}

#[test]
fn hostile_texts_neither_panic_nor_hang() {
    const PARTS: &[&str] = &[
        "self",
        ".",
        "x",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "?",
        ":",
        "&&",
        "||",
        "!",
        "-",
        "+",
        "==",
        "'s'",
        "1",
        "1.5",
        "b'x'",
        ".all(x, ",
        ".map(x, ",
        "has(",
        "matches",
        "\"",
        "\\",
        "in",
        "null",
        "optional.of(",
        "%",
        "\u{0}",
        "é",
        "size",
        ",",
        "_",
        "@",
        "r'",
        "0x",
        "1u",
        " ",
    ];
    let mut state = u64::from(std::process::id()) | 1;
    println!("seed {state}");
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % 1_000_003).unwrap()
    };
    for _ in 0..400 {
        let text: String = (0..1 + next() % 24)
            .map(|_| PARTS[next() % PARTS.len()])
            .collect();
        if let Ok(program) = Program::compile(&text, &["self", "x"]) {
            let variables = [
                ("self", from_json(&json!({"x": [1, "a", null]}))),
                ("x", text_value()),
            ];
            let mut small = Budget {
                steps: 10_000,
                ..budget()
            };
            let _ = isolated(|| program.evaluate(&variables, &mut small).is_ok());
        }
    }
}

fn text_value() -> Value {
    text("t")
}

/// Lets who asks about `pods` or `/healthz`, and says what it was asked.
struct Known;

impl authorizer::Authority for Known {
    fn decide(&self, question: &authorizer::Question) -> authorizer::Verdict {
        let q = question;
        let account = q
            .account
            .as_ref()
            .map(|(space, name)| format!("{space}/{name} "));
        let path = q.path.as_deref().unwrap_or_default();
        let words = [
            &q.verb,
            path,
            &q.group,
            &q.resource,
            &q.subresource,
            &q.namespace,
            &q.name,
            &q.field_selector,
            &q.label_selector,
        ];
        authorizer::Verdict {
            allowed: q.resource == "pods" || path == "/healthz",
            reason: account.unwrap_or_default() + &words.map(String::from).join(","),
            error: (q.resource == "broken").then(|| "no answer".to_owned()),
        }
    }
}

fn ask(text: &str) -> Result<Value, EvalError> {
    use authorizer::{AUTHORIZER, REQUEST_RESOURCE};
    let names = [AUTHORIZER, REQUEST_RESOURCE];
    let program = Program::compile(text, &names).unwrap();
    let known = || std::sync::Arc::new(Known);
    let own = authorizer::Question {
        group: "apps".to_owned(),
        resource: "deployments".to_owned(),
        namespace: "n".to_owned(),
        ..authorizer::Question::default()
    };
    let variables = [
        (AUTHORIZER, authorizer::authorizer(known())),
        (REQUEST_RESOURCE, authorizer::request_resource(known(), own)),
    ];
    isolated(|| program.evaluate(&variables, &mut budget())).unwrap()
}

#[test]
fn expressions_ask_the_authorizer() {
    for (asked, reason) in [
        (
            "authorizer.path('/healthz').check('get')",
            "get,/healthz,,,,,,,",
        ),
        (
            "authorizer.group('').resource('pods').check('list')",
            "list,,,pods,,,,,",
        ),
        (
            "authorizer.group('apps').resource('x').subresource('scale').namespace('n').name('a').check('get')",
            "get,,apps,x,scale,n,a,,",
        ),
        (
            "authorizer.group('').resource('pods').fieldSelector('a=b').labelSelector('c').check('list')",
            "list,,,pods,,,,a=b,c",
        ),
        (
            "authorizer.serviceAccount('n', 's').group('').resource('pods').check('get')",
            "n/s get,,,pods,,,,,",
        ),
        (
            "authorizer.requestResource.check('create')",
            "create,,apps,deployments,,n,,,",
        ),
        (
            "authorizer.requestResource.name('x').check('get')",
            "get,,apps,deployments,,n,x,,",
        ),
    ] {
        assert_eq!(
            ask(&format!("{asked}.reason()")),
            Ok(text(reason)),
            "{asked}"
        );
    }
    for holds in [
        "authorizer.path('/healthz').check('get').allowed()",
        "!authorizer.requestResource.check('get').allowed()",
        "authorizer.group('').resource('broken').check('get').errored()",
        "authorizer.group('').resource('broken').check('get').error() == 'no answer'",
        "!authorizer.path('/a').check('get').errored() && authorizer.path('/a').check('get').error() == ''",
        "[authorizer].all(a, a.group('').resource('pods').check('get').allowed())",
    ] {
        assert_eq!(ask(holds), Ok(Value::Bool(true)), "{holds}");
    }
}

#[test]
fn what_the_authorizer_can_not_be_asked_fails() {
    for (asked, why) in [
        ("authorizer.path(' ')", "path must not be empty"),
        (
            "authorizer.group('').resource('')",
            "resource must not be empty",
        ),
        (
            "authorizer.serviceAccount('a.b', 's')",
            "Invalid service account namespace",
        ),
        (
            "authorizer.serviceAccount('a', 's_')",
            "Invalid service account name",
        ),
        ("authorizer.check('get')", "no such overload"),
        ("authorizer.group('').check('get')", "no such overload"),
        ("authorizer.path('/').resource('x')", "no such overload"),
        ("authorizer.path('/').allowed()", "no such overload"),
        ("authorizer.path(1)", "no such overload"),
        ("authorizer.path('/', '/')", "no such overload"),
        ("'text'.path('/')", "no such overload"),
    ] {
        assert_eq!(
            ask(asked),
            Err(EvalError::Failed(why.to_owned())),
            "{asked}"
        );
    }
    let check = "authorizer.path('/healthz').check('get').allowed()";
    assert!(ask(&[check; 2].join(" && ")).is_ok());
    let spent = ask(&[check; 3].join(" && "));
    assert_eq!(spent, Err(EvalError::Spent(Spent::Call)));
    let refused = Program::compile(check, &["self"]).unwrap_err().to_string();
    assert!(
        refused.contains("undeclared reference to 'authorizer'"),
        "{refused}"
    );
}

#[test]
fn what_is_known_to_be_wrong_is_told_with_its_place() {
    let inner = Type::Object(std::sync::Arc::new(
        [("size".to_owned(), Type::Scalar("int"))].into(),
    ));
    let fields = [
        ("n", Type::Scalar("int")),
        ("d", Type::Scalar("double")),
        ("s", Type::String),
        ("b", Type::Bool),
        ("t", Type::Scalar("timestamp")),
        ("any", Type::Dyn),
        ("list", Type::List(std::sync::Arc::new(inner.clone()))),
        ("map", Type::Map(std::sync::Arc::new(Type::String))),
        ("inner", inner),
    ];
    let fields = fields.map(|(name, of)| (name.to_owned(), of));
    let scope = [("o", Type::Object(std::sync::Arc::new(fields.into())))];
    let faults = |text: &str| {
        let names = ["o", authorizer::AUTHORIZER, authorizer::REQUEST_RESOURCE];
        Program::compile(text, &names).unwrap().faults(&scope).1
    };
    for sound in [
        "o.n > 1 && o.d < 2 || o.s == 'x'",
        "o == null || o.inner != null || o.any == null",
        "o.list.all(i, i.size > 1) && o.map.all(k, o.map[k] == k)",
        "o.list.filter(i, i.size > 1).map(i, i.size).exists(n, n == 1)",
        "o.s.startsWith('x') && o.s.size() > 1 && size(o.list) == 2",
        "o.t + duration('1h') > o.t && (o.any + 1) == 2 && o.n + o.any > 1",
        "o.n in [1, 2] && 'a' in o.map && has(o.any.x.y) && o.any.reverse().y",
        "(o.b ? o.s : 'none') == 'x' && -o.n < 0 && !o.b && o.?any.?x.orValue(1) == 1",
        "o.list + [] == o.list && [o.s, 'x'].join(',') == 'x' && o.list[0].size % 2 == 0",
        "authorizer.group('').resource('x').check('get').allowed()",
        "math.greatest(o.n, 1) == 1 && quantity(o.s).isGreaterThan(quantity('1'))",
        "[1, 'x', o.n].all(x, x == o.s || x == 1)",
    ] {
        assert_eq!(faults(sound), None, "{sound}");
    }
    let overload =
        |name: &str, to: &str| format!("found no matching overload for '{name}' applied to '{to}'");
    for (text, place, why) in [
        ("o.x == 1", "1:2", "undefined field 'x'".to_owned()),
        ("o.n == 1 && o.inner.n == 1", "1:20", "undefined field 'n'".to_owned()),
        ("has(o.inner.x)", "1:12", "undefined field 'x'".to_owned()),
        ("o.b &&\n  o.n", "1:5", overload("_&&_", "(bool, int)")),
        ("o.b &&\n  o.n.x", "2:6", "type 'int' does not support field selection".to_owned()),
        ("'.x' + o.x", "1:9", "undefined field 'x'".to_owned()),
        ("o.s + 1 == ''", "1:5", overload("_+_", "(string, int)")),
        ("o.n == o.d", "1:5", overload("_==_", "(int, double)")),
        ("o.s < 1", "1:5", overload("_<_", "(string, int)")),
        ("o.n in ['a']", "1:1", overload("@in", "(int, list(string))")),
        ("o.map[1] == 'x'", "1:6", overload("_[_]", "(map(string, string), int)")),
        ("o.n.startsWith('x')", "1:15", overload("startsWith", "int.(string)")),
        ("o.s.startsWith(1)", "1:15", overload("startsWith", "string.(int)")),
        ("size(o.n)", "1:5", overload("size", "(int)")),
        ("o.list.all(i, i.x)", "1:16", "undefined field 'x'".to_owned()),
        (
            "o.inner.all(i, true)",
            "1:2",
            "expression of type 'object' cannot be range of a comprehension (must be list, map, or dynamic)".to_owned(),
        ),
        (
            "authorizer.check('x').allowed()",
            "1:17",
            overload("check", "kubernetes.authorization.Authorizer.(string)"),
        ),
    ] {
        let found = faults(text).unwrap_or_default();
        let start = format!("ERROR: <input>:{place}: {why}\n | ");
        assert!(found.starts_with(&start), "{text}: {found}");
    }
    let both = faults("o.y == 1 || o.x == 2").unwrap();
    let wanted = "ERROR: <input>:1:2: undefined field 'y'\n | o.y == 1 || o.x == 2\n | .^\n\
        ERROR: <input>:1:14: undefined field 'x'\n | o.y == 1 || o.x == 2\n | .............^";
    assert_eq!(both, wanted);
}
