//! All Nodes, and the rows that follow from them. What one Node says harms that Node alone, and a change of a Node costs the rows of that
//! Node, and of those that claimed what it had.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::carrier::Carrier;
use super::claims::{Changed, Claims, RangeClaims};
use super::diff::{Change, Table, of_keys};
use super::mac::Mac;
use super::own::{NoWay, Own, Way, rows_of_way};
use super::peer::{Age, Peer, Problem, Reading};
use super::row::{Key, Row};
use super::said::{FAMILIES, NodeSaid, PerFamily};
use crate::family::IpFamily;

/// Who claims a range or a MAC address. The first one has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Claimant {
    /// The settings: ranges of Services, of the nodes' own network.
    Reserved(Arc<str>),
    /// This node.
    Own,
    /// A peer.
    Node(Age),
}

/// What is wrong with a peer, beside what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// What it says cannot be used.
    Said(Problem),
    /// A range of its is somebody else's.
    RangeTaken {
        /// Its range.
        range: IpNet,
        /// The range that is in its way.
        by: IpNet,
        /// Whose that is.
        whose: Claimant,
    },
    /// The MAC address of a device of its is somebody else's.
    MacTaken {
        /// Over what the device is reached.
        carrier: Carrier,
        /// The address.
        mac: Mac,
        /// Whose it is.
        whose: Claimant,
    },
    /// Nothing leads to its pods of this family.
    NoWay(IpFamily, NoWay),
}

/// A peer, as readers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerView {
    /// What it says.
    pub peer: Peer,
    /// Which way leads to its pods of each family. None if it has none, or if something is wrong.
    pub ways: PerFamily<Option<Way>>,
    /// What is wrong.
    pub troubles: Vec<Trouble>,
}

/// What is known of a Node.
#[derive(Clone, Debug)]
struct Known {
    said: NodeSaid,
    view: PeerView,
    /// The rows that stand for it.
    rows: Vec<Row>,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    own: Own,
    /// The rows of this node itself.
    own_rows: Vec<Row>,
    nodes: BTreeMap<Arc<str>, Known>,
    ranges: RangeClaims<Claimant>,
    macs: PerFamily<Claims<Mac, Claimant>>,
    reserved: BTreeSet<(IpNet, Arc<str>)>,
    wanted: Table,
    /// How many peers VXLAN is taken for from an address.
    sources: BTreeMap<IpAddr, usize>,
}

impl Plan {
    /// The rows that the kernel is to hold.
    pub fn wanted(&self) -> &Table {
        &self.wanted
    }

    /// This node.
    pub fn own(&self) -> &Own {
        &self.own
    }

    /// The peers, by name.
    pub fn peers(&self) -> impl Iterator<Item = &PeerView> {
        self.nodes.values().map(|known| &known.view)
    }

    /// A peer.
    pub fn peer(&self, name: &str) -> Option<&PeerView> {
        self.nodes.get(name).map(|known| &known.view)
    }

    /// What a Node says now. It may be the first time, or another Node under the name.
    pub fn node(&mut self, said: NodeSaid) -> Vec<Change> {
        // Heartbeats end here.
        if said.name == self.own.name || self.nodes.get(&said.name).is_some_and(|known| known.said == said) {
            return Vec::new();
        }
        let mut round = Round::default();
        self.forget(&said.name, &mut round);
        self.learn(said, &mut round);
        self.finish(round)
    }

    /// A Node is gone.
    pub fn gone(&mut self, name: &str) -> Vec<Change> {
        let mut round = Round::default();
        self.forget(name, &mut round);
        self.finish(round)
    }

    /// What this node is now. If it is another one than before, all peers are looked at again.
    pub fn set_own(&mut self, own: Own) -> Vec<Change> {
        if own == self.own {
            return Vec::new();
        }
        let mut round = Round::default();
        for family in FAMILIES {
            if let Some(range) = *self.own.pods.of(family) {
                self.unclaim_range(range, &Claimant::Own, &mut round);
            }
            if let Some(mac) = self.own.ends.of(family).as_ref().map(|end| end.mac) {
                self.unclaim_mac(family, mac, &Claimant::Own, &mut round);
            }
        }
        // A node of its name is not its peer.
        self.forget(&own.name, &mut round);
        let reads_otherwise = reading(&own) != reading(&self.own);
        let before = std::mem::replace(&mut self.own, own);
        for family in FAMILIES {
            if let Some(range) = *self.own.pods.of(family) {
                self.claim_range(range, Claimant::Own, &mut round);
            }
            if let Some(mac) = self.own.ends.of(family).as_ref().map(|end| end.mac) {
                self.claim_mac(family, mac, Claimant::Own, &mut round);
            }
        }
        for row in std::mem::take(&mut self.own_rows) {
            self.take(&row, &mut round);
        }
        if reads_otherwise {
            let all: Vec<NodeSaid> = self.nodes.values().map(|known| known.said.clone()).collect();
            for said in all {
                self.forget(&said.name, &mut round);
                self.learn(said, &mut round);
            }
        } else if leads_otherwise(&before, &self.own) {
            round.affected.extend(self.nodes.keys().cloned());
        }
        let rows = self.own.rows();
        for row in &rows {
            self.put(row.clone(), &mut round);
        }
        self.own_rows = rows;
        self.finish(round)
    }

    /// Which ranges no Node may have, each with the words for whose it is.
    pub fn reserve(&mut self, reserved: &BTreeSet<(IpNet, Arc<str>)>) -> Vec<Change> {
        let mut round = Round::default();
        let before = std::mem::replace(&mut self.reserved, reserved.clone());
        for (range, whose) in before.difference(reserved) {
            self.unclaim_range(*range, &Claimant::Reserved(Arc::clone(whose)), &mut round);
        }
        for (range, whose) in reserved.difference(&before) {
            self.claim_range(*range, Claimant::Reserved(Arc::clone(whose)), &mut round);
        }
        self.finish(round)
    }

    /// Whether this node's range is one that is reserved.
    pub fn own_range_taken(&self) -> Option<(IpNet, IpNet, &Claimant)> {
        FAMILIES.into_iter().find_map(|family| {
            let range = (*self.own.pods.of(family))?;
            let (by, whose) = self.ranges.rival(range, &Claimant::Own)?;
            Some((range, by, whose))
        })
    }

    fn claim_range(&mut self, range: IpNet, who: Claimant, round: &mut Round) {
        let changed = self.ranges.add(range, who);
        self.range_changed(&changed, round);
    }

    fn unclaim_range(&mut self, range: IpNet, who: &Claimant, round: &mut Round) {
        let changed = self.ranges.remove(range, who);
        self.range_changed(&changed, round);
    }

    /// Who has a range, had it, or waits for it has to hear of it. Who waits says whom it waits for.
    fn range_changed(&self, changed: &[Changed<IpNet, Claimant>], round: &mut Round) {
        for Changed { what, from, to } in changed {
            round.affects(from.iter().chain(to).chain(self.ranges.claimants(*what)));
        }
    }

    fn claim_mac(&mut self, family: IpFamily, mac: Mac, who: Claimant, round: &mut Round) {
        let changed = self.macs.of_mut(family).add(mac, who);
        self.mac_changed(family, changed.as_ref(), round);
    }

    fn unclaim_mac(&mut self, family: IpFamily, mac: Mac, who: &Claimant, round: &mut Round) {
        let changed = self.macs.of_mut(family).remove(mac, who);
        self.mac_changed(family, changed.as_ref(), round);
    }

    fn mac_changed(&self, family: IpFamily, changed: Option<&Changed<Mac, Claimant>>, round: &mut Round) {
        if let Some(Changed { what, from, to }) = changed {
            let waits = self.macs.of(family).claimants(*what);
            round.affects(from.iter().chain(to).chain(waits));
        }
    }

    /// Takes a Node's claims and rows away.
    fn forget(&mut self, name: &str, round: &mut Round) {
        let Some(known) = self.nodes.remove(name) else { return };
        let who = Claimant::Node(known.view.peer.age.clone());
        for family in FAMILIES {
            if let Some(range) = *known.view.peer.pods.of(family) {
                self.unclaim_range(range, &who, round);
            }
            if let Some(vtep) = known.view.peer.vteps.of(family) {
                self.unclaim_mac(family, vtep.mac, &who, round);
            }
        }
        for row in &known.rows {
            self.take(row, round);
        }
    }

    /// Takes a Node's claims in. Its rows come at the end.
    fn learn(&mut self, said: NodeSaid, round: &mut Round) {
        let (peer, problems) = Peer::read(&said, &reading(&self.own));
        let who = Claimant::Node(peer.age.clone());
        for family in FAMILIES {
            if let Some(range) = *peer.pods.of(family) {
                self.claim_range(range, who.clone(), round);
            }
            if let Some(vtep) = peer.vteps.of(family) {
                self.claim_mac(family, vtep.mac, who.clone(), round);
            }
        }
        round.affected.insert(Arc::clone(&said.name));
        let view = PeerView {
            peer,
            ways: PerFamily::default(),
            troubles: problems.into_iter().map(Trouble::Said).collect(),
        };
        let known = Known {
            view,
            rows: Vec::new(),
            said,
        };
        self.nodes.insert(Arc::clone(&known.said.name), known);
    }

    /// Makes the rows of all Nodes anew that are affected. All old ones go before: another Node may need a key.
    fn finish(&mut self, mut round: Round) -> Vec<Change> {
        let affected: Vec<Arc<str>> = std::mem::take(&mut round.affected).into_iter().collect();
        for name in &affected {
            let rows = self.nodes.get_mut(name).map(|known| std::mem::take(&mut known.rows));
            for row in rows.unwrap_or_default() {
                self.take(&row, &mut round);
            }
        }
        for name in &affected {
            let Some(mut known) = self.nodes.remove(name) else {
                continue;
            };
            self.plan(&mut known);
            for row in &known.rows {
                self.put(row.clone(), &mut round);
            }
            self.nodes.insert(Arc::clone(name), known);
        }
        of_keys(round.touched, &self.wanted)
    }

    /// Finds the ways to a peer, its rows, and what is wrong.
    fn plan(&self, known: &mut Known) {
        let Known { view, rows, .. } = known;
        let who = Claimant::Node(view.peer.age.clone());
        view.troubles.retain(|trouble| matches!(trouble, Trouble::Said(_)));
        rows.clear();
        // What belongs to somebody else is as if it were not there.
        let mut peer = view.peer.clone();
        for family in FAMILIES {
            if let Some(range) = *peer.pods.of(family)
                && self.ranges.holder(range) != Some(&who)
            {
                let (by, whose) = self
                    .ranges
                    .rival(range, &who)
                    .map_or((range, who.clone()), |(by, whose)| (by, whose.clone()));
                view.troubles.push(Trouble::RangeTaken { range, by, whose });
                *peer.pods.of_mut(family) = None;
            }
            if let Some(vtep) = *peer.vteps.of(family)
                && let Some(whose) = self.macs.of(family).holder(vtep.mac)
                && *whose != who
            {
                view.troubles.push(Trouble::MacTaken {
                    carrier: Carrier::vxlan(family),
                    mac: vtep.mac,
                    whose: whose.clone(),
                });
                *peer.vteps.of_mut(family) = None;
            }
        }
        let mut is_reached = false;
        for family in FAMILIES {
            let way = peer.pods.of(family).map(|range| (range, self.own.way(&peer, family)));
            *view.ways.of_mut(family) = match way {
                Some((range, Ok(way))) => {
                    rows.extend(rows_of_way(range, way));
                    is_reached = true;
                    Some(way)
                }
                // A family that this node does not have is nobody's fault.
                Some((_, Err(why))) => {
                    if self.own.pods.of(family).is_some() {
                        view.troubles.push(Trouble::NoWay(family, why));
                    }
                    None
                }
                None => None,
            };
        }
        if is_reached {
            let said = FAMILIES
                .into_iter()
                .filter_map(|family| Some(peer.vteps.of(family).as_ref()?.address));
            let from: BTreeSet<IpAddr> = said.chain(peer.addresses.iter().copied()).collect();
            rows.extend(from.into_iter().map(Row::Source));
        }
        // Both families may go by one device of the peer's: its FDB entry is one row.
        let mut keys = BTreeSet::new();
        rows.retain(|row| keys.insert(row.key()));
    }

    fn put(&mut self, row: Row, round: &mut Round) {
        if let Row::Source(addr) = row {
            let count = self.sources.entry(addr).or_default();
            *count += 1;
            if *count > 1 {
                return;
            }
        }
        let key = row.key();
        let before = self.wanted.insert(key, row);
        round.touched.entry(key).or_insert(before);
    }

    fn take(&mut self, row: &Row, round: &mut Round) {
        if let Row::Source(addr) = row {
            let count = self.sources.entry(*addr).or_default();
            *count = count.saturating_sub(1);
            if *count > 0 {
                return;
            }
            self.sources.remove(addr);
        }
        let key = row.key();
        let before = self.wanted.remove(&key);
        round.touched.entry(key).or_insert(before);
    }
}

/// What one change touches.
#[derive(Default)]
struct Round {
    /// The Nodes whose rows have to be made anew.
    affected: BTreeSet<Arc<str>>,
    /// The keys that were written, each with the row that stood there before.
    touched: BTreeMap<Key, Option<Row>>,
}

impl Round {
    fn affects<'a>(&mut self, who: impl Iterator<Item = &'a Claimant>) {
        for who in who {
            if let Claimant::Node(age) = who {
                self.affected.insert(Arc::clone(&age.name));
            }
        }
    }
}

fn reading(own: &Own) -> Reading {
    Reading {
        vni: own.vni,
        own: own.addresses.clone(),
    }
}

/// Whether ways to peers may be others than before.
fn leads_otherwise(before: &Own, after: &Own) -> bool {
    let ends = |own: &Own| {
        FAMILIES.map(|family| {
            let end = own.ends.of(family).as_ref()?;
            Some((end.underlay.link, end.underlay.on_link.clone()))
        })
    };
    let has = |own: &Own| FAMILIES.map(|family| own.pods.of(family).is_some());
    ends(before) != ends(after)
        || has(before) != has(after)
        || (before.carries, before.direct) != (after.carries, after.direct)
}

impl fmt::Display for Claimant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reserved(whose) => f.write_str(whose),
            Self::Own => f.write_str("this node"),
            Self::Node(age) => write!(f, "the older Node {}", age.name),
        }
    }
}

/// It in one sentence. The caller names the Node.
impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Said(problem) => problem.fmt(f),
            Self::RangeTaken { range, by, whose } if range == by => {
                write!(
                    f,
                    "spec.podCIDRs {range}: {whose} has this range: pods of this Node are not reached by it"
                )
            }
            Self::RangeTaken { range, by, whose } => {
                write!(
                    f,
                    "spec.podCIDRs {range}: it overlaps {by}, which {whose} has: pods of this Node are not reached by it"
                )
            }
            Self::MacTaken { carrier, mac, whose } => {
                write!(
                    f,
                    "VtepMAC {mac}: {whose} has this address: the Node is not reached by {carrier}"
                )
            }
            Self::NoWay(family, why) => write!(f, "pods of {family} are not reached: {why}"),
        }
    }
}

#[cfg(test)]
mod tests;
