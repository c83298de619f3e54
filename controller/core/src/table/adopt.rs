//! Rows that a data plane holds already, from an earlier run: kept under their ids until a Service claims them.
//!
//! A Service port recognises its rows by its frontends, so that names may be cut or changed; what nobody claims goes
//! with [`Table::drop_orphans`], once every object is known. Rows that make no sense (a slot behind a gap, a list that
//! nothing picks from) are handed back at once: no packet can depend on them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::delta::Delta;
use crate::family::Family;
use crate::id::{STICKY_ENDPOINTS, ServiceId};
use crate::plan::FrontendPlan;
use crate::row::{Class, Endpoint, Frontend, Label, Pick, Row, Socket};

use super::Table;
use super::programmed::{List, Programmed};
use super::slots::Slots;

/// What was read for one list of endpoints.
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

impl<F: Family> Table<F> {
    /// A table that holds what a data plane was read to hold, and the change that removes what makes no sense there.
    pub fn adopt(rows: Vec<Row<F>>) -> (Self, Delta<F>) {
        let mut lists: HashMap<ServiceId, Found<F>> = HashMap::new();
        let mut frontends: HashMap<ServiceId, Vec<(FrontendPlan<F>, Label)>> = HashMap::new();
        let mut sources: HashMap<Socket<F>, Vec<F::Net>> = HashMap::new();
        let mut hairpin = BTreeSet::new();
        let mut cluster_ips = BTreeSet::new();
        let mut table = Self::default();
        let mut strays = Vec::new();
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
                Row::StickyEndpoint { service, slot, id } => {
                    lists.entry(service).or_default().sticky.insert(slot, id.number());
                }
                Row::EndpointId { id, endpoint } => {
                    lists.entry(id.service()).or_default().ids.insert(id.number(), endpoint);
                }
                Row::ClusterIp { addr } => drop(cluster_ips.insert(addr)),
                Row::Hairpin { addr } => drop(hairpin.insert(addr)),
                Row::ServiceCidr { net } => drop(table.node.service_cidrs.insert(net)),
                Row::LocalPods { net } => drop(table.node.local_pods.insert(net)),
                Row::NodeAddress { addr } => drop(table.node.node_addresses.insert(addr)),
                Row::Restricted { at } => drop(sources.entry(at).or_default()),
                Row::AllowedSource { at, source } => sources.entry(at).or_default().push(source),
            }
        }
        let bases: BTreeSet<ServiceId> = lists
            .keys()
            .map(|id| id.all())
            .chain(frontends.keys().copied())
            .collect();
        for id in bases {
            let all = lists.remove(&id).map(|found| list(id, found, &mut strays));
            let local = lists
                .remove(&id.local())
                .map(|found| list(id.local(), found, &mut strays));
            let mut found = frontends.remove(&id).unwrap_or_default();
            for (plan, _) in &mut found {
                let Frontend::Address {
                    class: Class::External,
                    at,
                } = plan.frontend
                else {
                    continue;
                };
                plan.sources = sources.remove(&at).map(|mut nets| {
                    nets.sort_unstable();
                    nets.into()
                });
            }
            let label = found.first().map(|(_, label)| label.clone());
            let label = label
                .or(all.as_ref().and_then(|(_, label)| label.clone()))
                .unwrap_or_else(|| "".into());
            let lists = [&all, &local].map(|list| list.iter().flat_map(|(list, _)| list.iter()));
            let hairpin = lists
                .into_iter()
                .flatten()
                .flat_map(|list| list.slots.endpoints())
                .map(|endpoint| endpoint.addr)
                .filter(|addr| hairpin.contains(addr))
                .collect::<BTreeSet<_>>();
            let orphan = Programmed {
                key: None,
                created: 0,
                label,
                frontends: found.into_iter().map(|(plan, _)| plan).collect(),
                all: all.and_then(|(list, _)| list),
                local: local.and_then(|(list, _)| list),
                hairpin: hairpin.into_iter().collect(),
            };
            table.install(id, Some(orphan));
        }
        let explained = |row: &Row<F>| match row {
            Row::ClusterIp { addr } => table.cluster_ips.contains(*addr),
            Row::Hairpin { addr } => table.hairpin.contains(*addr),
            _ => false,
        };
        let shared = cluster_ips.into_iter().map(|addr| Row::ClusterIp { addr });
        let shared = shared.chain(hairpin.into_iter().map(|addr| Row::Hairpin { addr }));
        strays.extend(shared.filter(|row| !explained(row)));
        for (at, nets) in sources {
            strays.push(Row::Restricted { at });
            strays.extend(nets.into_iter().map(|source| Row::AllowedSource { at, source }));
        }
        table.journal.take();
        (
            table,
            Delta {
                removed: strays,
                ..Delta::default()
            },
        )
    }

    /// Removes everything that was adopted and not claimed. Only right once every object is known.
    pub fn drop_orphans(&mut self) {
        let orphans: Vec<ServiceId> = self
            .programmed
            .iter()
            .filter(|(_, port)| port.key.is_none())
            .map(|(id, _)| *id)
            .collect();
        for id in orphans {
            self.change(id, None);
        }
    }

    /// Adopted rows that lead where this plan leads and are not claimed yet.
    pub(super) fn orphan(&self, frontends: &[FrontendPlan<F>], sticky: bool) -> Option<ServiceId> {
        frontends.iter().find_map(|plan| {
            let holder = self.claims.get(&plan.frontend)?.holder()?;
            (holder.is_sticky() == sticky && self.programmed.get(&holder)?.key.is_none()).then_some(holder)
        })
    }
}

/// Puts a list together; what does not count becomes a stray.
fn list<F: Family>(id: ServiceId, found: Found<F>, strays: &mut Vec<Row<F>>) -> (Option<List<F>>, Option<Label>) {
    let (mut plain, mut entries) = (Vec::new(), Vec::new());
    for (slot, endpoint) in found.plain {
        if usize::from(slot) == plain.len() && found.pick.is_some() {
            plain.push(endpoint);
        } else {
            strays.push(Row::Endpoint {
                service: id,
                slot,
                endpoint,
            });
        }
    }
    let mut ids = found.ids;
    for (slot, number) in found.sticky {
        let counts = usize::from(slot) == entries.len() && found.pick.is_some();
        match ids.remove(&number).filter(|_| counts) {
            Some(endpoint) => entries.push((number, endpoint)),
            None => strays.extend(id.endpoint(number).map(|id_| Row::StickyEndpoint {
                service: id,
                slot,
                id: id_,
            })),
        }
    }
    strays.extend(ids.into_iter().filter_map(|(number, endpoint)| {
        Some(Row::EndpointId {
            id: id.endpoint(number)?,
            endpoint,
        })
    }));
    let slots = if id.is_sticky() {
        let last = entries.iter().map(|(number, _)| usize::from(*number)).max();
        let next = last.map_or(1, |last| u16::try_from(last % STICKY_ENDPOINTS + 1).unwrap_or(1));
        Slots::Sticky {
            entries: entries.into(),
            next,
        }
    } else {
        Slots::Plain(plain.into())
    };
    let (pick, label) = found.pick.unzip();
    (pick.map(|pick| List { pick, slots }), label)
}
