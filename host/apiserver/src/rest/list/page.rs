//! Reading a page of a list from the store.

use super::super::Call;
use super::options::{At, ListOptions};
use super::select::{Selection, asks_for_many, range_of};
use super::token::Continue;
use crate::registry::{self, store_status};
use api::status::Status;
use bytes::Bytes;
use serde_json::Value;
use store::{KeyValue, Range, Revision, StoreError};

/// Keys read at a time while a selector is applied.
const CHUNK: usize = 8192;

impl ListOptions {
    /// Keys to read at a time; 0 is all.
    fn keys(&self, everything: bool) -> usize {
        match (self.limit, everything) {
            (0, _) => 0,
            (limit, true) => limit,
            (limit, false) => limit.max(CHUNK),
        }
    }
}

/// What was found, as it is stored.
pub(crate) struct Page {
    pub(crate) items: Vec<KeyValue>,
    /// The same as they are served, where that was known already.
    pub(super) objects: Option<Vec<Value>>,
    pub(super) revision: Revision,
    pub(super) next: Option<String>,
    pub(super) remaining: Option<usize>,
}

impl Page {
    /// Of objects that don't stand in the store.
    pub(super) fn computed(objects: Vec<Value>) -> Page {
        Page {
            items: Vec::new(),
            objects: Some(objects),
            revision: Revision(0),
            next: None,
            remaining: None,
        }
    }
}

pub(super) enum Read {
    Page(Page),
    /// The token's revision is compacted; the token to go on with at the newest.
    Expired(String),
}

pub(super) fn read(
    call: &Call,
    selection: &Selection,
    options: &ListOptions,
) -> Result<Read, Status> {
    let prefix = registry::prefix(&call.kind, &call.route.namespace);
    let (first, end) = range_of(call);
    let mut start = match &options.start {
        Some(start) => Bytes::from(prefix.clone() + start.trim_start_matches('/')),
        None => first,
    };
    let mut at = match options.at {
        At::Newest => None,
        At::Exactly(revision) => Some(revision),
    };
    let everything = selection.is_everything();
    let mut page = Page {
        items: Vec::new(),
        objects: (!everything && asks_for_many(&call.kind)).then(Vec::new),
        revision: Revision(0),
        next: None,
        remaining: None,
    };
    loop {
        let range = Range {
            start: start.clone(),
            end: end.clone(),
            limit: options.keys(everything),
            revision: at,
        };
        let mut found = match (call.store.range(&range), &options.start) {
            (Ok(found), _) => found,
            (Err(StoreError::Compacted { .. }), Some(start)) => {
                let (revision, start) = (None, start.clone());
                return Ok(Read::Expired(Continue { revision, start }.encode()));
            }
            (Err(StoreError::Compacted { .. }), None) => {
                let why = "The resourceVersion for the provided list is too old.";
                return Err(Status::expired(why));
            }
            (Err(other), _) => return Err(store_status(other)),
        };
        page.revision = found.revision;
        at = Some(found.revision);
        if everything {
            page.items = std::mem::take(&mut found.items);
        } else {
            start = take(call, selection, options.limit, &mut found, &mut page)?;
        }
        let full = options.limit > 0 && page.items.len() >= options.limit;
        if found.remaining > 0 && full {
            if let Some(last) = page.items.last().filter(|_| everything) {
                start = after(&last.key);
            }
            page.next = Some(next_token(page.revision, &start, &prefix));
            page.remaining = everything.then_some(found.remaining);
        }
        if full || found.remaining == 0 {
            return Ok(Read::Page(page));
        }
    }
}

/// Moves what is selected from `found` to the page, up to the limit; the key to
/// go on at. What is left over counts as remaining.
fn take(
    call: &Call,
    selection: &Selection,
    limit: usize,
    found: &mut store::RangeResult,
    page: &mut Page,
) -> Result<Bytes, Status> {
    let mut objects = match page.objects {
        Some(_) => registry::decode_all(&call.kind, &found.items)?,
        None => Vec::new(),
    }
    .into_iter();
    let mut read = std::mem::take(&mut found.items).into_iter();
    let mut start = Bytes::new();
    for kv in read.by_ref() {
        start = after(&kv.key);
        let object = objects.next();
        let selected = match &object {
            Some(object) => selection.matches(object),
            None => selection.matches_stored(&call.kind, &kv)?,
        };
        if selected {
            page.items.push(kv);
            if let Some(all) = &mut page.objects {
                all.extend(object);
            }
            if limit > 0 && page.items.len() == limit {
                break;
            }
        }
    }
    found.remaining += read.len();
    Ok(start)
}

/// The first key behind `key`.
fn after(key: &[u8]) -> Bytes {
    Bytes::from([key, b"\0"].concat())
}

/// Where the next page goes on.
fn next_token(revision: Revision, start: &[u8], prefix: &str) -> String {
    let text = String::from_utf8_lossy(start);
    Continue {
        revision: Some(revision),
        start: text.strip_prefix(prefix).unwrap_or_default().to_owned(),
    }
    .encode()
}
