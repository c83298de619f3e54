//! Frontends that came into being while clients were connecting to them.

use std::collections::{BTreeSet, HashMap};

use crate::family::Family;
use crate::row::{Frontend, Protocol};

use super::{Destination, Flow};

/// Frontends of TCP and SCTP that came lately and stand still. A client that sent its first packet before is remembered by
/// the kernel as one that is not translated, and each time that it sends it again renews that: it never reaches the
/// Service, nor does any later connection from its port. So such a flow is cut as long as nobody answered it.
#[derive(Debug)]
pub struct Arrivals<F: Family> {
    /// In which round each was noted.
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
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.came.is_empty()
    }

    /// A frontend is there that was not; false where its protocol knows no connections.
    pub fn came(&mut self, frontend: &Frontend<F>) -> bool {
        let (protocol, destination) = Destination::of_any(frontend);
        let connects = protocol != Protocol::Udp;
        if connects {
            self.came.insert((protocol, destination), self.round);
        }
        connects
    }

    /// A frontend is there no more: what is sent to it is no Service's business.
    pub fn went(&mut self, frontend: &Frontend<F>) {
        self.came.remove(&Destination::of_any(frontend));
    }

    /// The protocols of those that came, each once.
    pub fn protocols(&self) -> BTreeSet<Protocol> {
        self.came.keys().map(|(protocol, _)| *protocol).collect()
    }

    /// Ends a round, and tells which one: what came in it, or before, was looked at from now on.
    pub fn next_round(&mut self) -> u64 {
        self.round += 1;
        self.round - 1
    }

    /// Forgets what came in this round and before.
    pub fn forget(&mut self, round: u64) {
        self.came.retain(|_, came| *came > round);
        self.came.shrink_to_fit();
    }

    /// Whether a flow is to be cut: it is a connection that nobody answered yet, to one of these, and nobody translates it.
    /// `node_addresses` are those that take nodePort traffic.
    pub fn missed_by(&self, flow: &Flow<F>, node_addresses: &BTreeSet<F::Addr>) -> bool {
        let to = flow.to;
        let came = |destination| self.came.contains_key(&(flow.protocol, destination));
        let unheard = flow.opening && !flow.answered && flow.with == to;
        let at_node_port = || node_addresses.contains(&to.addr) && came(Destination::NodePort(to.port));
        unheard && (came(Destination::Address(to.addr, to.port)) || at_node_port())
    }
}
