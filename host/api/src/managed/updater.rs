//! What a write does to ownership. An update owns what it changed and takes it
//! from others. An apply owns exactly what it mentions, is refused where that
//! would change what others own, and removes what it mentioned last time and
//! nobody else owns.

use super::element::PathElement;
use super::merge::{merge, reconciled, remove, validate, with_structs};
use super::owners::{self, Manager, Managers, Operation, Owned};
use super::schema::SchemaNode;
use super::set::Set;
use super::walk::{Comparison, compare, field_set};
use crate::meta;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// A kind's versions, as far as ownership needs them.
pub trait Versions {
    type Node: SchemaNode;

    /// The type of objects in `version`; `None` if it isn't served any more.
    fn schema(&self, version: &str) -> Option<Self::Node>;

    /// `object`, which is in the version `from`, in the version `to`.
    fn convert(&self, object: &Value, from: &str, to: &str) -> Option<Value>;

    /// Of a write's fields those that the endpoint takes from its client.
    fn kept(&self, version: &str, set: Set) -> Set;
}

/// Who writes, in which version, through which subresource, and when.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// The manager's name.
    pub manager: &'a str,
    pub version: &'a str,
    pub subresource: &'a str,
    /// RFC 3339.
    pub time: &'a str,
}

impl Writer<'_> {
    fn manager(&self, operation: Operation) -> Manager {
        let name = match self.manager {
            "" => "unknown",
            name => name,
        };
        Manager {
            name: name.to_owned(),
            operation,
            version: match operation {
                Operation::Apply => String::new(),
                Operation::Update => self.version.to_owned(),
            },
            subresource: self.subresource.to_owned(),
        }
    }
}

/// A field that somebody else owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    pub manager: Manager,
    pub path: Vec<PathElement>,
}

/// Why an apply is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    #[error("conflicts")]
    Conflicts(Vec<Conflict>),
    /// The client's fault, with upstream's 400.
    #[error("{0}")]
    BadRequest(String),
    /// What upstream answers with a plain 500.
    #[error("{0}")]
    Refused(String),
}

/// What nobody owns.
fn unowned() -> &'static Set {
    static UNOWNED: OnceLock<Set> = OnceLock::new();
    UNOWNED.get_or_init(|| {
        Set::of_fields(&[
            &["apiVersion"],
            &["kind"],
            &["metadata"],
            &["metadata", "name"],
            &["metadata", "namespace"],
            &["metadata", "creationTimestamp"],
            &["metadata", "selfLink"],
            &["metadata", "uid"],
            &["metadata", "clusterName"],
            &["metadata", "generation"],
            &["metadata", "managedFields"],
            &["metadata", "resourceVersion"],
        ])
    })
}

fn nothing() -> &'static Value {
    static NOTHING: OnceLock<Value> = OnceLock::new();
    NOTHING.get_or_init(|| Value::Object(serde_json::Map::new()))
}

fn without_owners(object: &Value) -> Cow<'_, Value> {
    match meta::at(object, &["metadata", "managedFields"]) {
        None => Cow::Borrowed(object),
        Some(_) => {
            let mut bare = object.clone();
            meta::ensure_metadata(&mut bare).shift_remove("managedFields");
            Cow::Owned(bare)
        }
    }
}

/// After a create or an update from `live` (`None`: it is new) to `new`:
/// writes into `new` who owns what.
pub fn track<V: Versions>(
    versions: &V,
    live: Option<&Value>,
    new: &mut Value,
    writer: &Writer<'_>,
) {
    let asked = match (writer.subresource, owners::is_reset(new)) {
        ("", true) => Some(Managers::new()),
        ("", false) => owners::of(new).ok().filter(|m| !m.is_empty()),
        _ => None,
    };
    let managers =
        asked.unwrap_or_else(|| live.and_then(|l| owners::of(l).ok()).unwrap_or_default());
    meta::ensure_metadata(new).shift_remove("managedFields");
    let is_untracked = managers.is_empty() && live.is_some_and(|l| !meta::uid(l).is_empty());
    if is_untracked {
        return;
    }
    let live = live.map(without_owners);
    let live = live.as_deref().unwrap_or(nothing());
    let managers = updated(versions, live, new, managers, writer);
    owners::set(new, &managers);
}

/// One write in progress.
struct Write<'a, V: Versions> {
    versions: &'a V,
    node: V::Node,
    version: &'a str,
}

impl<'a, V: Versions> Write<'a, V> {
    fn new(versions: &'a V, version: &'a str) -> Option<Write<'a, V>> {
        Some(Write {
            versions,
            node: versions.schema(version)?,
            version,
        })
    }

    /// `object` and its type in another version.
    fn in_version<'b>(
        &self,
        object: &'b Value,
        version: &str,
    ) -> Option<(Cow<'b, Value>, V::Node)> {
        if version == self.version {
            return Some((Cow::Borrowed(object), self.node.clone()));
        }
        let node = self.versions.schema(version)?;
        let converted = self.versions.convert(object, self.version, version)?;
        Some((Cow::Owned(converted), node))
    }

    fn compared(&self, old: &Value, new: &Value, version: &str) -> Option<Comparison> {
        let (old, node) = self.in_version(old, version)?;
        let (new, _) = self.in_version(new, version)?;
        Some(compare(&node, &old, &new).filter(|set| self.versions.kept(version, set)))
    }

    /// Sets as they are owned by today's types; those of versions that are
    /// gone are dropped.
    fn reconcile(&self, managers: Managers) -> Managers {
        managers
            .into_iter()
            .filter_map(|(manager, mut owned)| {
                let node = self.versions.schema(&owned.version)?;
                owned.set = reconciled(&node, &owned.set);
                Some((manager, owned))
            })
            .collect()
    }

    /// What everybody but `writer` still owns after the change from `old` to
    /// `new`; without force the change may touch nothing of theirs.
    fn settle(
        &self,
        (old, new): (&Value, &Value),
        managers: &mut Managers,
        writer: Option<&Manager>,
        force: bool,
    ) -> Result<(), Vec<Conflict>> {
        let mut seen: BTreeMap<String, Option<Comparison>> = BTreeMap::new();
        let mut conflicts = Vec::new();
        let mut settled = Managers::new();
        for (manager, owned) in managers.iter() {
            if Some(manager) == writer {
                settled.insert(manager.clone(), owned.clone());
                continue;
            }
            let comparison = seen
                .entry(owned.version.clone())
                .or_insert_with(|| self.compared(old, new, &owned.version));
            let Some(c) = comparison else {
                continue;
            };
            let taken = owned.set.intersection(&c.modified.union(&c.added));
            taken.each(&mut |path| {
                conflicts.push(Conflict {
                    manager: manager.clone(),
                    path: path.to_vec(),
                });
            });
            let set = owned.set.difference(&taken).difference(&c.removed);
            if !set.is_empty() {
                settled.insert(
                    manager.clone(),
                    Owned {
                        set,
                        ..owned.clone()
                    },
                );
            }
        }
        if !force && !conflicts.is_empty() {
            return Err(conflicts);
        }
        *managers = settled;
        Ok(())
    }
}

/// The owners after an update.
fn updated<V: Versions>(
    versions: &V,
    live: &Value,
    new: &Value,
    managers: Managers,
    writer: &Writer<'_>,
) -> Managers {
    let Some(write) = Write::new(versions, writer.version) else {
        return managers;
    };
    let mut managers = write.reconcile(managers);
    let changed = compare(&write.node, live, new);
    if !changed.is_same() {
        // Forced: nothing can be refused.
        let _ = write.settle((live, new), &mut managers, None, true);
    }
    let took = versions
        .kept(writer.version, changed.modified.union(&changed.added))
        .difference(unowned());
    if !took.is_empty() {
        let own = managers
            .entry(writer.manager(Operation::Update))
            .or_insert_with(|| Owned {
                set: Set::default(),
                version: writer.version.to_owned(),
                time: String::new(),
            });
        own.set = own.set.union(&took);
        own.time = writer.time.to_owned();
    }
    owners::cap(&mut managers);
    managers
}

/// `config` applied to `live` (`None`: nothing is there yet): the object that
/// should stand, with its owners. It is in the writer's version, without
/// defaults for what is new. `None` for the object: nothing changes.
pub fn apply<V: Versions>(
    versions: &V,
    live: Option<&Value>,
    config: &Value,
    writer: &Writer<'_>,
    force: bool,
) -> Result<Value, ApplyError> {
    if meta::at(config, &["metadata", "managedFields"]).is_some_and(|v| !v.is_null()) {
        let why = "metadata.managedFields must be nil";
        return Err(ApplyError::BadRequest(why.to_owned()));
    }
    let write = Write::new(versions, writer.version).ok_or_else(|| {
        ApplyError::Refused(format!("no type found matching: {}", writer.version))
    })?;
    let mut managers = live
        .map_or(Ok(Managers::new()), owners::of)
        .map_err(|e| ApplyError::Refused(format!("failed to decode managed fields: {e}")))?;
    let live = live.map(without_owners);
    let live = live.as_deref().unwrap_or(nothing());
    if managers.is_empty() {
        // Nobody was tracked so far.
        let before = Writer {
            manager: "before-first-apply",
            subresource: writer.subresource,
            ..*writer
        };
        managers = updated(versions, nothing(), live, managers, &before);
    }
    validate(&write.node, config, false).map_err(|e| {
        let what = described(config, writer.version);
        ApplyError::Refused(format!("failed to create typed patch object ({what}): {e}"))
    })?;
    let (object, managers) = write.apply(live, config, managers, writer, force)?;
    let mut object = object;
    owners::set(&mut object, &managers);
    Ok(object)
}

/// Namespace, name and kind, as upstream's messages name an object.
fn described(object: &Value, version: &str) -> String {
    let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
    format!(
        "{}/{}; {group}/{version}, Kind={}",
        meta::namespace(object),
        meta::name(object),
        meta::text(object, &["kind"])
    )
}

impl<V: Versions> Write<'_, V> {
    fn apply(
        &self,
        live: &Value,
        config: &Value,
        managers: Managers,
        writer: &Writer<'_>,
        force: bool,
    ) -> Result<(Value, Managers), ApplyError> {
        let mut managers = self.reconcile(managers);
        let me = writer.manager(Operation::Apply);
        let merged = merge(&self.node, live, config);
        let last = managers.remove(&me);
        let set = self
            .versions
            .kept(self.version, field_set(&self.node, config));
        let mut own = Owned {
            set,
            version: self.version.to_owned(),
            time: last.as_ref().map(|l| l.time.clone()).unwrap_or_default(),
        };
        managers.insert(me.clone(), own.clone());
        let object = match &last {
            Some(last) if !last.set.is_empty() => self.prune(&merged, &managers, last),
            _ => merged,
        };
        self.settle((live, &object), &mut managers, Some(&me), force)
            .map_err(ApplyError::Conflicts)?;
        own.set = own.set.difference(unowned());
        if *live != object {
            writer.time.clone_into(&mut own.time);
        }
        managers.remove(&me);
        if !own.set.is_empty() {
            managers.insert(me, own);
        }
        Ok((object, managers))
    }

    /// `merged` without what the applier mentioned `last` time, doesn't
    /// mention any more, and nobody else owns.
    fn prune(&self, merged: &Value, managers: &Managers, last: &Owned) -> Value {
        let Some((in_last, node)) = self.in_version(merged, &last.version) else {
            return merged.clone();
        };
        let named = |set: &Set| with_structs(Some(&node), set);
        let last_set = named(&last.set);
        let mut pruned = remove(&node, &in_last, &last_set);
        let mut owned: BTreeMap<&str, Set> = BTreeMap::new();
        for o in managers.values() {
            let all = owned.entry(&o.version).or_default();
            *all = all.union(&o.set);
        }
        // The version of the pruned object first: others convert from it.
        let first = owned.remove_entry(last.version.as_str());
        for (version, set) in first.into_iter().chain(owned) {
            pruned = self.add_back(&in_last, pruned, &last.version, version, &set);
        }
        let (before, after) = (
            named(&field_set(&node, &in_last)),
            named(&field_set(&node, &pruned)),
        );
        let dangling = before.difference(&after).intersection(&last_set);
        let result = remove(&node, &in_last, &dangling);
        match last.version == self.version {
            true => result,
            false => self
                .versions
                .convert(&result, &last.version, self.version)
                .unwrap_or_else(|| merged.clone()),
        }
    }

    /// `pruned` with everything of `merged` that is owned in `version`.
    fn add_back(
        &self,
        merged: &Value,
        pruned: Value,
        from: &str,
        version: &str,
        owned: &Set,
    ) -> Value {
        let convert = |object: &Value| match from == version {
            true => Some(object.clone()),
            false => self.versions.convert(object, from, version),
        };
        let back = |object: Value| match from == version {
            true => Some(object),
            false => self.versions.convert(&object, version, from),
        };
        let (Some(node), Some(m), Some(p)) = (
            self.versions.schema(version),
            convert(merged),
            convert(&pruned),
        ) else {
            return pruned;
        };
        let named = |set: &Set| with_structs(Some(&node), set);
        let kept = named(&field_set(&node, &p)).union(&named(owned));
        let gone = named(&field_set(&node, &m)).difference(&kept);
        back(remove(&node, &m, &gone)).unwrap_or(pruned)
    }
}
