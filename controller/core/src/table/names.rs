//! The id of each Service port, by Service. Most Services have one port, so one hash leads to it.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::id::ServiceId;
use crate::object::ObjectKey;
use crate::plan::PortKey;

use super::programmed::Owner;

#[derive(Debug, Default)]
pub(super) struct Names(HashMap<ByService, Ids>);

/// The ids of a Service's ports.
#[derive(Debug)]
enum Ids {
    /// The Service has one port: the one that the map's key names.
    One(ServiceId),
    /// The Service has several ports, or had several. It does not become [`Self::One`] again.
    #[expect(
        clippy::box_collection,
        reason = "nearly every Service has one port, so this is kept as small as its id"
    )]
    Several(Box<BTreeMap<ByPort, ServiceId>>),
}

impl Names {
    pub(super) fn get(&self, key: &PortKey) -> Option<ServiceId> {
        match self.0.get_key_value(&key.service)? {
            (first, Ids::One(id)) => (first.0.key == *key).then_some(*id),
            (_, Ids::Several(ids)) => ids.get(key).copied(),
        }
    }

    pub(super) fn insert(&mut self, owner: Arc<Owner>, id: ServiceId) {
        // A map that has a key keeps it, and the new owner would be lost. So the entry goes first.
        let first = self.0.remove_entry(&owner.key.service);
        let (first, ids) = match first {
            None => (owner, Ids::One(id)),
            Some((first, Ids::One(_))) if first.0.key == owner.key => (owner, Ids::One(id)),
            Some((first, Ids::One(other))) => {
                let ids = [(ByPort(Arc::clone(&first.0)), other), (ByPort(owner), id)];
                (first.0, Ids::Several(Box::new(ids.into())))
            }
            Some((first, Ids::Several(mut ids))) => {
                ids.remove(&owner.key);
                ids.insert(ByPort(owner), id);
                (first.0, Ids::Several(ids))
            }
        };
        self.0.insert(ByService(first), ids);
    }

    pub(super) fn remove(&mut self, key: &PortKey) {
        let empty = match self.0.get_key_value(&key.service) {
            None => false,
            Some((first, Ids::One(_))) => first.0.key == *key,
            Some((_, Ids::Several(ids))) => ids.len() == 1 && ids.contains_key(key),
        };
        if empty {
            self.0.remove(&key.service);
        } else if let Some(Ids::Several(ids)) = self.0.get_mut(&key.service) {
            ids.remove(key);
        }
    }

    /// The ports of a Service, sorted.
    pub(super) fn of(&self, service: &ObjectKey) -> impl Iterator<Item = (&PortKey, ServiceId)> {
        let (one, several) = match self.0.get_key_value(service) {
            Some((first, Ids::One(id))) => (Some((&first.0.key, *id)), None),
            Some((_, Ids::Several(ids))) => (None, Some(ids)),
            None => (None, None),
        };
        let several = several.into_iter().flat_map(|ids| ids.iter());
        one.into_iter().chain(several.map(|(port, id)| (&port.0.key, *id)))
    }
}

/// An owner in a map by its Service.
#[derive(Debug)]
struct ByService(Arc<Owner>);

impl Borrow<ObjectKey> for ByService {
    fn borrow(&self) -> &ObjectKey {
        &self.0.key.service
    }
}

impl PartialEq for ByService {
    fn eq(&self, other: &Self) -> bool {
        self.0.key.service == other.0.key.service
    }
}

impl Eq for ByService {}

impl Hash for ByService {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key.service.hash(state);
    }
}

/// An owner in a map by its port.
#[derive(Debug)]
struct ByPort(Arc<Owner>);

impl Borrow<PortKey> for ByPort {
    fn borrow(&self) -> &PortKey {
        &self.0.key
    }
}

impl PartialEq for ByPort {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for ByPort {}

impl PartialOrd for ByPort {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByPort {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.key.cmp(&other.0.key)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::row::Protocol;

    fn key((service, port): (u8, u8)) -> PortKey {
        PortKey {
            service: ObjectKey::new("ns", format!("s{service}")),
            port: format!("p{port}").into(),
            protocol: Protocol::Tcp,
        }
    }

    proptest! {
        /// `None` removes the port, a number is its new id.
        #[test]
        fn names_are_a_sorted_map_with_a_view_by_service(
            steps in prop::collection::vec(((0..3u8, 0..3u8), prop::option::of(0..9u32)), 0..40)
        ) {
            let (mut names, mut model) = (Names::default(), BTreeMap::new());
            for (port, id) in steps {
                let key = key(port);
                if let Some(id) = id.and_then(ServiceId::plain) {
                    let label = key.label();
                    names.insert(Arc::new(Owner { key: key.clone(), created: 0, label, maglev: false }), id);
                    model.insert(key, id);
                } else {
                    names.remove(&key);
                    model.remove(&key);
                }
                for service in 0..3 {
                    for port in 0..3 {
                        let key = self::key((service, port));
                        prop_assert_eq!(names.get(&key), model.get(&key).copied());
                    }
                    let service = self::key((service, 0)).service;
                    let of: Vec<_> = model.iter().filter(|(key, _)| key.service == service).map(|(key, id)| (key, *id)).collect();
                    prop_assert_eq!(names.of(&service).collect::<Vec<_>>(), of);
                }
            }
        }
    }
}
