//! Query strings and the options that they carry.

use api::selector::{FieldSelector, LabelSelector};
use api::status::Status;

/// Decoded pairs in their order; a malformed escape stays as it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: &str) -> Query {
        Query(
            text.split('&')
                .filter(|p| !p.is_empty())
                .map(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (unescape(key), unescape(value))
                })
                .collect(),
        )
    }

    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, v)| v.as_str())
    }

    /// Every value of a parameter that may stand more than once.
    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(k, _)| k == key)
            .map(|(_, v)| v.as_str())
    }

    pub(crate) fn text(&self, key: &str) -> &str {
        self.get(key).unwrap_or_default()
    }

    /// Go's reading of a flag: present and neither "false" nor "0".
    pub(crate) fn flag(&self, key: &str) -> bool {
        self.get(key)
            .is_some_and(|v| !matches!(v.to_ascii_lowercase().as_str(), "false" | "0"))
    }

    pub(crate) fn number(&self, key: &str) -> Result<Option<i64>, Status> {
        match self.get(key) {
            None | Some("") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| {
                Status::bad_request(format!(
                    "strconv.ParseInt: parsing {text:?}: invalid syntax"
                ))
            }),
        }
    }

    /// Whether the request asks for no effect; other values than All are wrong.
    pub(crate) fn dry_run(&self) -> Result<bool, Status> {
        dry_run(
            self.0
                .iter()
                .filter(|(k, _)| k == "dryRun")
                .map(|(_, v)| v.as_str()),
        )
    }

    pub(crate) fn labels(&self) -> Result<LabelSelector, Status> {
        LabelSelector::parse(self.text("labelSelector")).map_err(Status::bad_request)
    }

    pub(crate) fn fields(&self) -> Result<FieldSelector, Status> {
        FieldSelector::parse(self.text("fieldSelector")).map_err(Status::bad_request)
    }
}

pub(crate) fn dry_run<'a>(values: impl Iterator<Item = &'a str>) -> Result<bool, Status> {
    let mut found = false;
    for value in values {
        match value {
            "All" => found = true,
            "" => {}
            other => {
                return Err(Status::new(
                    422,
                    "Invalid",
                    format!(
                        " \"\" is invalid: dryRun: Unsupported value: {other:?}: supported values: \"All\""
                    ),
                ));
            }
        }
    }
    Ok(found)
}

fn unescape(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_decode(&spaced).unwrap_or(spaced)
}

/// `None` for a malformed escape or text that isn't UTF-8.
pub(crate) fn percent_decode(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b == b'%' {
            let hex = |b: u8| {
                char::from(b)
                    .to_digit(16)
                    .and_then(|d| u8::try_from(d).ok())
            };
            let (hi, lo) = (hex(bytes.next()?)?, hex(bytes.next()?)?);
            out.push(hi << 4 | lo);
        } else {
            out.push(b);
        }
    }
    String::from_utf8(out).ok()
}

/// Percent-encodes everything that isn't unreserved (RFC 3986, 2.3).
pub(crate) fn percent_encode(text: &str) -> String {
    let mut out = String::new();
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}
