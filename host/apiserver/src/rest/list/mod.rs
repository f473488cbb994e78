//! List: selectors, pages, resourceVersion rules, forms.

mod body;
mod options;
mod page;
mod select;
mod token;

pub(crate) use options::{not_yet_there, validate, version};
pub(crate) use select::{Selection, range_of};

use super::{Answer, Call};
use crate::registry;
use crate::respond::{self, Form, Media};
use api::print;
use api::status::Status;
use http::Response;
pub(crate) use page::Page;
use page::Read;
use reconcile::Body;
use serde_json::{Value, json};

/// The page that the request asks for, or the answer that refuses it.
pub(crate) fn read(call: &Call) -> Result<Result<Page, Response<Body>>, Status> {
    let options = options::list_options(call)?;
    let selection = Selection::of(call)?;
    Ok(match page::read(call, &selection, &options)? {
        Read::Page(page) => Ok(page),
        Read::Expired(token) => Err(expired(call, token)),
    })
}

pub(crate) async fn list(call: Call) -> Answer {
    match read(&call)? {
        Ok(page) => answer(&call, page).await,
        Err(refused) => Ok(refused),
    }
}

/// A page in the form that was asked for.
pub(crate) async fn answer(call: &Call, page: Page) -> Answer {
    let mut metadata = json!({"resourceVersion": page.revision.to_string()});
    if let Some(next) = &page.next {
        metadata["continue"] = next.as_str().into();
    }
    if let Some(remaining) = page.remaining {
        metadata["remainingItemCount"] = remaining.into();
    }
    let accepted = call.accepted;
    if let Form::Partial { list: false, .. } = accepted.form {
        return Err(no_object(call));
    }
    match (accepted.form, accepted.media) {
        (Form::Object, Media::Json) if !accepted.pretty && registry::is_direct(&call.kind) => {
            Ok(body::concatenated(call, page, &metadata))
        }
        (Form::Object, Media::Protobuf) => body::protobuf(call, page, &metadata).await,
        _ => {
            let value = value(call, page, metadata).await?;
            Ok(respond::json(200, &value, accepted))
        }
    }
}

/// A list of objects that don't stand in the store, in the form that was asked
/// for.
pub(crate) async fn computed(call: &Call, objects: Vec<Value>) -> Answer {
    let page = Page::computed(objects);
    if let Form::Partial { list: false, .. } = call.accepted.form {
        return Err(no_object(call));
    }
    let value = value(call, page, json!({})).await?;
    Ok(respond::json(200, &value, call.accepted))
}

/// A list was found, and one object's metadata asked for.
fn no_object(call: &Call) -> Status {
    Status::not_acceptable_as(
        "PartialObjectMetadata",
        &format!("a list (*{}List)", call.kind.go_type()),
    )
}

/// As `apiserver/pkg/storage/etcd3/errors.go` says it.
fn expired(call: &Call, token: String) -> Response<Body> {
    let status = Status::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.",
    );
    let mut value = status.to_value();
    value["metadata"]["continue"] = token.into();
    respond::json(status.code, &value, call.accepted)
}

/// The objects of a page, as they are served.
async fn served(call: &Call, page: &mut Page) -> Result<Vec<Value>, Status> {
    if let Some(objects) = page.objects.take() {
        return Ok(objects);
    }
    if select::asks_for_many(&call.kind) {
        return registry::decode_all(&call.kind, &page.items);
    }
    let mut objects = Vec::with_capacity(page.items.len());
    for (i, kv) in page.items.iter().enumerate() {
        body::give_way(i).await;
        let object = registry::decode(&call.kind, &kv.value, kv.mod_revision)?;
        objects.push(object);
    }
    Ok(objects)
}

/// The list as one value, in the form that was asked for.
async fn value(call: &Call, mut page: Page, metadata: Value) -> Result<Value, Status> {
    let mut objects = served(call, &mut page).await?;
    if let Form::Partial { version, .. } = call.accepted.form {
        let partial = |object| print::partial(object, version);
        objects = objects.iter().map(partial).collect();
    }
    Ok(match call.accepted.form {
        Form::Object => json!({
            "kind": call.kind.list_kind(), "apiVersion": call.kind.api_version(),
            "metadata": metadata, "items": objects,
        }),
        Form::Partial { version, .. } => json!({
            "kind": "PartialObjectMetadataList", "apiVersion": version.api_version(),
            "metadata": metadata, "items": objects,
        }),
        Form::Table(layout) => print::table(&call.kind, objects, metadata, layout, call.now),
    })
}
