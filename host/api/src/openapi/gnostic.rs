//! OpenAPI 2.0 as gnostic's protobuf (`openapi.v2.Document`): the only form of
//! it that client-go asks for. Field numbers are those of gnostic's
//! `openapiv2/OpenAPIv2.proto`; what clients don't read (responses' bodies,
//! parameters' schemas) is left out.

use serde_json::Value;

/// A message under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.0.push((n & 0x7f) as u8 | 0x80);
            n >>= 7;
        }
        self.0.push(n as u8);
    }

    fn bytes(&mut self, field: u32, bytes: &[u8]) {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, field: u32, value: Option<&Value>) {
        if let Some(text) = value.and_then(Value::as_str) {
            self.bytes(field, text.as_bytes());
        }
    }

    fn message(&mut self, field: u32, message: Message) {
        self.bytes(field, &message.0);
    }

    fn flag(&mut self, field: u32) {
        self.varint(u64::from(field) << 3);
        self.varint(1);
    }
}

/// Members of an object, or nothing.
fn members(value: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    value.and_then(Value::as_object).into_iter().flatten()
}

/// gnostic's `Named…`: name = 1, value = 2.
fn named(name: &str, value: Message) -> Message {
    let mut out = Message::default();
    out.bytes(1, name.as_bytes());
    out.message(2, value);
    out
}

/// The protobuf of a document that `v2` made.
pub fn encode(document: &Value) -> Vec<u8> {
    let mut out = Message::default();
    out.text(1, document.get("swagger"));
    let mut info = Message::default();
    info.text(1, document["info"].get("title"));
    info.text(2, document["info"].get("version"));
    out.message(2, info);
    let mut paths = Message::default();
    for (path, item) in members(document.get("paths")) {
        paths.message(2, named(path, path_item(item)));
    }
    out.message(8, paths);
    let mut definitions = Message::default();
    for (name, of) in members(document.get("definitions")) {
        definitions.message(1, named(name, schema(of)));
    }
    out.message(9, definitions);
    out.0
}

fn path_item(item: &Value) -> Message {
    let mut out = Message::default();
    for (method, field) in [
        ("get", 2),
        ("put", 3),
        ("post", 4),
        ("delete", 5),
        ("patch", 8),
    ] {
        if let Some(of) = item.get(method) {
            out.message(field, operation(of));
        }
    }
    out
}

fn operation(of: &Value) -> Message {
    let mut out = Message::default();
    out.text(5, of.get("operationId"));
    for parameter in of["parameters"].as_array().into_iter().flatten() {
        if parameter["in"] == "query" {
            out.message(8, query_parameter(parameter));
        }
    }
    // Responses: {200: {description: OK}}.
    let mut response = Message::default();
    response.text(1, of["responses"]["200"].get("description"));
    let mut value = Message::default();
    value.message(1, response);
    let mut responses = Message::default();
    responses.message(1, named("200", value));
    out.message(9, responses);
    vendor_extensions(of, 13, &mut out);
    out
}

/// ParametersItem.parameter(1).nonBodyParameter(2).queryParameterSubSchema(3).
fn query_parameter(parameter: &Value) -> Message {
    let mut query = Message::default();
    query.text(2, parameter.get("in"));
    query.text(4, parameter.get("name"));
    query.text(6, parameter.get("type"));
    let mut non_body = Message::default();
    non_body.message(3, query);
    let mut of = Message::default();
    of.message(2, non_body);
    let mut item = Message::default();
    item.message(1, of);
    item
}

/// Extensions are `NamedAny{name, Any{yaml = 2}}`; JSON is YAML.
fn vendor_extensions(of: &Value, field: u32, out: &mut Message) {
    for (name, value) in members(Some(of)).filter(|(k, _)| k.starts_with("x-")) {
        let mut any = Message::default();
        any.bytes(2, value.to_string().as_bytes());
        out.message(field, named(name, any));
    }
}

fn schema(of: &Value) -> Message {
    let mut out = Message::default();
    out.text(1, of.get("$ref"));
    out.text(2, of.get("format"));
    out.text(4, of.get("description"));
    for name in of["required"].as_array().into_iter().flatten() {
        out.text(19, Some(name));
    }
    if let Some(additional) = of.get("additionalProperties") {
        let mut item = Message::default();
        item.message(1, schema(additional));
        out.message(21, item);
    }
    if let Some(kind) = of.get("type") {
        let mut item = Message::default();
        item.text(1, Some(kind));
        out.message(22, item);
    }
    if let Some(items) = of.get("items") {
        let mut item = Message::default();
        item.message(1, schema(items));
        out.message(23, item);
    }
    if of.get("properties").is_some() {
        let mut properties = Message::default();
        for (name, property) in members(of.get("properties")) {
            properties.message(1, named(name, schema(property)));
        }
        out.message(25, properties);
    }
    if of["readOnly"] == true {
        out.flag(27);
    }
    vendor_extensions(of, 31, &mut out);
    out
}
