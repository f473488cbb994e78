//! Conversion between the versions of a custom kind: what is asked of a
//! webhook, and what of its answer is believed
//! (`apiserver/conversion/webhook_converter.go`). Nothing is sent here.

use crate::meta;
use serde_json::{Value, json};
use std::fmt;
use std::sync::Arc;

/// Who asks a definition's webhook. Blocks; bounded by its own timeout.
pub trait Converter: Send + Sync {
    /// The objects in `version`, in their order.
    fn convert(&self, version: &str, objects: Vec<Value>) -> Result<Vec<Value>, String>;
}

/// How a definition converts.
#[derive(Clone, Default)]
pub enum Conversion {
    /// Only apiVersion changes.
    #[default]
    None,
    Webhook(Arc<dyn Converter>),
}

impl fmt::Debug for Conversion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Conversion::None => "None",
            Conversion::Webhook(_) => "Webhook",
        })
    }
}

impl Conversion {
    /// The objects in `version`; those that are in it already stay.
    pub fn convert(&self, version: &str, mut objects: Vec<Value>) -> Result<Vec<Value>, String> {
        let webhook = match self {
            Conversion::None => {
                objects.iter_mut().for_each(|o| rename(o, version));
                return Ok(objects);
            }
            Conversion::Webhook(webhook) => webhook,
        };
        let others = |o: &Value| meta::text(o, &["apiVersion"]) != version;
        let asked: Vec<Value> = objects.iter().filter(|o| others(o)).cloned().collect();
        if asked.is_empty() {
            return Ok(objects);
        }
        let mut answered = webhook.convert(version, asked)?.into_iter();
        for object in objects.iter_mut().filter(|o| others(o)) {
            if let Some(new) = answered.next() {
                *object = new;
            }
        }
        Ok(objects)
    }
}

/// Where a webhook is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Url(String),
    Service {
        namespace: String,
        name: String,
        path: String,
        port: u16,
    },
}

/// `clientConfig` and what its server understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    pub target: Target,
    /// PEM; empty: the system's roots.
    pub ca: Vec<u8>,
    /// The version of ConversionReview to speak.
    pub review: String,
}

impl Webhook {
    /// `spec.conversion`, if it is by webhook.
    pub fn parse(conversion: &Value) -> Option<Webhook> {
        if conversion["strategy"] != "Webhook" {
            return None;
        }
        let webhook = &conversion["webhook"];
        let review = meta::list(webhook, &["conversionReviewVersions"])
            .iter()
            .filter_map(Value::as_str)
            .find(|v| matches!(*v, "v1" | "v1beta1"))?;
        Some(Webhook {
            target: Target::parse(&webhook["clientConfig"])?,
            ca: ca(&webhook["clientConfig"]),
            review: review.to_owned(),
        })
    }
}

impl Target {
    /// A webhook's `clientConfig`.
    pub fn parse(config: &Value) -> Option<Target> {
        if let Some(url) = config.get("url").and_then(Value::as_str) {
            return Some(Target::Url(url.to_owned()));
        }
        let service = config.get("service")?;
        let text = |key: &str| meta::text(service, &[key]).to_owned();
        Some(Target::Service {
            namespace: text("namespace"),
            name: text("name"),
            path: text("path"),
            port: meta::int(service, &["port"])
                .and_then(|p| u16::try_from(p).ok())
                .unwrap_or(443),
        })
    }
}

/// A `clientConfig`'s `caBundle`.
pub fn ca(config: &Value) -> Vec<u8> {
    use base64::Engine as _;
    let text = meta::text(config, &["caBundle"]);
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap_or_default()
}

/// The question: these objects in `version`, please.
pub fn review(webhook: &Webhook, uid: &str, version: &str, objects: &[Value]) -> Value {
    json!({
        "kind": "ConversionReview",
        "apiVersion": format!("apiextensions.k8s.io/{}", webhook.review),
        "request": {"uid": uid, "desiredAPIVersion": version, "objects": objects},
    })
}

/// The objects of an answer to `review`. It may change labels and annotations,
/// nothing else of metadata, and has to convert each object in its place.
pub fn converted(
    webhook: &Webhook,
    answer: &Value,
    uid: &str,
    version: &str,
    objects: &[Value],
) -> Result<Vec<Value>, String> {
    let expected = format!("apiextensions.k8s.io/{}", webhook.review);
    let (its_version, kind) = (
        meta::text(answer, &["apiVersion"]),
        meta::text(answer, &["kind"]),
    );
    if (its_version, kind) != (expected.as_str(), "ConversionReview") {
        return Err(format!(
            "expected webhook response of {expected}, Kind=ConversionReview, got {its_version}, Kind={kind}"
        ));
    }
    let response = &answer["response"];
    if !response.is_object() {
        return Err("no response provided".to_owned());
    }
    if meta::text(response, &["uid"]) != uid {
        return Err(format!(
            "expected response.uid={uid:?}, got {:?}",
            meta::text(response, &["uid"])
        ));
    }
    match meta::text(response, &["result", "status"]) {
        "Success" => {}
        _ => match meta::text(response, &["result", "message"]) {
            "" => return Err("response.result.status was not 'Success'".to_owned()),
            message => return Err(message.to_owned()),
        },
    }
    let found = meta::list(response, &["convertedObjects"]);
    if found.len() != objects.len() {
        return Err(format!(
            "webhook returned {} objects, expected {}",
            found.len(),
            objects.len()
        ));
    }
    found
        .iter()
        .zip(objects)
        .enumerate()
        .map(|(i, (new, old))| {
            checked(new, old, version).map_err(|why| {
                format!("webhook returned invalid converted object at index {i}: {why}")
            })
        })
        .collect()
}

fn checked(new: &Value, old: &Value, version: &str) -> Result<Value, String> {
    if !new.is_object() {
        return Err("not an object".to_owned());
    }
    let is = meta::text(new, &["apiVersion"]);
    if is != version {
        return Err(format!(
            "invalid groupVersion (expected {version}, received {is})"
        ));
    }
    if new.get("kind") != old.get("kind") {
        return Err(format!(
            "invalid kind (expected {}, received {})",
            meta::text(old, &["kind"]),
            meta::text(new, &["kind"])
        ));
    }
    for key in ["name", "namespace", "uid"] {
        let (was, is) = (
            meta::text(old, &["metadata", key]),
            meta::text(new, &["metadata", key]),
        );
        if was != is {
            return Err(format!("must have the same {key}: {was} != {is}"));
        }
    }
    let metadata = &new["metadata"];
    if !metadata.is_object() {
        return Err("missing metadata in converted object".to_owned());
    }
    for key in ["labels", "annotations"] {
        let fits = |v: &Value| {
            v.is_null()
                || v.as_object()
                    .is_some_and(|map| map.values().all(Value::is_string))
        };
        if !metadata.get(key).is_none_or(fits) {
            return Err(format!("invalid metadata.{key} in converted object"));
        }
    }
    let mut out = new.clone();
    let mut metadata = old.get("metadata").cloned().unwrap_or_else(|| json!({}));
    for key in ["labels", "annotations"] {
        meta::keep(&mut metadata, &new["metadata"], key);
    }
    out["metadata"] = metadata;
    Ok(out)
}

/// Changes apiVersion and nothing else.
pub fn rename(object: &mut Value, version: &str) {
    if let Some(map) = object.as_object_mut() {
        map.insert("apiVersion".to_owned(), version.into());
    }
}
