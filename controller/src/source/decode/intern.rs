//! Names that many objects share, stored once: namespaces, Services, ports.

use std::collections::HashSet;
use std::sync::Arc;

/// The names seen so far. From time to time, names that no object holds any more are dropped.
#[derive(Debug, Default)]
pub(super) struct Interner {
    names: HashSet<Arc<str>>,
    /// The number of names at which unused ones are dropped.
    sweep_at: usize,
}

/// With fewer names than this, dropping unused ones is not worth the time.
const SWEEP_FLOOR: usize = 1024;

impl Interner {
    pub(super) fn name(&mut self, text: &str) -> Arc<str> {
        if let Some(name) = self.names.get(text) {
            return Arc::clone(name);
        }
        if self.names.len() >= self.sweep_at.max(SWEEP_FLOOR) {
            self.names.retain(|name| Arc::strong_count(name) > 1);
            self.sweep_at = self.names.len() * 2;
        }
        let name: Arc<str> = text.into();
        self.names.insert(Arc::clone(&name));
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_names_are_one_allocation() {
        let mut names = Interner::default();
        assert!(Arc::ptr_eq(&names.name("http"), &names.name("http")));
    }

    #[test]
    fn names_that_nobody_holds_do_not_pile_up() {
        let mut names = Interner::default();
        let held = names.name("kube-system");
        for i in 0..100_000 {
            names.name(&format!("gone-{i}"));
        }
        assert!(names.names.len() <= SWEEP_FLOOR + 1, "{}", names.names.len());
        assert!(Arc::ptr_eq(&held, &names.name("kube-system")));
    }
}
