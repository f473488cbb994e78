//! Objects in the store: keys, the stored form, reading and writing.
//!
//! Stored is JSON in the storage version without resourceVersion, metadata
//! first: `{"metadata":{…},"apiVersion":…}`. So an object is served by
//! splicing its revision in after the first twelve bytes, without decoding.
//! Keys are `/registry/<group>/<plural>/[<namespace>/]<name>`.

use api::kinds::KindRef;
use api::meta;
use api::pick::{Paths, pick};
use api::status::Status;
use bytes::Bytes;
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::io::Write as _;
use std::time::Duration;
use store::{Compare, KeyValue, Op, Outcome, Range, Revision, Store, StoreError, Txn, prefix_end};

const HEAD: &[u8] = b"{\"metadata\":{";

/// An object as it stands in the store.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// In the kind's own version, with its resourceVersion.
    pub(crate) object: Value,
    pub(crate) revision: Revision,
    pub(crate) bytes: Bytes,
}

/// An object after a write, and what of it stands in the store; `None`: nothing.
#[derive(Debug)]
pub(crate) struct After {
    pub(crate) object: Value,
    pub(crate) stored: Option<(Bytes, Revision)>,
}

impl After {
    /// What was written is `bytes`.
    pub(crate) fn written(mut object: Value, bytes: Bytes, revision: Revision) -> After {
        set_revision(&mut object, revision);
        After {
            object,
            stored: Some((bytes, revision)),
        }
    }

    /// Nothing was written, or it is gone.
    pub(crate) fn unstored(object: Value) -> After {
        After {
            object,
            stored: None,
        }
    }
}

pub(crate) fn prefix(kind: &KindRef, namespace: &str) -> String {
    match namespace {
        "" => format!("/registry/{}/", kind.storage()),
        ns if kind.namespaced() => format!("/registry/{}/{ns}/", kind.storage()),
        _ => format!("/registry/{}/", kind.storage()),
    }
}

/// Waits until some object of a kind has changed since `seen`, or, where that
/// can't be watched, for `pause`.
pub(crate) async fn changed(store: &Store, kind: &KindRef, seen: Revision, pause: Duration) {
    let prefix = prefix(kind, "");
    let end = prefix_end(prefix.as_bytes());
    match store.watch(prefix.into(), end, seen) {
        // One that fell behind only means: look again.
        Ok(mut watch) => drop(watch.next().await),
        Err(_) => tokio::time::sleep(pause).await,
    }
}

pub(crate) fn key(kind: &KindRef, namespace: &str, name: &str) -> Bytes {
    // The store keeps it: without room to grow.
    let key = prefix(kind, namespace) + name;
    key.into_bytes().into_boxed_slice().into()
}

/// The stored form of an object.
pub(crate) fn encode(kind: &KindRef, object: &Value) -> Result<Bytes, Status> {
    let object = match kind.custom() {
        Some(custom) => {
            let stored = custom.to_storage(object.clone());
            Cow::Owned(stored.map_err(|e| conversion_failed(kind, &e))?)
        }
        None if kind.is_view() => {
            let mut stored = object.clone();
            kind.to_stored(&mut stored);
            Cow::Owned(stored)
        }
        None => Cow::Borrowed(object),
    };
    let bytes = serde_json::to_vec(&MetadataFirst(&object)).map_err(Status::internal)?;
    if !bytes.starts_with(HEAD) {
        return Err(Status::internal("an object without metadata"));
    }
    // The store keeps it: without room to grow.
    Ok(bytes.into_boxed_slice().into())
}

/// Writes an object's metadata before all else, without resourceVersion.
struct MetadataFirst<'a>(&'a Value);

impl Serialize for MetadataFirst<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        match self.0.get("metadata") {
            Some(Value::Object(metadata)) => {
                map.serialize_entry("metadata", &Unversioned(metadata))?
            }
            other => map.serialize_entry("metadata", &other)?,
        }
        for (key, value) in self.0.as_object().into_iter().flatten() {
            if key != "metadata" {
                map.serialize_entry(key, value)?;
            }
        }
        map.end()
    }
}

struct Unversioned<'a>(&'a Map<String, Value>);

impl Serialize for Unversioned<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().filter(|(key, _)| *key != "resourceVersion"))
    }
}

/// Bytes, as they are stored, that a webhook is given to convert at a time:
/// its answer has to be of a bounded size.
const MOST_CONVERTED: usize = 4 << 20;

/// Whether the stored form is what the kind serves.
pub(crate) fn is_direct(kind: &KindRef) -> bool {
    // What is stored of a custom kind may be of an older schema.
    !kind.is_view()
        && kind.custom().is_none()
        && kind
            .storage()
            .strip_suffix(kind.plural())
            .is_some_and(|group| {
                matches!((group, kind.group()), ("core/", ""))
                    || group.trim_end_matches('/') == kind.group()
            })
}

/// The served form, by splicing, of a kind that is direct.
pub(crate) fn splice(out: &mut Vec<u8>, bytes: &[u8], revision: Revision) {
    let rest = bytes.strip_prefix(HEAD).unwrap_or(b"}}");
    out.extend_from_slice(HEAD);
    // Writing into memory can't fail.
    let _ = write!(out, "\"resourceVersion\":\"{revision}\"");
    if rest.first() != Some(&b'}') {
        out.push(b',');
    }
    out.extend_from_slice(rest);
}

pub(crate) fn decode(kind: &KindRef, bytes: &Bytes, revision: Revision) -> Result<Value, Status> {
    let converted = converted(kind, vec![parsed(kind, bytes)?])?;
    let mut object = converted.into_iter().next().unwrap_or_default();
    set_revision(&mut object, revision);
    Ok(object)
}

/// Several objects as the kind serves them. A definition's webhook is asked
/// once for all, or once for each [`MOST_CONVERTED`] of them.
pub(crate) fn decode_all(kind: &KindRef, found: &[KeyValue]) -> Result<Vec<Value>, Status> {
    let mut objects = Vec::with_capacity(found.len());
    let mut rest = found;
    while !rest.is_empty() {
        let mut size = 0;
        let fits = rest.iter().take_while(|kv| {
            size += kv.value.len();
            size <= MOST_CONVERTED
        });
        let (now, later) = rest.split_at(fits.count().max(1));
        let parsed = now.iter().map(|kv| parsed(kind, &kv.value));
        objects.extend(converted(kind, parsed.collect::<Result<_, _>>()?)?);
        rest = later;
    }
    for (object, kv) in objects.iter_mut().zip(found) {
        set_revision(object, kv.mod_revision);
    }
    Ok(objects)
}

/// An object in the version in which it is stored.
fn parsed(kind: &KindRef, bytes: &Bytes) -> Result<Value, Status> {
    let mut object: Value = serde_json::from_slice(bytes).map_err(Status::internal)?;
    kind.from_stored(&mut object);
    Ok(object)
}

fn converted(kind: &KindRef, objects: Vec<Value>) -> Result<Vec<Value>, Status> {
    match kind.custom() {
        Some(custom) => custom
            .from_storage(objects)
            .map_err(|e| conversion_failed(kind, &e)),
        None => Ok(objects),
    }
}

/// An object of one version as one of another version of the same resource.
pub(crate) fn convert(from: &KindRef, to: &KindRef, object: &Value) -> Result<Value, Status> {
    let version = meta::resource_version(object).to_owned();
    let mut converted = decode(to, &encode(from, object)?, Revision(0))?;
    let metadata = meta::ensure_metadata(&mut converted);
    match version.as_str() {
        "" => drop(metadata.shift_remove("resourceVersion")),
        _ => drop(metadata.insert("resourceVersion".to_owned(), version.into())),
    }
    Ok(converted)
}

fn conversion_failed(kind: &KindRef, why: &str) -> Status {
    Status::internal(format!(
        "conversion webhook for {}, Kind={} failed: {why}",
        kind.api_version(),
        kind.kind()
    ))
}

pub(crate) fn set_revision(object: &mut Value, revision: Revision) {
    meta::ensure_metadata(object).insert("resourceVersion".to_owned(), revision.to_string().into());
}

fn stored(kind: &KindRef, kv: KeyValue) -> Result<Stored, Status> {
    Ok(Stored {
        object: decode(kind, &kv.value, kv.mod_revision)?,
        revision: kv.mod_revision,
        bytes: kv.value,
    })
}

/// A store error as an answer.
pub(crate) fn store_status(error: StoreError) -> Status {
    match error {
        StoreError::Compacted { .. } | StoreError::SlowWatcher { .. } => {
            Status::expired("The resourceVersion for the provided watch is too old.")
        }
        StoreError::FutureRevision { requested, newest } => too_large(requested.0, newest.0),
        StoreError::TooLarge { bytes, max } => Status::new(
            413,
            "RequestEntityTooLarge",
            format!("etcdserver: request is too large ({bytes} bytes, limit {max})"),
        ),
        // As upstream passes on what etcd says, and what it doesn't say in time.
        StoreError::Etcd { what } => Status::new(500, "", what),
        StoreError::Unavailable { what } => {
            log::warn!("store: {what}");
            Status::timeout(TIMED_OUT)
        }
        other => Status::internal(other),
    }
}

/// What upstream's finisher says where a request's time is over.
pub(crate) const TIMED_OUT: &str =
    "Timeout: request did not complete within requested timeout - context deadline exceeded";

/// A resourceVersion that hasn't happened yet.
pub(crate) fn too_large(requested: u64, newest: u64) -> Status {
    let mut status = Status::timeout(format!(
        "Too large resource version: {requested}, current: {newest}"
    ));
    status.details = Some(serde_json::json!({
        "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
        "retryAfterSeconds": 1,
    }));
    status
}

/// One object as the store has it.
pub(crate) fn raw(
    store: &Store,
    kind: &KindRef,
    namespace: &str,
    name: &str,
) -> Result<KeyValue, Status> {
    let range = Range::key(key(kind, namespace, name));
    let found = store.range(&range).map_err(store_status)?;
    let kv = found.items.into_iter().next();
    kv.ok_or_else(|| Status::not_found(kind.resource(), name))
}

/// Reads one object.
pub(crate) fn get(
    store: &Store,
    kind: &KindRef,
    namespace: &str,
    name: &str,
) -> Result<Stored, Status> {
    stored(kind, raw(store, kind, namespace, name)?)
}

/// The members `paths` of an object, as they are stored.
pub(crate) fn part(
    store: &Store,
    kind: &KindRef,
    (namespace, name): (&str, &str),
    paths: &Paths,
) -> Result<(Value, Revision), Status> {
    let kv = raw(store, kind, namespace, name)?;
    let part = pick(&kv.value, paths);
    let part = part.ok_or_else(|| Status::internal("an object that can't be decoded"))?;
    Ok((part, kv.mod_revision))
}

/// What became of a write.
pub(crate) enum Written {
    At(Revision),
    /// Somebody else was first; what stands at the compared keys.
    Lost(Vec<Option<KeyValue>>),
}

/// What a write does to other keys, and what of them it relies on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Along {
    pub(crate) compare: Vec<Compare>,
    pub(crate) then: Vec<Op>,
}

async fn commit(store: &Store, txn: Txn) -> Result<Written, Status> {
    match store.txn(txn).await.map_err(store_status)? {
        Outcome::Committed(revision) => Ok(Written::At(revision)),
        Outcome::Conflict { current, .. } => Ok(Written::Lost(current)),
    }
}

/// One write, if the key is as it was at `from` (0: absent) and everything
/// that comes along is unchanged.
async fn write(
    store: &Store,
    key: Bytes,
    op: Op,
    from: Revision,
    along: Along,
) -> Result<Written, Status> {
    let mut compare = vec![Compare {
        key,
        mod_revision: from,
    }];
    compare.extend(along.compare);
    let mut then = vec![op];
    then.extend(along.then);
    commit(store, Txn { compare, then }).await
}

/// Writes a new object, if there is none.
pub(crate) async fn create(
    store: &Store,
    key: Bytes,
    value: Bytes,
    along: Along,
) -> Result<Written, Status> {
    update(store, key, value, Revision(0), along).await
}

pub(crate) async fn update(
    store: &Store,
    key: Bytes,
    value: Bytes,
    from: Revision,
    along: Along,
) -> Result<Written, Status> {
    let op = Op::Put {
        key: key.clone(),
        value,
    };
    write(store, key, op, from, along).await
}

pub(crate) async fn remove(
    store: &Store,
    key: Bytes,
    from: Revision,
    along: Along,
) -> Result<Written, Status> {
    let op = Op::Delete { key: key.clone() };
    write(store, key, op, from, along).await
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde_json::json;

    #[test]
    fn an_object_is_spliced_as_it_is_decoded() {
        let pods = api::kinds::by_resource("", "v1", "pods").unwrap();
        let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "resourceVersion": "3"}, "spec": {}});
        let bytes = encode(&pods, &object).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("resourceVersion"));
        let mut out = Vec::new();
        splice(&mut out, &bytes, Revision(7));
        let spliced: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(spliced, decode(&pods, &bytes, Revision(7)).unwrap());
        assert!(is_direct(&pods));
        assert!(!is_direct(
            &api::kinds::by_resource("events.k8s.io", "v1", "events").unwrap()
        ));
        assert!(is_direct(
            &api::kinds::by_resource("coordination.k8s.io", "v1", "leases").unwrap()
        ));
    }
}
