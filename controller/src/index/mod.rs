//! Watched objects, joined per Service. The index is pure: it takes events, and returns the names of changed Services.
//!
//! The engine owns it. The map of Services is persistent: a copy shares everything that did not change. So readers get
//! a copy with each change at no cost.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use rpds::HashTrieMapSync;
use tandem_core::family::Families;
use tandem_core::node::LastListed;
use tandem_core::object::{EndpointSlice, Node, ObjectKey, Service};

use crate::event::{Event, Notice, Object, ObjectKind, Reach};

#[cfg(test)]
mod tests;

/// A Service and its slices. Slices may come before their Service, and may stay after it.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// The Service, once known.
    pub service: Option<Arc<Service>>,
    /// Its slices, sorted by name.
    pub slices: Vec<Arc<EndpointSlice>>,
}

/// Everything that Tandem knows of the cluster.
pub type Services = HashTrieMapSync<ObjectKey, Arc<Entry>>;

/// How many branches a node of the map of Services has. A change after a copy was made copies a node on each level, and
/// wide nodes cost more than a few more levels.
const BRANCHES: u8 = 16;

/// A map without a Service.
pub fn no_services() -> Services {
    Services::new_sync_with_degree(BRANCHES)
}

/// The Services that changed, each with the families in which it changed. A slice belongs to one family, and its change
/// does not concern the other.
pub type ChangedServices = HashMap<ObjectKey, Families>;

/// Notices per object.
pub type Notices = BTreeMap<(ObjectKind, ObjectKey), Vec<Notice>>;

/// The faults of each file that cannot be read completely.
pub type Faults = BTreeMap<Box<str>, Vec<String>>;

/// A slice in a set by its name.
#[derive(Debug)]
struct ByName(Arc<EndpointSlice>);

impl ByName {
    fn service(&self) -> ObjectKey {
        ObjectKey {
            namespace: self.0.key.namespace.clone(),
            name: self.0.service.clone(),
        }
    }
}

impl Borrow<ObjectKey> for ByName {
    fn borrow(&self) -> &ObjectKey {
        &self.0.key
    }
}

impl PartialEq for ByName {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for ByName {}

impl Hash for ByName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key.hash(state);
    }
}

/// The joined objects, and what changed since the last `take_` calls.
#[derive(Debug)]
pub struct Index {
    services: Services,
    /// The slices, each as its Service's entry has it.
    slices: HashSet<ByName>,
    node: Option<Arc<Node>>,
    /// The last addresses and pod ranges of this node's object, per family.
    last_listed: LastListed,
    /// Whether the node's object existed and is gone.
    node_gone: bool,
    cidrs: BTreeMap<ObjectKey, Vec<IpNet>>,
    interfaces: Arc<[IpAddr]>,
    /// The objects that the present list of each kind has named so far. A list that began when nothing was known is not
    /// here.
    listing: BTreeMap<ObjectKind, HashSet<ObjectKey>>,
    listed: HashSet<ObjectKind>,
    reach: Arc<BTreeMap<ObjectKind, Reach>>,
    notices: Arc<Notices>,
    faults: Arc<Faults>,
    changed: ChangedServices,
    node_changed: bool,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            services: no_services(),
            slices: HashSet::new(),
            node: None,
            last_listed: LastListed::default(),
            node_gone: false,
            cidrs: BTreeMap::new(),
            interfaces: Arc::default(),
            listing: BTreeMap::new(),
            listed: HashSet::new(),
            reach: Arc::default(),
            notices: Arc::default(),
            faults: Arc::default(),
            changed: ChangedServices::new(),
            node_changed: false,
        }
    }
}

impl Index {
    /// Takes one event. Returns the notices that are new.
    pub fn apply(&mut self, event: Event) -> Vec<(ObjectKind, ObjectKey, Notice)> {
        match event {
            Event::Listing(kind) => {
                // If nothing is known, nothing can be missing from the list. The first lists are the longest.
                if self.knows_any(kind) {
                    self.listing.insert(kind, HashSet::new());
                } else {
                    self.listing.remove(&kind);
                }
            }
            Event::Applied(object, notices) => {
                let (kind, key) = (object.kind(), object.key());
                self.named(kind, &key);
                self.insert(object);
                return self.notice(kind, key, notices);
            }
            Event::Deleted(kind, key, notices) => {
                // The list names this object, although nothing is programmed for it.
                self.named(kind, &key);
                self.remove(kind, &key);
                return self.notice(kind, key, notices);
            }
            Event::Unreadable(kind, key, notice) => {
                self.named(kind, &key);
                return self.notice(kind, key, vec![notice]);
            }
            Event::Listed(kind) => {
                if let Some(seen) = self.listing.remove(&kind) {
                    for key in self.unseen(kind, &seen) {
                        self.remove(kind, &key);
                    }
                    self.forget_notices(kind, &seen);
                }
                self.listed.insert(kind);
            }
            Event::Interfaces(addresses) => {
                self.node_changed |= *self.interfaces != *addresses;
                self.interfaces = addresses.into();
            }
            Event::Faulty(file, faults) => self.fault(file, faults),
            Event::Reach(kind, reach) => drop(Arc::make_mut(&mut self.reach).insert(kind, reach)),
            // These events concern only the engine.
            Event::Configured(_) | Event::NodeFact(_) | Event::TakeOver => {}
        }
        Vec::new()
    }

    /// Whether every kind was listed once. Only then may anything be removed from the kernel.
    pub fn complete(&self) -> bool {
        ObjectKind::ALL.iter().all(|kind| self.listed.contains(kind))
    }

    /// The Services that changed since the last call, and in which families.
    pub fn take_changed(&mut self) -> ChangedServices {
        std::mem::take(&mut self.changed)
    }

    /// Whether the node, its interfaces or the ranges of ClusterIPs changed since the last call.
    pub fn take_node_changed(&mut self) -> bool {
        std::mem::take(&mut self.node_changed)
    }

    /// All Services and slices.
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// This node, once known.
    pub fn node(&self) -> Option<&Arc<Node>> {
        self.node.as_ref()
    }

    /// The last addresses and pod ranges of this node's object, per family, even if it has none now.
    pub fn last_listed(&self) -> &LastListed {
        &self.last_listed
    }

    /// Whether the node's object existed and is gone.
    pub fn node_gone(&self) -> bool {
        self.node_gone
    }

    /// The ranges of ClusterIPs, by ServiceCIDR.
    pub fn service_cidrs(&self) -> &BTreeMap<ObjectKey, Vec<IpNet>> {
        &self.cidrs
    }

    /// The addresses of this node's interfaces.
    pub fn interfaces(&self) -> &Arc<[IpAddr]> {
        &self.interfaces
    }

    /// Whether each kind can be read at present.
    pub fn reach(&self) -> &Arc<BTreeMap<ObjectKind, Reach>> {
        &self.reach
    }

    /// The present faults of objects.
    pub fn notices(&self) -> &Arc<Notices> {
        &self.notices
    }

    /// The present faults of files.
    pub fn faults(&self) -> &Arc<Faults> {
        &self.faults
    }

    /// The number of slices.
    pub fn slice_count(&self) -> usize {
        self.slices.len()
    }

    /// Notes that the present list names this object, so it is not gone.
    fn named(&mut self, kind: ObjectKind, key: &ObjectKey) {
        if let Some(seen) = self.listing.get_mut(&kind) {
            seen.insert(key.clone());
        }
    }

    fn insert(&mut self, object: Object) {
        match object {
            Object::Service(service) => {
                let key = service.key.clone();
                let entry = self.services.get(&key);
                if entry.and_then(|entry| entry.service.as_deref()) != Some(&service) {
                    self.update(key, |entry| {
                        entry.service = Some(Arc::new(service));
                        Families::BOTH
                    });
                }
            }
            Object::EndpointSlice(slice) => self.insert_slice(slice),
            Object::Node(node) => {
                self.node_gone = false;
                if self.node.as_deref() != Some(&node) {
                    self.last_listed.take(&node);
                    self.node = Some(Arc::new(node));
                    self.node_changed = true;
                }
            }
            Object::ServiceCidr(cidr) => {
                let new = Some(cidr.cidrs.clone());
                self.node_changed |= self.cidrs.insert(cidr.key, cidr.cidrs) != new;
            }
        }
    }

    fn insert_slice(&mut self, slice: EndpointSlice) {
        let slice = ByName(Arc::new(slice));
        let service = slice.service();
        if let Some(before) = self.slices.get(&slice.0.key) {
            if before.0 == slice.0 {
                return;
            }
            if before.0.service != slice.0.service {
                self.remove_slice(&slice.0.key);
            }
        }
        let slice = Arc::clone(&slice.0);
        self.slices.replace(ByName(Arc::clone(&slice)));
        self.update(service, |entry| {
            let family = Families::only(slice.family);
            match entry.slices.binary_search_by(|other| other.key.cmp(&slice.key)) {
                Ok(at) => {
                    let before = std::mem::replace(&mut entry.slices[at], slice);
                    family.and(Families::only(before.family))
                }
                Err(at) => {
                    // Most Services have one slice in each of two families.
                    entry.slices.reserve_exact(1);
                    entry.slices.insert(at, slice);
                    family
                }
            }
        });
    }

    fn remove(&mut self, kind: ObjectKind, key: &ObjectKey) {
        match kind {
            ObjectKind::Service if self.services.get(key).is_some_and(|entry| entry.service.is_some()) => {
                self.update(key.clone(), |entry| {
                    entry.service = None;
                    Families::BOTH
                });
            }
            ObjectKind::EndpointSlice => self.remove_slice(key),
            ObjectKind::Service => {}
            // If the node's object is gone, the node still serves what it knows, so the last object stays. A folder may
            // hold other nodes, too.
            ObjectKind::Node => self.node_gone |= self.node.as_ref().is_some_and(|node| node.name == key.name),
            ObjectKind::ServiceCidr => self.node_changed |= self.cidrs.remove(key).is_some(),
        }
    }

    fn remove_slice(&mut self, key: &ObjectKey) {
        if let Some(slice) = self.slices.take(key) {
            self.update(slice.service(), |entry| {
                match entry.slices.binary_search_by(|other| other.key.cmp(key)) {
                    Ok(at) => Families::only(entry.slices.remove(at).family),
                    Err(_) => Families::default(),
                }
            });
        }
    }

    /// Changes an entry. `change` returns the families in which it changed.
    fn update(&mut self, key: ObjectKey, change: impl FnOnce(&mut Entry) -> Families) {
        // If a reader holds the entry, it is copied. If it was copied since the last snapshot, it is changed in place.
        let mut fresh = Arc::default();
        let entry = self.services.get_mut(&key);
        let known = entry.is_some();
        let entry = Arc::make_mut(entry.unwrap_or(&mut fresh));
        let families = change(entry);
        let empty = entry.service.is_none() && entry.slices.is_empty();
        if empty {
            self.services.remove_mut(&key);
        } else if !known {
            self.services.insert_mut(key.clone(), fresh);
        }
        let changed = self.changed.entry(key).or_default();
        *changed = changed.and(families);
    }

    /// Whether any object of a kind is known, or was noticed.
    fn knows_any(&self, kind: ObjectKind) -> bool {
        let stored = match kind {
            ObjectKind::Service => self.services.values().any(|entry| entry.service.is_some()),
            ObjectKind::EndpointSlice => !self.slices.is_empty(),
            ObjectKind::Node => self.node.is_some(),
            ObjectKind::ServiceCidr => !self.cidrs.is_empty(),
        };
        stored || self.notices.keys().any(|(of, _)| *of == kind)
    }

    /// The objects of a kind that the list which just ended did not name.
    fn unseen(&self, kind: ObjectKind, seen: &HashSet<ObjectKey>) -> Vec<ObjectKey> {
        let unseen = |key: &&ObjectKey| !seen.contains(*key);
        match kind {
            ObjectKind::Service => {
                let known = self
                    .services
                    .iter()
                    .filter(|(_, entry)| entry.service.is_some())
                    .map(|(key, _)| key);
                known.filter(unseen).cloned().collect()
            }
            ObjectKind::EndpointSlice => {
                let known = self.slices.iter().map(|slice| &slice.0.key);
                known.filter(unseen).cloned().collect()
            }
            ObjectKind::ServiceCidr => self.cidrs.keys().filter(unseen).cloned().collect(),
            ObjectKind::Node => {
                let known = self.node.iter().map(|node| ObjectKey::new("", node.name.clone()));
                known.filter(|key| unseen(&key)).collect()
            }
        }
    }

    /// Removes the notices of objects that the list which just ended did not name. This covers objects that could never
    /// be read, and that are stored nowhere else.
    fn forget_notices(&mut self, kind: ObjectKind, seen: &HashSet<ObjectKey>) {
        let gone = |(of, key): &&(ObjectKind, ObjectKey)| *of == kind && !seen.contains(key);
        let gone: Vec<_> = self.notices.keys().filter(gone).cloned().collect();
        for (kind, key) in gone {
            self.notice(kind, key, Vec::new());
        }
    }

    fn fault(&mut self, file: Box<str>, faults: Vec<String>) {
        let known = Arc::make_mut(&mut self.faults);
        if faults.is_empty() {
            known.remove(&file);
        } else {
            known.insert(file, faults);
        }
    }

    /// Stores the faults of an object. Returns those that were not known yet.
    fn notice(&mut self, kind: ObjectKind, key: ObjectKey, new: Vec<Notice>) -> Vec<(ObjectKind, ObjectKey, Notice)> {
        let at = (kind, key);
        let known = self.notices.get(&at).map_or(&[][..], Vec::as_slice);
        if known == new {
            return Vec::new();
        }
        let fresh: Vec<_> = new.iter().filter(|notice| !known.contains(notice)).cloned().collect();
        let fresh = fresh.into_iter().map(|notice| (at.0, at.1.clone(), notice)).collect();
        let notices = Arc::make_mut(&mut self.notices);
        if new.is_empty() {
            notices.remove(&at);
        } else {
            notices.insert(at, new);
        }
        fresh
    }
}
