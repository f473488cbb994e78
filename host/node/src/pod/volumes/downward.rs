//! Files of the downward API: fields of the pod, resources of its containers.

use super::super::environment::{ConfigError, HostFacts, field_value, resource_value};
use super::super::view::View;
use super::content::{File, Files};
use k8s_openapi::api::core::v1::DownwardAPIVolumeFile;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Adds the files of `items`.
///
/// # Errors
/// A field or a resource that upstream doesn't have, either.
pub(super) fn files(
    view: View<'_>,
    items: &[DownwardAPIVolumeFile],
    mode: i32,
    host: &HostFacts,
    files: &mut Files,
) -> Result<(), ConfigError> {
    for item in items {
        let text = if let Some(field) = &item.field_ref {
            match field.field_path.as_str() {
                "metadata.labels" => lines(&view.0.metadata.labels),
                "metadata.annotations" => lines(&view.0.metadata.annotations),
                _ => field_value(view, field, host)?,
            }
        } else if let Some(resource) = &item.resource_field_ref {
            let name = resource.container_name.as_deref().unwrap_or_default();
            let container = view.container(name).map(|(_, container)| container);
            let container =
                container.ok_or_else(|| ConfigError(format!("container {name} not found")))?;
            resource_value(view, container, resource)?
        } else {
            continue;
        };
        let file = File {
            mode: super::content::bits(item.mode.unwrap_or(mode)),
            owner: None,
            bytes: text.into_bytes(),
        };
        files.insert(super::clean(&item.path), file);
    }
    Ok(())
}

/// `key="value"`, sorted, quoted as Go's `%q` does.
fn lines(map: &Option<BTreeMap<String, String>>) -> String {
    let line = |(key, value): (&String, &String)| format!("{key}={}", quoted(value));
    let lines: Vec<String> = map.iter().flatten().map(line).collect();
    lines.join("\n")
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if c.is_ascii_control() => {
                // Writing to a String can't fail.
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_as_go_does() {
        for (text, wanted) in [
            ("a b", r#""a b""#),
            ("say \"x\"\\", r#""say \"x\"\\""#),
            ("1\n2\t\u{1}é\u{85}", r#""1\n2\t\x01é\u0085""#),
        ] {
            assert_eq!(quoted(text), wanted);
        }
    }
}
