//! The simplest data plane: a map. It refuses what a kernel would refuse.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

#[derive(Default)]
pub(super) struct Model {
    rows: BTreeMap<String, Row<V4>>,
}

/// Which Service port each id belonged to before the last change, and before the present one.
#[derive(Default)]
pub(super) struct Uses([BTreeMap<ServiceId, String>; 2]);

impl Uses {
    /// A packet may have read one set as it was before the present change, or before the last two, and may read the
    /// next set as it is after it. So no id of that time belongs to another Service port in the rows that `delta`
    /// brings. `model` has not applied `delta` yet.
    pub(super) fn assert_apart(&mut self, model: &Model, delta: &Delta<V4>) {
        if delta.is_empty() {
            return;
        }
        let label = |row: &Row<V4>| match row {
            Row::Service { service, label, .. } | Row::Frontend { service, label, .. } => {
                Some((service.all(), label.to_string()))
            }
            _ => None,
        };
        let [_, last] = std::mem::take(&mut self.0);
        self.0 = [last, model.rows.values().filter_map(label).collect()];
        let comes = delta.added.iter().chain(delta.changed.iter().map(|(_, new)| new));
        for (id, label) in comes.filter_map(label) {
            for known in &self.0 {
                assert_eq!(known.get(&id).unwrap_or(&label), &label, "{id} changes hands");
            }
        }
    }
}

/// The key of a row, as text.
fn key(row: &Row<V4>) -> String {
    let text = row.to_string();
    text.split_once(" : ").map_or(text.clone(), |(key, _)| key.to_owned())
}

impl Model {
    pub(super) fn of(rows: &[Row<V4>]) -> Self {
        let mut model = Self::default();
        for row in rows {
            model.add(row);
        }
        model
    }

    fn add(&mut self, row: &Row<V4>) {
        let before = self.rows.insert(key(row), row.clone());
        assert_eq!(before, None, "added where a row stands");
    }

    fn remove(&mut self, row: &Row<V4>) {
        let before = self.rows.remove(&key(row));
        assert_eq!(before.as_ref(), Some(row), "removed what does not stand");
    }

    pub(super) fn apply(&mut self, delta: &Delta<V4>) {
        delta.removed.iter().for_each(|row| self.remove(row));
        for (old, new) in &delta.changed {
            assert_ne!(old, new, "changed to itself");
            assert_eq!(key(old), key(new), "changed to another key");
            self.remove(old);
            self.add(new);
        }
        delta.added.iter().for_each(|row| self.add(row));
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn rows(&self) -> Vec<Row<V4>> {
        self.rows.values().cloned().collect()
    }

    pub(super) fn text(&self) -> String {
        rows_text(&self.rows())
    }

    /// What must hold for the rows of every table with plans: each row points to rows that exist, slots have no gaps,
    /// each list has each endpoint once, and the counts are right.
    pub(super) fn assert_sound(&self) {
        let mut slots: BTreeMap<ServiceId, BTreeSet<u16>> = BTreeMap::new();
        let mut endpoints = BTreeSet::new();
        let mut pointed = BTreeSet::new();
        let mut numbers = BTreeSet::new();
        let stands = |key: String| assert!(self.rows.contains_key(&key), "{key} is missing");
        for row in self.rows.values() {
            match row {
                Row::Frontend { service, .. } => stands(format!("service {service}")),
                Row::Endpoint {
                    service,
                    slot,
                    endpoint,
                } => {
                    slots.entry(*service).or_default().insert(*slot);
                    assert!(endpoints.insert((*service, *endpoint)), "twice in one list: {row}");
                    assert!(!service.is_sticky());
                }
                Row::StickyEndpoint { service, slot, id } => {
                    slots.entry(*service).or_default().insert(*slot);
                    stands(format!("endpoint-id {id}"));
                    assert_eq!(id.service(), *service);
                    assert!(pointed.insert(*id), "{id} has two slots");
                }
                Row::EndpointId { id, endpoint } => {
                    assert!(endpoints.insert((id.service(), *endpoint)), "twice in one list: {row}");
                    numbers.insert(*id);
                }
                Row::AllowedSource { at, .. } => stands(key(&Row::Restricted { at: *at })),
                Row::Restricted { at } => stands(key(&Row::Frontend {
                    frontend: Frontend::Address {
                        class: Class::External,
                        at: *at,
                    },
                    service: ServiceId::plain(0).unwrap(),
                    label: "".into(),
                })),
                _ => {}
            }
        }
        assert_eq!(pointed, numbers, "every endpoint id has its slot");
        for row in self.rows.values() {
            let Row::Service { service, pick, .. } = row else {
                continue;
            };
            let taken = slots.remove(service).unwrap_or_default();
            let count = match pick {
                Pick::Any { count } => count.get(),
                Pick::Sticky { count, .. } => {
                    assert!(service.is_sticky());
                    count.get()
                }
                Pick::Refuse | Pick::Discard => 0,
            };
            assert!(taken.into_iter().eq(0..count), "slots of {row}");
        }
        assert!(slots.is_empty(), "slots of no list: {slots:?}");
    }
}
