//! What a name, a label and an annotation may be (RFC 1123, RFC 1035), in
//! upstream's words (`apimachinery/pkg/util/validation`). An empty answer is
//! consent.

const DNS1123_LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const DNS1123_SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const QUALIFIED: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const ENV_NAME: &str = "a valid environment variable name must consist only of printable ASCII characters other than '='";

pub const LABEL_MAX: usize = 63;
pub const SUBDOMAIN_MAX: usize = 253;

fn too_long(max: usize) -> String {
    format!("must be no more than {max} characters")
}

fn is_label(s: &str) -> bool {
    let edge = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = s.as_bytes();
    matches!((bytes.first(), bytes.last()), (Some(&a), Some(&z)) if edge(a) && edge(z))
        && bytes.iter().all(|&b| edge(b) || b == b'-')
}

fn is_qualified_part(s: &str) -> bool {
    let edge = |b: u8| b.is_ascii_alphanumeric();
    let bytes = s.as_bytes();
    matches!((bytes.first(), bytes.last()), (Some(&a), Some(&z)) if edge(a) && edge(z))
        && bytes
            .iter()
            .all(|&b| edge(b) || matches!(b, b'-' | b'_' | b'.'))
}

/// A DNS label: names of namespaces and containers.
pub fn dns_label(s: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if s.len() > LABEL_MAX {
        wrong.push(too_long(LABEL_MAX));
    }
    if !is_label(s) {
        wrong.push(DNS1123_LABEL.to_owned());
    }
    wrong
}

/// A DNS subdomain: names of most objects.
pub fn dns_subdomain(s: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if s.len() > SUBDOMAIN_MAX {
        wrong.push(too_long(SUBDOMAIN_MAX));
    }
    if s.is_empty() || !s.split('.').all(is_label) {
        wrong.push(DNS1123_SUBDOMAIN.to_owned());
    }
    wrong
}

const DNS1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";

/// A DNS label that begins with a letter.
pub fn dns1035_label(s: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if s.len() > LABEL_MAX {
        wrong.push(too_long(LABEL_MAX));
    }
    if !is_label(s) || !s.starts_with(|c: char| c.is_ascii_lowercase()) {
        wrong.push(DNS1035.to_owned());
    }
    wrong
}

/// `*.` and a DNS subdomain.
pub fn wildcard_subdomain(s: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if s.len() > SUBDOMAIN_MAX {
        wrong.push(too_long(SUBDOMAIN_MAX));
    }
    if !s
        .strip_prefix("*.")
        .is_some_and(|d| d.split('.').all(is_label))
    {
        wrong.push("a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')".to_owned());
    }
    wrong
}

/// `5%`.
pub fn percent(s: &str) -> Vec<String> {
    match s.strip_suffix('%') {
        Some(n) if !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()) => Vec::new(),
        _ => vec!["a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')".to_owned()],
    }
}

/// A name that is one segment of a path, and nothing more is asked of it.
pub fn path_segment(s: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if s == "." || s == ".." {
        wrong.push(format!("may not be '{s}'"));
    }
    for c in ["/", "%"] {
        if s.contains(c) {
            wrong.push(format!("may not contain '{c}'"));
        }
    }
    wrong
}

/// A label's or annotation's key: `[prefix/]name`.
pub fn qualified_name(s: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut parts = s.split('/');
    let (prefix, name) = match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, _) => (None, name),
        (Some(prefix), Some(name), None) => (Some(prefix), name),
        _ => {
            return vec![format!(
                "a qualified name {QUALIFIED} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    match prefix {
        Some("") => wrong.push("prefix part must be non-empty".to_owned()),
        Some(p) => wrong.extend(
            dns_subdomain(p)
                .into_iter()
                .map(|m| format!("prefix part {m}")),
        ),
        None => {}
    }
    if name.is_empty() {
        wrong.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_MAX {
        wrong.push(format!("name part {}", too_long(LABEL_MAX)));
    }
    if !is_qualified_part(name) {
        wrong.push(format!("name part {QUALIFIED}"));
    }
    wrong
}

pub fn label_value(s: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if s.len() > LABEL_MAX {
        wrong.push(too_long(LABEL_MAX));
    }
    if !s.is_empty() && !is_qualified_part(s) {
        wrong.push(LABEL_VALUE.to_owned());
    }
    wrong
}

/// A key of a ConfigMap's or Secret's data.
pub fn config_key(s: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if s.len() > SUBDOMAIN_MAX {
        wrong.push(too_long(SUBDOMAIN_MAX));
    }
    if s.is_empty()
        || !s
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    {
        wrong.push(CONFIG_KEY.to_owned());
    } else if s == "." || s == ".." {
        wrong.push(format!("must not be '{s}'"));
    } else if s.starts_with("..") {
        wrong.push("must not start with '..'".to_owned());
    }
    wrong
}

pub fn env_name(s: &str) -> Vec<String> {
    if !s.is_empty() && s.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'=') {
        Vec::new()
    } else {
        vec![ENV_NAME.to_owned()]
    }
}

/// A port's name (RFC 6335, IANA service name).
pub fn port_name(s: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if s.len() > 15 {
        wrong.push(too_long(15));
    }
    if !s
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    {
        wrong.push(
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned(),
        );
    }
    if !s.bytes().any(|b| b.is_ascii_lowercase()) {
        wrong.push("must contain at least one letter (a-z)".to_owned());
    }
    if s.contains("--") {
        wrong.push("must not contain consecutive hyphens".to_owned());
    }
    if s.starts_with('-') || s.ends_with('-') {
        wrong.push("must not begin or end with a hyphen".to_owned());
    }
    wrong
}

pub fn port_number(n: i64) -> Vec<String> {
    if (1..=65_535).contains(&n) {
        Vec::new()
    } else {
        vec!["must be between 1 and 65535, inclusive".to_owned()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_as_upstream_judges_them() {
        type Check = fn(&str) -> Vec<String>;
        let cases: &[(Check, &str, bool)] = &[
            (dns_label, "a", true),
            (dns_label, "a-b9", true),
            (dns_label, "", false),
            (dns_label, "-a", false),
            (dns_label, "A", false),
            (dns_label, "a.b", false),
            (dns_subdomain, "a.b-c.9", true),
            (dns_subdomain, "a..b", false),
            (dns_subdomain, "Bad_Name", false),
            (qualified_name, "app.kubernetes.io/name", true),
            (qualified_name, "/name", false),
            (qualified_name, "a/b/c", false),
            (qualified_name, "Na.me_1", true),
            (label_value, "", true),
            (label_value, "-x", false),
            (config_key, "..data", false),
            (config_key, "a.txt", true),
            (env_name, "A B", true),
            (env_name, "A=B", false),
            (port_name, "http", true),
            (port_name, "80", false),
            (path_segment, "..", false),
        ];
        for (check, name, fine) in cases {
            assert_eq!(check(name).is_empty(), *fine, "{name:?}");
        }
        assert!(!dns_label(&"a".repeat(64)).is_empty());
        assert!(!dns_subdomain(&"a".repeat(254)).is_empty());
    }
}
