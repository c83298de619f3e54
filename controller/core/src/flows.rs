//! Which endpoints UDP flows may be with, destination by destination, and which flows a change makes wrong.
//!
//! The kernel translates the first datagram of a flow and remembers the result for as long as datagrams come, whatever
//! the tables say by then. A flow whose endpoint is gone must be forgotten, or the client is never heard again; a flow
//! that is still right must not be touched. TCP and SCTP end by themselves and are nobody's business here.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::family::Family;
use crate::object::ObjectKey;
use crate::plan::PortPlan;
use crate::row::{Endpoint, Frontend, Port, Protocol};

/// What UDP datagrams are addressed to: a frontend, whatever class its address has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination<F: Family> {
    /// A ClusterIP, an externalIP or a LoadBalancer address, and the port.
    Address(F::Addr, Port),
    /// A nodePort on the node's addresses.
    NodePort(Port),
}

impl<F: Family> Destination<F> {
    /// Where datagrams to a frontend go; none for other protocols.
    pub fn of(frontend: &Frontend<F>) -> Option<Self> {
        match *frontend {
            Frontend::Address { at, .. } => (at.protocol == Protocol::Udp).then_some(Self::Address(at.addr, at.port)),
            Frontend::NodePort { protocol, port } => (protocol == Protocol::Udp).then_some(Self::NodePort(port)),
        }
    }
}

/// What one UDP port of a Service says about flows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortFlows<F: Family> {
    /// Where its datagrams are addressed to.
    destinations: Box<[Destination<F>]>,
    /// Who may answer them, sorted.
    endpoints: Arc<[Endpoint<F>]>,
}

impl<F: Family> PortFlows<F> {
    /// What a plan says; none where the port is not UDP.
    pub fn of(plan: &PortPlan<F>) -> Option<Self> {
        (plan.key.protocol == Protocol::Udp).then(|| {
            let destinations = plan.frontends.iter().map(|plan| &plan.frontend);
            Self::new(destinations.filter_map(Destination::of), &plan.answering)
        })
    }

    /// Flows to these destinations may be with these endpoints.
    pub fn new(destinations: impl IntoIterator<Item = Destination<F>>, endpoints: &[Endpoint<F>]) -> Self {
        let mut destinations: Vec<_> = destinations.into_iter().collect();
        destinations.sort_unstable();
        destinations.dedup();
        let mut endpoints = endpoints.to_vec();
        endpoints.sort_unstable();
        Self {
            destinations: destinations.into(),
            endpoints: endpoints.into(),
        }
    }
}

/// The UDP ports of all Services in one family. Where several Services claim one destination, a flow may be with an
/// endpoint of any of them: who serves it at present is not asked, so that no flow is cut in a dispute.
#[derive(Debug)]
pub struct Ledger<F: Family> {
    services: HashMap<ObjectKey, Box<[PortFlows<F>]>>,
    claims: HashMap<Destination<F>, Claims<F>>,
}

/// The endpoints of each port that claims a destination: almost always one list. Shared with the port, and known by that.
type Claims<F> = Vec<Arc<[Endpoint<F>]>>;

impl<F: Family> Default for Ledger<F> {
    fn default() -> Self {
        Self {
            services: HashMap::new(),
            claims: HashMap::new(),
        }
    }
}

impl<F: Family> Ledger<F> {
    /// Makes these all the UDP ports of their Services, and tells which destinations may have wrong flows now: those that
    /// came or went, lost an endpoint, or have their first one. An endpoint more makes no flow wrong.
    pub fn apply(
        &mut self,
        changes: impl IntoIterator<Item = (ObjectKey, Box<[PortFlows<F>]>)>,
    ) -> Vec<Destination<F>> {
        let mut before: HashMap<Destination<F>, Option<Claims<F>>> = HashMap::new();
        for (service, ports) in changes {
            let old = self.services.get(&service).map_or(&[][..], |ports| ports);
            if *old == *ports {
                continue;
            }
            for destination in old.iter().chain(&ports).flat_map(|port| &port.destinations) {
                before
                    .entry(*destination)
                    .or_insert_with(|| self.claims.get(destination).cloned());
            }
            self.replace(service, ports);
        }
        // The destinations of one port have the same lists: those are compared once.
        let mut judged: HashMap<[Vec<*const Endpoint<F>>; 2], bool> = HashMap::new();
        let looks_wrong = |(destination, before): (Destination<F>, Option<Claims<F>>)| {
            let after = self.claims.get(&destination);
            let wrong = match (&before, after) {
                (None, None) => false,
                (Some(before), Some(after)) => {
                    let lists = [before, after].map(|claims| claims.iter().map(|list| list.as_ptr()).collect());
                    *judged.entry(lists).or_insert_with(|| wrong_flows(before, after))
                }
                (None, Some(_)) | (Some(_), None) => true,
            };
            wrong.then_some(destination)
        };
        before.into_iter().filter_map(looks_wrong).collect()
    }

    /// Whether a flow to this destination may be with this endpoint; none where no Service has the destination.
    pub fn allows(&self, destination: &Destination<F>, endpoint: Endpoint<F>) -> Option<bool> {
        let claims = self.claims.get(destination)?;
        Some(
            claims
                .iter()
                .any(|endpoints| endpoints.binary_search(&endpoint).is_ok()),
        )
    }

    /// Every destination that a Service has.
    pub fn destinations(&self) -> impl ExactSizeIterator<Item = &Destination<F>> {
        self.claims.keys()
    }

    fn replace(&mut self, service: ObjectKey, ports: Box<[PortFlows<F>]>) {
        for old in self.services.remove(&service).iter().flatten() {
            for destination in &old.destinations {
                if let Some(claims) = self.claims.get_mut(destination) {
                    claims.retain(|endpoints| !Arc::ptr_eq(endpoints, &old.endpoints));
                    if claims.is_empty() {
                        self.claims.remove(destination);
                    }
                }
            }
        }
        for port in &ports {
            for destination in &port.destinations {
                let claims = self.claims.entry(*destination).or_default();
                claims.push(port.endpoints.clone());
                claims.shrink_to_fit();
            }
        }
        if !ports.is_empty() {
            self.services.insert(service, ports);
        }
    }
}

/// Whether flows that were right, or that began before there was anybody to answer, are wrong now.
fn wrong_flows<F: Family>(before: &Claims<F>, after: &Claims<F>) -> bool {
    let has = |claims: &Claims<F>, endpoint| claims.iter().any(|list| list.binary_search(endpoint).is_ok());
    let nobody = |claims: &Claims<F>| claims.iter().all(|list| list.is_empty());
    let lost = before
        .iter()
        .flat_map(|list| &**list)
        .any(|endpoint| !has(after, endpoint));
    lost || (nobody(before) && !nobody(after))
}

/// Which destinations' flows are to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look<F: Family> {
    /// All that Services have.
    pub everything: bool,
    /// These too, whether a Service has them still or not.
    pub changed: HashSet<Destination<F>>,
}

impl<F: Family> Default for Look<F> {
    fn default() -> Self {
        Self {
            everything: false,
            changed: HashSet::new(),
        }
    }
}

impl<F: Family> Look<F> {
    /// Whether there is nothing to look at.
    pub fn is_empty(&self) -> bool {
        !self.everything && self.changed.is_empty()
    }

    /// Looks at what the other one asks for, too.
    pub fn add(&mut self, other: Self) {
        self.everything |= other.everything;
        self.changed.extend(other.changed);
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

    /// Whether a flow is to be cut: it is to a destination that is looked at, and nobody whom its datagrams may go to
    /// is the one that they go to. `node_addresses` are those that take nodePort traffic.
    pub fn wrong(&self, flow: &Flow<F>, ledger: &Ledger<F>, node_addresses: &BTreeSet<F::Addr>) -> bool {
        let to = flow.to;
        let address = Destination::Address(to.addr, to.port);
        let node_port = node_addresses
            .contains(&to.addr)
            .then_some(Destination::NodePort(to.port));
        let mut looked_at = false;
        for destination in [Some(address), node_port].into_iter().flatten() {
            let allowed = ledger.allows(&destination, flow.with);
            if allowed == Some(true) {
                return false;
            }
            looked_at |= (self.everything && allowed.is_some()) || self.changed.contains(&destination);
        }
        looked_at
    }
}

/// A UDP flow as the kernel remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow<F: Family> {
    /// What its datagrams are addressed to.
    pub to: Endpoint<F>,
    /// Where answers come from: the endpoint that datagrams are sent to; the same as `to` where nothing is translated.
    pub with: Endpoint<F>,
}

#[cfg(test)]
mod tests;
