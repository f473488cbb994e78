//! List: selectors, pages, resourceVersion rules, forms.

use super::create::parse_revision;
use super::{Answer, Call};
use crate::registry::{self, store_status};
use crate::respond::{self, Form};
use api::kinds::KindRef;
use api::print;
use api::selector::{FieldSelector, LabelSelector};
use api::status::Status;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde_json::{Value, json};
use store::{KeyValue, Range, Revision, prefix_end};

/// Keys read at a time while a selector is applied.
const CHUNK: usize = 500;

/// What a client selects.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    pub(crate) labels: LabelSelector,
    pub(crate) fields: FieldSelector,
}

impl Selection {
    pub(crate) fn of(call: &Call) -> Result<Selection, Status> {
        let mut fields = call.query.fields()?;
        for term in &fields.0 {
            let path = term.path.as_str();
            let known = matches!(path, "metadata.name" | "metadata.namespace")
                || call.kind.is_selectable(path);
            if !known {
                return Err(unknown_field(&call.kind, call, path));
            }
        }
        if !call.route.name.is_empty() {
            fields.0.push(api::selector::FieldTerm {
                path: "metadata.name".to_owned(),
                value: call.route.name.clone(),
                equal: true,
            });
        }
        Ok(Selection {
            labels: call.query.labels()?,
            fields,
        })
    }

    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.0.is_empty()
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.labels.matches(object) && self.fields.matches(object)
    }
}

fn unknown_field(kind: &KindRef, call: &Call, path: &str) -> Status {
    Status::bad_request(format!(
        "Unable to find {:?} that match label selector {:?}, field selector {:?}: field label not supported: {path}",
        format!("{}, Resource={}", api_path(kind), kind.plural()),
        call.query.text("labelSelector"),
        call.query.text("fieldSelector"),
    ))
}

fn api_path(kind: &KindRef) -> String {
    format!("{}/{}", kind.group(), kind.version())
}

/// The keys that a request goes over.
pub(crate) fn range_of(call: &Call) -> (Bytes, Bytes) {
    let prefix = registry::prefix(&call.kind, &call.route.namespace);
    let name = match call.route.name.as_str() {
        "" => None,
        name => Some(name),
    };
    match name {
        Some(name) if !call.kind.namespaced() || !call.route.namespace.is_empty() => {
            let key = prefix + name;
            (Bytes::from(key.clone()), Bytes::from(key + "\0"))
        }
        _ => {
            let end = prefix_end(prefix.as_bytes());
            (Bytes::from(prefix), end)
        }
    }
}

/// Refuses a resourceVersion that isn't one or hasn't happened.
pub(crate) fn check_version(call: &Call, text: &str) -> Result<Option<Revision>, Status> {
    if matches!(text, "" | "0") {
        return Ok(None);
    }
    let wanted = parse_revision(call.kind.resource(), "", text).map_err(|_| {
        Status::bad_request(format!(
            "Invalid value: {text:?}: must be an unsigned integer"
        ))
    })?;
    let newest = call.store.revision();
    if wanted > newest {
        return Err(registry::too_large(wanted.0, newest.0));
    }
    Ok(Some(wanted))
}

/// Where the next page begins.
#[derive(Debug, PartialEq, Eq)]
struct Continue {
    revision: Revision,
    start: String,
}

impl Continue {
    /// The token names a key relative to the list's prefix, as upstream's does.
    fn encode(&self) -> String {
        let token = json!({"v": "meta.k8s.io/v1", "rv": self.revision.0, "start": self.start});
        URL_SAFE_NO_PAD.encode(token.to_string())
    }

    fn decode(text: &str) -> Option<Continue> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let token: Value = serde_json::from_slice(&bytes).ok()?;
        (token["v"] == "meta.k8s.io/v1").then_some(())?;
        let start = token["start"].as_str()?;
        (!start.split('/').any(|p| p == "..")).then_some(Continue {
            revision: Revision(token["rv"].as_u64()?),
            start: start.to_owned(),
        })
    }
}

/// What was found: raw while nothing needed to look inside.
struct Page {
    items: Vec<KeyValue>,
    revision: Revision,
    next: Option<String>,
    remaining: Option<usize>,
}

/// Everything that the request selects, now.
pub(crate) fn select(call: &Call) -> Result<Vec<Value>, Status> {
    let selection = Selection::of(call)?;
    let (start, end) = range_of(call);
    let found = call
        .store
        .range(&Range {
            start,
            end,
            ..Range::default()
        })
        .map_err(store_status)?;
    let mut objects = Vec::new();
    for kv in &found.items {
        let object = registry::decode(&call.kind, &kv.value, kv.mod_revision)?;
        if selection.matches(&object) {
            objects.push(object);
        }
    }
    Ok(objects)
}

/// Where a page of a list begins, and at which revision.
struct Beginning {
    start: Bytes,
    end: Bytes,
    at: Option<Revision>,
}

fn beginning(call: &Call, token: &str, prefix: &str) -> Result<Beginning, Status> {
    let (first, end) = range_of(call);
    if token.is_empty() {
        let exact = call.query.text("resourceVersionMatch") == "Exact";
        let wanted = check_version(call, call.query.text("resourceVersion"))?;
        return Ok(Beginning {
            start: first,
            end,
            at: wanted.filter(|_| exact),
        });
    }
    let token = Continue::decode(token)
        .ok_or_else(|| Status::bad_request("continue key is not valid: invalid encoding"))?;
    Ok(Beginning {
        start: Bytes::from(prefix.to_owned() + &token.start),
        end,
        at: Some(token.revision),
    })
}

fn page(call: &Call, selection: &Selection) -> Result<Page, Status> {
    let limit = call.query.number("limit")?.unwrap_or(0).max(0);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let token = call.query.text("continue");
    let prefix = registry::prefix(&call.kind, &call.route.namespace);
    let Beginning {
        mut start,
        end,
        mut at,
    } = beginning(call, token, &prefix)?;
    let mut page = Page {
        items: Vec::new(),
        revision: Revision(0),
        next: None,
        remaining: None,
    };
    let everything = selection.is_everything();
    loop {
        let want = match (limit, everything) {
            (0, _) => 0,
            (n, true) => n,
            (_, false) => CHUNK,
        };
        let found = call
            .store
            .range(&Range {
                start: start.clone(),
                end: end.clone(),
                limit: want,
                revision: at,
            })
            .map_err(|e| range_status(e, token))?;
        page.revision = at.unwrap_or(found.revision);
        at = Some(page.revision);
        let mut more = found.remaining > 0;
        let last = found.items.last().map(|kv| kv.key.clone());
        let read = found.items.len();
        for (i, kv) in found.items.into_iter().enumerate() {
            start = Bytes::from([kv.key.as_ref(), b"\0"].concat());
            let chosen = everything
                || selection.matches(&registry::decode(&call.kind, &kv.value, kv.mod_revision)?);
            if chosen {
                page.items.push(kv);
            }
            if limit > 0 && page.items.len() == limit {
                more |= i + 1 < read;
                break;
            }
        }
        let full = limit > 0 && page.items.len() >= limit;
        if more && full {
            page.next = Some(next_token(page.revision, &start, &prefix));
            page.remaining = everything.then_some(found.remaining);
        }
        if full || !more || last.is_none() {
            return Ok(page);
        }
    }
}

/// Where the next page goes on.
fn next_token(revision: Revision, start: &[u8], prefix: &str) -> String {
    let text = String::from_utf8_lossy(start);
    let start = text.strip_prefix(prefix).unwrap_or_default().to_owned();
    Continue { revision, start }.encode()
}

fn range_status(error: store::StoreError, token: &str) -> Status {
    match error {
        store::StoreError::Compacted { .. } if !token.is_empty() => Status::expired(
            "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter.",
        ),
        store::StoreError::Compacted { .. } => {
            Status::expired("The resourceVersion for the provided list is too old.")
        }
        other => store_status(other),
    }
}

pub(crate) fn list(call: Call) -> Answer {
    check_match(&call)?;
    let selection = Selection::of(&call)?;
    let page = page(&call, &selection)?;
    let mut metadata = json!({"resourceVersion": page.revision.to_string()});
    if let Some(next) = &page.next {
        metadata["continue"] = next.as_str().into();
    }
    if let Some(remaining) = page.remaining {
        metadata["remainingItemCount"] = remaining.into();
    }
    if call.accepted.form == Form::Object
        && !call.accepted.pretty
        && registry::is_direct(&call.kind)
    {
        return Ok(concatenated(&call, &page, &metadata));
    }
    let mut objects = Vec::with_capacity(page.items.len());
    for kv in &page.items {
        objects.push(registry::decode(&call.kind, &kv.value, kv.mod_revision)?);
    }
    let value = match call.accepted.form {
        Form::Object => json!({
            "kind": call.kind.list_kind(), "apiVersion": call.kind.api_version(),
            "metadata": metadata, "items": objects,
        }),
        Form::Partial => json!({
            "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
            "metadata": metadata,
            "items": objects.iter().map(print::partial).collect::<Vec<_>>(),
        }),
        Form::Table(include) => {
            print::table(&call.kind, objects, metadata, include, true, call.now)
        }
    };
    Ok(respond::json(200, &value, call.accepted))
}

fn check_match(call: &Call) -> Result<(), Status> {
    let forbidden = |why: &str| {
        Err(Status::new(
            422,
            "Invalid",
            format!(
                "{} \"\" is invalid: resourceVersionMatch: Forbidden: {why}",
                call.kind.list_kind()
            ),
        ))
    };
    match call.query.text("resourceVersionMatch") {
        "" => Ok(()),
        "NotOlderThan" | "Exact" if call.query.text("resourceVersion").is_empty() => {
            forbidden("resourceVersionMatch is forbidden unless resourceVersion is provided")
        }
        "Exact" if call.query.text("resourceVersion") == "0" => {
            forbidden("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"")
        }
        "NotOlderThan" | "Exact" => Ok(()),
        _ => forbidden("supported values: \"\", \"Exact\", \"NotOlderThan\""),
    }
}

/// The stored objects, one behind the other, each with its revision.
fn concatenated(call: &Call, page: &Page, metadata: &Value) -> http::Response<reconcile::Body> {
    let size: usize = page.items.iter().map(|kv| kv.value.len() + 40).sum();
    let mut out = Vec::with_capacity(size + 256);
    out.extend_from_slice(
        format!(
            "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{metadata},\"items\":[",
            call.kind.list_kind(),
            call.kind.api_version()
        )
        .as_bytes(),
    );
    for (i, kv) in page.items.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        registry::splice(&mut out, &kv.value, kv.mod_revision);
    }
    out.extend_from_slice(b"]}\n");
    respond::json_bytes(200, out, call.accepted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn continue_tokens_survive_their_encoding_and_nothing_else_does() {
        let token = Continue {
            revision: Revision(9),
            start: "default/a\0".to_owned(),
        };
        assert_eq!(Continue::decode(&token.encode()), Some(token));
        let alien = [
            "",
            "%",
            "e30",
            &URL_SAFE_NO_PAD.encode(r#"{"v":"meta.k8s.io/v1","rv":1,"start":"../x"}"#),
            &URL_SAFE_NO_PAD.encode(r#"{"v":"meta.k8s.io/v1","rv":-1,"start":"x"}"#),
        ];
        for text in alien {
            assert_eq!(Continue::decode(text), None, "{text}");
        }
    }
}
