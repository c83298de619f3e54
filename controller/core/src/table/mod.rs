//! The rows of one family as they are programmed, and the smallest change that leads to what is planned.
//!
//! The engine owns the table. [`Table::set`] takes a plan and writes the differences to a journal. [`Table::take`]
//! returns the net change. Then follows [`Table::commit`], or [`Table::rollback`] if the data plane did not apply the
//! change.
//!
//! Invariant: the rows of a committed table are exactly those that the data plane holds.
//!
//! Invariant: if a change frees an id, no other Service port gets it in that change or in the next one.

mod adopt;
mod claims;
mod counted;
mod frontends;
mod ids;
mod journal;
mod node;
mod programmed;
mod slots;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::family::Family;
use crate::id::{STICKY_ENDPOINTS, ServiceId};
use crate::node::NodeRows;
use crate::object::ObjectKey;
use crate::plan::{PortKey, PortPlan, Usable};
use crate::plane::Delta;
use crate::row::{Class, Frontend, Pick, Protocol, Row};

use claims::{Claims, Rank};
use counted::Counted;
use frontends::HeldFrontend;
use ids::Ids;
use journal::Journal;
use node::write_node;
use programmed::{List, Programmed};

/// The rows of one family.
#[derive(Debug)]
pub struct Table<F: Family> {
    programmed: HashMap<ServiceId, Programmed<F>>,
    names: BTreeMap<PortKey, ServiceId>,
    claims: HashMap<Frontend<F>, Claims>,
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
            programmed: HashMap::new(),
            names: BTreeMap::new(),
            claims: HashMap::new(),
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
        let known = self.names.get(&plan.key).copied().filter(|id| id.is_sticky() == wanted);
        let found = known
            .or_else(|| self.orphan(&plan, wanted))
            .or_else(|| self.ids.take(wanted));
        let id = found.or_else(|| {
            limit = Some(Limit::Affinity);
            self.names
                .get(&plan.key)
                .copied()
                .filter(|id| !id.is_sticky())
                .or_else(|| self.orphan(&plan, false))
                .or_else(|| self.ids.take(false))
        });
        let Some(id) = id else { return Some(Limit::Ids) };
        if let Some(before) = self.names.get(&plan.key).copied().filter(|before| *before != id) {
            self.change(before, None);
        }
        let old = self.programmed.get(&id);
        let affinity = plan.affinity.filter(|_| id.is_sticky());
        let mut list = |usable: Option<Usable<F>>, old: Option<&List<F>>| {
            let (list, too_many) = List::new(usable?, old, id.is_sticky(), affinity);
            limit = limit.or(too_many);
            Some(list)
        };
        let new = Programmed {
            all: list(plan.all, old.and_then(|old| old.all.as_ref())),
            local: list(plan.local, old.and_then(|old| old.local.as_ref())),
            label: match old {
                Some(old) if old.key.as_ref() == Some(&plan.key) => old.label.clone(),
                _ => plan.key.label(),
            },
            key: Some(plan.key),
            created: plan.created,
            frontends: plan.frontends,
            hairpin: plan.hairpin,
        };
        self.change(id, Some(new));
        limit
    }

    /// Removes everything that the table holds for a Service port.
    pub fn remove(&mut self, key: &PortKey) {
        if let Some(id) = self.names.get(key).copied() {
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
        for key in self.ports(service) {
            let id = self.names.get(&key).copied();
            let Some((id, port)) = id.and_then(|id| Some((id, self.programmed.get(&id)?))) else {
                continue;
            };
            if port.frontends.iter().all(|plan| is_own(&plan.frontend)) {
                continue;
            }
            let mut port = port.clone();
            port.frontends.retain(|plan| is_own(&plan.frontend));
            self.change(id, (!port.frontends.is_empty()).then_some(port));
        }
    }

    /// How the lists of a Service pick an endpoint, each with whether lists of other Services use the same way.
    pub fn ways(&self, service: &ObjectKey) -> Vec<(Pick, bool)> {
        let (mut own, mut others) = (Vec::new(), HashSet::new());
        for port in self.programmed.values() {
            let picks = [&port.all, &port.local].into_iter().flatten().map(|list| list.pick);
            if port.key.as_ref().is_some_and(|key| key.service == *service) {
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
        self.taken |= !delta.is_empty();
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
                Undo::Port(id, old) => drop(self.install(id, old.map(|old| *old))),
                Undo::Node(old) => self.node = old,
            }
        }
        self.journal.take();
        self.taken = false;
        self.ids.rollback();
    }

    /// The Service port that an id belongs to.
    pub fn owner(&self, id: ServiceId) -> Option<&PortKey> {
        self.programmed.get(&id.all())?.key.as_ref()
    }

    /// The Service port that a row belongs to, if it belongs to only one.
    pub fn owner_of(&self, row: &Row<F>) -> Option<&PortKey> {
        let holder = |frontend: &Frontend<F>| self.claims.get(frontend)?.holder();
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
        self.names.get(key).copied()
    }

    /// The ports of a Service that are programmed.
    pub fn ports(&self, service: &ObjectKey) -> Vec<PortKey> {
        let first = PortKey {
            service: service.clone(),
            port: "".into(),
            protocol: Protocol::Tcp,
        };
        self.names
            .range(first..)
            .map(|(key, _)| key)
            .take_while(|key| key.service == *service)
            .cloned()
            .collect()
    }

    /// The frontends that a Service port wants and an older Service has, each with the port that has it.
    pub fn shadowed<'a>(&'a self, key: &PortKey) -> impl Iterator<Item = (Frontend<F>, &'a PortKey)> + 'a {
        let id = self.names.get(key).copied();
        let frontends = id
            .and_then(|id| self.programmed.get(&id))
            .map_or(&[][..], |port| &port.frontends);
        frontends.iter().filter_map(move |plan| {
            let holder = self
                .claims
                .get(&plan.frontend)?
                .holder()
                .filter(|holder| Some(*holder) != id)?;
            Some((plan.frontend, self.owner(holder)?))
        })
    }

    /// The frontends that several Service ports wanted, before or after the changes since the last call.
    pub fn take_disputed(&mut self) -> BTreeSet<Frontend<F>> {
        std::mem::take(&mut self.disputed)
    }

    /// The Service ports that want a frontend, the holder first. Adopted rows that nobody claimed are not among them.
    pub fn claimants(&self, frontend: &Frontend<F>) -> impl Iterator<Item = &PortKey> {
        let ids = self.claims.get(frontend).into_iter().flat_map(Claims::ids);
        ids.filter_map(|id| self.owner(id))
    }

    /// All rows of the table, in no particular order.
    pub fn rows(&self) -> Vec<Row<F>> {
        let mut journal = Journal::default();
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
        for (id, port) in &self.programmed {
            Programmed::write(*id, None, Some(port), journal);
        }
        for (frontend, claims) in &self.claims {
            let held = claims.holder().and_then(|holder| self.held(holder, *frontend));
            HeldFrontend::write(None, held.as_ref(), journal);
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
    fn change(&mut self, id: ServiceId, new: Option<Programmed<F>>) {
        let goes = new.is_none();
        let old = self.install(id, new);
        if goes && old.is_some() {
            self.ids.release(id);
        }
        self.undo.push(Undo::Port(id, old.map(Box::new)));
    }

    /// Replaces the rows of a Service port. No other function changes them.
    fn install(&mut self, id: ServiceId, new: Option<Programmed<F>>) -> Option<Programmed<F>> {
        let old = self.programmed.remove(&id);
        Programmed::write(id, old.as_ref(), new.as_ref(), &mut self.journal);
        self.count_hairpin(old.as_ref(), new.as_ref());
        let unmoved = old
            .as_ref()
            .zip(new.as_ref())
            .is_some_and(|(old, new)| old.claims_like(new));
        if unmoved {
            self.programmed.extend(new.map(|new| (id, new)));
            return old;
        }
        self.name(id, old.as_ref(), new.as_ref());
        let frontends = |port: Option<&Programmed<F>>| -> Vec<Frontend<F>> {
            let plans = port.map_or(&[][..], |port| &port.frontends);
            plans.iter().map(|plan| plan.frontend).collect()
        };
        let (before, after) = (frontends(old.as_ref()), frontends(new.as_ref()));
        let rank = new.as_ref().map(Programmed::rank);
        let like = |new: &Programmed<F>, frontend: &Frontend<F>| {
            let old = old.as_ref().filter(|old| old.is_owned_like(new));
            old.is_some_and(|old| old.plan(*frontend) == new.plan(*frontend))
        };
        let stays: Vec<bool> = after
            .iter()
            .map(|frontend| new.as_ref().is_some_and(|new| like(new, frontend)))
            .collect();
        self.programmed.extend(new.map(|new| (id, new)));
        for frontend in before
            .into_iter()
            .filter(|frontend| after.binary_search(frontend).is_err())
        {
            self.claim(id, frontend, old.as_ref(), None);
        }
        for (frontend, _) in after.into_iter().zip(stays).filter(|(_, stays)| !stays) {
            self.claim(id, frontend, old.as_ref(), rank.clone());
        }
        old
    }

    /// Notes which Service port an id belongs to.
    fn name(&mut self, id: ServiceId, old: Option<&Programmed<F>>, new: Option<&Programmed<F>>) {
        if let Some(key) = old.and_then(|old| old.key.as_ref()) {
            self.names.remove(key);
        }
        if let Some(key) = new.and_then(|new| new.key.as_ref()) {
            self.names.insert(key.clone(), id);
        }
        if new.is_some_and(|new| new.key.is_none()) {
            self.orphans.insert(id);
        } else {
            self.orphans.remove(&id);
        }
    }

    /// Gives `id` a claim on a frontend (`rank`) or removes it, and writes the rows of the port that has the frontend
    /// then.
    fn claim(&mut self, id: ServiceId, frontend: Frontend<F>, old: Option<&Programmed<F>>, rank: Option<Rank>) {
        let holder = self.claims.get(&frontend).and_then(Claims::holder);
        let before = match holder {
            Some(holder) if holder == id => old.and_then(|old| old.held(id, frontend)),
            Some(holder) => self.held(holder, frontend),
            None => None,
        };
        let claims = self.claims.entry(frontend).or_default();
        let disputed = claims.disputed();
        claims.remove(id);
        if let Some(rank) = rank {
            claims.insert(rank, id);
        }
        if disputed || claims.disputed() {
            self.disputed.insert(frontend);
        }
        let holder = claims.holder();
        if holder.is_none() {
            self.claims.remove(&frontend);
        }
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
        self.programmed.get(&holder)?.held(holder, frontend)
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
