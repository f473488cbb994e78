//! The kinds that are served now: the rows of `api`'s table, what stored
//! CustomResourceDefinitions bring and take away while the server runs, and the
//! group-versions that other servers serve.
//!
//! [`Kinds`] is shared by all requests. A request takes one [`Table`] and keeps
//! it: what it resolved doesn't change under it. Whoever derives something
//! (documents, caches) does so for one table and asks `subscribe` for the next.

use crate::aggregated::Remote;
use api::custom::CustomKind;
use api::kinds::{KINDS, KindRef};
use std::sync::Arc;
use tokio::sync::watch;

/// One state of affairs: immutable.
pub struct Table {
    kinds: Vec<KindRef>,
    remotes: Vec<Arc<Remote>>,
    generation: u64,
}

impl Table {
    fn new(custom: Vec<Arc<CustomKind>>, generation: u64) -> Table {
        let rows = KINDS.iter().copied().map(KindRef::Row);
        let custom = custom.into_iter().map(KindRef::Custom);
        Table {
            kinds: rows.chain(custom).collect(),
            remotes: Vec::new(),
            generation,
        }
    }

    /// The group-versions of other servers.
    pub(crate) fn remotes(&self) -> &[Arc<Remote>] {
        &self.remotes
    }

    /// Who serves a group-version, if this server doesn't.
    pub(crate) fn remote(&self, group: &str, version: &str) -> Option<&Arc<Remote>> {
        let mut remotes = self.remotes.iter();
        remotes.find(|r| r.group() == group && r.version() == version)
    }

    /// In discovery's order, the core group first.
    pub fn iter(&self) -> impl Iterator<Item = &KindRef> {
        self.kinds.iter()
    }

    /// Grows with every change.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The kind that answers a path.
    pub fn resolve(&self, group: &str, version: &str, plural: &str) -> Option<&KindRef> {
        self.kinds
            .iter()
            .find(|k| k.plural() == plural && k.group() == group && k.version() == version)
    }

    /// The kinds of one group-version.
    pub fn of<'a>(
        &'a self,
        group: &'a str,
        version: &'a str,
    ) -> impl Iterator<Item = &'a KindRef> + 'a {
        self.kinds
            .iter()
            .filter(move |k| k.group() == group && k.version() == version)
    }

    /// The served group-versions, in order.
    pub fn group_versions(&self) -> Vec<(&str, &str)> {
        let mut out: Vec<(&str, &str)> = Vec::new();
        for k in &self.kinds {
            if !out.contains(&(k.group(), k.version())) {
                out.push((k.group(), k.version()));
            }
        }
        out
    }
}

/// The owner of the current table.
pub struct Kinds(watch::Sender<Arc<Table>>);

impl Default for Kinds {
    fn default() -> Kinds {
        Kinds(watch::Sender::new(Arc::new(Table::new(Vec::new(), 0))))
    }
}

impl Kinds {
    pub fn table(&self) -> Arc<Table> {
        self.0.borrow().clone()
    }

    pub fn resolve(&self, group: &str, version: &str, plural: &str) -> Option<KindRef> {
        self.0.borrow().resolve(group, version, plural).cloned()
    }

    /// Tells of each later table; those in between may be skipped.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Table>> {
        self.0.subscribe()
    }

    /// Replaces all custom kinds.
    pub fn set_custom(&self, custom: Vec<Arc<CustomKind>>) {
        self.0.send_modify(|table| {
            *table = Arc::new(Table {
                remotes: table.remotes.clone(),
                ..Table::new(custom, table.generation + 1)
            });
        });
    }

    /// Replaces all that other servers serve.
    pub(crate) fn set_remote(&self, remotes: Vec<Arc<Remote>>) {
        self.0.send_modify(|table| {
            *table = Arc::new(Table {
                kinds: table.kinds.clone(),
                remotes,
                generation: table.generation + 1,
            });
        });
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn custom_kinds_come_and_go() {
        let kinds = Kinds::default();
        let mut changes = kinds.subscribe();
        let before = kinds.table();
        let mut custom = CustomKind {
            group: "example.com".to_owned(),
            version: "v1".to_owned(),
            ..CustomKind::default()
        };
        custom.names.plural = "things".to_owned();
        kinds.set_custom(vec![Arc::new(custom)]);
        assert!(changes.has_changed().unwrap());
        let table = changes.borrow_and_update().clone();
        assert!(table.generation() > before.generation());
        assert!(kinds.resolve("example.com", "v1", "things").is_some());
        assert!(before.resolve("example.com", "v1", "things").is_none());
        assert_eq!(table.group_versions().last(), Some(&("example.com", "v1")));
        assert_eq!(table.of("example.com", "v1").count(), 1);
        assert!(kinds.resolve("", "v1", "pods").is_some());
        kinds.set_custom(Vec::new());
        assert!(kinds.resolve("example.com", "v1", "things").is_none());
    }
}
