//! Cuts flows that a change made wrong, and no others. There are four kinds of them. Three are in the kernel's
//! connection tracking:
//!
//! - UDP entries that lead to an endpoint or a Service that is gone, or that are not translated because they are older
//!   than the rules;
//! - UDP entries that an answer of such an endpoint began;
//! - TCP and SCTP connections that are older than their frontend and that nobody answered.
//!
//! The fourth kind is in records that another data plane keeps of the flows that it translates itself
//! ([`FlowRecords`]): UDP flows that lead to an endpoint or a Service that is gone. One ledger judges all of them.
//!
//! The engine tells a [`Reconciler`] what it is about to program. Once the kernel has acknowledged the rows, a thread
//! of the reconciler checks the flows of the destinations that changed ([`tandem_core::flows`] says which). The engine
//! never waits for it. A second or two later, the thread checks the same flows again. A packet may have been held up on
//! its way (in a policy agent's queue, or while a server made its answer), so that the kernel remembers it by the old
//! rules only then.
//!
//! Invariant: a flow is compared with the ledger as it is after the flow was read, never with an older one. A flow can
//! only have begun with rows that were in the kernel. While rows are on their way there, the worker waits for the
//! ledger that belongs to them. So no flow is cut because it is newer than the ledger. Another data plane gets rows no
//! sooner than the kernel, and before the ledger does.

mod again;
mod conntrack;
mod observer;
mod records;
mod tracked;
mod worker;

pub use records::{FlowRecords, Found, RecordsSeat};
pub use tracked::{Tracked, TrackedError, each_tracked, tracked};

#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tandem_core::family::Family;
use tandem_core::flows::{Arrivals, Destination, FlowCheck, Ledger, PortFlows};
use tandem_core::object::ObjectKey;
use tandem_core::plan::PortPlan;
use tandem_core::plane::Delta;
use tandem_core::row::{Frontend, Protocol, Row};

use conntrack::Entries;

/// What has happened to flows so far.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// The number of flows that were cut.
    pub cut: u64,
    /// The number of cut flows that were UDP flows begun by an answer.
    pub turned: u64,
    /// The number of cut flows that were connections older than their frontend, which nobody had answered.
    pub connecting: u64,
    /// The number of complete checks after changes.
    pub reconciliations: u64,
    /// The number of second checks.
    pub second_looks: u64,
    /// The time of the last check after a change.
    pub last: Option<SystemTime>,
    /// How long that check took.
    pub last_took: Duration,
    /// How many flows that check read, in connection tracking and in records.
    pub last_read: u64,
    /// How often a check, or cutting a flow, failed.
    pub failures: u64,
    /// Why the last check failed; none if it did not.
    pub last_error: Option<String>,
}

/// A handle to a reconciler's [`Status`].
#[derive(Clone, Debug, Default)]
pub struct Report(Arc<ArcSwap<Status>>);

impl Report {
    /// The present status.
    pub fn load(&self) -> Arc<Status> {
        self.0.load_full()
    }
}

/// The engine's side: notes what is programmed, and asks the worker to check flows.
pub struct Reconciler<F: Family> {
    shared: Arc<Shared<F>>,
    /// The Services in the ledger. Most Services have no UDP port, and cost nothing.
    known: HashSet<ObjectKey>,
    staged: Vec<(ObjectKey, Box<[PortFlows<F>]>)>,
    staged_addresses: Option<BTreeSet<F::Addr>>,
    /// Frontends that the next change adds or removes.
    staged_frontends: Vec<(Frontend<F>, Coming)>,
    /// Destinations that an earlier run left in the tables and nobody claimed.
    gone: HashSet<Destination<F>>,
    /// Addresses that took nodePort traffic in an earlier run and no longer do.
    left: BTreeSet<F::Addr>,
    /// Whether the kernel may have rows that the ledger does not know.
    unsure: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coming {
    Comes,
    Goes,
}

struct Shared<F: Family> {
    state: Mutex<State<F>>,
    /// Only the worker waits for it.
    wake: Condvar,
    report: Report,
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and they come in any combination"
)]
struct State<F: Family> {
    /// Whether all Services were programmed since the tables were opened. Before that, the ledger is incomplete, so no
    /// flow is compared with it.
    loaded: bool,
    /// The flows that another data plane remembers; none if there is no such data plane.
    records: Option<Arc<dyn FlowRecords<F>>>,
    ledger: Ledger<F>,
    arrivals: Arrivals<F>,
    /// The node's addresses that take nodePort traffic.
    node_addresses: BTreeSet<F::Addr>,
    look: FlowCheck<F>,
    /// Whether [`Self::look`] has something that was not checked yet.
    asked: bool,
    /// Whether rows are on their way to the kernel, which may have them before the ledger does.
    applying: bool,
    /// Whether the engine is gone.
    over: bool,
}

impl<F: Family> Reconciler<F> {
    /// Starts the worker, in the network namespace of the calling thread.
    pub fn start() -> io::Result<Self> {
        let reconciler = Self::without_worker();
        let shared = reconciler.shared.clone();
        let name = format!("flows {}", F::FAMILY);
        std::thread::Builder::new()
            .name(name)
            .spawn(move || worker::run(&shared, &mut Entries::default()))?;
        Ok(reconciler)
    }

    fn without_worker() -> Self {
        let state = State {
            loaded: false,
            records: None,
            ledger: Ledger::default(),
            arrivals: Arrivals::default(),
            node_addresses: BTreeSet::new(),
            look: FlowCheck::default(),
            asked: false,
            applying: false,
            over: false,
        };
        let shared = Shared {
            state: Mutex::new(state),
            wake: Condvar::new(),
            report: Report::default(),
        };
        Self {
            shared: Arc::new(shared),
            known: HashSet::new(),
            staged: Vec::new(),
            staged_addresses: None,
            staged_frontends: Vec::new(),
            gone: HashSet::new(),
            left: BTreeSet::new(),
            unsure: false,
        }
    }

    /// A handle to its status.
    pub fn report(&self) -> Report {
        self.shared.report.clone()
    }

    /// The place of another data plane's records.
    pub fn seat(&self) -> RecordsSeat<F> {
        RecordsSeat::new(Arc::clone(&self.shared))
    }

    /// The tables were opened, so all Services will be programmed again.
    fn opened(&mut self) {
        self.shared.lock().loaded = false;
    }

    fn is_loaded(&self) -> bool {
        self.shared.lock().loaded
    }

    /// Notes the plans that the next change brings for a Service; none if it is gone.
    fn stage(&mut self, service: &ObjectKey, plans: &[PortPlan<F>]) {
        let udp = plans.iter().any(|plan| plan.key.protocol == Protocol::Udp);
        if udp || self.known.contains(service) {
            let ports = plans.iter().filter_map(PortFlows::of).collect();
            self.staged.push((service.clone(), ports));
        }
    }

    /// Notes the node's addresses that take nodePort traffic from the next change on.
    fn stage_addresses(&mut self, addresses: BTreeSet<F::Addr>) {
        self.staged_addresses = Some(addresses);
    }

    /// Notes that the change goes to the kernel now.
    fn begin(&mut self, delta: &Delta<F>) {
        let frontends = |rows: &[Row<F>], coming| -> Vec<_> {
            let of = |row: &Row<F>| match row {
                Row::Frontend { frontend, .. } => Some((*frontend, coming)),
                _ => None,
            };
            rows.iter().filter_map(of).collect()
        };
        self.staged_frontends.extend(frontends(&delta.removed, Coming::Goes));
        self.staged_frontends.extend(frontends(&delta.added, Coming::Comes));
        if !self.is_idle() {
            self.shared.lock().applying = true;
        }
    }

    /// Notes that the kernel did not apply the change, or that it is unknown whether it did. If it is unknown, the
    /// kernel may have rows that the ledger lacks. Then no flow is compared until a later change is applied.
    fn abandon(&mut self, unknown: bool) {
        if !self.is_idle() {
            self.unsure |= unknown;
            self.shared.lock().applying = self.unsure;
            self.shared.wake.notify_one();
        }
        self.staged.clear();
        self.staged_addresses = None;
        // If the kernel has applied the change after all, no later change reports these frontends as new.
        if !unknown {
            self.staged_frontends.clear();
        }
    }

    /// Notes that rows of an earlier run that no Service claims were removed.
    fn orphaned(&mut self, delta: &Delta<F>) {
        for row in &delta.removed {
            match row {
                Row::Frontend { frontend, .. } => self.gone.extend(Destination::of(frontend)),
                Row::NodeAddress { addr } => drop(self.left.insert(*addr)),
                _ => {}
            }
        }
    }

    /// Whether the next change has nothing that flows depend on.
    fn is_idle(&self) -> bool {
        self.staged.is_empty() && self.staged_frontends.is_empty()
    }

    /// Notes that the kernel has applied the change. Nothing is checked until everything is loaded.
    fn commit(&mut self) {
        if self.is_idle() && self.staged_addresses.is_none() && !self.unsure {
            return;
        }
        for (service, ports) in &self.staged {
            if ports.is_empty() {
                self.known.remove(service);
            } else if !self.known.contains(service) {
                self.known.insert(service.clone());
            }
        }
        self.unsure = false;
        let mut state = self.shared.lock();
        state.applying = false;
        let mut arrivals = false;
        for (frontend, coming) in self.staged_frontends.drain(..) {
            match coming {
                Coming::Goes => state.arrivals.went(&frontend),
                Coming::Comes => arrivals |= state.arrivals.came(&frontend),
            }
        }
        let changes = state.ledger.apply(self.staged.drain(..));
        let mut look = FlowCheck {
            changed: changes.destinations.into_iter().collect(),
            servers: changes.dismissed.into_iter().collect(),
            arrivals,
            ..FlowCheck::default()
        };
        if let Some(addresses) = self.staged_addresses.take()
            && addresses != state.node_addresses
        {
            let before = std::mem::replace(&mut state.node_addresses, addresses);
            look.left = before.difference(&state.node_addresses).copied().collect();
            // Packets to an address that did not take nodePort traffic before went to another endpoint, or to none.
            look.everything = state.ledger.destinations().len() > 0;
        }
        if state.loaded {
            state.ask(look);
        }
        drop(state);
        self.shared.wake.notify_one();
    }

    /// Notes that all Services are programmed. Then the flows that began under an earlier run, or without rules, are
    /// checked once.
    fn all_loaded(&mut self) {
        let mut state = self.shared.lock();
        let first = !std::mem::replace(&mut state.loaded, true);
        if !first && self.gone.is_empty() {
            return;
        }
        // In records, flows may be left of a Service that nobody has any more.
        let any = state.ledger.destinations().len() > 0 || state.records.is_some();
        let look = FlowCheck {
            everything: first && any,
            changed: std::mem::take(&mut self.gone),
            left: std::mem::take(&mut self.left),
            arrivals: first && !state.arrivals.is_empty(),
            ..FlowCheck::default()
        };
        state.ask(look);
        drop(state);
        self.shared.wake.notify_one();
    }
}

impl<F: Family> Drop for Reconciler<F> {
    fn drop(&mut self) {
        self.shared.lock().over = true;
        self.shared.wake.notify_one();
    }
}

impl<F: Family> Shared<F> {
    fn lock(&self) -> MutexGuard<'_, State<F>> {
        // If a thread panicked while it held the lock, the state is still valid: it is only ever replaced as a whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: Family> State<F> {
    fn ask(&mut self, look: FlowCheck<F>) {
        self.asked |= !look.is_empty();
        self.look.add(look);
    }
}
