//! Frontends that came while clients were already connecting to them.

use std::collections::{BTreeSet, HashMap};

use crate::family::Family;
use crate::row::{Frontend, Protocol};

use super::{Destination, Flow};

/// Frontends of TCP and SCTP that came a short time ago and still exist. If a client sent its first packet before, the
/// kernel remembers that flow as not translated, and each repetition of the packet renews this. Then neither this
/// connection nor a later one from the same port reaches the Service. So Tandem cuts such a flow if nobody has answered
/// it.
#[derive(Debug)]
pub struct Arrivals<F: Family> {
    /// The round in which each frontend came.
    came: HashMap<(Protocol, Destination<F>), u64>,
    round: u64,
}

impl<F: Family> Default for Arrivals<F> {
    fn default() -> Self {
        Self {
            came: HashMap::new(),
            round: 0,
        }
    }
}

impl<F: Family> Arrivals<F> {
    /// Whether there are no such frontends.
    pub fn is_empty(&self) -> bool {
        self.came.is_empty()
    }

    /// Notes a new frontend. Returns false, and notes nothing, if its protocol has no connections.
    pub fn came(&mut self, frontend: &Frontend<F>) -> bool {
        let (protocol, destination) = Destination::of_any(frontend);
        let connects = protocol != Protocol::Udp;
        if connects {
            self.came.insert((protocol, destination), self.round);
        }
        connects
    }

    /// Forgets a frontend that is gone. Packets to it concern no Service.
    pub fn went(&mut self, frontend: &Frontend<F>) {
        self.came.remove(&Destination::of_any(frontend));
    }

    /// The protocols of these frontends, each once.
    pub fn protocols(&self) -> BTreeSet<Protocol> {
        self.came.keys().map(|(protocol, _)| *protocol).collect()
    }

    /// Ends a round and returns its number. A check that begins now covers the frontends of this round and of all
    /// before.
    pub fn next_round(&mut self) -> u64 {
        self.round += 1;
        self.round - 1
    }

    /// Forgets the frontends that came in this round and before.
    pub fn forget(&mut self, round: u64) {
        self.came.retain(|_, came| *came > round);
        self.came.shrink_to_fit();
    }

    /// Whether a flow must be cut: it is a connection to one of these frontends, and nobody has answered or translated
    /// it yet. `node_addresses` are the addresses that take nodePort traffic.
    pub fn missed_by(&self, flow: &Flow<F>, node_addresses: &BTreeSet<F::Addr>) -> bool {
        let to = flow.to;
        let came = |destination| self.came.contains_key(&(flow.protocol, destination));
        let unheard = flow.opening && !flow.answered && flow.with == to;
        let at_node_port = || node_addresses.contains(&to.addr) && came(Destination::NodePort(to.port));
        unheard && (came(Destination::Address(to.addr, to.port)) || at_node_port())
    }
}
