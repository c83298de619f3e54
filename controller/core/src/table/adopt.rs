//! Adopts the rows of an earlier run, which the data plane holds already. They keep their ids until a Service claims
//! them.
//!
//! A Service port recognises its rows by its frontends and its name. If an older Service left rows under the same
//! address, the new Service does not take over their id, so that a packet under way never reaches another Service.
//! After every object is known, [`Table::drop_orphans`] removes the rows that nobody claimed. Rows that make no sense
//! (a slot after a gap, a list that nothing picks from) do not count. [`Table::adopt`] returns the change that repairs
//! them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::family::Family;
use crate::id::{STICKY_ENDPOINTS, ServiceId};
use crate::node::NodeRows;
use crate::plan::{FrontendPlan, PortPlan};
use crate::plane::Delta;
use crate::row::{Class, Endpoint, Frontend, L4Address, Label, Pick, Row};

use super::Table;
use super::ids::Ids;
use super::programmed::{List, Programmed, Whose};
use super::slots::Slots;

/// The rows that were read for one list of endpoints.
#[derive(Debug)]
struct Found<F: Family> {
    pick: Option<(Pick, Label)>,
    plain: BTreeMap<u16, Endpoint<F>>,
    sticky: BTreeMap<u16, u16>,
    ids: BTreeMap<u16, Endpoint<F>>,
}

impl<F: Family> Default for Found<F> {
    fn default() -> Self {
        Self {
            pick: None,
            plain: BTreeMap::new(),
            sticky: BTreeMap::new(),
            ids: BTreeMap::new(),
        }
    }
}

/// The rows, sorted by what they describe.
struct Sorted<F: Family> {
    lists: HashMap<ServiceId, Found<F>>,
    frontends: HashMap<ServiceId, Vec<(FrontendPlan<F>, Label)>>,
    restricted: HashSet<L4Address<F>>,
    sources: HashMap<L4Address<F>, Vec<F::Net>>,
    hairpin: HashSet<F::Addr>,
    node: NodeRows<F>,
}

impl<F: Family> From<Vec<Row<F>>> for Sorted<F> {
    fn from(rows: Vec<Row<F>>) -> Self {
        let mut lists: HashMap<ServiceId, Found<F>> = HashMap::new();
        let mut frontends: HashMap<ServiceId, Vec<(FrontendPlan<F>, Label)>> = HashMap::new();
        let mut restricted = HashSet::new();
        let mut sources: HashMap<L4Address<F>, Vec<F::Net>> = HashMap::new();
        let mut hairpin = HashSet::new();
        let mut node = NodeRows::default();
        for row in rows {
            match row {
                Row::Frontend {
                    frontend,
                    service,
                    label,
                } => {
                    let plan = FrontendPlan {
                        frontend,
                        local: service.is_local(),
                        sources: None,
                    };
                    frontends.entry(service.all()).or_default().push((plan, label));
                }
                Row::Service { service, pick, label } => lists.entry(service).or_default().pick = Some((pick, label)),
                Row::Endpoint {
                    service,
                    slot,
                    endpoint,
                } => {
                    lists.entry(service).or_default().plain.insert(slot, endpoint);
                }
                Row::StickyEndpoint { service, slot, id } if id.service() == service => {
                    lists.entry(service).or_default().sticky.insert(slot, id.number());
                }
                Row::EndpointId { id, endpoint } => {
                    lists.entry(id.service()).or_default().ids.insert(id.number(), endpoint);
                }
                // The table computes by itself which addresses are ClusterIPs. No data plane stores the last kind.
                Row::StickyEndpoint { .. } | Row::ClusterIp { .. } | Row::Spread { .. } => {}
                Row::LocalEndpoint { addr } => drop(hairpin.insert(addr)),
                Row::ServiceCidr { net } => drop(node.service_cidrs.insert(net)),
                Row::LocalPods { net } => drop(node.local_pods.insert(net)),
                Row::NodeAddress { addr } => drop(node.node_addresses.insert(addr)),
                Row::Restricted { at } => drop(restricted.insert(at)),
                Row::AllowedSource { at, source } => sources.entry(at).or_default().push(source),
            }
        }
        Self {
            lists,
            frontends,
            restricted,
            sources,
            hairpin,
            node,
        }
    }
}

impl<F: Family> Table<F> {
    /// Makes a table from the rows that a data plane holds, as far as they make sense. Returns it with the change after
    /// which the data plane holds exactly these rows. After an undisturbed run, the change is empty.
    pub fn adopt(rows: Vec<Row<F>>) -> (Self, Delta<F>) {
        let table = Self::out_of(rows.clone());
        let difference = table.difference(rows);
        (table, difference)
    }

    /// The same, if this process had opened the data plane `before`. An id that was in use then, and is not now, is
    /// given out as late as if it was freed just now.
    pub fn adopt_again(rows: Vec<Row<F>>, before: &Self) -> (Self, Delta<F>) {
        let (mut table, difference) = Self::adopt(rows);
        let known = before.programmed.ids().chain(before.ids.resting());
        table.ids = Ids::new(table.programmed.ids(), known);
        (table, difference)
    }

    fn out_of(rows: Vec<Row<F>>) -> Self {
        let mut table = Self::default();
        let Sorted {
            mut lists,
            mut frontends,
            restricted,
            mut sources,
            hairpin,
            node,
        } = Sorted::from(rows);
        table.node = node;
        let bases: BTreeSet<ServiceId> = lists
            .keys()
            .map(|id| id.all())
            .chain(frontends.keys().copied())
            .collect();
        for id in bases {
            let [all, local] = [id, id.local()].map(|id| list(id, lists.remove(&id)?));
            let mut found = frontends.remove(&id).unwrap_or_default();
            for (plan, _) in &mut found {
                let Frontend::Address {
                    class: Class::External,
                    at,
                } = plan.frontend
                else {
                    continue;
                };
                plan.sources = restricted.contains(&at).then(|| {
                    let mut nets = sources.remove(&at).unwrap_or_default();
                    nets.sort_unstable();
                    nets.into()
                });
            }
            let lists = || [&all, &local].into_iter().flatten();
            let labels = found.iter().map(|(_, label)| label);
            let label = labels.chain(lists().map(|(_, label)| label)).next().cloned();
            let addrs = lists().flat_map(|(list, _)| list.slots.endpoints().map(|endpoint| endpoint.addr));
            let hairpin: BTreeSet<F::Addr> = addrs.filter(|addr| hairpin.contains(addr)).collect();
            found.sort_unstable_by_key(|(plan, _)| plan.frontend);
            let orphan = Programmed {
                whose: Whose::Orphan(label.unwrap_or_else(|| "".into())),
                frontends: found.into_iter().map(|(plan, _)| plan).collect(),
                all: all.map(|(list, _)| list),
                local: local.map(|(list, _)| Box::new(list)),
                hairpin: hairpin.into_iter().collect(),
            };
            table.install(id, Some(Box::new(orphan)));
        }
        table.journal.take();
        table.ids = Ids::new(table.programmed.ids(), []);
        table
    }

    /// Removes the adopted rows that nobody claimed, except those that still serve somebody. `serves` is asked with the
    /// Service's name in the row and with each frontend. Call this only after every object is known.
    pub fn drop_orphans(&mut self, serves: impl Fn(&str, &Frontend<F>) -> bool) {
        let of_use = |port: &Programmed<F>| {
            let service = port.whose.label().split(':').next().unwrap_or_default();
            port.frontends.iter().any(|plan| serves(service, &plan.frontend))
        };
        let mut orphans: Vec<ServiceId> = self.orphans.iter().copied().collect();
        orphans.sort_unstable();
        for id in orphans {
            if !self.programmed.get(id).is_some_and(of_use) {
                self.change(id, None);
            }
        }
    }

    /// Whether there are adopted rows that nobody claimed.
    pub fn has_orphans(&self) -> bool {
        !self.orphans.is_empty()
    }

    /// The id of adopted rows that have this plan's frontends and name, and are not claimed yet.
    pub(super) fn orphan(&self, plan: &PortPlan<F>, sticky: bool) -> Option<ServiceId> {
        if self.orphans.is_empty() {
            return None;
        }
        let label = plan.key.label();
        plan.frontends.iter().find_map(|plan| {
            let holder = self.claims.holder(&plan.frontend)?;
            let port = self.programmed.get(holder)?;
            let is_its_own = matches!(&port.whose, Whose::Orphan(known) if *known == label);
            (holder.is_sticky() == sticky && is_its_own).then_some(holder)
        })
    }
}

/// Makes a list from what was found: its endpoints up to the first slot that is missing or makes no sense.
fn list<F: Family>(id: ServiceId, found: Found<F>) -> Option<(List<F>, Label)> {
    let (pick, label) = found.pick?;
    let mut seen = HashSet::new();
    let slots = if id.is_sticky() {
        let numbered = found
            .sticky
            .into_iter()
            .zip(0..)
            .take_while(|((slot, _), at)| slot == at)
            .map_while(|((_, number), _)| Some((number, *found.ids.get(&number)?)));
        let entries: Box<[_]> = numbered.take_while(|(_, endpoint)| seen.insert(*endpoint)).collect();
        let last = entries.iter().map(|(number, _)| usize::from(*number)).max();
        let next = last.map_or(1, |last| u16::try_from(last % STICKY_ENDPOINTS + 1).unwrap_or(1));
        Slots::Sticky { entries, next }
    } else {
        let listed = found.plain.into_iter().zip(0..);
        let listed = listed.take_while(|((slot, _), at)| slot == at);
        Slots::Plain(
            listed
                .map(|((_, endpoint), _)| endpoint)
                .take_while(|endpoint| seen.insert(*endpoint))
                .collect(),
        )
    };
    Some((List { pick, slots }, label))
}
