//! The paths of a group-version: which requests its kinds answer, named as
//! upstream names them (`readCoreV1NamespacedPod`).

use super::parameters::{of_stream, of_verb, parameter};
use crate::facts;
use crate::kinds::{Deletion, KindRef, Subresource};
use serde_json::{Map, Value, json};

/// How one document names types and parameters.
pub(super) struct Dialect {
    /// What stands before a type's name in a reference.
    pub(super) references: &'static str,
    pub(super) v3: bool,
}

impl Dialect {
    fn reference(&self, type_name: &str) -> Value {
        json!({"$ref": format!("{}{type_name}", self.references)})
    }
}

const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
pub(super) const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";

/// Adds the paths of `kind`.
pub(super) fn add(out: &mut Map<String, Value>, kind: &KindRef, dialect: &Dialect) {
    let root = match kind.group() {
        "" => format!("/api/{}", kind.version()),
        group => format!("/apis/{group}/{}", kind.version()),
    };
    let scope = match kind.namespaced() {
        true => "/namespaces/{namespace}",
        false => "",
    };
    let collection = format!("{root}{scope}/{}", kind.plural());
    let one = format!("{collection}/{{name}}");
    let of = |sub, everywhere| Endpoint {
        kind,
        sub,
        everywhere,
        dialect,
    };
    let listed = kind.verbs().contains(&"list");
    if kind.namespaced() && listed {
        let all = format!("{root}/{}", kind.plural());
        out.insert(all, of(None, true).item(&["list"], &[]));
    }
    let mut place: Vec<&str> = Vec::new();
    if kind.namespaced() {
        place.push("namespace");
    }
    let of_collection = ["list", "create", "deletecollection"];
    out.insert(collection, of(None, false).item(&of_collection, &place));
    place.insert(0, "name");
    if kind.verbs().contains(&"get") {
        let verbs = ["get", "update", "patch", "delete"];
        out.insert(one.clone(), of(None, false).item(&verbs, &place));
    }
    for sub in kind.subresources() {
        let item = of(Some(*sub), false).item(sub.discovery().3, &place);
        out.insert(format!("{one}/{}", sub.name()), item);
    }
}

/// What a path leads to.
struct Endpoint<'a> {
    kind: &'a KindRef,
    sub: Option<Subresource>,
    /// All namespaces at once.
    everywhere: bool,
    dialect: &'a Dialect,
}

impl Endpoint<'_> {
    fn item(&self, verbs: &[&str], place: &[&str]) -> Value {
        let mut out = Map::new();
        for verb in verbs {
            if self.sub.is_none() && !self.kind.verbs().contains(verb) {
                continue;
            }
            let method = match *verb {
                "list" | "get" => "get",
                "create" => "post",
                "update" => "put",
                "patch" => "patch",
                "delete" | "deletecollection" => "delete",
                _ => continue,
            };
            out.insert(method.to_owned(), self.operation(verb, method));
        }
        let names = place
            .iter()
            .map(|name| parameter(name, "path", self.dialect));
        let pretty = parameter("pretty", "query", self.dialect);
        let parameters: Vec<Value> = names.chain([pretty]).collect();
        out.insert("parameters".to_owned(), parameters.into());
        Value::Object(out)
    }

    fn is_stream(&self) -> bool {
        let streams = ["exec", "attach", "portforward", "proxy"];
        self.sub.is_some_and(|s| streams.contains(&s.name()))
    }

    /// Group, version and kind of what goes in and comes out.
    fn gvk(&self) -> (&str, &str, &str) {
        let kind = self.kind;
        match self.sub.map(Subresource::discovery) {
            Some((g, v, k, _)) if !v.is_empty() => (g, v, k.unwrap_or(kind.kind())),
            Some((_, _, k, _)) => (kind.group(), kind.version(), k.unwrap_or(kind.kind())),
            None => (kind.group(), kind.version(), kind.kind()),
        }
    }

    /// The full name of the type of what goes in.
    fn type_name(&self) -> String {
        let gvk = self.gvk();
        if gvk.2 == self.kind.kind() {
            return self.kind.type_name().to_owned();
        }
        facts::of_gvk(gvk).map_or_else(|| self.kind.type_name().to_owned(), |t| t.name.to_owned())
    }

    fn operation(&self, verb: &str, method: &str) -> Value {
        let (group, version, name) = self.gvk();
        let stream = self.is_stream();
        let action = match verb {
            _ if stream => "connect",
            "create" => "post",
            "update" => "put",
            other => other,
        };
        let names = match self.sub.map(Subresource::name) {
            Some(sub) if stream || sub == "log" => of_stream(sub),
            _ => of_verb(verb),
        };
        let mut parameters: Vec<Value> = names
            .iter()
            .map(|name| parameter(name, "query", self.dialect))
            .collect();
        let mut out = json!({
            "description": self.description(verb),
            "operationId": self.operation_id(verb, method),
            "tags": [self.tag()],
            "responses": self.responses(verb),
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": name},
        });
        if let Some((body, required)) = self.body(verb) {
            self.add_body(&mut out, &mut parameters, verb, body, required);
        }
        if !self.dialect.v3 {
            out["schemes"] = json!(["https"]);
            out["produces"] = match verb {
                "list" => json!([JSON, YAML, PROTOBUF, WATCH_JSON, WATCH_PROTOBUF]),
                _ => json!([JSON, YAML, PROTOBUF]),
            };
        }
        out["parameters"] = parameters.into();
        out
    }

    /// What a request carries, and whether it has to.
    fn body(&self, verb: &str) -> Option<(Value, bool)> {
        if self.is_stream() {
            return None;
        }
        match verb {
            "create" | "update" => Some((self.dialect.reference(&self.type_name()), true)),
            "patch" => Some((self.dialect.reference(PATCH), true)),
            "delete" | "deletecollection" => Some((self.dialect.reference(DELETE_OPTIONS), false)),
            _ => None,
        }
    }

    fn add_body(
        &self,
        out: &mut Value,
        parameters: &mut Vec<Value>,
        verb: &str,
        schema: Value,
        required: bool,
    ) {
        const PATCHES: [&str; 4] = [
            "application/apply-patch+yaml",
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/strategic-merge-patch+json",
        ];
        let kinds: &[&str] = match verb {
            // The last one, strategic merge, is of built-in kinds only; kubectl
            // sends what it finds here.
            "patch" if self.kind.custom().is_some() => &PATCHES[..3],
            "patch" => &PATCHES,
            _ => &["*/*"],
        };
        if self.dialect.v3 {
            let content: Map<String, Value> = kinds
                .iter()
                .map(|k| ((*k).to_owned(), json!({"schema": schema})))
                .collect();
            out["requestBody"] = json!({"content": content});
            if required {
                out["requestBody"]["required"] = true.into();
            }
        } else {
            let mut body = json!({"name": "body", "in": "body", "schema": schema});
            if required {
                body["required"] = true.into();
            }
            parameters.insert(0, body);
            out["consumes"] = json!(kinds);
        }
    }

    fn responses(&self, verb: &str) -> Value {
        let plain = self.is_stream() || self.sub.is_some_and(|s| s.name() == "log");
        let schema = match verb {
            _ if plain => json!({"type": "string"}),
            "list" => self.dialect.reference(&super::list_type(self.kind)),
            "delete" if self.kind.deletion() == Deletion::Graceful => {
                self.dialect.reference(self.kind.type_name())
            }
            "delete" | "deletecollection" => self.dialect.reference(STATUS),
            _ => self.dialect.reference(&self.type_name()),
        };
        let answer = |text: &str| match self.dialect.v3 {
            true => {
                let forms = match verb {
                    _ if plain => vec!["text/plain"],
                    "list" => vec![JSON, YAML, PROTOBUF, WATCH_JSON, WATCH_PROTOBUF],
                    _ => vec![JSON, YAML, PROTOBUF],
                };
                let content: Map<String, Value> = forms
                    .into_iter()
                    .map(|f| (f.to_owned(), json!({"schema": schema})))
                    .collect();
                json!({"description": text, "content": content})
            }
            false => json!({"description": text, "schema": schema}),
        };
        let mut out = Map::new();
        out.insert("200".to_owned(), answer("OK"));
        if matches!(verb, "create" | "update" | "patch") && !plain {
            out.insert("201".to_owned(), answer("Created"));
        }
        if matches!(verb, "create" | "delete") && !plain {
            out.insert("202".to_owned(), answer("Accepted"));
        }
        out.insert("401".to_owned(), json!({"description": "Unauthorized"}));
        Value::Object(out)
    }

    fn tag(&self) -> String {
        let group = match self.kind.group() {
            "" => "core".to_owned(),
            group => group.trim_end_matches(".k8s.io").replace('.', "_"),
        };
        format!("{group}_{}", self.kind.version())
    }

    fn description(&self, verb: &str) -> String {
        let (kind, of) = (self.kind.kind(), self.sub.map(Subresource::name));
        let part = of.map_or_else(String::new, |sub| format!("{sub} of the "));
        match verb {
            _ if self.is_stream() => format!("connect to {part}specified {kind}"),
            "list" => format!("list or watch objects of kind {kind}"),
            "create" if of.is_none() => format!("create a {kind}"),
            "create" => format!("create {part}specified {kind}"),
            "update" => format!("replace {part}specified {kind}"),
            "patch" => format!("partially update {part}specified {kind}"),
            "delete" => format!("delete a {kind}"),
            "deletecollection" => format!("delete collection of {kind}"),
            _ => format!("read {part}specified {kind}"),
        }
    }

    fn operation_id(&self, verb: &str, method: &str) -> String {
        let group = match self.kind.group() {
            "" => "Core".to_owned(),
            group => group
                .trim_end_matches(".k8s.io")
                .split(['.', '-'])
                .map(title)
                .collect(),
        };
        let version = title(self.kind.version());
        let namespaced = match self.kind.namespaced() && !self.everywhere {
            true => "Namespaced",
            false => "",
        };
        let kind = self.kind.kind();
        let sub = self.sub.map_or_else(String::new, |s| title(s.name()));
        if self.is_stream() {
            let method = title(method);
            return format!("connect{group}{version}{method}{namespaced}{kind}{sub}");
        }
        let (action, collection) = match verb {
            "get" => ("read", ""),
            "update" => ("replace", ""),
            "deletecollection" => ("delete", "Collection"),
            other => (other, ""),
        };
        let everywhere = match self.everywhere {
            true => "ForAllNamespaces",
            false => "",
        };
        format!("{action}{group}{version}{collection}{namespaced}{kind}{sub}{everywhere}")
    }
}

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const WATCH_JSON: &str = "application/json;stream=watch";
const WATCH_PROTOBUF: &str = "application/vnd.kubernetes.protobuf;stream=watch";

fn title(word: &str) -> String {
    let mut letters = word.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::kinds::by_resource;

    /// Group and resource, path, method, name.
    const OPERATIONS: &[((&str, &str), &str, &str, &str)] = &[
        (
            ("", "pods"),
            "/api/v1/namespaces/{namespace}/pods/{name}",
            "get",
            "readCoreV1NamespacedPod",
        ),
        (
            ("", "pods"),
            "/api/v1/pods",
            "get",
            "listCoreV1PodForAllNamespaces",
        ),
        (
            ("", "pods"),
            "/api/v1/namespaces/{namespace}/pods",
            "delete",
            "deleteCoreV1CollectionNamespacedPod",
        ),
        (
            ("", "pods"),
            "/api/v1/namespaces/{namespace}/pods/{name}/eviction",
            "post",
            "createCoreV1NamespacedPodEviction",
        ),
        (
            ("", "pods"),
            "/api/v1/namespaces/{namespace}/pods/{name}/exec",
            "get",
            "connectCoreV1GetNamespacedPodExec",
        ),
        (
            ("", "nodes"),
            "/api/v1/nodes/{name}/status",
            "patch",
            "patchCoreV1NodeStatus",
        ),
        (
            ("", "namespaces"),
            "/api/v1/namespaces/{name}/finalize",
            "put",
            "replaceCoreV1NamespaceFinalize",
        ),
        (
            ("rbac.authorization.k8s.io", "roles"),
            "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles",
            "post",
            "createRbacAuthorizationV1NamespacedRole",
        ),
        (
            ("flowcontrol.apiserver.k8s.io", "flowschemas"),
            "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas",
            "get",
            "listFlowcontrolApiserverV1FlowSchema",
        ),
        (
            ("certificates.k8s.io", "certificatesigningrequests"),
            "/apis/certificates.k8s.io/v1/certificatesigningrequests/{name}/approval",
            "get",
            "readCertificatesV1CertificateSigningRequestApproval",
        ),
    ];

    #[test]
    fn operations_have_upstreams_names() {
        let dialect = Dialect {
            references: "#/definitions/",
            v3: false,
        };
        for (resource, path, method, wanted) in OPERATIONS {
            let kind = by_resource(resource.0, "v1", resource.1).unwrap();
            let mut out = Map::new();
            add(&mut out, &kind, &dialect);
            assert_eq!(out[*path][*method]["operationId"], *wanted);
        }
    }

    #[test]
    fn a_subresource_may_have_a_type_of_its_own() {
        let dialect = Dialect {
            references: "#/definitions/",
            v3: false,
        };
        let mut out = Map::new();
        add(&mut out, &by_resource("", "v1", "pods").unwrap(), &dialect);
        let eviction = &out["/api/v1/namespaces/{namespace}/pods/{name}/eviction"]["post"];
        assert_eq!(
            eviction["parameters"][0]["schema"]["$ref"],
            "#/definitions/io.k8s.api.policy.v1.Eviction"
        );
        assert_eq!(
            eviction["x-kubernetes-group-version-kind"]["group"],
            "policy"
        );
    }
}
