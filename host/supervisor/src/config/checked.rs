//! Values that are checked when they are parsed, so that YAML's errors carry
//! their line.

use serde::de::Visitor;
use serde::{Deserialize, Deserializer};
use std::fmt;

/// Checks inside of the visitor, so that the error names the very value.
struct Checked(fn(&str) -> Result<(), String>);

impl Visitor<'_> for Checked {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<String, E> {
        (self.0)(text).map_err(E::custom)?;
        Ok(text.to_owned())
    }
}

macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) struct $name(String);

        impl $name {
            pub(super) fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Checked($check)).map(Self)
            }
        }
    };
}

checked_text!(
    /// A node's name, an RFC 1123 subdomain of at most 63 characters, because
    /// it is the host name, too.
    NodeName,
    node_name
);
checked_text!(
    /// `prefix/name` or `name`, as Kubernetes has it.
    LabelKey,
    label_key
);
checked_text!(
    /// At most 63 characters.
    LabelValue,
    label_value
);
checked_text!(
    /// A disk's name below `/dev`, with or without that.
    DeviceName,
    device_name
);
checked_text!(
    /// A label or serial number.
    DiskText,
    disk_text
);
checked_text!(
    /// PEM (RFC 7468); what is in it its user checks.
    Pem,
    pem
);

fn alphanumeric_ends(text: &str) -> bool {
    let ends = [text.bytes().next(), text.bytes().last()];
    ends.iter()
        .all(|end| end.is_some_and(|byte| byte.is_ascii_alphanumeric()))
}

fn node_name(text: &str) -> Result<(), String> {
    let label = |label: &str| {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        alphanumeric_ends(label) && label.bytes().all(plain)
    };
    if text.len() <= 63 && text.split('.').all(label) {
        return Ok(());
    }
    Err(format!(
        "{text:?}: lower case letters, digits, '-' and '.' make a node's name, at most 63 (RFC 1123)"
    ))
}

fn qualified(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    text.len() <= 63 && alphanumeric_ends(text) && text.bytes().all(plain)
}

fn label_key(text: &str) -> Result<(), String> {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    if prefix.is_none_or(|prefix| node_name(prefix).is_ok()) && qualified(name) {
        return Ok(());
    }
    Err(format!(
        "{text:?}: not a label's key (`prefix/name` or `name`)"
    ))
}

fn label_value(text: &str) -> Result<(), String> {
    if text.is_empty() || qualified(text) {
        return Ok(());
    }
    Err(format!("{text:?}: not a label's value"))
}

fn device_name(text: &str) -> Result<(), String> {
    let short = text.strip_prefix("/dev/").unwrap_or(text);
    let plain = |b: u8| b.is_ascii_alphanumeric();
    if (1..=32).contains(&short.len()) && short.bytes().all(plain) {
        return Ok(());
    }
    Err(format!("{text:?}: not a disk such as /dev/vda"))
}

fn disk_text(text: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.:+=@ ".contains(&b);
    let fits = (1..=64).contains(&text.len()) && !text.starts_with('.');
    if fits && text.bytes().all(plain) {
        return Ok(());
    }
    Err(format!("{text:?}: at most 64 letters, digits and -_.:+=@"))
}

fn pem(text: &str) -> Result<(), String> {
    let framed = text.trim_start().starts_with("-----BEGIN ") && text.contains("-----END ");
    if framed && text.len() <= 64 << 10 {
        return Ok(());
    }
    Err("not PEM (RFC 7468): `-----BEGIN ` is expected".to_owned())
}
