//! The rows of one family as they are programmed, and the smallest change that leads to what is planned.
//!
//! The engine owns the table. [`Table::set`] takes a plan and writes the differences to a journal. [`Table::take`]
//! returns the net change. Then follows [`Table::commit`], or [`Table::rollback`] if the data plane did not apply the
//! change.
//!
//! Invariant: the rows of a committed table are exactly those that the data plane holds, and those that only followers
//! hold.
//!
//! Invariant: if a change frees an id, no other Service port gets it in that change or in the next one.

mod adopt;
mod by_id;
mod claims;
mod counted;
mod frontends;
mod ids;
mod journal;
mod names;
mod node;
mod programmed;
mod slots;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use crate::family::Family;
use crate::id::{STICKY_ENDPOINTS, ServiceId};
use crate::node::NodeRows;
use crate::object::ObjectKey;
use crate::plan::{FrontendPlan, PortKey, PortPlan, Usable};
use crate::plane::Delta;
use crate::row::{Class, Frontend, Pick, Row};

use by_id::ById;
use claims::{Claims, UNCLAIMED};
use counted::Counted;
use frontends::HeldFrontend;
use ids::Ids;
use journal::Journal;
use names::Names;
use node::write_node;
use programmed::{List, Programmed, Whose};

/// The rows of one family.
#[derive(Debug)]
pub struct Table<F: Family> {
    programmed: ById<Programmed<F>>,
    names: Names,
    claims: Claims<F>,
    /// Frontends that several Service ports wanted before or after a change. [`Self::take_disputed`] empties this set.
    disputed: BTreeSet<Frontend<F>>,
    cluster_ips: Counted<F::Addr>,
    hairpin: Counted<F::Addr>,
    node: NodeRows<F>,
    ids: Ids,
    /// The ids of adopted rows that nobody has claimed yet.
    orphans: HashSet<ServiceId>,
    journal: Journal<F>,
    undo: Vec<Undo<F>>,
    /// Whether a change was taken since the last commit or rollback.
    taken: bool,
}

#[derive(Debug)]
enum Undo<F: Family> {
    Port(ServiceId, Option<Box<Programmed<F>>>),
    Node(NodeRows<F>),
}

/// Why a plan is not programmed exactly as it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Limit {
    /// The list holds fewer endpoints than there are.
    #[error("has {found} endpoints, of which {used} are used: a Service port cannot have more")]
    Endpoints {
        /// How many endpoints there are.
        found: usize,
        /// How many endpoints are programmed.
        used: usize,
    },
    /// All ids with affinity are in use, so the port is programmed without affinity.
    #[error("has no session affinity: all 16,384 ids for Service ports with affinity are in use")]
    Affinity,
    /// No number is left for the way to pick that the port needs. Until there is room, one that exists serves it
    /// ([`PortPlan::within`]).
    #[error(
        "uses {used} of its {found} endpoints{}: all 509 numbers for ways to pick an endpoint are in use",
        remembered(*wanted, *got)
    )]
    Ways {
        /// How many endpoints there are.
        found: usize,
        /// How many endpoints are programmed.
        used: usize,
        /// For how many seconds clients should be remembered.
        wanted: Option<u32>,
        /// For how many seconds clients are remembered.
        got: Option<u32>,
    },
    /// All ids are in use, so the port is not programmed.
    #[error("is not programmed: all 131,071 ids for Service ports are in use")]
    Ids,
}

fn remembered(wanted: Option<u32>, got: Option<u32>) -> String {
    match (wanted, got) {
        (Some(wanted), Some(got)) if wanted != got => {
            format!(" and remembers clients for {got} s instead of {wanted} s")
        }
        (Some(_), None) => " and remembers no clients".to_owned(),
        _ => String::new(),
    }
}

/// How many endpoints a list can hold, with affinity or without.
pub(crate) fn capacity(sticky: bool) -> usize {
    if sticky {
        STICKY_ENDPOINTS
    } else {
        usize::from(u16::MAX)
    }
}

impl<F: Family> Default for Table<F> {
    fn default() -> Self {
        Self {
            programmed: ById::default(),
            names: Names::default(),
            claims: Claims::default(),
            disputed: BTreeSet::new(),
            cluster_ips: Counted::default(),
            hairpin: Counted::default(),
            node: NodeRows::default(),
            ids: Ids::default(),
            orphans: HashSet::new(),
            journal: Journal::default(),
            undo: Vec::new(),
            taken: false,
        }
    }
}

impl<F: Family> Table<F> {
    /// Makes the table hold exactly `plan` for its Service port. Returns why not, if there is a limit.
    pub fn set(&mut self, mut plan: PortPlan<F>) -> Option<Limit> {
        let mut limit = None;
        plan.frontends.sort_unstable_by_key(|plan| plan.frontend);
        plan.frontends.dedup_by_key(|plan| plan.frontend);
        let wanted = plan.affinity.is_some();
        let known = self.names.get(&plan.key).filter(|id| id.is_sticky() == wanted);
        let found = known
            .or_else(|| self.orphan(&plan, wanted))
            .or_else(|| self.ids.take(wanted));
        let id = found.or_else(|| {
            limit = Some(Limit::Affinity);
            self.names
                .get(&plan.key)
                .filter(|id| !id.is_sticky())
                .or_else(|| self.orphan(&plan, false))
                .or_else(|| self.ids.take(false))
        });
        let Some(id) = id else { return Some(Limit::Ids) };
        if let Some(before) = self.names.get(&plan.key).filter(|before| *before != id) {
            self.change(before, None);
        }
        let old = self.programmed.get(id);
        let affinity = plan.affinity.filter(|_| id.is_sticky());
        let mut list = |usable: Option<Usable<F>>, old: Option<&List<F>>| {
            let (list, too_many) = List::new(usable?, old, id.is_sticky(), affinity);
            limit = limit.or(too_many);
            Some(list)
        };
        let new = Programmed {
            whose: Whose::planned(plan.key, plan.created, plan.maglev, old.map(|old| &old.whose)),
            all: list(plan.all, old.and_then(|old| old.all.as_ref())),
            local: list(plan.local, old.and_then(|old| old.local.as_deref())).map(Box::new),
            frontends: plan.frontends.into(),
            hairpin: plan.hairpin.into(),
        };
        self.change(id, Some(Box::new(new)));
        limit
    }

    /// Removes everything that the table holds for a Service port.
    pub fn remove(&mut self, key: &PortKey) {
        if let Some(id) = self.names.get(key) {
            self.change(id, None);
        }
    }

    /// Replaces the node's own rows.
    pub fn set_node(&mut self, node: NodeRows<F>) {
        write_node(&self.node, &node, &mut self.journal);
        let old = std::mem::replace(&mut self.node, node);
        self.undo.push(Undo::Node(old));
    }

    /// The node's own rows.
    pub fn node(&self) -> &NodeRows<F> {
        &self.node
    }

    /// Removes from the ports of a Service the frontends that no longer belong to it. Everything else stays as it is.
    pub fn keep(&mut self, service: &ObjectKey, is_own: impl Fn(&Frontend<F>) -> bool) {
        let ids: Vec<ServiceId> = self.names.of(service).map(|(_, id)| id).collect();
        for id in ids {
            let Some(port) = self.programmed.get(id) else {
                continue;
            };
            if port.frontends.iter().all(|plan| is_own(&plan.frontend)) {
                continue;
            }
            let mut port = Box::new(port.clone());
            port.frontends = port
                .frontends
                .into_iter()
                .filter(|plan| is_own(&plan.frontend))
                .collect();
            self.change(id, (!port.frontends.is_empty()).then_some(port));
        }
    }

    /// How the lists of a Service pick an endpoint, each with whether lists of other Services use the same way.
    pub fn ways(&self, service: &ObjectKey) -> Vec<(Pick, bool)> {
        let (mut own, mut others) = (Vec::new(), HashSet::new());
        for (_, port) in self.programmed.iter() {
            let picks = [port.all.as_ref(), port.local.as_deref()];
            let picks = picks.into_iter().flatten().map(|list| list.pick);
            if port.whose.key().is_some_and(|key| key.service == *service) {
                own.extend(picks);
            } else {
                others.extend(picks);
            }
        }
        own.into_iter().map(|pick| (pick, others.contains(&pick))).collect()
    }

    /// How many more Service ports can get an id now, with affinity or without.
    pub fn ids_left(&self, sticky: bool) -> usize {
        self.ids.left(sticky)
    }

    /// The net change since the last [`Self::commit`] or [`Self::rollback`].
    pub fn take(&mut self) -> Delta<F> {
        let delta = self.journal.take();
        // An id rests until the data plane has applied another change, and that must be one.
        self.taken |= !delta.stored().is_empty();
        delta
    }

    /// How many rows were written since the last [`Self::take`].
    pub fn waiting(&self) -> usize {
        self.journal.len()
    }

    /// Notes that the data plane holds what was taken.
    pub fn commit(&mut self) {
        self.undo.clear();
        self.ids.commit(std::mem::take(&mut self.taken));
    }

    /// Notes that the data plane does not hold what was taken. The table is again as it was before.
    pub fn rollback(&mut self) {
        let undo = std::mem::take(&mut self.undo);
        for step in undo.into_iter().rev() {
            match step {
                Undo::Port(id, old) => drop(self.install(id, old)),
                Undo::Node(old) => self.node = old,
            }
        }
        self.journal.take();
        self.taken = false;
        self.ids.rollback();
    }

    /// The Service port that an id belongs to.
    pub fn owner(&self, id: ServiceId) -> Option<&PortKey> {
        self.programmed.get(id.all())?.whose.key()
    }

    /// The Service port that a row belongs to, if it belongs to only one.
    pub fn owner_of(&self, row: &Row<F>) -> Option<&PortKey> {
        let holder = |frontend: &Frontend<F>| self.claims.holder(frontend);
        let id = match row {
            Row::Restricted { at } | Row::AllowedSource { at, .. } => holder(&Frontend::Address {
                class: Class::External,
                at: *at,
            }),
            row => row.service(),
        };
        self.owner(id?)
    }

    /// The id of a Service port's list of all endpoints.
    pub fn id(&self, key: &PortKey) -> Option<ServiceId> {
        self.names.get(key)
    }

    /// The ports of a Service that are programmed, sorted.
    pub fn ports(&self, service: &ObjectKey) -> impl Iterator<Item = &PortKey> {
        self.names.of(service).map(|(key, _)| key)
    }

    /// The frontends that a Service port wants and an older Service has, each with the port that has it.
    pub fn shadowed<'a>(&'a self, key: &PortKey) -> impl Iterator<Item = (Frontend<F>, &'a PortKey)> + 'a {
        let id = self.names.get(key);
        let frontends = id
            .and_then(|id| self.programmed.get(id))
            .map_or(&[][..], |port| &port.frontends);
        frontends.iter().filter_map(move |plan| {
            let holder = self.claims.holder(&plan.frontend);
            let holder = holder.filter(|holder| Some(*holder) != id)?;
            Some((plan.frontend, self.owner(holder)?))
        })
    }

    /// The frontends that several Service ports wanted, before or after the changes since the last call.
    pub fn take_disputed(&mut self) -> BTreeSet<Frontend<F>> {
        std::mem::take(&mut self.disputed)
    }

    /// The Service ports that want a frontend, the holder first. Adopted rows that nobody claimed are not among them.
    pub fn claimants(&self, frontend: &Frontend<F>) -> impl Iterator<Item = &PortKey> {
        let ids = self.claims.ids(frontend).iter();
        ids.filter_map(|id| self.owner(*id))
    }

    /// All rows of the table, ordered by [`RowKind`](crate::row::RowKind): each one after the rows that it points to.
    pub fn rows(&self) -> Vec<Row<F>> {
        // No two rows have one key, because the data plane holds them all.
        let mut journal = Journal::once();
        self.write(&mut journal);
        journal.take().added
    }

    /// The change from the rows that were `found` in a data plane to the rows of this table.
    pub fn difference(&self, found: impl IntoIterator<Item = Row<F>>) -> Delta<F> {
        let mut journal = Journal::default();
        for row in found {
            journal.remove(row);
        }
        self.write(&mut journal);
        journal.take()
    }

    /// Writes every row of the table to the journal.
    fn write(&self, journal: &mut Journal<F>) {
        for (id, port) in self.programmed.iter() {
            Programmed::write(id, None, Some(port), journal);
        }
        for (frontend, holder) in self.claims.held() {
            HeldFrontend::write(None, self.held(holder, frontend).as_ref(), journal);
        }
        self.cluster_ips
            .keys()
            .for_each(|addr| journal.add(Row::ClusterIp { addr }));
        self.hairpin
            .keys()
            .for_each(|addr| journal.add(Row::LocalEndpoint { addr }));
        write_node(&NodeRows::default(), &self.node, journal);
    }

    /// Programs `new` under an id, and notes how to undo it.
    fn change(&mut self, id: ServiceId, new: Option<Box<Programmed<F>>>) {
        let goes = new.is_none();
        let old = self.install(id, new);
        if goes && old.is_some() {
            self.ids.release(id);
        }
        self.undo.push(Undo::Port(id, old));
    }

    /// Replaces the rows of a Service port. No other function changes them.
    fn install(&mut self, id: ServiceId, new: Option<Box<Programmed<F>>>) -> Option<Box<Programmed<F>>> {
        let old = self.programmed.remove(id);
        let (before, after) = (old.as_deref(), new.as_deref());
        Programmed::write(id, before, after, &mut self.journal);
        self.count_hairpin(before, after);
        if let (Some(before), Some(after)) = (before, after)
            && before.claims_like(after)
        {
            self.programmed.insert(id, new?);
            return old;
        }
        self.name(id, before, after);
        let plans = |port: Option<&'_ Programmed<F>>| -> Box<[FrontendPlan<F>]> {
            port.map(|port| port.frontends.clone()).unwrap_or_default()
        };
        let (leaving, wanted) = (plans(before), plans(after));
        let owned_alike = before.zip(after).is_some_and(|(old, new)| old.whose == new.whose);
        if let Some(new) = new {
            self.programmed.insert(id, new);
        }
        let before = old.as_deref();
        for plan in &leaving {
            if wanted
                .binary_search_by_key(&plan.frontend, |plan| plan.frontend)
                .is_err()
            {
                self.claim(id, plan.frontend, before, false);
            }
        }
        for plan in &wanted {
            if !(owned_alike && before.and_then(|old| old.plan(plan.frontend)) == Some(plan)) {
                self.claim(id, plan.frontend, before, true);
            }
        }
        old
    }

    /// Notes which Service port an id belongs to.
    fn name(&mut self, id: ServiceId, old: Option<&Programmed<F>>, new: Option<&Programmed<F>>) {
        if let Some(key) = old.and_then(|old| old.whose.key()) {
            self.names.remove(key);
        }
        if let Some(owner) = new.and_then(|new| new.whose.owner()) {
            self.names.insert(Arc::clone(owner), id);
        }
        if new.is_some_and(|new| new.whose.owner().is_none()) {
            self.orphans.insert(id);
        } else {
            self.orphans.remove(&id);
        }
    }

    /// Gives `id` a claim on a frontend (`wants`) or removes it, and writes the rows of the port that has the frontend
    /// then.
    fn claim(&mut self, id: ServiceId, frontend: Frontend<F>, old: Option<&Programmed<F>>, wants: bool) {
        let before = match self.claims.holder(&frontend) {
            Some(holder) if holder == id => old.and_then(|old| old.held(id, frontend)),
            Some(holder) => self.held(holder, frontend),
            None => None,
        };
        let disputed = self.claims.disputed(&frontend);
        self.claims.remove(&frontend, id);
        if wants {
            let programmed = &self.programmed;
            self.claims.insert(frontend, id, |id| {
                programmed.get(id).map_or(UNCLAIMED, |port| port.whose.rank())
            });
        }
        if disputed || self.claims.disputed(&frontend) {
            self.disputed.insert(frontend);
        }
        let holder = self.claims.holder(&frontend);
        let after = holder.and_then(|holder| self.held(holder, frontend));
        HeldFrontend::write(before.as_ref(), after.as_ref(), &mut self.journal);
        if let Frontend::Address {
            class: Class::Cluster,
            at,
        } = frontend
        {
            let row = Row::ClusterIp { addr: at.addr };
            match (before.is_some(), after.is_some()) {
                (false, true) if self.cluster_ips.add(at.addr) => self.journal.add(row),
                (true, false) if self.cluster_ips.remove(at.addr) => self.journal.remove(row),
                _ => {}
            }
        }
    }

    fn held(&self, holder: ServiceId, frontend: Frontend<F>) -> Option<HeldFrontend<F>> {
        self.programmed.get(holder)?.held(holder, frontend)
    }

    fn count_hairpin(&mut self, old: Option<&Programmed<F>>, new: Option<&Programmed<F>>) {
        let [old, new] = [old, new].map(|port| port.map_or(&[][..], |port| &port.hairpin));
        if old == new {
            return;
        }
        for addr in new.iter().copied() {
            if self.hairpin.add(addr) {
                self.journal.add(Row::LocalEndpoint { addr });
            }
        }
        for addr in old.iter().copied() {
            if self.hairpin.remove(addr) {
                self.journal.remove(Row::LocalEndpoint { addr });
            }
        }
    }
}

#[cfg(test)]
mod tests;
