//! Parameters of policies: the objects that a binding names, as they stand
//! (`policy/generic.CollectParams`).

use super::policy::{ParamKind, ParamRef};
use crate::kinds::Table;
use crate::registry;
use api::kinds::KindRef;
use api::label_selector;
use api::status::Status;
use serde_json::Value;
use store::{Range, Store};

/// The kind that is served as the policy names it.
pub(super) fn resolve<'a>(of: &ParamKind, table: &'a Table) -> Result<&'a KindRef, String> {
    let served = |k: &&KindRef| {
        (k.group(), k.version(), k.kind()) == (&of.group, &of.version, &of.kind)
            && !k.storage().is_empty()
    };
    table.iter().find(served).ok_or_else(|| {
        format!(
            "failed to find resource referenced by paramKind: '{}/{}, Kind={}'",
            of.group, of.version, of.kind
        )
    })
}

/// The parameters of one binding, for a request in `namespace`.
pub(super) fn collect(
    store: &Store,
    kind: &KindRef,
    of: &ParamRef,
    namespace: &str,
) -> Result<Vec<Value>, String> {
    let within = match (kind.namespaced(), of.namespace.as_str(), namespace) {
        (false, "", _) => "",
        (false, _, _) => {
            let why = "paramRef.namespace must not be provided for a cluster-scoped `paramKind`";
            return Err(why.to_owned());
        }
        (true, "", "") => {
            let why = "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources";
            return Err(why.to_owned());
        }
        (true, "", namespace) => namespace,
        (true, named, _) => named,
    };
    let found = match of.selector.is_null() {
        true => named(store, kind, within, &of.name),
        false => selected(store, kind, within, &of.selector),
    };
    let found = found.map_err(|status| status.message)?;
    if found.is_empty() && of.denies_missing {
        let why = "no params found for policy binding with `Deny` parameterNotFoundAction";
        return Err(why.to_owned());
    }
    Ok(found)
}

fn named(store: &Store, kind: &KindRef, namespace: &str, name: &str) -> Result<Vec<Value>, Status> {
    match registry::get(store, kind, namespace, name) {
        Ok(found) => Ok(vec![found.object]),
        Err(status) if status.code == 404 => Ok(Vec::new()),
        Err(status) => Err(status),
    }
}

fn selected(
    store: &Store,
    kind: &KindRef,
    namespace: &str,
    selector: &Value,
) -> Result<Vec<Value>, Status> {
    let selector = label_selector::parse(selector).unwrap_or_default();
    let found = store
        .range(&Range::prefix(registry::prefix(kind, namespace)))
        .map_err(registry::store_status)?;
    let mut out = Vec::new();
    for item in found.items {
        let object = registry::decode(kind, &item.value, item.mod_revision)?;
        if selector.matches(&object) {
            out.push(object);
        }
    }
    Ok(out)
}
