//! What is right: the answers that rows give.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tandem_core::id::ServiceId;
use tandem_core::row::{Pick, Row};
use tandem_xdp_layout::{Address, Class, Endpoint, FrontendKey, Reason};

use super::TCP;
use crate::content::{Draft, list_of};
use crate::convert::{self, Plane};

/// What a reader gets: a list, or why it leaves the connection to nftables.
pub type Answer<A> = Result<Picks<A>, Reason>;

/// What a reader finds in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picks<A> {
    /// The endpoints by slot.
    pub endpoints: Vec<Endpoint<A>>,
    /// The endpoint that Maglev picks for each of [`HASHES`]; empty without Maglev.
    pub by_hash: Vec<Endpoint<A>>,
}

impl<A> Picks<A> {
    /// What no rows give.
    pub(super) const NEVER_RIGHT: Self = Self {
        endpoints: Vec::new(),
        by_hash: Vec::new(),
    };
}

/// Hashes of clients, from the first to the last.
pub(super) const HASHES: [u32; 18] = {
    let mut hashes = [0; 18];
    let mut at = 1;
    while at < hashes.len() {
        hashes[at] = hashes[at - 1] + u32::MAX / 17;
        at += 1;
    }
    hashes
};

/// The answers that rows give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers<F: Plane> {
    /// By the key and by which list is asked for.
    pub(super) asked: BTreeMap<(u64, bool), Asked<F>>,
    /// The addresses of the node.
    pub(super) node: BTreeSet<F::Mapped>,
}

/// A key, and what a reader gets who asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked<F: Plane> {
    pub(super) key: FrontendKey<F::Mapped>,
    pub(super) answer: Answer<F::Mapped>,
    /// Whose it is.
    pub(super) service: ServiceId,
}

impl<F: Plane> Default for Answers<F> {
    fn default() -> Self {
        Self {
            asked: BTreeMap::new(),
            node: BTreeSet::new(),
        }
    }
}

pub(super) fn fold<F: Plane>(key: &FrontendKey<F::Mapped>) -> u64 {
    key.addr.fold() ^ (u64::from(key.port) << 8 | u64::from(key.protocol))
}

impl<F: Plane> Answers<F> {
    /// The answers of these rows.
    pub fn of<'a>(rows: impl IntoIterator<Item = &'a Row<F>> + Clone) -> Self {
        let mut drafts: HashMap<ServiceId, Draft<F::Mapped>> = HashMap::new();
        let mut picks: HashMap<ServiceId, Pick> = HashMap::new();
        let (mut restricted, mut node) = (BTreeSet::new(), BTreeSet::new());
        for row in rows.clone() {
            if let Some(list) = list_of(row) {
                drafts.entry(list).or_default().put(row);
            }
            match row {
                Row::Service { service, pick, .. } => drop(picks.insert(*service, *pick)),
                Row::NodeAddress { addr } => drop(node.insert(F::mapped(*addr))),
                Row::Restricted { at } => drop(restricted.insert(fold::<F>(&convert::address_key(at)))),
                _ => {}
            }
        }
        let mut asked = BTreeMap::new();
        // A ClusterIP is asked for before an external address.
        let mut held: Vec<_> = rows
            .into_iter()
            .filter_map(|row| match row {
                Row::Frontend { frontend, service, .. } => Some((frontend, *service)),
                _ => None,
            })
            .collect();
        held.sort_by_key(|(frontend, _)| matches!(convert::frontend::<F>(frontend).1, Class::Cluster));
        for (frontend, service) in held {
            let (key, class) = convert::frontend(frontend);
            let number = fold::<F>(&key);
            for all in [false, true] {
                let list = if all { service.all() } else { service };
                let answer = if class == Class::External && restricted.contains(&number) {
                    Err(Reason::Restricted)
                } else {
                    answer::<F>(drafts.get(&list), picks.get(&list))
                };
                asked.insert((number, all), Asked { key, answer, service });
            }
        }
        Self { asked, node }
    }

    pub(super) fn get(&self, at: (u64, bool)) -> Answer<F::Mapped> {
        answer_of(self.asked.get(&at))
    }

    /// What who asks an address gets. If `loopback`, nodePorts are on loopback too.
    pub(super) fn at(&self, to: Endpoint<F::Mapped>, all: bool, loopback: bool) -> Option<&Asked<F>> {
        let find = |key| self.asked.get(&(fold::<F>(&key), all));
        let own = find(FrontendKey::new(to.addr, to.port, TCP));
        let node = self.node.contains(&to.addr) || (loopback && to.addr.is_loopback());
        own.or_else(|| find(FrontendKey::node_port(to.port, TCP)).filter(|_| node))
    }

    /// The ports in network order that are nodePorts.
    pub(super) fn node_ports(&self) -> BTreeSet<u16> {
        let keys = self.asked.values().map(|asked| asked.key);
        keys.filter(|key| *key == FrontendKey::node_port(key.port, TCP))
            .map(|key| key.port)
            .collect()
    }
}

pub(super) fn answer_of<F: Plane>(asked: Option<&Asked<F>>) -> Answer<F::Mapped> {
    asked.map_or(Err(Reason::NoFrontend), |asked| asked.answer.clone())
}

fn answer<F: Plane>(draft: Option<&Draft<F::Mapped>>, pick: Option<&Pick>) -> Answer<F::Mapped> {
    match pick {
        None => Err(Reason::NoList),
        Some(Pick::Refuse) => Err(Reason::Refuse),
        Some(Pick::Discard) => Err(Reason::Discard),
        Some(Pick::Any { .. } | Pick::Sticky { .. }) => {
            let content = draft.and_then(|draft| draft.finish().ok().flatten());
            let spread = content.as_ref().is_some_and(|content| content.spread);
            let endpoints = content.map(|content| content.endpoints()).unwrap_or_default();
            let by_hash = if spread {
                let cells = convert::cells::<F>(&endpoints);
                let cell = |hash: u32| (u64::from(hash) * cells.len() as u64) >> 32;
                let slot = |hash| usize::from(cells[usize::try_from(cell(hash)).unwrap_or_default()]);
                HASHES.into_iter().map(|hash| endpoints[slot(hash)]).collect()
            } else {
                Vec::new()
            };
            Ok(Picks { endpoints, by_hash })
        }
    }
}
