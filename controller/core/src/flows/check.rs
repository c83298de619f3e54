//! Which flows must be checked after a change, and which of them are wrong.

use std::collections::{BTreeSet, HashSet};

use crate::family::Family;
use crate::row::{Endpoint, Protocol};

use super::{Destination, Ledger};

/// A flow as the kernel remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow<F: Family> {
    /// Its transport protocol.
    pub protocol: Protocol,
    /// The sender of its first packet.
    pub from: Endpoint<F>,
    /// The destination of its packets.
    pub to: Endpoint<F>,
    /// The source of its answers: the endpoint that packets are sent to. It is the same as `to` if the destination is
    /// not translated.
    pub with: Endpoint<F>,
    /// The destination of its answers. It is the same as `from` if the source is not translated.
    pub back: Endpoint<F>,
    /// Whether an answer was seen.
    pub answered: bool,
    /// Whether it is a connection of which only the first packet was seen.
    pub opening: bool,
}

/// How a flow's destination is translated. This is all that is known of a flow in a record of XDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation<F: Family> {
    /// The destination of its packets.
    pub to: Endpoint<F>,
    /// The endpoint that packets are sent to.
    pub with: Endpoint<F>,
}

impl<F: Family> Flow<F> {
    fn translation(&self) -> Translation<F> {
        Translation {
            to: self.to,
            with: self.with,
        }
    }
}

/// Why a flow is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Its packets go to an endpoint that they may not go to.
    Astray,
    /// An answer began it, and the sender of that answer no longer serves the client. So the client's own datagrams
    /// count as answers and are not translated.
    Turned,
}

/// Which flows a check covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowCheck<F: Family> {
    /// The flows to all destinations of Services.
    pub everything: bool,
    /// The flows to these destinations too, even if no Service has them any more.
    pub changed: HashSet<Destination<F>>,
    /// Addresses that took nodePort traffic before. The flows to nodePorts on them are checked.
    pub left: BTreeSet<F::Addr>,
    /// Addresses and ports whose answers may have begun flows.
    pub servers: Servers<F>,
    /// Connections to frontends that just came; [`super::Arrivals`] says which.
    pub arrivals: bool,
}

impl<F: Family> Default for FlowCheck<F> {
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

impl<F: Family> FlowCheck<F> {
    /// Whether there is nothing to check.
    pub fn is_empty(&self) -> bool {
        !self.arrivals && !self.has_udp()
    }

    /// Whether UDP flows must be checked.
    pub fn has_udp(&self) -> bool {
        self.has_destinations() || !self.servers.is_empty()
    }

    /// Whether UDP flows must be checked by their destinations.
    pub fn has_destinations(&self) -> bool {
        self.everything || !self.changed.is_empty()
    }

    /// Makes this check cover what the other one covers, too.
    pub fn add(&mut self, other: Self) {
        self.everything |= other.everything;
        self.changed.extend(other.changed);
        self.left.extend(other.left);
        self.servers.add(other.servers);
        self.arrivals |= other.arrivals;
    }

    /// The destinations, each once; none if there are more than `limit`.
    pub fn few(&self, ledger: &Ledger<F>, limit: usize) -> Option<BTreeSet<Destination<F>>> {
        let known = self.everything.then(|| ledger.destinations());
        if known.as_ref().map_or(0, ExactSizeIterator::len).max(self.changed.len()) > limit {
            return None;
        }
        let all: BTreeSet<_> = known.into_iter().flatten().chain(&self.changed).copied().collect();
        (all.len() <= limit).then_some(all)
    }

    /// Why a UDP flow must be cut; none if it may stay. `node_addresses` are the addresses that take nodePort traffic.
    pub fn wrong(&self, flow: &Flow<F>, ledger: &Ledger<F>, node_addresses: &BTreeSet<F::Addr>) -> Option<Wrong> {
        if self.is_astray(flow.translation(), ledger, node_addresses) {
            Some(Wrong::Astray)
        } else if self.servers.began(flow) && serves(flow.from, ledger, node_addresses) == Some(false) {
            Some(Wrong::Turned)
        } else {
            None
        }
    }

    /// Whether a UDP flow must be cut that stands where only flows of Services do. No program of the node has a flow
    /// there. So if everything is checked, a flow is wrong even if no Service has its destination.
    pub fn is_wrong_among_services(
        &self,
        flow: Translation<F>,
        ledger: &Ledger<F>,
        node_addresses: &BTreeSet<F::Addr>,
    ) -> bool {
        let is_nobodys = || {
            let claimed = |destination| ledger.allows(&destination, flow.with).is_some();
            let on_node_port =
                || node_addresses.contains(&flow.to.addr) && claimed(Destination::NodePort(flow.to.port));
            !claimed(Destination::Address(flow.to.addr, flow.to.port)) && !on_node_port()
        };
        self.is_astray(flow, ledger, node_addresses) || (self.everything && is_nobodys())
    }

    /// Whether the flow is to a destination that is checked, and has an endpoint that it may not have.
    fn is_astray(&self, flow: Translation<F>, ledger: &Ledger<F>, node_addresses: &BTreeSet<F::Addr>) -> bool {
        let Translation { to, with } = flow;
        let address = Destination::Address(to.addr, to.port);
        // This is the order of the rules: the Service with this address gets the packet, whatever nodePorts there are.
        match ledger.allows(&address, with) {
            Some(true) => return false,
            Some(false) => return self.everything || self.changed.contains(&address),
            None => {}
        }
        let node_port = Destination::NodePort(to.port);
        let changed = |destination| self.changed.contains(destination);
        let allowed = ledger.allows(&node_port, with);
        let on_node_port = (self.everything && allowed.is_some()) || changed(&node_port);
        if node_addresses.contains(&to.addr) {
            allowed != Some(true) && (on_node_port || changed(&address))
        } else {
            // A flow to such an address that is not translated belongs to a program of the node.
            changed(&address) || (self.left.contains(&to.addr) && on_node_port && with != to)
        }
    }
}

/// Whether packets to this address and port may stay there; none if no Service has them.
fn serves<F: Family>(at: Endpoint<F>, ledger: &Ledger<F>, node_addresses: &BTreeSet<F::Addr>) -> Option<bool> {
    let by_address = ledger.allows(&Destination::Address(at.addr, at.port), at);
    by_address.or_else(|| {
        let on_node = node_addresses.contains(&at.addr);
        on_node.then(|| ledger.allows(&Destination::NodePort(at.port), at))?
    })
}

/// Addresses and ports that answered clients until they became a Service's destination, or no longer served one. An
/// answer that was under way at that time begins a flow of its own. Such a flow looks like one that a program of the
/// node began from that port. So only flows from these addresses and ports are checked, and only if nobody translated
/// them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Servers<F: Family> {
    /// Those that are known to have answered: every packet from them is an answer.
    known: HashSet<Endpoint<F>>,
    /// Pairs of client and server: the client sent to the server. What the server sends to that client is an answer.
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
    /// The largest number of entries in each of the two sets.
    pub const MOST: usize = 16_384;

    /// Whether both sets are empty.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty() && self.asked.is_empty()
    }

    /// Adds those of the other value.
    pub fn add(&mut self, other: Self) {
        self.known.extend(other.known);
        self.asked.extend(other.asked);
    }

    /// Notes the server of a flow that is cut, if its answers may still come and nobody translates them.
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

    /// All servers, each once; none if there are more than `limit`.
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

    /// Whether an answer of one of these servers began the flow.
    fn began(&self, flow: &Flow<F>) -> bool {
        let plain = flow.to == flow.with && flow.from == flow.back;
        plain && (self.known.contains(&flow.from) || self.asked.contains(&(flow.to, flow.from)))
    }
}
