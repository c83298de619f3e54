//! Cuts UDP flows that a change made wrong, and no others: entries of the kernel's connection tracking that still lead to
//! endpoints that are gone, to Services that are gone, or nowhere because they are older than the rules.
//!
//! The engine tells a [`Reconciler`] what it is about to program; once the kernel has acknowledged the rows, a thread of
//! the reconciler's own looks at the flows of the destinations that changed ([`tandem_core::flows`] says which). The
//! engine never waits for it.
//!
//! Invariant: a flow is judged by the ledger as it is after the flow was read, never by an older one. A flow can only have
//! begun by rows that were in the kernel, and while rows are on their way there the worker waits for the ledger that goes
//! with them. So no flow is cut because it is newer than what it is compared with.

mod entries;
mod worker;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tandem_core::delta::Delta;
use tandem_core::family::Family;
use tandem_core::flows::{Destination, Ledger, Look, PortFlows};
use tandem_core::object::ObjectKey;
use tandem_core::plan::PortPlan;
use tandem_core::row::{Protocol, Row};

/// What became of UDP flows so far.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Flows that were cut.
    pub cut: u64,
    /// How often flows were looked at, to the end.
    pub reconciliations: u64,
    /// When that was the last time.
    pub last: Option<SystemTime>,
    /// How long it took.
    pub last_took: Duration,
    /// How many flows were read for it.
    pub last_read: u64,
    /// How often looking at flows, or cutting one, failed.
    pub failures: u64,
    /// Why it failed the last time; none where it did not.
    pub last_error: Option<String>,
}

/// Where a reconciler's [`Status`] can be read.
#[derive(Clone, Debug, Default)]
pub struct Report(Arc<ArcSwap<Status>>);

impl Report {
    /// The status at this moment.
    pub fn load(&self) -> Arc<Status> {
        self.0.load_full()
    }
}

/// The engine's side: notes what is programmed and asks for a look at the flows.
#[derive(Debug)]
pub struct Reconciler<F: Family> {
    shared: Arc<Shared<F>>,
    /// Services that the ledger has: most have no UDP port, and cost nothing.
    known: HashSet<ObjectKey>,
    staged: Vec<(ObjectKey, Box<[PortFlows<F>]>)>,
    staged_addresses: Option<BTreeSet<F::Addr>>,
    /// Whether all Services were programmed since the tables were opened. Before that the ledger is no measure.
    loaded: bool,
    /// What an earlier run left in the tables and nobody claimed.
    gone: HashSet<Destination<F>>,
    /// Whether the kernel may have rows that the ledger does not know of.
    unsure: bool,
}

#[derive(Debug)]
struct Shared<F: Family> {
    state: Mutex<State<F>>,
    /// Only the worker waits for it.
    wake: Condvar,
    report: Report,
}

#[derive(Debug)]
struct State<F: Family> {
    ledger: Ledger<F>,
    /// The node's addresses that take nodePort traffic.
    node_addresses: BTreeSet<F::Addr>,
    look: Look<F>,
    /// Whether [`Self::look`] has something that was not tried yet.
    asked: bool,
    /// Rows are on their way to the kernel: it may have them before the ledger does.
    applying: bool,
    /// The engine is gone.
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
            .spawn(move || worker::run(&shared))?;
        Ok(reconciler)
    }

    fn without_worker() -> Self {
        let state = State {
            ledger: Ledger::default(),
            node_addresses: BTreeSet::new(),
            look: Look::default(),
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
            loaded: false,
            gone: HashSet::new(),
            unsure: false,
        }
    }

    /// Where its status can be read.
    pub fn report(&self) -> Report {
        self.shared.report.clone()
    }

    /// The tables were opened: all Services are to be programmed again.
    pub(crate) fn opened(&mut self) {
        self.loaded = false;
    }

    /// These are the plans that the next change brings for a Service; none where it is gone.
    pub(crate) fn stage(&mut self, service: &ObjectKey, plans: &[PortPlan<F>]) {
        let udp = plans.iter().any(|plan| plan.key.protocol == Protocol::Udp);
        if udp || self.known.contains(service) {
            let ports = plans.iter().filter_map(PortFlows::of).collect();
            self.staged.push((service.clone(), ports));
        }
    }

    /// These are the node's addresses that take nodePort traffic from the next change on.
    pub(crate) fn stage_addresses(&mut self, addresses: BTreeSet<F::Addr>) {
        self.staged_addresses = Some(addresses);
    }

    /// The change goes to the kernel now.
    pub(crate) fn begin(&mut self) {
        if !self.staged.is_empty() {
            self.shared.lock().applying = true;
        }
    }

    /// The kernel did not take the change; or nobody knows, and then it may have what the ledger lacks: no flow is judged
    /// before a change went through.
    pub(crate) fn abandon(&mut self, unknown: bool) {
        if !self.staged.is_empty() {
            self.unsure |= unknown;
            self.shared.lock().applying = self.unsure;
            self.shared.wake.notify_one();
        }
        self.staged.clear();
        self.staged_addresses = None;
    }

    /// Rows of an earlier run that no Service claims were removed.
    pub(crate) fn orphaned(&mut self, delta: &Delta<F>) {
        self.gone.extend(delta.removed.iter().filter_map(|row| match row {
            Row::Frontend { frontend, .. } => Destination::of(frontend),
            _ => None,
        }));
    }

    /// The kernel has the change. Until all is loaded, nothing is looked at.
    pub(crate) fn commit(&mut self) {
        if self.staged.is_empty() && self.staged_addresses.is_none() && !self.unsure {
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
        let changed = state.ledger.apply(self.staged.drain(..));
        // What was sent to an address before it took nodePort traffic went elsewhere.
        let moved = self.staged_addresses.take().is_some_and(|addresses| {
            let before = std::mem::replace(&mut state.node_addresses, addresses);
            before != state.node_addresses && state.ledger.destinations().len() > 0
        });
        if self.loaded {
            state.ask(Look {
                everything: moved,
                changed: changed.into_iter().collect(),
            });
        }
        drop(state);
        self.shared.wake.notify_one();
    }

    /// All Services are programmed. Flows that began under an earlier run, or under no rules at all, are looked at once.
    pub(crate) fn all_loaded(&mut self) {
        let first = !std::mem::replace(&mut self.loaded, true);
        if !first && self.gone.is_empty() {
            return;
        }
        let mut state = self.shared.lock();
        let everything = first && state.ledger.destinations().len() > 0;
        state.ask(Look {
            everything,
            changed: std::mem::take(&mut self.gone),
        });
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
        // Whoever panicked with the lock held left a state that is still one: it is only ever replaced as a whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: Family> State<F> {
    fn ask(&mut self, look: Look<F>) {
        self.asked |= !look.is_empty();
        self.look.add(look);
    }
}
