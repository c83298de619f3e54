//! Values by Service id. Ids are given out from the lowest number on, so two lists hold them without a hash.

use crate::id::ServiceId;

#[derive(Debug)]
pub(super) struct ById<T> {
    plain: Vec<Option<Box<T>>>,
    sticky: Vec<Option<Box<T>>>,
}

impl<T> Default for ById<T> {
    fn default() -> Self {
        Self {
            plain: Vec::new(),
            sticky: Vec::new(),
        }
    }
}

impl<T> ById<T> {
    pub(super) fn get(&self, id: ServiceId) -> Option<&T> {
        let values = if id.is_sticky() { &self.sticky } else { &self.plain };
        values.get(place(id))?.as_deref()
    }

    pub(super) fn remove(&mut self, id: ServiceId) -> Option<Box<T>> {
        self.values_of(id).get_mut(place(id))?.take()
    }

    pub(super) fn insert(&mut self, id: ServiceId, value: Box<T>) {
        let values = self.values_of(id);
        let place = place(id);
        if place >= values.len() {
            values.resize_with(place + 1, || None);
        }
        values[place] = Some(value);
    }

    /// All values, sorted by id.
    pub(super) fn iter(&self) -> impl Iterator<Item = (ServiceId, &T)> {
        let plain = self
            .plain
            .iter()
            .zip(0..)
            .map(|(value, n)| (ServiceId::plain(n), value));
        let sticky = self
            .sticky
            .iter()
            .zip(0..)
            .map(|(value, n)| (ServiceId::sticky(n), value));
        plain
            .chain(sticky)
            .filter_map(|(id, value)| Some((id?, value.as_deref()?)))
    }

    /// The ids that have a value, sorted.
    pub(super) fn ids(&self) -> impl Iterator<Item = ServiceId> {
        self.iter().map(|(id, _)| id)
    }

    fn values_of(&mut self, id: ServiceId) -> &mut Vec<Option<Box<T>>> {
        if id.is_sticky() {
            &mut self.sticky
        } else {
            &mut self.plain
        }
    }
}

fn place(id: ServiceId) -> usize {
    debug_assert!(!id.is_local(), "{id} is the id of a list, not of a Service port");
    id.number() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_under_its_id_only() {
        let mut values = ById::default();
        let ids = [
            ServiceId::plain(7),
            ServiceId::sticky(7),
            ServiceId::plain(0),
            ServiceId::plain(131_070),
        ];
        for (value, id) in ids.into_iter().flatten().enumerate() {
            values.insert(id, Box::new(value));
        }
        assert_eq!(
            ids.map(|id| values.get(id.unwrap()).copied()),
            [Some(0), Some(1), Some(2), Some(3)]
        );
        assert_eq!(values.get(ServiceId::plain(1).unwrap()), None);
        assert_eq!(values.get(ServiceId::sticky(16_383).unwrap()), None);
        let sorted: Vec<usize> = values.iter().map(|(_, value)| *value).collect();
        assert_eq!(sorted, [2, 0, 3, 1]);
        assert_eq!(values.remove(ids[0].unwrap()).as_deref(), Some(&0));
        assert_eq!(values.remove(ids[0].unwrap()), None);
        assert_eq!(values.ids().count(), 3);
    }
}
