//! Keeps one family's data plane equal to its table. A failure here does not affect the other family.

mod asked;
mod error;
mod observers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tandem_core::family::Family;
use tandem_core::node::NodeRows;
use tandem_core::object::{Choice, Node, ObjectKey, Service};
use tandem_core::plane::{ApplyError, DataPlane, Delta, DetectLocal, Open, Rejection, RuleSettings};
use tandem_core::table::Table;

use asked::Lack;
use error::{PortRefused, Refusal, SyncError};
use observers::Observers;

use crate::backoff::Retry;

use super::Now;
use super::disputes::Disputes;
use super::inputs::Inputs;
use super::observer::Observer;
use super::snapshot::{FamilyStatus, SetAside};
use crate::event::NodeFact;
use crate::index::ChangedServices;

/// If the first load has this many rows waiting, they go out in a transaction of their own. A netlink message has a
/// largest size, and other programs need the kernel's lock in between.
const CHUNK: usize = 20_000;

/// One family.
pub struct FamilyEngine<F: Family> {
    open: Open<F>,
    plane: Option<Box<dyn DataPlane<F>>>,
    /// The rules with which the data plane was opened.
    rules: RuleSettings,
    /// The node's zone with which Services were last planned.
    zone: Option<Arc<str>>,
    /// The usual choice of endpoints with which Services were last planned.
    usual: Choice,
    /// The node's own rows that the first opening found.
    found: NodeRows<F>,
    /// The node, with the values that count in this family.
    node: Node,
    node_rows: Arc<NodeRows<F>>,
    table: Table<F>,
    pending: BTreeSet<ObjectKey>,
    node_pending: bool,
    phase: Phase,
    set_aside: BTreeMap<ObjectKey, Aside>,
    lacks: BTreeMap<ObjectKey, Lack>,
    failure: Option<Retry>,
    status: FamilyStatus,
    untidy: bool,
    /// Whether the data plane was opened before.
    opened: bool,
    observers: Observers<F>,
}

/// How the table reaches the state that is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The data plane was empty. So the load may be split into several transactions: no existing row is missing in
    /// between.
    Loading,
    /// Everything goes in one transaction: changes, and what replaces rows of an earlier run.
    Settled,
}

struct Aside {
    reason: String,
    retry: Retry,
}

impl<F: Family> FamilyEngine<F> {
    /// A family. Its data plane is opened at the first [`Self::sync`].
    pub fn new(open: Open<F>) -> Self {
        Self {
            open,
            plane: None,
            rules: RuleSettings::default(),
            zone: None,
            usual: Choice::default(),
            found: NodeRows::default(),
            node: Node::default(),
            node_rows: Arc::default(),
            table: Table::default(),
            pending: BTreeSet::new(),
            node_pending: false,
            phase: Phase::Settled,
            set_aside: BTreeMap::new(),
            lacks: BTreeMap::new(),
            failure: None,
            status: FamilyStatus::default(),
            untidy: false,
            opened: false,
            observers: Observers::default(),
        }
    }

    /// Adds an observer of this family's changes. It is called after those that were added before.
    pub fn observe(&mut self, observer: impl Observer<F> + 'static) {
        self.observers.add(observer);
    }

    /// Tells the observers that a step begins. Returns whether one of them has something to do or to report.
    pub fn begin(&mut self, now: Now) -> bool {
        self.observers.begin(now)
    }

    /// Has the observers write what the status says of them.
    pub fn report(&mut self) {
        self.observers.report(&self.table, &mut self.status);
    }

    /// Notes what changed. [`Self::sync`] brings it to the data plane.
    pub fn mark(&mut self, changed: &ChangedServices, node_changed: bool, inputs: &Inputs<'_>) {
        let here = changed.iter().filter(|(_, families)| families.contains(F::FAMILY));
        self.pending.extend(here.map(|(key, _)| key.clone()));
        if node_changed {
            self.node_pending = true;
            self.know(inputs);
            if self.rules != inputs.rules(&self.node_rows) {
                // Opening the tables replaces them.
                self.plane = None;
            }
            if self.zone != self.node.zone {
                self.zone.clone_from(&self.node.zone);
                let hinted = inputs
                    .services
                    .iter()
                    .filter(|(_, entry)| entry.slices.iter().any(|slice| !slice.hints.is_empty()));
                self.pending.extend(hinted.map(|(key, _)| key.clone()));
            }
            if std::mem::replace(&mut self.usual, inputs.settings.usual_choice) != inputs.settings.usual_choice {
                let says_nothing = |service: &Service| service.choice.is_none();
                let silent = inputs
                    .services
                    .iter()
                    .filter(|(_, entry)| entry.service.as_deref().is_some_and(says_nothing));
                self.pending.extend(silent.map(|(key, _)| key.clone()));
            }
            // A Service's rows depend on whether the node itself is inside a source range.
            let restricted = inputs
                .services
                .iter()
                .filter(|(_, entry)| entry.service.as_ref().is_some_and(|s| s.restricted.any()));
            self.pending.extend(restricted.map(|(key, _)| key.clone()));
        }
    }

    /// Brings everything that is due to the data plane. The families are independent: if there is an error, it is
    /// stored here with the time of the next try.
    pub fn sync(&mut self, inputs: &Inputs<'_>, now: Now) {
        self.program(inputs, now);
        if self.plane.is_some() && self.observers.next_try().is_some_and(|at| at <= now.monotonic) {
            self.observers.loaded(&self.table, &self.rules);
        }
        self.report();
    }

    fn program(&mut self, inputs: &Inputs<'_>, now: Now) {
        if self.failure.as_ref().is_some_and(|failure| !failure.due(now.monotonic)) {
            return;
        }
        let due: Vec<ObjectKey> = self
            .set_aside
            .iter()
            .filter(|(_, aside)| aside.retry.due(now.monotonic))
            .map(|(key, _)| key.clone())
            .collect();
        let idle = self.pending.is_empty() && !self.node_pending && due.is_empty();
        if idle && self.plane.is_some() && self.failure.is_none() {
            return;
        }
        let result = self.start(inputs).and_then(|()| {
            let pending = std::mem::take(&mut self.pending);
            self.bring(pending.into_iter().collect(), inputs, now)?;
            due.into_iter().try_for_each(|key| self.bring(vec![key], inputs, now))?;
            match self.served_by_free_ids() {
                waiting if waiting.is_empty() => Ok(()),
                waiting => self.bring(waiting, inputs, now),
            }
        });
        match result {
            Ok(()) => {
                if self.failure.take().is_some() {
                    tracing::info!(family = %F::FAMILY, "the tables are programmed again");
                }
                self.status.last_error = None;
            }
            Err(error) => self.fail(error.to_string(), now),
        }
        self.status.set_aside = self.set_aside_status();
        self.status.kept = self.set_aside.keys().cloned().collect();
        self.status.disputes.follow(&mut self.table);
        if self.plane.is_none() {
            self.status.ownership = None;
        }
        self.status.ahead = self.plane.as_ref().map(|_| self.rules.ahead);
    }

    /// When [`Self::sync`] has something to do although nothing changed.
    pub fn next_try(&self) -> Option<Instant> {
        if let Some(failure) = self.failure.as_ref().and_then(Retry::at) {
            // While the data plane is not open, Services that are set aside wait with all others.
            return Some(failure);
        }
        let aside = self.set_aside.values().filter_map(|aside| aside.retry.at());
        let observers = self.plane.as_ref().and_then(|_| self.observers.next_try());
        aside.chain(observers).min()
    }

    /// Removes what no row uses any more, if anything changed since the last time.
    pub fn tidy(&mut self) {
        if !std::mem::take(&mut self.untidy) {
            return;
        }
        if let Some(Err(error)) = self.plane.as_mut().map(|plane| plane.idle()) {
            tracing::debug!(family = %F::FAMILY, %error, "unused chains stay for now");
        }
    }

    /// Makes sure that the kernel asks these rules before those of other programs.
    pub fn keep_first(&mut self, also_kube_proxy: bool, now: Now) {
        let kept = self.plane.as_mut().map(|plane| plane.keep_first(also_kube_proxy));
        match kept {
            Some(Ok(true)) => tracing::info!(
                family = %F::FAMILY,
                "another program made nat chains: Tandem's are registered anew, so that they are asked first"
            ),
            Some(Err(error)) => self.fail(error.to_string(), now),
            Some(Ok(false)) | None => {}
        }
    }

    /// Takes what was seen on the node outside the tables.
    pub fn take_fact(&mut self, around: &NodeFact) {
        if let NodeFact::Unremembered {
            family, connections, ..
        } = around
            && *family == F::FAMILY
        {
            self.status.unremembered = *connections;
        }
    }

    /// Whether [`Self::tidy`] has anything to do.
    pub fn untidy(&self) -> bool {
        self.untidy
    }

    /// The status of this family.
    pub fn status(&self) -> &FamilyStatus {
        &self.status
    }

    /// The table, with the rows as they are programmed.
    pub fn table(&self) -> &Table<F> {
        &self.table
    }

    /// The node, with the values that count in this family.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The node's own rows as they must be programmed.
    pub fn node_rows(&self) -> &Arc<NodeRows<F>> {
        &self.node_rows
    }

    fn know(&mut self, inputs: &Inputs<'_>) {
        self.node = inputs.node(&self.found);
        self.node_rows = Arc::new(inputs.node_rows(&self.node));
    }

    /// Opens the data plane and adopts its rows, if that was not done yet.
    fn start(&mut self, inputs: &Inputs<'_>) -> Result<(), SyncError<F>> {
        if self.plane.is_some() {
            return Ok(());
        }
        if !self.opened && inputs.asks_the_tables(&self.node_rows) {
            // The tables hold the pods' ranges themselves, and are read when they are opened. Until then, their rules
            // recognise pods as before.
            let as_before = RuleSettings {
                detect_local: DetectLocal::Sources(()),
                ..inputs.rules(&self.node_rows)
            };
            self.open(as_before, inputs)?;
        }
        let rules = inputs.rules(&self.node_rows);
        self.observers.tell(|observer| observer.opening(&rules));
        if self.plane.is_none() || rules != self.rules {
            self.plane = None;
            self.open(rules, inputs)?;
        }
        self.node_pending = true;
        self.pending.extend(inputs.services.keys().cloned());
        Ok(())
    }

    fn open(&mut self, rules: RuleSettings, inputs: &Inputs<'_>) -> Result<(), SyncError<F>> {
        self.rules = rules;
        let mut plane = (self.open)(self.rules)?;
        let rows = plane.read()?;
        let found = rows.len();
        let (table, strays) = Table::adopt_again(rows, &self.table);
        if !strays.is_empty() {
            tracing::warn!(family = %F::FAMILY, rows = strays.len(), "rows that make no sense together are put right");
            plane.apply(&strays)?;
        }
        self.observers.tell(|observer| observer.reopened(&strays));
        tracing::info!(family = %F::FAMILY, rows = found, ownership = %plane.ownership(), "tables opened");
        self.status.rows = (found + strays.added.len()).saturating_sub(strays.removed.len());
        // If it is opened again, for other rules or after a failure, it finds what this run wrote.
        if !std::mem::replace(&mut self.opened, true) {
            self.status.adopted = found;
            self.found = table.node().clone();
            self.know(inputs);
        }
        self.table = table;
        self.status.disputes = Disputes::default();
        self.status.ownership = Some(plane.ownership());
        self.plane = Some(plane);
        self.phase = if found == 0 { Phase::Loading } else { Phase::Settled };
        Ok(())
    }

    /// Plans these Services, and applies the differences. Services whose rows are refused are set aside. All others go
    /// through.
    fn bring(&mut self, services: Vec<ObjectKey>, inputs: &Inputs<'_>, now: Now) -> Result<(), SyncError<F>> {
        let mut queue = services;
        queue.reverse();
        let mut without_way = Vec::new();
        loop {
            let node = std::mem::take(&mut self.node_pending);
            if node {
                let rows = NodeRows::clone(&self.node_rows);
                self.observers.tell(|observer| observer.node_staged(&rows));
                self.table.set_node(rows);
            }
            let mut batch = Vec::new();
            while let Some(key) = queue.pop() {
                self.plan(&key, inputs);
                batch.push(key);
                if self.phase == Phase::Loading && self.table.waiting() >= CHUNK {
                    break;
                }
            }
            let last = queue.is_empty();
            let orphans = last && self.table.has_orphans();
            if orphans {
                self.drop_orphans(&batch, inputs);
            }
            match self.flush(inputs, orphans) {
                Ok(()) => {
                    for key in &batch {
                        self.set_aside.remove(key);
                    }
                    if last {
                        self.phase = Phase::Settled;
                        self.make_do(without_way, inputs)?;
                        self.observers.loaded(&self.table, &self.rules);
                        return Ok(());
                    }
                }
                Err(Refusal::Of { services, used_up }) if batch.iter().any(|key| services.contains_key(key)) => {
                    self.node_pending |= node;
                    let (refused, others): (Vec<_>, Vec<_>) =
                        batch.into_iter().partition(|key| services.contains_key(key));
                    queue.extend(others.into_iter().rev());
                    if used_up {
                        without_way.extend(refused);
                    }
                    self.put_aside(services, used_up, now);
                }
                Err(refusal) => {
                    self.node_pending |= node;
                    self.pending.extend(batch.into_iter().chain(queue).chain(without_way));
                    return Err(refusal.of_the_whole());
                }
            }
        }
    }

    /// Applies what waits in the table. If the data plane does not apply it, the table is rolled back. `orphans`: the
    /// change also removes rows that nobody claimed.
    fn flush(&mut self, inputs: &Inputs<'_>, orphans: bool) -> Result<(), Refusal<F>> {
        let delta = self.table.take();
        if !delta.is_empty() {
            self.observers.tell(|observer| observer.applying(&delta));
            // Rows that only followers hold are no reason for a transaction.
            let stored = delta.stored();
            if !stored.is_empty() {
                if let Err(error) = self.apply(&stored) {
                    return Err(self.roll_back(error));
                }
                self.note_change(&stored, inputs.time);
            }
        }
        self.table.commit();
        self.observers.tell(|observer| observer.committed(&delta, orphans));
        Ok(())
    }

    fn apply(&mut self, delta: &Delta<F>) -> Result<(), ApplyError<F>> {
        match &mut self.plane {
            Some(plane) => plane.apply(delta),
            None => Err(ApplyError::Failed("the tables are not open".into())),
        }
    }

    fn roll_back(&mut self, error: ApplyError<F>) -> Refusal<F> {
        let unknown = matches!(error, ApplyError::Unknown(_));
        self.observers.tell(|observer| observer.abandoned(unknown));
        let used_up = matches!(error, ApplyError::UsedUp(_));
        let refusal = match error {
            ApplyError::Rejected(rejections) | ApplyError::UsedUp(rejections) => {
                let services = self.owners(&rejections);
                if services.is_empty() {
                    Refusal::Whole(ApplyError::Rejected(rejections))
                } else {
                    Refusal::Of { services, used_up }
                }
            }
            error @ (ApplyError::Failed(_) | ApplyError::Unknown(_)) => Refusal::Whole(error),
        };
        self.table.rollback();
        refusal
    }

    /// The Services to which the refused rows belong. This must run before the table is rolled back.
    fn owners(&self, rejections: &[Rejection<F>]) -> BTreeMap<ObjectKey, PortRefused> {
        let owner = |rejection: &Rejection<F>| {
            let port = self.table.owner_of(&rejection.row)?;
            let refused = PortRefused {
                port: port.clone(),
                reason: rejection.reason.clone(),
            };
            Some((port.service.clone(), refused))
        };
        rejections.iter().filter_map(owner).collect()
    }

    fn put_aside(&mut self, refused: BTreeMap<ObjectKey, PortRefused>, used_up: bool, now: Now) {
        for (key, refused) in refused {
            let reason = refused.to_string();
            let known = self.set_aside.remove(&key);
            let news = known.as_ref().is_none_or(|known| known.reason != reason);
            let (reason, retry) = match known {
                // What serves the Service meanwhile is more useful than why it is set aside.
                Some(known) if used_up => (known.reason, known.retry),
                known => {
                    if news {
                        tracing::error!(family = %F::FAMILY, service = %key, reason, "set aside: the kernel refused its rows; it stays as it was");
                    }
                    (reason, known.map(|known| known.retry).unwrap_or_default())
                }
            };
            let retry = retry.failed(now.monotonic);
            self.set_aside.insert(key, Aside { reason, retry });
        }
    }

    fn fail(&mut self, reason: String, now: Now) {
        let backoff = self.failure.take().unwrap_or_default().failed(now.monotonic);
        let wait = backoff.at().map(|at| at.saturating_duration_since(now.monotonic));
        if self
            .status
            .last_error
            .as_ref()
            .is_none_or(|(_, known)| *known != reason)
        {
            tracing::error!(family = %F::FAMILY, reason, retry_in = ?wait, "changes wait; what is in the kernel stays");
        }
        self.status.last_error = Some((now.wall, reason));
        self.status.failures += 1;
        self.failure = Some(backoff);
        // The rows of the data plane are read back when it is opened again.
        self.plane = None;
    }

    fn note_change(&mut self, delta: &Delta<F>, time: SystemTime) {
        let took = self.plane.as_ref().map(|plane| plane.took()).unwrap_or_default();
        self.status.rows = (self.status.rows + delta.added.len()).saturating_sub(delta.removed.len());
        self.status.changes += 1;
        self.status.last_change = Some(time);
        self.status.last_change_rows = delta.len();
        self.status.last_change_took = took;
        self.untidy = true;
        tracing::debug!(family = %F::FAMILY, added = delta.added.len(), removed = delta.removed.len(), changed = delta.changed.len(), ?took, "applied");
    }

    fn set_aside_status(&self) -> Vec<SetAside> {
        let aside = self.set_aside.iter().map(|(key, aside)| (key, &aside.reason));
        let lacks = self.lacks.iter().map(|(key, lack)| (key, &lack.reason));
        aside
            .chain(lacks)
            .map(|(key, reason)| SetAside {
                service: key.clone(),
                reason: reason.clone(),
            })
            .collect()
    }
}
