//! A container's environment: `env`, `envFrom`, references to ConfigMaps,
//! Secrets, fields and resources, and `$(VAR)` expansion as upstream has it.

use super::resources::{limit, milli, request, units};
use super::view::View;
use k8s_openapi::api::core::v1::{
    Container, EnvVarSource, ObjectFieldSelector, ResourceFieldSelector,
};
use std::collections::{BTreeMap, BTreeSet};

/// Why a container can't be described yet: CreateContainerConfigError.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ConfigError(pub(crate) String);

/// An object that a container's description draws on, in the pod's namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    ConfigMap(String),
    Secret(String),
}

/// What was found; a source that does not exist is absent.
pub(crate) type Sources = BTreeMap<Source, BTreeMap<String, Vec<u8>>>;

/// What the node knows beyond the pod.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostFacts {
    pub(crate) node_name: String,
    pub(crate) host_ips: Vec<String>,
}

/// Every object that `container`'s environment names.
pub(crate) fn sources(container: &Container) -> BTreeSet<Source> {
    let mut found = BTreeSet::new();
    for from in container.env_from.iter().flatten() {
        let map = from.config_map_ref.as_ref().map(|r| r.name.clone());
        let secret = from.secret_ref.as_ref().map(|r| r.name.clone());
        found.extend(map.map(Source::ConfigMap));
        found.extend(secret.map(Source::Secret));
    }
    for source in container
        .env
        .iter()
        .flatten()
        .filter_map(|e| e.value_from.as_ref())
    {
        let map = source.config_map_key_ref.as_ref();
        let secret = source.secret_key_ref.as_ref();
        found.extend(map.map(|r| Source::ConfigMap(r.name.clone())));
        found.extend(secret.map(|r| Source::Secret(r.name.clone())));
    }
    found
}

/// The pod's own variables, in order; later ones win.
///
/// # Errors
/// A reference that is not optional and leads nowhere.
pub(crate) fn environment(
    view: View<'_>,
    container: &Container,
    sources: &Sources,
    host: &HostFacts,
) -> Result<Vec<(String, String)>, ConfigError> {
    let mut variables = Variables::default();
    from_sources(container, sources, &mut variables)?;
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (Some(value), _) if !value.is_empty() => Some(expand(value, &variables.map)),
            (_, Some(source)) => referred(view, container, source, sources, host)?,
            _ => Some(String::new()),
        };
        if let Some(value) = value {
            variables.set(&variable.name, value);
        }
    }
    Ok(variables.in_order())
}

/// Replaces `$(NAME)` where `NAME` is known; `$$` stands for one `$`.
pub(crate) fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    expand_telling(text, variables).0
}

/// The same, with the first name that is not known.
pub(crate) fn expand_telling<'a>(
    text: &'a str,
    variables: &BTreeMap<String, String>,
) -> (String, Option<&'a str>) {
    let mut out = String::with_capacity(text.len());
    let mut unknown = None;
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after
            .strip_prefix('(')
            .and_then(|inner| inner.split_once(')'))
        {
            match variables.get(name) {
                Some(value) => out.push_str(value),
                None => {
                    unknown.get_or_insert(name);
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    (out, unknown)
}

#[derive(Default)]
struct Variables {
    order: Vec<String>,
    map: BTreeMap<String, String>,
}

impl Variables {
    fn set(&mut self, name: &str, value: String) {
        if self.map.insert(name.to_owned(), value).is_none() {
            self.order.push(name.to_owned());
        }
    }

    fn in_order(mut self) -> Vec<(String, String)> {
        let order = std::mem::take(&mut self.order);
        let pairs = order.into_iter();
        pairs
            .filter_map(|name| self.map.remove(&name).map(|value| (name, value)))
            .collect()
    }
}

fn from_sources(
    container: &Container,
    sources: &Sources,
    variables: &mut Variables,
) -> Result<(), ConfigError> {
    for from in container.env_from.iter().flatten() {
        let maps = from.config_map_ref.as_ref();
        let secrets = from.secret_ref.as_ref();
        let wanted = maps
            .map(|r| (Source::ConfigMap(r.name.clone()), r.optional))
            .or_else(|| secrets.map(|r| (Source::Secret(r.name.clone()), r.optional)));
        let Some((source, optional)) = wanted else {
            continue;
        };
        let Some(data) = sources.get(&source) else {
            if optional == Some(true) {
                continue;
            }
            return Err(absent(&source));
        };
        let prefix = from.prefix.as_deref().unwrap_or_default();
        for (key, value) in data {
            if let Ok(value) = std::str::from_utf8(value) {
                variables.set(&format!("{prefix}{key}"), value.to_owned());
            }
        }
    }
    Ok(())
}

/// The value of a reference; `None` if it is optional and leads nowhere.
fn referred(
    view: View<'_>,
    container: &Container,
    from: &EnvVarSource,
    sources: &Sources,
    host: &HostFacts,
) -> Result<Option<String>, ConfigError> {
    let keyed = if let Some(r) = &from.config_map_key_ref {
        Some((Source::ConfigMap(r.name.clone()), &r.key, r.optional))
    } else {
        from.secret_key_ref
            .as_ref()
            .map(|r| (Source::Secret(r.name.clone()), &r.key, r.optional))
    };
    if let Some((source, key, optional)) = keyed {
        let optional = optional == Some(true);
        let Some(data) = sources.get(&source) else {
            return if optional {
                Ok(None)
            } else {
                Err(absent(&source))
            };
        };
        return match data.get(key) {
            Some(value) => Ok(Some(String::from_utf8_lossy(value).into_owned())),
            None if optional => Ok(None),
            None => Err(no_key(view, &source, key)),
        };
    }
    if let Some(field) = &from.field_ref {
        return field_value(view, field, host).map(Some);
    }
    if let Some(field) = &from.resource_field_ref {
        return resource_value(view, container, field).map(Some);
    }
    Err(ConfigError(
        "valueFrom names no supported source".to_owned(),
    ))
}

pub(crate) fn absent(source: &Source) -> ConfigError {
    ConfigError(match source {
        Source::ConfigMap(name) => format!("configmap \"{name}\" not found"),
        Source::Secret(name) => format!("secret \"{name}\" not found"),
    })
}

fn no_key(view: View<'_>, source: &Source, key: &str) -> ConfigError {
    let (kind, name) = match source {
        Source::ConfigMap(name) => ("ConfigMap", name),
        Source::Secret(name) => ("Secret", name),
    };
    let namespace = view.namespace();
    ConfigError(format!(
        "couldn't find key {key} in {kind} {namespace}/{name}"
    ))
}

/// The downward API's fields.
pub(crate) fn field_value(
    view: View<'_>,
    field: &ObjectFieldSelector,
    host: &HostFacts,
) -> Result<String, ConfigError> {
    let meta = &view.0.metadata;
    let path = field.field_path.as_str();
    let subscript = |prefix: &str, map: &Option<BTreeMap<String, String>>| {
        let key = path
            .strip_prefix(prefix)?
            .strip_prefix("['")?
            .strip_suffix("']")?;
        Some(
            map.as_ref()
                .and_then(|m| m.get(key))
                .cloned()
                .unwrap_or_default(),
        )
    };
    let account = || {
        let spec = view.spec();
        spec.and_then(|s| s.service_account_name.clone())
            .unwrap_or_default()
    };
    Ok(match path {
        "metadata.name" => view.name().to_owned(),
        "metadata.namespace" => view.namespace().to_owned(),
        "metadata.uid" => view.uid().to_owned(),
        "spec.nodeName" => host.node_name.clone(),
        "spec.serviceAccountName" => account(),
        "status.hostIP" => host.host_ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" => host.host_ips.join(","),
        // There is no pod network yet.
        "status.podIP" | "status.podIPs" => String::new(),
        _ => subscript("metadata.labels", &meta.labels)
            .or_else(|| subscript("metadata.annotations", &meta.annotations))
            .ok_or_else(|| ConfigError(format!("unsupported fieldPath: {path}")))?,
    })
}

/// A request or limit of a container, in units of the divisor.
pub(crate) fn resource_value(
    view: View<'_>,
    container: &Container,
    field: &ResourceFieldSelector,
) -> Result<String, ConfigError> {
    let named = field.container_name.as_deref();
    let container = named
        .and_then(|name| view.container(name).map(|(_, c)| c))
        .unwrap_or(container);
    let unsupported = || ConfigError(format!("unsupported resource: {}", field.resource));
    let (side, name) = field.resource.split_once('.').ok_or_else(unsupported)?;
    let quantity = match side {
        "limits" => limit(container, name),
        "requests" => request(container, name),
        _ => return Err(unsupported()),
    };
    let divisor = field.divisor.as_ref();
    let in_milli = name == "cpu";
    let read = |q| if in_milli { milli(q) } else { units(q) };
    let unit = if in_milli { 1000 } else { 1 };
    let divisor = divisor.and_then(read).filter(|d| *d > 0).unwrap_or(unit);
    let value = quantity.and_then(read).unwrap_or(0);
    Ok(value.div_ceil(divisor).to_string())
}

#[cfg(test)]
mod tests {
    use super::super::samples::pod;
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn expansion_is_upstreams() {
        let known = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        for (text, value) in [
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$(B)", "$(B)"),
            ("$(A", "$(A"),
            ("$A $", "$A $"),
            ("", ""),
            ("é$(A)é", "é1é"),
        ] {
            assert_eq!(expand(text, &known), value, "{text}");
        }
    }

    fn check(env: Value, env_from: Value) -> Result<Vec<(String, String)>, String> {
        let pod = pod(json!({"containers": [{
            "name": "a", "image": "a:1", "env": env, "envFrom": env_from,
            "resources": {"limits": {"memory": "64Mi", "cpu": "1500m"}},
        }]}));
        let view = View(&pod);
        let (_, container) = view.container("a").expect("it is there");
        let data = BTreeMap::from([("k".to_owned(), b"v".to_vec())]);
        let sources = Sources::from([(Source::ConfigMap("m".to_owned()), data)]);
        let host = HostFacts {
            node_name: "n1".to_owned(),
            host_ips: vec!["10.0.0.1".to_owned()],
        };
        environment(view, container, &sources, &host).map_err(|error| error.0)
    }

    #[test]
    fn variables_refer_backwards_and_to_objects() {
        let pairs = check(
            json!([
                {"name": "B", "value": "$(k)-$(C)"},
                {"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "D", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                {"name": "E", "valueFrom": {"secretKeyRef": {"name": "s", "key": "x", "optional": true}}},
                {"name": "B", "value": "$(B)!"},
            ]),
            json!([{"configMapRef": {"name": "m"}}]),
        )
        .expect("resolves");
        let text: Vec<String> = pairs.iter().map(|(n, v)| format!("{n}={v}")).collect();
        assert_eq!(text, ["k=v", "B=v-$(C)!", "C=web", "D=2"]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let secret =
            json!([{"name": "E", "valueFrom": {"secretKeyRef": {"name": "s", "key": "x"}}}]);
        assert_eq!(
            check(secret, json!([])),
            Err("secret \"s\" not found".to_owned())
        );
        let key =
            json!([{"name": "E", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "x"}}}]);
        let text = "couldn't find key x in ConfigMap default/m";
        assert_eq!(check(key, json!([])), Err(text.to_owned()));
        let map = json!([{"configMapRef": {"name": "none"}}]);
        assert_eq!(
            check(json!([]), map),
            Err("configmap \"none\" not found".to_owned())
        );
    }
}
