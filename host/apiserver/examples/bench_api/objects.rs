//! The objects that are written and read: ConfigMaps with 1 KiB of data.

use crate::Result;
use crate::connection::{Connection, Target};
use crate::load::Request;
use serde_json::{Value, json};

pub(crate) const SIZE: usize = 1024;
pub(crate) const COLLECTION: &str = "/api/v1/namespaces/bench/configmaps";
const JSON: &str = "Content-Type: application/json\r\n";

pub(crate) async fn namespace(target: &Target) -> Result<()> {
    let object = json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bench"},
    });
    let mut client = Connection::open(target).await?;
    let body = object.to_string();
    let code = client.send("POST", "/api/v1/namespaces", JSON, body.as_bytes());
    match code.await? {
        201 => Ok(()),
        code => Err(format!("the namespace: {code}").into()),
    }
}

fn name(number: usize) -> String {
    format!("object-{number:06}")
}

pub(crate) fn path(number: usize) -> String {
    format!("{COLLECTION}/{}", name(number))
}

fn object(number: usize, filler: &str) -> Vec<u8> {
    let object = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name(number),
            "labels": {"app": "bench", "tenth": (number % 10).to_string()},
        },
        "data": {"value": filler.repeat(SIZE / filler.len())},
    });
    object.to_string().into_bytes()
}

pub(crate) fn create(number: usize) -> Request {
    Request {
        method: "POST",
        path: COLLECTION.to_owned(),
        headers: JSON,
        body: object(number, "the first "),
        expect: 201,
    }
}

pub(crate) fn update(number: usize) -> Request {
    Request {
        method: "PUT",
        path: path(number),
        headers: JSON,
        body: object(number, "the second"),
        expect: 200,
    }
}

/// Writes object 0 with a text of its own.
pub(crate) fn change(number: usize) -> Request {
    Request {
        body: object(0, &format!("{number:08}")),
        ..update(0)
    }
}

/// How many there are; the namespace has one more, which comes back.
pub(crate) async fn count(client: &mut Connection) -> Result<usize> {
    let path = format!("{COLLECTION}?labelSelector=app%3Dbench");
    client.send("GET", &path, "", b"").await?;
    let list: Value = serde_json::from_slice(&client.body)?;
    Ok(list["items"].as_array().map_or(0, Vec::len))
}

#[expect(clippy::cast_precision_loss, reason = "a size of some MiB")]
pub(crate) fn mebibytes(body: &[u8]) -> String {
    format!("{:.1} MiB", body.len() as f64 / f64::from(1 << 20))
}
