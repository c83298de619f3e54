//! The observers of one family.

use std::time::Instant;

use tandem_core::family::Family;
use tandem_core::plane::RuleSettings;
use tandem_core::table::Table;

use crate::engine::Now;
use crate::engine::observer::Observer;
use crate::engine::snapshot::FamilyStatus;

/// The observers of one family, in the order in which they are called.
pub(super) struct Observers<F: Family>(Vec<Box<dyn Observer<F>>>);

impl<F: Family> Default for Observers<F> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<F: Family> Observers<F> {
    pub(super) fn add(&mut self, observer: impl Observer<F> + 'static) {
        self.0.push(Box::new(observer));
    }

    /// Tells them that a step begins. Returns whether one of them has something to do or to report.
    pub(super) fn begin(&mut self, now: Now) -> bool {
        self.0
            .iter_mut()
            .fold(false, |news, observer| observer.begin(now) | news)
    }

    /// Calls each observer, in their order.
    pub(super) fn tell(&mut self, tell: impl Fn(&mut dyn Observer<F>)) {
        for observer in &mut self.0 {
            tell(&mut **observer);
        }
    }

    /// Tells them that the data plane, which has these rules, holds everything, and that this is the table.
    pub(super) fn loaded(&mut self, table: &Table<F>, rules: &RuleSettings) {
        debug_assert_eq!(table.waiting(), 0, "the data plane holds the whole table");
        self.tell(|observer| observer.loaded(table, rules));
    }

    /// When one of them wants to be told again that everything is loaded.
    pub(super) fn next_try(&self) -> Option<Instant> {
        self.0.iter().filter_map(|observer| observer.next_try()).min()
    }

    pub(super) fn report(&mut self, table: &Table<F>, status: &mut FamilyStatus) {
        for observer in &mut self.0 {
            observer.report(table, status);
        }
    }
}
