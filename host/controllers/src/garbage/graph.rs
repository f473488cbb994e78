//! Who owns whom, and what has to be done about it. Pure.
//!
//! Every object is known by its UID alone; those that have owners, or that are
//! being deleted with a finalizer of the collector, are known with names. The
//! rules are upstream's (`pkg/controller/garbagecollector`): an object goes
//! when none of its owners exists any more.

use reconcile::{ObjectKey, Resource};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

pub(super) const ORPHAN: &str = "orphan";
pub(super) const FOREGROUND: &str = "foregroundDeletion";
/// Owners that are known not to exist; forgotten when there are too many.
const ABSENT: usize = 10_000;

/// A resource and what its objects are called.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Class {
    pub(super) resource: Resource,
    pub(super) kind: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) uid: Arc<str>,
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) blocking: bool,
}

/// What an event says of an object.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) class: Arc<Class>,
    pub(super) key: ObjectKey,
    pub(super) uid: Arc<str>,
    pub(super) owners: Vec<Owner>,
    pub(super) deleting: bool,
    pub(super) orphan: bool,
    pub(super) foreground: bool,
}

impl Object {
    fn is_remembered(&self) -> bool {
        !self.owners.is_empty() || (self.deleting && (self.orphan || self.foreground))
    }

    fn waits(&self) -> bool {
        self.deleting && self.foreground
    }
}

/// What to do about one object.
#[derive(Debug)]
pub(super) enum Action {
    Nothing,
    /// Find out whether these exist, then ask again.
    LookUp(Object, Vec<Owner>),
    /// Take these owners off.
    Release(Object, Vec<Arc<str>>),
    /// No owner is left, or all that are left wait for this one to go.
    Delete {
        object: Object,
        foreground: bool,
        /// Take `blockOwnerDeletion` off first: owners wait for each other.
        unblock: bool,
    },
    /// Take the owner off all of these, then the finalizer off the owner.
    Orphan(Object, Vec<Object>),
    /// Nothing blocks it any more.
    Finish(Object),
    /// It goes after these.
    After(Vec<Arc<str>>),
}

#[derive(Debug, Default)]
pub(super) struct Graph {
    /// Every object there is: its namespace.
    alive: HashMap<Arc<str>, Alive>,
    remembered: HashMap<Arc<str>, Object>,
    dependents: HashMap<Arc<str>, HashSet<Arc<str>>>,
    absent: HashSet<(Arc<str>, String)>,
}

#[derive(Debug)]
struct Alive {
    class: Arc<Class>,
    namespace: Arc<str>,
}

impl Graph {
    /// An object as it now is; what has to be looked at.
    pub(super) fn put(&mut self, object: Object, namespace: Arc<str>) -> Vec<Arc<str>> {
        let uid = object.uid.clone();
        let before = self.forget_links(&uid);
        let class = object.class.clone();
        self.alive.insert(uid.clone(), Alive { class, namespace });
        let mut look = Vec::new();
        for owner in &object.owners {
            let dependents = self.dependents.entry(owner.uid.clone()).or_default();
            dependents.insert(uid.clone());
        }
        // Owners that wait for this one have one less to wait for.
        for owner in before.iter().flat_map(|b| &b.owners) {
            if self.remembered.get(&owner.uid).is_some_and(Object::waits) {
                look.push(owner.uid.clone());
            }
        }
        if object.is_remembered() {
            look.push(uid.clone());
            self.remembered.insert(uid, object);
        }
        look
    }

    /// An object that went; what has to be looked at.
    pub(super) fn remove(&mut self, uid: &Arc<str>) -> Vec<Arc<str>> {
        self.alive.remove(uid);
        let gone = self.forget_links(uid);
        let owners = gone.iter().flat_map(|g| &g.owners).map(|o| o.uid.clone());
        let mut look: Vec<Arc<str>> = owners.collect();
        look.extend(self.dependents.get(uid).into_iter().flatten().cloned());
        look
    }

    fn forget_links(&mut self, uid: &Arc<str>) -> Option<Object> {
        let before = self.remembered.remove(uid)?;
        for owner in &before.owners {
            if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                dependents.remove(uid);
                if dependents.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
        Some(before)
    }

    /// The objects of a class that are known, to find those that went unseen.
    pub(super) fn of_class(&self, class: &Arc<Class>) -> HashSet<Arc<str>> {
        let of = |(uid, alive): (&Arc<str>, &Alive)| (alive.class == *class).then(|| uid.clone());
        self.alive.iter().filter_map(of).collect()
    }

    /// What a look-up found out: `owner` isn't where `namespace` says.
    pub(super) fn set_absent(&mut self, owner: Arc<str>, namespace: String) {
        if self.absent.len() >= ABSENT {
            self.absent.clear();
        }
        self.absent.insert((owner, namespace));
    }

    /// The owners of an object that exist in another namespace only.
    pub(super) fn misplaced(&self, object: &Object) -> Vec<Owner> {
        let elsewhere = |owner: &&Owner| {
            self.alive.get(&owner.uid).is_some_and(|alive| {
                alive.class.resource.namespaced && *alive.namespace != *object.key.namespace
            })
        };
        object.owners.iter().filter(elsewhere).cloned().collect()
    }

    pub(super) fn object(&self, uid: &Arc<str>) -> Option<&Object> {
        self.remembered.get(uid)
    }

    pub(super) fn plan(&self, uid: &Arc<str>) -> Action {
        let Some(object) = self.remembered.get(uid) else {
            return Action::Nothing;
        };
        if object.deleting && object.orphan {
            let dependents = self.dependents_of(uid).cloned().collect();
            return Action::Orphan(object.clone(), dependents);
        }
        if object.waits() {
            return self.plan_foreground(object);
        }
        if object.deleting {
            return Action::Nothing;
        }
        self.plan_owned(object)
    }

    fn dependents_of(&self, uid: &Arc<str>) -> impl Iterator<Item = &Object> {
        let all = self.dependents.get(uid).into_iter().flatten();
        all.filter_map(|uid| self.remembered.get(uid))
    }

    fn plan_foreground(&self, object: &Object) -> Action {
        let blocks = |dependent: &&Object| {
            let owners = dependent.owners.iter();
            owners
                .into_iter()
                .any(|o| o.uid == object.uid && o.blocking)
        };
        let blocking: Vec<&Object> = self.dependents_of(&object.uid).filter(blocks).collect();
        if blocking.is_empty() {
            return Action::Finish(object.clone());
        }
        // Those without the flag go too; nobody waits for them.
        let others = self.dependents_of(&object.uid).filter(|d| !d.deleting);
        Action::After(others.map(|d| d.uid.clone()).collect())
    }

    fn plan_owned(&self, object: &Object) -> Action {
        let (mut solid, mut gone, mut waiting, mut unknown) =
            (0, Vec::new(), Vec::new(), Vec::new());
        for owner in &object.owners {
            match self.state(object, owner) {
                State::Solid => solid += 1,
                State::Gone => gone.push(owner.uid.clone()),
                State::Waiting => waiting.push(owner.uid.clone()),
                State::Unknown => unknown.push(owner.clone()),
            }
        }
        if !unknown.is_empty() {
            return Action::LookUp(object.clone(), unknown);
        }
        if solid > 0 {
            gone.extend(waiting);
            return match gone.is_empty() {
                true => Action::Nothing,
                false => Action::Release(object.clone(), gone),
            };
        }
        let has_dependents = self.dependents.contains_key(&object.uid);
        let circle = self.dependents_of(&object.uid).any(Object::waits);
        Action::Delete {
            object: object.clone(),
            foreground: object.foreground || (!waiting.is_empty() && has_dependents),
            unblock: !waiting.is_empty() && circle,
        }
    }

    fn state(&self, object: &Object, owner: &Owner) -> State {
        let namespace = &object.key.namespace;
        if let Some(alive) = self.alive.get(&owner.uid) {
            let here = !alive.class.resource.namespaced || *alive.namespace == **namespace;
            if here {
                let waits = self.remembered.get(&owner.uid).is_some_and(Object::waits);
                return if waits { State::Waiting } else { State::Solid };
            }
        }
        match self
            .absent
            .contains(&(owner.uid.clone(), namespace.clone()))
        {
            true => State::Gone,
            false => State::Unknown,
        }
    }
}

enum State {
    Solid,
    Gone,
    /// Being deleted in the foreground.
    Waiting,
    Unknown,
}

#[cfg(test)]
#[path = "graph_tests.rs"]
mod tests;
