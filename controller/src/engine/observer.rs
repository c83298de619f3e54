//! Observers follow the changes of one family's rows. They are for parts that depend on what the data plane really
//! holds, and not only on what it should hold. An observer decides nothing about a change and cannot make it fail.

use std::time::Instant;

use tandem_core::family::Family;
use tandem_core::node::NodeRows;
use tandem_core::object::ObjectKey;
use tandem_core::plan::PortPlan;
use tandem_core::plane::{Delta, RuleSettings};
use tandem_core::table::Table;

use super::Now;
use super::snapshot::FamilyStatus;

/// Follows the changes of one family's rows. The engine calls its observers one after the other, in the order in which
/// they were added, from its own thread. They must not wait.
///
/// The calls of one change are: `staged` for each Service and `node_staged` for the node, in any order and any number;
/// `applying`, unless no row changes; then `committed` or `abandoned`.
pub trait Observer<F: Family>: Send {
    /// A step begins. This is the time of all calls until the next step. Returns whether the observer has something to
    /// do or to report although nothing else happened.
    fn begin(&mut self, now: Now) -> bool {
        let _ = now;
        false
    }

    /// The next change brings these plans for a Service; none if the Service goes.
    fn staged(&mut self, service: &ObjectKey, plans: &[PortPlan<F>]) {
        let _ = (service, plans);
    }

    /// The next change brings these rows of the node.
    fn node_staged(&mut self, rows: &NodeRows<F>) {
        let _ = rows;
    }

    /// The change goes to the data plane now. The data plane may hold it before the next call.
    fn applying(&mut self, delta: &Delta<F>) {
        let _ = delta;
    }

    /// The data plane holds what was staged. `orphans`: the change also removed rows that an earlier run left and no
    /// Service claims.
    fn committed(&mut self, delta: &Delta<F>, orphans: bool) {
        let _ = (delta, orphans);
    }

    /// The data plane did not apply what was staged. `unknown`: it may have applied it nevertheless.
    fn abandoned(&mut self, unknown: bool) {
        let _ = unknown;
    }

    /// The data plane gets these rules now, because it is opened. If that fails, it has either these rules or those of
    /// before.
    fn opening(&mut self, rules: &RuleSettings) {
        let _ = rules;
    }

    /// The data plane was opened, and these rows, which made no sense, were repaired. After this, all Services are
    /// staged again.
    fn reopened(&mut self, strays: &Delta<F>) {
        let _ = strays;
    }

    /// Everything that waited went through: since the data plane was opened, every known Service was staged and
    /// committed. The data plane holds exactly the table's rows, and has these rules. This is called after each change,
    /// and when [`Self::next_try`] has come.
    fn loaded(&mut self, table: &Table<F>, rules: &RuleSettings) {
        let _ = (table, rules);
    }

    /// When [`Self::loaded`] is to be called although nothing changed. While the data plane is not open, it is not
    /// called.
    fn next_try(&self) -> Option<Instant> {
        None
    }

    /// A step ends. The observer writes what readers of the status want to know of it.
    fn report(&mut self, table: &Table<F>, status: &mut FamilyStatus) {
        let _ = (table, status);
    }
}
