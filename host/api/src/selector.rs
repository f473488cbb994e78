//! Label and field selectors: their text forms, and whether an object matches.

use crate::names;
use crate::pick::Paths;
use serde_json::Value;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan(i64),
    LessThan(i64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    pub values: Vec<String>,
}

/// A conjunction of requirements; empty selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector(pub Vec<Requirement>);

/// One term of a field selector: `path = value` or `path != value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldTerm {
    pub path: String,
    pub value: String,
    pub equal: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector(pub Vec<FieldTerm>);

impl LabelSelector {
    pub fn parse(text: &str) -> Result<LabelSelector, String> {
        let tokens = lex(text);
        let mut parser = Parser { tokens, at: 0 };
        let mut requirements = Vec::new();
        if parser.peek().is_none() {
            return Ok(LabelSelector::default());
        }
        loop {
            requirements.push(parser.requirement()?);
            match parser.next() {
                None => return Ok(LabelSelector(requirements)),
                Some(Token::Comma) => {}
                Some(t) => {
                    return Err(format!(
                        "unable to parse requirement: found '{}', expected: ',' or 'end of string'",
                        t.text()
                    ));
                }
            }
        }
    }

    pub fn matches(&self, object: &Value) -> bool {
        let labels = crate::meta::at(object, &["metadata", "labels"]);
        self.0.iter().all(|r| {
            let value = labels.and_then(|l| l.get(&r.key)).and_then(Value::as_str);
            r.matches(value)
        })
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What of an object has to be known to match it.
    pub fn paths(&self, paths: &mut Paths) {
        if !self.is_empty() {
            paths.add(&["metadata", "labels"]);
        }
    }
}

impl Requirement {
    fn matches(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|v| v.parse::<i64>().ok());
        match self.operator {
            Operator::In => value.is_some_and(|v| self.values.iter().any(|w| w == v)),
            Operator::NotIn => value.is_none_or(|v| !self.values.iter().any(|w| w == v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan(bound) => number().is_some_and(|n| n > bound),
            Operator::LessThan(bound) => number().is_some_and(|n| n < bound),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Comma,
    Open,
    Close,
    Not,
    Equal,
    NotEqual,
    Greater,
    Less,
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Token::Word(w) => w,
            Token::Comma => ",",
            Token::Open => "(",
            Token::Close => ")",
            Token::Not => "!",
            Token::Equal => "=",
            Token::NotEqual => "!=",
            Token::Greater => ">",
            Token::Less => "<",
        }
    }
}

fn lex(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        tokens.push(match c {
            c if c.is_whitespace() => continue,
            ',' => Token::Comma,
            '(' => Token::Open,
            ')' => Token::Close,
            '>' => Token::Greater,
            '<' => Token::Less,
            '=' => {
                chars.next_if_eq(&'=');
                Token::Equal
            }
            '!' => match chars.next_if_eq(&'=') {
                Some(_) => Token::NotEqual,
                None => Token::Not,
            },
            c => {
                let mut word = String::from(c);
                while let Some(c) = chars.next_if(|c| !c.is_whitespace() && !",()><=!".contains(*c))
                {
                    word.push(c);
                }
                Token::Word(word)
            }
        });
    }
    tokens
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let negated = self.peek() == Some(&Token::Not);
        if negated {
            self.at += 1;
        }
        let key = self.key()?;
        let plain = |operator, values| {
            Ok(Requirement {
                key: key.clone(),
                operator,
                values,
            })
        };
        if negated {
            return plain(Operator::DoesNotExist, Vec::new());
        }
        match self.peek().cloned() {
            None | Some(Token::Comma) => plain(Operator::Exists, Vec::new()),
            Some(Token::Equal) => {
                self.at += 1;
                plain(Operator::In, vec![self.value(&key)?])
            }
            Some(Token::NotEqual) => {
                self.at += 1;
                plain(Operator::NotIn, vec![self.value(&key)?])
            }
            Some(Token::Greater) => {
                self.at += 1;
                plain(Operator::GreaterThan(self.number()?), Vec::new())
            }
            Some(Token::Less) => {
                self.at += 1;
                plain(Operator::LessThan(self.number()?), Vec::new())
            }
            Some(Token::Word(w)) if w == "in" || w == "notin" => {
                self.at += 1;
                let values = self.set(&key)?;
                let operator = if w == "in" {
                    Operator::In
                } else {
                    Operator::NotIn
                };
                plain(operator, values)
            }
            Some(t) => Err(format!(
                "unable to parse requirement: found '{}', expected: in, notin, =, ==, !=, gt, lt",
                t.text()
            )),
        }
    }

    fn key(&mut self) -> Result<String, String> {
        let key = match self.next() {
            Some(Token::Word(w)) => w,
            other => {
                return Err(format!(
                    "unable to parse requirement: found '{}', expected: identifier",
                    other.as_ref().map_or("", Token::text)
                ));
            }
        };
        match names::qualified_name(&key).first() {
            Some(fault) => Err(format!(
                "unable to parse requirement: <nil>: Invalid value: {key:?}: {fault}"
            )),
            None => Ok(key),
        }
    }

    /// One value; nothing before a comma or the end is the empty value.
    fn value(&mut self, key: &str) -> Result<String, String> {
        let value = match self.peek() {
            Some(Token::Word(w)) => w.clone(),
            None | Some(Token::Comma) => return Ok(String::new()),
            Some(t) => {
                return Err(format!(
                    "unable to parse requirement: found '{}', expected: identifier",
                    t.text()
                ));
            }
        };
        self.at += 1;
        checked(key, value)
    }

    fn number(&mut self) -> Result<i64, String> {
        match self.next() {
            Some(Token::Word(w)) => w.parse().map_err(|_| {
                "unable to parse requirement: for 'Gt', 'Lt' operators, the value must be an integer"
                    .to_owned()
            }),
            _ => Err("unable to parse requirement: expected an integer".to_owned()),
        }
    }

    fn set(&mut self, key: &str) -> Result<Vec<String>, String> {
        if self.next() != Some(Token::Open) {
            return Err("unable to parse requirement: expected: '('".to_owned());
        }
        let mut values = Vec::new();
        loop {
            match self.next() {
                Some(Token::Word(w)) => {
                    values.push(checked(key, w)?);
                    match self.next() {
                        Some(Token::Comma) => {}
                        Some(Token::Close) => return Ok(values),
                        _ => {
                            return Err(
                                "unable to parse requirement: expected: ',' or ')'".to_owned()
                            );
                        }
                    }
                }
                Some(Token::Comma) => values.push(String::new()),
                Some(Token::Close) => {
                    values.push(String::new());
                    return Ok(values);
                }
                _ => {
                    return Err(
                        "unable to parse requirement: expected: ',', ')' or identifier".to_owned(),
                    );
                }
            }
        }
    }
}

fn checked(key: &str, value: String) -> Result<String, String> {
    match names::label_value(&value).first() {
        None => Ok(value),
        Some(fault) => Err(format!(
            "unable to parse requirement: values[0][{key}]: Invalid value: {value:?}: {fault}"
        )),
    }
}

impl FieldSelector {
    pub fn parse(text: &str) -> Result<FieldSelector, String> {
        let mut terms = Vec::new();
        for part in split_unescaped(text) {
            if part.is_empty() {
                continue;
            }
            terms.push(
                parse_term(&part).ok_or_else(|| {
                    format!("invalid selector: '{text}'; can't understand '{part}'")
                })?,
            );
        }
        Ok(FieldSelector(terms))
    }

    /// The value that the selector demands of `path`, if it demands one.
    pub fn required(&self, path: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|t| t.equal && t.path == path)
            .map(|t| t.value.as_str())
    }

    /// What of an object has to be known to match it.
    pub fn paths(&self, paths: &mut Paths) {
        for term in &self.0 {
            let path: Vec<&str> = term.path.split('.').collect();
            paths.add(&path);
        }
    }

    pub fn matches(&self, object: &Value) -> bool {
        self.0
            .iter()
            .all(|t| (field_text(object, &t.path) == t.value) == t.equal)
    }
}

fn parse_term(part: &str) -> Option<FieldTerm> {
    let (path, value, equal) = if let Some((p, v)) = part.split_once("!=") {
        (p, v, false)
    } else if let Some((p, v)) = part.split_once("==") {
        (p, v, true)
    } else {
        let (p, v) = part.split_once('=')?;
        (p, v, true)
    };
    let mut out = String::new();
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next()? {
                e @ ('\\' | ',' | '=') => out.push(e),
                _ => return None,
            },
            '=' => return None,
            c => out.push(c),
        }
    }
    Some(FieldTerm {
        path: path.to_owned(),
        value: out,
        equal,
    })
}

fn split_unescaped(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut escaped = false;
    for c in text.chars() {
        if c == ',' && !escaped {
            parts.push(String::new());
            continue;
        }
        escaped = c == '\\' && !escaped;
        if let Some(last) = parts.last_mut() {
            last.push(c);
        }
    }
    parts
}

/// The selectable text at a dotted path. Absent flags read "false".
fn field_text(object: &Value, path: &str) -> String {
    let found = path
        .split('.')
        .try_fold(object, |v, key| v.get(key))
        .unwrap_or(&Value::Null);
    match found {
        Value::String(s) => s.clone(),
        Value::Null if matches!(path, "spec.unschedulable" | "spec.hostNetwork") => "false".into(),
        Value::Null => String::new(),
        Value::Object(o) if path == "source" => o
            .get("component")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde_json::json;

    #[test]
    fn label_selectors() {
        let object = json!({"metadata": {"labels": {"app": "web", "tier": "1", "empty": ""}}});
        for (text, matches) in [
            ("", true),
            ("app=web", true),
            ("app==web,tier", true),
            ("app!=web", false),
            ("other!=x", true),
            ("app in (a, web)", true),
            ("app notin (a,web)", false),
            ("!other", true),
            ("!app", false),
            ("tier>0,tier<2", true),
            ("empty=", true),
            ("in=x", false),
        ] {
            assert_eq!(
                LabelSelector::parse(text).unwrap().matches(&object),
                matches,
                "{text}"
            );
        }
        for text in [
            "a=b=c", ",", "a in b", "a in (b", "=x", "a b", "!!a", "a>b", "é", "a=-",
        ] {
            assert!(LabelSelector::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn field_selectors() {
        let object = json!({"metadata": {"name": "x"}, "spec": {}, "status": {"phase": "A,B"}});
        for (text, matches) in [
            ("", true),
            ("metadata.name=x", true),
            ("metadata.name!=x", false),
            ("spec.nodeName=", true),
            ("spec.unschedulable=false", true),
            ("status.phase==A\\,B", true),
            ("status.phase=A", false),
        ] {
            assert_eq!(
                FieldSelector::parse(text).unwrap().matches(&object),
                matches,
                "{text}"
            );
        }
        assert!(FieldSelector::parse("nothing").is_err());
        assert!(FieldSelector::parse("a=b\\").is_err());
    }
}
