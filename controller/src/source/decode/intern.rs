//! Values that many objects share, stored once: namespaces, names of Services and ports, the ports of slices.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

/// The values seen so far. From time to time, those that no object holds any more are dropped.
#[derive(Debug)]
pub(super) struct Interner<T: ?Sized> {
    known: HashSet<Arc<T>>,
    /// The number of values at which unused ones are dropped.
    sweep_at: usize,
}

/// With fewer values than this, dropping unused ones is not worth the time.
const SWEEP_FLOOR: usize = 1024;

impl<T: ?Sized + Eq + Hash> Default for Interner<T> {
    fn default() -> Self {
        Self {
            known: HashSet::new(),
            sweep_at: 0,
        }
    }
}

impl<T: ?Sized + Eq + Hash> Interner<T> {
    /// The value that equals `value`. The first of its kind is made.
    pub(super) fn shared<'v>(&mut self, value: &'v T) -> Arc<T>
    where
        Arc<T>: From<&'v T>,
    {
        if let Some(known) = self.known.get(value) {
            return Arc::clone(known);
        }
        if self.known.len() >= self.sweep_at.max(SWEEP_FLOOR) {
            self.known.retain(|known| Arc::strong_count(known) > 1);
            self.sweep_at = self.known.len() * 2;
        }
        let value: Arc<T> = value.into();
        self.known.insert(Arc::clone(&value));
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_names_are_one_allocation() {
        let mut names = Interner::<str>::default();
        assert!(Arc::ptr_eq(&names.shared("http"), &names.shared("http")));
    }

    #[test]
    fn names_that_nobody_holds_do_not_pile_up() {
        let mut names = Interner::<str>::default();
        let held = names.shared("kube-system");
        for i in 0..100_000 {
            names.shared(&format!("gone-{i}"));
        }
        assert!(names.known.len() <= SWEEP_FLOOR + 1, "{}", names.known.len());
        assert!(Arc::ptr_eq(&held, &names.shared("kube-system")));
    }
}
