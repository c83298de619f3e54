//! The steps of a change, as the reconciler follows them.

use tandem_core::family::Family;
use tandem_core::node::NodeRows;
use tandem_core::object::ObjectKey;
use tandem_core::plan::PortPlan;
use tandem_core::plane::{Delta, RuleSettings};
use tandem_core::table::Table;

use crate::engine::Observer;

use super::Reconciler;

impl<F: Family> Observer<F> for Reconciler<F> {
    fn staged(&mut self, service: &ObjectKey, plans: &[PortPlan<F>]) {
        self.stage(service, plans);
    }

    fn node_staged(&mut self, rows: &NodeRows<F>) {
        self.stage_addresses(rows.node_addresses.clone());
    }

    fn applying(&mut self, delta: &Delta<F>) {
        self.begin(delta);
    }

    fn committed(&mut self, delta: &Delta<F>, orphans: bool) {
        // Until everything is loaded, all rows that go are those of an earlier run.
        if orphans || !self.is_loaded() {
            self.orphaned(delta);
        }
        self.commit();
    }

    fn abandoned(&mut self, unknown: bool) {
        self.abandon(unknown);
    }

    fn reopened(&mut self, strays: &Delta<F>) {
        self.opened();
        self.orphaned(strays);
    }

    fn loaded(&mut self, _table: &Table<F>, _rules: &RuleSettings) {
        self.all_loaded();
    }
}
