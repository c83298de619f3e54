//! Which flows a change makes worth a look, and which of them are wrong.

use std::collections::{BTreeSet, HashSet};

use crate::family::Family;
use crate::row::{Endpoint, Protocol};

use super::{Destination, Ledger};

/// A flow as the kernel remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow<F: Family> {
    /// Its transport.
    pub protocol: Protocol,
    /// Who began it.
    pub from: Endpoint<F>,
    /// What its packets are addressed to.
    pub to: Endpoint<F>,
    /// Where answers come from: the endpoint that packets are sent to; the same as `to` where that is not translated.
    pub with: Endpoint<F>,
    /// Where answers are addressed to; the same as `from` where that is not translated.
    pub back: Endpoint<F>,
    /// Whether an answer was seen.
    pub answered: bool,
    /// A connection whose first packet alone was seen.
    pub opening: bool,
}

/// Why a flow is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Nobody whom its packets may go to is the one that they go to.
    Astray,
    /// It was begun by the answer of somebody who serves its client no more, so that the client's own datagrams count as
    /// answers and are not translated.
    Turned,
}

/// Destinations whose flows are to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look<F: Family> {
    /// All that Services have.
    pub everything: bool,
    /// These too, whether a Service has them still or not.
    pub changed: HashSet<Destination<F>>,
    /// Addresses that took nodePort traffic before, and their nodePorts.
    pub left: BTreeSet<F::Addr>,
    /// Whose answers may have begun flows.
    pub servers: Servers<F>,
    /// Connections towards frontends that came into being; [`super::Arrivals`] says which.
    pub arrivals: bool,
}

impl<F: Family> Default for Look<F> {
    fn default() -> Self {
        Self {
            everything: false,
            changed: HashSet::new(),
            left: BTreeSet::new(),
            servers: Servers::default(),
            arrivals: false,
        }
    }
}

impl<F: Family> Look<F> {
    /// Whether there is nothing to look at.
    pub fn is_empty(&self) -> bool {
        !self.arrivals && !self.has_udp()
    }

    /// Whether UDP flows are to be looked at.
    pub fn has_udp(&self) -> bool {
        self.everything || !self.changed.is_empty() || !self.servers.is_empty()
    }

    /// Looks at what the other one asks for, too.
    pub fn add(&mut self, other: Self) {
        self.everything |= other.everything;
        self.changed.extend(other.changed);
        self.left.extend(other.left);
        self.servers.add(other.servers);
        self.arrivals |= other.arrivals;
    }

    /// The destinations, each once; none where there are more than `limit`.
    pub fn few(&self, ledger: &Ledger<F>, limit: usize) -> Option<BTreeSet<Destination<F>>> {
        let known = self.everything.then(|| ledger.destinations());
        if known.as_ref().map_or(0, ExactSizeIterator::len).max(self.changed.len()) > limit {
            return None;
        }
        let all: BTreeSet<_> = known.into_iter().flatten().chain(&self.changed).copied().collect();
        (all.len() <= limit).then_some(all)
    }

    /// Why a UDP flow is to be cut; none where it is not. `node_addresses` are those that take nodePort traffic.
    pub fn wrong(&self, flow: &Flow<F>, ledger: &Ledger<F>, node_addresses: &BTreeSet<F::Addr>) -> Option<Wrong> {
        if self.is_astray(flow, ledger, node_addresses) {
            Some(Wrong::Astray)
        } else if self.servers.began(flow) && serves(flow.from, ledger, node_addresses) == Some(false) {
            Some(Wrong::Turned)
        } else {
            None
        }
    }

    /// Whether it is to a destination that is looked at, and with nobody whom it may be with.
    fn is_astray(&self, flow: &Flow<F>, ledger: &Ledger<F>, node_addresses: &BTreeSet<F::Addr>) -> bool {
        let to = flow.to;
        let address = Destination::Address(to.addr, to.port);
        // As the rules ask: who has the address has it whatever nodePorts there are.
        match ledger.allows(&address, flow.with) {
            Some(true) => return false,
            Some(false) => return self.everything || self.changed.contains(&address),
            None => {}
        }
        let node_port = Destination::NodePort(to.port);
        let changed = |destination| self.changed.contains(destination);
        let allowed = ledger.allows(&node_port, flow.with);
        let on_node_port = (self.everything && allowed.is_some()) || changed(&node_port);
        if node_addresses.contains(&to.addr) {
            allowed != Some(true) && (on_node_port || changed(&address))
        } else {
            // What is not translated there is with a program of the node's own.
            changed(&address) || (self.left.contains(&to.addr) && on_node_port && flow.with != to)
        }
    }
}

/// Whether packets to this address and port may stay there; none where they are no Service's.
fn serves<F: Family>(at: Endpoint<F>, ledger: &Ledger<F>, node_addresses: &BTreeSet<F::Addr>) -> Option<bool> {
    let by_address = ledger.allows(&Destination::Address(at.addr, at.port), at);
    by_address.or_else(|| {
        let on_node = node_addresses.contains(&at.addr);
        on_node.then(|| ledger.allows(&Destination::NodePort(at.port), at))?
    })
}

/// Addresses and ports that answered clients until they became, or ceased to serve, a Service's destination. An answer
/// that was under way then begins a flow of its own. Such a flow looks like one that a program of the node's began from
/// that port, so that only these are looked at, and only flows that nobody translated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Servers<F: Family> {
    /// Those that are known to have answered: whatever leaves them is an answer.
    known: HashSet<Endpoint<F>>,
    /// Those that were asked by this client, and who it was: client, server.
    asked: HashSet<(Endpoint<F>, Endpoint<F>)>,
}

impl<F: Family> Default for Servers<F> {
    fn default() -> Self {
        Self {
            known: HashSet::new(),
            asked: HashSet::new(),
        }
    }
}

impl<F: Family> FromIterator<Endpoint<F>> for Servers<F> {
    fn from_iter<I: IntoIterator<Item = Endpoint<F>>>(known: I) -> Self {
        Self {
            known: known.into_iter().collect(),
            asked: HashSet::new(),
        }
    }
}

impl<F: Family> Servers<F> {
    /// So many clients are remembered for each of the two reasons.
    pub const MOST: usize = 16_384;

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty() && self.asked.is_empty()
    }

    /// Takes in the other's.
    pub fn add(&mut self, other: Self) {
        self.known.extend(other.known);
        self.asked.extend(other.asked);
    }

    /// Notes whom a flow that is cut was with, where that one's answers may come still and nobody translates them.
    pub fn note(&mut self, flow: &Flow<F>) {
        if flow.to != flow.with || flow.from != flow.back {
            return;
        }
        if flow.answered && self.known.len() < Self::MOST {
            self.known.insert(flow.to);
        }
        if self.asked.len() < Self::MOST {
            self.asked.insert((flow.from, flow.to));
        }
    }

    /// Each of them once; none where there are more than `limit`.
    pub fn few(&self, limit: usize) -> Option<BTreeSet<Endpoint<F>>> {
        let mut all = BTreeSet::new();
        for server in self.known.iter().chain(self.asked.iter().map(|(_, server)| server)) {
            all.insert(*server);
            if all.len() > limit {
                return None;
            }
        }
        Some(all)
    }

    /// Whether a flow was begun by an answer of one of them.
    fn began(&self, flow: &Flow<F>) -> bool {
        let plain = flow.to == flow.with && flow.from == flow.back;
        plain && (self.known.contains(&flow.from) || self.asked.contains(&(flow.to, flow.from)))
    }
}
