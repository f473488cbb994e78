//! Connections to pods as admission sees them: the options that the query
//! carries, as an object of their type; what admission changes in it goes back
//! into the query.

use super::Call;
use crate::admission::{Operation, Options};
use crate::query::{Query, percent_encode};
use api::kinds::Subresource;
use api::status::Status;
use serde_json::{Map, Value, json};

/// How an option stands in the query and in the object.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Flag,
    Text,
    Texts,
    Numbers,
}

const PROCESS: &[(&str, Form)] = &[
    ("stdin", Form::Flag),
    ("stdout", Form::Flag),
    ("stderr", Form::Flag),
    ("tty", Form::Flag),
    ("container", Form::Text),
    ("command", Form::Texts),
];

/// What the object of a subresource has.
fn members(of: Subresource) -> &'static [(&'static str, Form)] {
    match of {
        Subresource::Exec => PROCESS,
        Subresource::Attach => &PROCESS[..5],
        Subresource::PortForward => &[("ports", Form::Numbers)],
        Subresource::PodProxy | Subresource::ServiceProxy | Subresource::NodeProxy => {
            &[("path", Form::Text)]
        }
        Subresource::Status
        | Subresource::Finalize
        | Subresource::Approval
        | Subresource::Binding
        | Subresource::Eviction
        | Subresource::EphemeralContainers
        | Subresource::Scale
        | Subresource::Log
        | Subresource::Resize
        | Subresource::Token => &[],
    }
}

fn describe(query: &Query, of: Subresource) -> Value {
    let mut out = Map::new();
    let kind = of.discovery().2.unwrap_or_default();
    out.insert("kind".to_owned(), kind.into());
    out.insert("apiVersion".to_owned(), "v1".into());
    for (key, form) in members(of) {
        let value = match form {
            Form::Flag if query.flag(key) => Value::Bool(true),
            Form::Text if !query.text(key).is_empty() => query.text(key).into(),
            Form::Texts if query.get(key).is_some() => query.all(key).collect(),
            Form::Numbers if query.get(key).is_some() => query
                .all(key)
                .flat_map(|ports| ports.split(','))
                .filter_map(|port| port.parse::<i64>().ok())
                .collect(),
            Form::Flag | Form::Text | Form::Texts | Form::Numbers => continue,
        };
        out.insert((*key).to_owned(), value);
    }
    Value::Object(out)
}

/// The query that means `object`.
fn query(object: &Value, of: Subresource) -> String {
    let mut pairs = Vec::new();
    for (key, form) in members(of) {
        let listed = match &object[*key] {
            Value::Array(items) if *form == Form::Numbers => {
                let ports: Vec<String> = items.iter().map(Value::to_string).collect();
                vec![ports.join(",").into()]
            }
            Value::Array(items) => items.clone(),
            Value::Null => Vec::new(),
            one => vec![one.clone()],
        };
        for value in listed {
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            pairs.push(format!("{key}={}", percent_encode(&text)));
        }
    }
    pairs.join("&")
}

/// Lets admission see a request that is passed on to `path`; where it goes.
pub(crate) async fn admit_path(call: &Call, of: Subresource, path: &str) -> Result<String, Status> {
    let mut options = json!({"kind": of.discovery().2, "apiVersion": "v1"});
    if !path.is_empty() {
        options["path"] = path.into();
    }
    call.admit_action(
        Operation::Connect,
        &mut options,
        &json!(null),
        Options::Nowhere,
    )
    .await?;
    Ok(api::meta::text(&options, &["path"]).to_owned())
}

/// Lets admission see the connection.
pub(crate) async fn admit(call: &mut Call, of: Subresource) -> Result<(), Status> {
    let before = describe(&call.query, of);
    let mut after = before.clone();
    call.admit_action(
        Operation::Connect,
        &mut after,
        &json!(null),
        Options::Nowhere,
    )
    .await?;
    if after != before {
        call.raw_query = query(&after, of);
        call.query = Query::parse(&call.raw_query);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_an_object_and_a_query() {
        for (of, text, wanted, again) in [
            (
                Subresource::Exec,
                "command=sh&command=-c&command=a%26b&stdin=true&tty=0&x=y",
                json!({"kind": "PodExecOptions", "apiVersion": "v1", "stdin": true,
                    "command": ["sh", "-c", "a&b"]}),
                "stdin=true&command=sh&command=-c&command=a%26b",
            ),
            (
                Subresource::PortForward,
                "ports=80,443",
                json!({"kind": "PodPortForwardOptions", "apiVersion": "v1", "ports": [80, 443]}),
                "ports=80%2C443",
            ),
        ] {
            let found = describe(&Query::parse(text), of);
            assert_eq!(found, wanted, "{text}");
            assert_eq!(query(&found, of), again, "{text}");
        }
    }
}
