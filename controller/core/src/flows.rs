//! Which endpoints UDP flows to each destination may have, and which flows a change makes wrong.
//!
//! The kernel translates the first datagram of a flow, and remembers the result for as long as datagrams come, whatever
//! the tables say later. If the endpoint of a flow is gone, Tandem must cut the flow, or the client never gets an
//! answer again. Tandem must not touch a flow that is still right. TCP and SCTP connections end by themselves, except
//! for those that [`Arrivals`] describes.

use std::collections::HashMap;
use std::sync::Arc;

use crate::family::Family;
use crate::object::ObjectKey;
use crate::plan::PortPlan;
use crate::row::{Endpoint, Frontend, Port, Protocol};

pub use arrivals::Arrivals;
pub use check::{Flow, FlowCheck, Servers, Translation, Wrong};

mod arrivals;
mod check;

/// What packets are addressed to: a frontend without the class of its address. Its protocol is UDP unless a caller says
/// otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination<F: Family> {
    /// A ClusterIP, an externalIP or a LoadBalancer address, and the port.
    Address(F::Addr, Port),
    /// A nodePort on the node's addresses.
    NodePort(Port),
}

impl<F: Family> Destination<F> {
    /// The destination of datagrams to a frontend; none for other protocols.
    pub fn of(frontend: &Frontend<F>) -> Option<Self> {
        let (protocol, destination) = Self::of_any(frontend);
        (protocol == Protocol::Udp).then_some(destination)
    }

    /// The destination of packets to a frontend, with the frontend's protocol.
    pub fn of_any(frontend: &Frontend<F>) -> (Protocol, Self) {
        match *frontend {
            Frontend::Address { at, .. } => (at.protocol, Self::Address(at.addr, at.port)),
            Frontend::NodePort { protocol, port } => (protocol, Self::NodePort(port)),
        }
    }

    /// Those of these sorted endpoints that are this destination itself. There the node itself answers, and nothing is
    /// translated.
    fn at_home<'e>(&self, endpoints: &'e [Endpoint<F>]) -> impl Iterator<Item = &'e Endpoint<F>> {
        let (candidates, port) = match *self {
            Self::Address(addr, port) => {
                let at = endpoints.binary_search(&Endpoint { addr, port });
                (at.map_or(&[][..], |at| &endpoints[at..=at]), port)
            }
            Self::NodePort(port) => (endpoints, port),
        };
        candidates.iter().filter(move |endpoint| endpoint.port == port)
    }
}

/// The destinations and endpoints of one UDP port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortFlows<F: Family> {
    /// The destinations of its datagrams.
    destinations: Box<[Destination<F>]>,
    /// The endpoints that may answer them, sorted.
    endpoints: Arc<[Endpoint<F>]>,
}

impl<F: Family> PortFlows<F> {
    /// The flows that a plan allows; none if the port is not UDP.
    pub fn of(plan: &PortPlan<F>) -> Option<Self> {
        (plan.key.protocol == Protocol::Udp).then(|| {
            let destinations = plan.frontends.iter().map(|plan| &plan.frontend);
            Self::new(destinations.filter_map(Destination::of), &plan.answering)
        })
    }

    /// Allows flows to these destinations to have these endpoints.
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

/// The UDP ports of all Services in one family. If several Services claim one destination, a flow to it may have an
/// endpoint of any of them. The ledger does not ask which Service serves the destination now, so that a dispute cuts no
/// flow.
#[derive(Debug)]
pub struct Ledger<F: Family> {
    services: HashMap<ObjectKey, Box<[PortFlows<F>]>>,
    claims: HashMap<Destination<F>, Claims<F>>,
}

/// The endpoints of each port that claims a destination. There is almost always one list. The port owns the same `Arc`,
/// and the list is found again by its pointer.
type Claims<F> = Vec<Arc<[Endpoint<F>]>>;

/// What must be checked after a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes<F: Family> {
    /// Destinations that may have wrong flows now.
    pub destinations: Vec<Destination<F>>,
    /// Endpoints that were one of these destinations themselves, and no longer serve it.
    pub dismissed: Vec<Endpoint<F>>,
}

impl<F: Family> Default for Changes<F> {
    fn default() -> Self {
        Self {
            destinations: Vec::new(),
            dismissed: Vec::new(),
        }
    }
}

impl<F: Family> Default for Ledger<F> {
    fn default() -> Self {
        Self {
            services: HashMap::new(),
            claims: HashMap::new(),
        }
    }
}

impl<F: Family> Ledger<F> {
    /// Replaces all UDP ports of these Services. Returns the destinations that may have wrong flows now: those that
    /// came or went, lost an endpoint, or got their first endpoint. One more endpoint makes no flow wrong.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = (ObjectKey, Box<[PortFlows<F>]>)>) -> Changes<F> {
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
        // The destinations of one port have the same lists, so each pair of lists is compared once.
        let mut judged: HashMap<[Vec<*const Endpoint<F>>; 2], bool> = HashMap::new();
        let mut changes = Changes::default();
        for (destination, before) in before {
            let after = self.claims.get(&destination);
            let wrong = match (&before, after) {
                (None, None) => false,
                (Some(before), Some(after)) => {
                    let lists = [before, after].map(|claims| claims.iter().map(|list| list.as_ptr()).collect());
                    *judged.entry(lists).or_insert_with(|| wrong_flows(before, after))
                }
                (None, Some(_)) | (Some(_), None) => true,
            };
            if !wrong {
                continue;
            }
            changes.destinations.push(destination);
            let dismissed = before.iter().flatten().flat_map(|list| destination.at_home(list));
            let gone = dismissed.filter(|endpoint| after.is_some_and(|after| !has(after, endpoint)));
            changes.dismissed.extend(gone);
        }
        changes
    }

    /// Whether a flow to this destination may have this endpoint; none if no Service has the destination.
    pub fn allows(&self, destination: &Destination<F>, endpoint: Endpoint<F>) -> Option<bool> {
        Some(has(self.claims.get(destination)?, &endpoint))
    }

    /// All destinations of all Services.
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

fn has<F: Family>(claims: &Claims<F>, endpoint: &Endpoint<F>) -> bool {
    claims.iter().any(|list| list.binary_search(endpoint).is_ok())
}

/// Whether flows are wrong now: flows that were right before, or that began before there was any endpoint.
fn wrong_flows<F: Family>(before: &Claims<F>, after: &Claims<F>) -> bool {
    let nobody = |claims: &Claims<F>| claims.iter().all(|list| list.is_empty());
    let lost = before
        .iter()
        .flat_map(|list| &**list)
        .any(|endpoint| !has(after, endpoint));
    lost || (nobody(before) && !nobody(after))
}

#[cfg(test)]
mod tests;
