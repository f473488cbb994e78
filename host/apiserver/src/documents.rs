//! Documents that describe the server: version and OpenAPI. OpenAPI documents
//! are made at the first request for one and kept compressed.

use crate::aggregated;
use crate::discovery;
use crate::kinds::Table;
use crate::query::Query;
use crate::respond::{self, Accepted};
use crate::rest::Answer;
use api::kinds::{KindRef, api_version};
use api::status::Status;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, Response, header};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::io::{Read as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) const VERSION: &str = concat!("v1.36.0+atoll.", env!("CARGO_PKG_VERSION"));

/// As upstream answers; what clients ask for has an `@`, which Go's own parser
/// of media types refuses.
const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// `/version`: the API level, and Atoll's own version behind the plus.
pub(crate) fn version() -> Value {
    json!({
        "major": "1",
        "minor": "36",
        "gitVersion": VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": "linux/amd64",
    })
}

/// A document, compressed, and what its URL carries so that caches can keep it.
struct Packed {
    path: String,
    hash: String,
    gzip: Vec<u8>,
}

impl Packed {
    fn new(path: String, bytes: &[u8]) -> Packed {
        let hash: String = Sha256::digest(bytes)
            .iter()
            .map(|b| format!("{b:02X}"))
            .collect();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        // Writing into memory can't fail.
        let _ = encoder.write_all(bytes);
        Packed {
            path,
            hash,
            gzip: encoder.finish().unwrap_or_default(),
        }
    }

    fn respond(&self, kind: &'static str, headers: &HeaderMap, accepted: Accepted) -> Answer {
        let tag = format!("\"{}\"", self.hash);
        let known = headers
            .get(header::IF_NONE_MATCH)
            .is_some_and(|v| v.as_bytes() == tag.as_bytes());
        let mut response = if known {
            let mut response = Response::new(respond::body(Vec::new()));
            *response.status_mut() = http::StatusCode::NOT_MODIFIED;
            response
        } else if accepted.gzip {
            let mut response = Response::new(respond::body(self.gzip.clone()));
            response
                .headers_mut()
                .insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            response
        } else {
            let mut plain = Vec::new();
            GzDecoder::new(self.gzip.as_slice())
                .read_to_end(&mut plain)
                .map_err(Status::internal)?;
            Response::new(respond::body(plain))
        };
        let out = response.headers_mut();
        out.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        out.insert(
            header::VARY,
            HeaderValue::from_static("Accept, Accept-Encoding"),
        );
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            out.insert(header::ETAG, tag);
        }
        Ok(response)
    }
}

/// Documents of OpenAPI and discovery, each made at the first request for it after a change
/// of its kinds.
#[derive(Default)]
pub(crate) struct Documents(Mutex<Made>);

#[derive(Default)]
struct Made {
    v2: Option<(u64, Arc<(Packed, Packed)>)>,
    /// Aggregated discovery of the core group, and of all others.
    discovery: Option<(u64, Arc<(Packed, Packed)>)>,
    /// With the kinds that a document was made of.
    v3: Vec<(Vec<KindRef>, Arc<Packed>)>,
}

impl Documents {
    fn v2(&self, table: &Table) -> Arc<(Packed, Packed)> {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &made.v2 {
            Some((generation, packed)) if *generation == table.generation() => packed.clone(),
            _ => {
                // What another server serves in place of this one is described there.
                let own = |k: &&KindRef| table.remote(k.group(), k.version()).is_none();
                let kinds: Vec<KindRef> = table.iter().filter(own).cloned().collect();
                let mut document = api::openapi::v2(&kinds, VERSION);
                aggregated::openapi::merge(&mut document, table.remotes());
                let gnostic = api::openapi::gnostic(&document);
                let packed = Arc::new((
                    Packed::new(String::new(), document.to_string().as_bytes()),
                    Packed::new(String::new(), &gnostic),
                ));
                made.v2 = Some((table.generation(), packed.clone()));
                packed
            }
        }
    }

    /// `/api` and `/apis` as one document, aggregated.
    pub(crate) fn discovery(
        &self,
        table: &Table,
        core: bool,
        headers: &HeaderMap,
        accepted: Accepted,
    ) -> Answer {
        let packed = {
            let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match &made.discovery {
                Some((generation, packed)) if *generation == table.generation() => packed.clone(),
                _ => {
                    let pack = |core| {
                        let text = discovery::aggregated(table, core).to_string();
                        Packed::new(String::new(), text.as_bytes())
                    };
                    let packed = Arc::new((pack(true), pack(false)));
                    made.discovery = Some((table.generation(), packed.clone()));
                    packed
                }
            }
        };
        let part = if core { &packed.0 } else { &packed.1 };
        part.respond(discovery::AGGREGATED_TYPE, headers, accepted)
    }

    fn v3(&self, table: &Table) -> Vec<Arc<Packed>> {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::take(&mut made.v3);
        for (group, version) in table.group_versions() {
            if table.remote(group, version).is_some() {
                continue;
            }
            let kinds: Vec<KindRef> = table.of(group, version).cloned().collect();
            let packed = match old.iter().find(|(of, _)| *of == kinds) {
                Some((_, packed)) => packed.clone(),
                None => {
                    let Some(document) = api::openapi::v3(&kinds, VERSION) else {
                        continue;
                    };
                    let root = if group.is_empty() { "api" } else { "apis" };
                    let path = format!("{root}/{}", api_version(group, version));
                    Arc::new(Packed::new(path, document.to_string().as_bytes()))
                }
            };
            made.v3.push((kinds, packed));
        }
        made.v3.iter().map(|(_, packed)| packed.clone()).collect()
    }

    fn v3_index(&self, table: &Table) -> Value {
        let mut paths = Map::new();
        for document in self.v3(table) {
            let url = format!("/openapi/v3/{}?hash={}", document.path, document.hash);
            paths.insert(document.path.clone(), json!({"serverRelativeURL": url}));
        }
        for remote in table.remotes() {
            for (path, url) in &remote.said.v3 {
                paths.insert(path.clone(), json!({"serverRelativeURL": url}));
            }
        }
        json!({"paths": paths})
    }

    /// Everything under `/openapi`.
    pub(crate) fn openapi(
        &self,
        table: &Table,
        path: &str,
        headers: &HeaderMap,
        query: &Query,
        accepted: Accepted,
    ) -> Answer {
        const JSON: &str = "application/json";
        match path.trim_end_matches('/') {
            "/openapi/v3" => Ok(respond::json(200, &self.v3_index(table), accepted)),
            "/openapi/v2" => {
                let accept = headers
                    .get(header::ACCEPT)
                    .and_then(|v| v.to_str().ok())
                    .unwrap_or_default();
                let made = self.v2(table);
                let (json, protobuf) = &*made;
                match accept.contains("proto-openapi.spec.v2") {
                    true => protobuf.respond(V2_PROTOBUF, headers, accepted),
                    false => json.respond(JSON, headers, accepted),
                }
            }
            other => {
                let wanted = other
                    .strip_prefix("/openapi/v3/")
                    .ok_or_else(Status::no_such_path)?;
                let made = self.v3(table);
                let found = made
                    .iter()
                    .find(|d| d.path == wanted)
                    .ok_or_else(Status::no_such_path)?;
                let mut response = found.respond(JSON, headers, accepted)?;
                // The hash names the content: what it names never changes.
                if query.text("hash") == found.hash {
                    response.headers_mut().insert(
                        header::CACHE_CONTROL,
                        HeaderValue::from_static("public, immutable"),
                    );
                }
                Ok(response)
            }
        }
    }
}
