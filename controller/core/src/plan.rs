//! Service + endpoints + node -> the rows that one family's table must hold, as one [`PortPlan`] for each Service port.
//!
//! These are kube-proxy's rules. They decide which addresses lead to a Service, which endpoints each address may use
//! under `internalTrafficPolicy` and `externalTrafficPolicy`, and what happens if there are no endpoints.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;

use crate::family::Family;
use crate::object::{Choice, Conditions, EndpointSlice, Hints, Node, ObjectKey, Service, ServicePort, TrafficPolicy};
use crate::row::{Class, Endpoint, Frontend, L4Address, Label, Protocol};

use served::Served;
use topology::Topology;

pub use limits::{MOST_ENDPOINTS, MOST_FRONTENDS, MOST_SOURCES, TooLarge};
pub use own::OwnFrontends;

mod limits;
mod own;
mod served;
mod topology;
mod ways;

/// A Service port across all families: what kube-proxy calls a service port name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortKey {
    /// The Service.
    pub service: ObjectKey,
    /// The port's name; empty if it has none.
    pub port: Arc<str>,
    /// The port's protocol.
    pub protocol: Protocol,
}

/// The number of bytes that nftables keeps of an element's comment.
const LABEL: usize = 127;

impl PortKey {
    /// "namespace/name:port", or "namespace/name" if the port has no name, cut to what the kernel keeps.
    pub fn label(&self) -> Label {
        label(&self.to_string())
    }
}

/// A name, cut to what the kernel keeps with an element.
pub(crate) fn label(name: &str) -> Label {
    name[..name.floor_char_boundary(LABEL)].into()
}

impl fmt::Display for PortKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.port.is_empty() {
            write!(f, "{}", self.service)
        } else {
            write!(f, "{}:{}", self.service, self.port)
        }
    }
}

/// The rows that one family's table must hold for one Service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortPlan<F: Family> {
    /// The Service port.
    pub key: PortKey,
    /// `metadata.creationTimestamp` of the Service.
    pub created: i64,
    /// The addresses and nodePorts that lead to the port.
    pub frontends: Vec<FrontendPlan<F>>,
    /// All usable endpoints, if a frontend may use them all.
    pub all: Option<Usable<F>>,
    /// The usable endpoints on this node, if a frontend may use only them.
    pub local: Option<Usable<F>>,
    /// Addresses of endpoints on this node, sorted. These endpoints may reach themselves through the Service.
    pub hairpin: Vec<F::Addr>,
    /// How many seconds a client is remembered.
    pub affinity: Option<u32>,
    /// Whether packets from outside pick from `all` by Maglev. It is false if no frontend from outside uses that list.
    pub maglev: bool,
    /// For UDP, the endpoints that answer, sorted, whatever the traffic policies and hints say. Flows with these
    /// endpoints may go on. It is empty for other protocols, because their connections end by themselves.
    pub answering: Vec<Endpoint<F>>,
}

/// A frontend, and the list that it uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontendPlan<F: Family> {
    /// The frontend.
    pub frontend: Frontend<F>,
    /// Whether its traffic policy is `Local`.
    pub local: bool,
    /// The sources that may reach it; none means everyone.
    pub sources: Option<Arc<[F::Net]>>,
}

impl<F: Family> FrontendPlan<F> {
    /// Whether packets from outside the cluster may come to it: it is no ClusterIP.
    fn is_from_outside(&self) -> bool {
        !matches!(
            self.frontend,
            Frontend::Address {
                class: Class::Cluster,
                ..
            }
        )
    }
}

/// The endpoints that a list holds, or why there are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Usable<F: Family> {
    /// At least one endpoint, sorted, each once.
    Endpoints(Vec<Endpoint<F>>),
    /// No endpoint, for this reason.
    None(NoEndpoints),
}

/// Why a list is empty. This decides what a client sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoEndpoints {
    /// No node has a usable endpoint: clients are refused at once.
    Anywhere,
    /// Only other nodes have usable endpoints: packets are discarded, so that a load balancer tries another node.
    OnThisNode,
}

/// One endpoint of one Service port, found in any of its slices.
#[derive(Clone, Copy, Debug)]
struct Candidate<'a, F: Family> {
    endpoint: Endpoint<F>,
    conditions: Conditions,
    local: bool,
    hints: Option<&'a Hints>,
}

/// Plans every port of a Service in family `F`. `usual` is how packets from outside pick an endpoint if the Service does not
/// say it. The result is empty if the Service has no ClusterIP of this family. If the Service is too large, this returns an
/// error before it makes any rows.
pub fn plan<'a, F: Family>(
    service: &Service,
    slices: &(impl Iterator<Item = &'a EndpointSlice> + Clone),
    node: &Node,
    usual: Choice,
) -> Result<Vec<PortPlan<F>>, TooLarge> {
    let Some(cluster_ip) = first::<F>(&service.cluster_ips) else {
        return Ok(Vec::new());
    };
    let sources = allowed_sources::<F>(service, node);
    let addresses = outside::<F>(service, sources.as_ref());
    let served = Served::new::<F>(slices.clone());
    limits::check::<F>(service, &addresses, &served)?;
    let maglev = service.choice.unwrap_or(usual) == Choice::Maglev;
    let plan_port = |port: &ServicePort| {
        let frontends = frontends(service, port, cluster_ip, &addresses);
        let candidates = candidates(port, &served);
        let lists = Lists::choose(service, &frontends, &candidates, node.zone.as_deref());
        let maglev = maglev && frontends.iter().any(|plan| plan.is_from_outside() && !plan.local);
        PortPlan {
            key: PortKey {
                service: service.key.clone(),
                port: port.name.clone(),
                protocol: port.protocol,
            },
            created: service.created,
            frontends,
            all: lists.all,
            local: lists.local,
            hairpin: lists.hairpin,
            affinity: service.affinity,
            maglev,
            answering: answering(port.protocol, &candidates),
        }
    };
    Ok(service.ports.iter().map(plan_port).collect())
}

/// An external address that leads to a Service, and the sources that may use it.
struct Outside<F: Family> {
    addr: F::Addr,
    sources: Option<Arc<[F::Net]>>,
}

/// The external addresses that lead to a Service, each once.
fn outside<F: Family>(service: &Service, sources: Option<&Arc<[F::Net]>>) -> Vec<Outside<F>> {
    let ingress = service
        .ingress_ips
        .iter()
        .filter_map(|addr| F::addr(*addr))
        .map(|addr| (addr, sources.cloned()));
    let external_ips = service
        .external_ips
        .iter()
        .filter_map(|addr| F::addr(*addr))
        .map(|addr| (addr, None));
    let mut seen = HashSet::new();
    ingress
        .chain(external_ips)
        .filter(|(addr, _)| seen.insert(*addr))
        .map(|(addr, sources)| Outside { addr, sources })
        .collect()
}

fn first<F: Family>(addrs: &[std::net::IpAddr]) -> Option<F::Addr> {
    addrs.iter().find_map(|addr| F::addr(*addr))
}

fn frontends<F: Family>(
    service: &Service,
    port: &ServicePort,
    cluster_ip: F::Addr,
    outside: &[Outside<F>],
) -> Vec<FrontendPlan<F>> {
    let address = |class, addr| Frontend::Address {
        class,
        at: L4Address {
            addr,
            protocol: port.protocol,
            port: port.port,
        },
    };
    let external = service.external_policy == TrafficPolicy::Local;
    let mut plans = vec![FrontendPlan {
        frontend: address(Class::Cluster, cluster_ip),
        local: service.internal_policy == TrafficPolicy::Local,
        sources: None,
    }];
    plans.extend(outside.iter().map(|outside| FrontendPlan {
        frontend: address(Class::External, outside.addr),
        local: external,
        sources: outside.sources.clone(),
    }));
    plans.extend(port.node_port.map(|node_port| FrontendPlan {
        frontend: Frontend::NodePort {
            protocol: port.protocol,
            port: node_port,
        },
        local: external,
        sources: None,
    }));
    plans
}

/// The sources that may reach the LoadBalancer addresses of family `F`; none means everyone. If all ranges are of the
/// other family, this family is open, as in kube-proxy. Unlike in kube-proxy, an entry that could not be read closes a
/// family ([`Service::restricted`]).
fn allowed_sources<F: Family>(service: &Service, node: &Node) -> Option<Arc<[F::Net]>> {
    let mut ranges: Vec<IpNet> = service
        .source_ranges
        .iter()
        .copied()
        .filter(|net| F::net(*net).is_some())
        .collect();
    if ranges.is_empty() && !service.restricted.contains(F::FAMILY) {
        return None;
    }
    // A load balancer may put its address on the node. Then a request from the node comes from that address.
    let node_allowed = node
        .primary(F::FAMILY)
        .is_some_and(|addr| ranges.iter().any(|range| range.contains(&addr)));
    if node_allowed {
        ranges.extend(
            service
                .ingress_ips
                .iter()
                .filter_map(|addr| F::addr(*addr))
                .map(|addr| F::host(addr).into()),
        );
    }
    Some(aggregate::<F>(&ranges).into())
}

/// The same ranges, sorted and merged: none overlap, and no two neighbours could be one range.
pub(crate) fn aggregate<F: Family>(ranges: &[IpNet]) -> Vec<F::Net> {
    let mut ranges: Vec<F::Net> = IpNet::aggregate(&ranges.to_vec())
        .into_iter()
        .filter_map(F::net)
        .collect();
    ranges.sort_unstable();
    ranges
}

/// The endpoints of a port from all slices, sorted, each once. If one address and port has two entries, the ready one
/// counts; if none is ready, the one that may be used as a fallback. The endpoint is on this node if either entry says
/// so.
fn candidates<'a, F: Family>(port: &ServicePort, served: &Served<'a>) -> Vec<Candidate<'a, F>> {
    let mut found = Vec::new();
    for (slice, number) in served.by(port) {
        found.extend(slice.endpoints.iter().enumerate().filter_map(|(index, entry)| {
            let endpoint = Endpoint {
                addr: F::addr(entry.addr)?,
                port: number,
            };
            Some(Candidate {
                endpoint,
                conditions: entry.conditions,
                local: entry.local,
                hints: slice.hints.get(index),
            })
        }));
    }
    let worth = |conditions: Conditions| (conditions.ready, conditions.fallback());
    found.sort_by_key(|candidate| (candidate.endpoint, std::cmp::Reverse(worth(candidate.conditions))));
    found.dedup_by(|later, first| {
        let same = later.endpoint == first.endpoint;
        first.local |= same && later.local;
        same
    });
    found
}

/// The endpoints that UDP flows may have.
fn answering<F: Family>(protocol: Protocol, candidates: &[Candidate<'_, F>]) -> Vec<Endpoint<F>> {
    if protocol != Protocol::Udp {
        return Vec::new();
    }
    let answers = |candidate: &&Candidate<'_, F>| candidate.conditions.ready || candidate.conditions.serving;
    candidates
        .iter()
        .filter(answers)
        .map(|candidate| candidate.endpoint)
        .collect()
}

struct Lists<F: Family> {
    all: Option<Usable<F>>,
    local: Option<Usable<F>>,
    hairpin: Vec<F::Addr>,
}

impl<F: Family> Lists<F> {
    /// Chooses among a port's endpoints as kube-proxy's `CategorizeEndpoints` does.
    fn choose(
        service: &Service,
        frontends: &[FrontendPlan<F>],
        candidates: &[Candidate<'_, F>],
        zone: Option<&str>,
    ) -> Self {
        // If an external frontend leads here, pods and the node itself use all endpoints, whatever the policy.
        let uses_all =
            service.internal_policy == TrafficPolicy::Cluster || frontends.iter().any(FrontendPlan::is_from_outside);
        let uses_local = frontends.iter().any(|plan| plan.local);
        let topology = if uses_all {
            Topology::of(candidates, zone)
        } else {
            Topology::Anywhere
        };
        let select = |local_only: bool| {
            let among = || {
                candidates
                    .iter()
                    .filter(move |candidate| candidate.local || !local_only)
            };
            let ready: Vec<_> = among()
                .filter(|candidate| candidate.conditions.ready && (local_only || topology.wants(candidate)))
                .copied()
                .collect();
            if ready.is_empty() {
                among().filter(|c| c.conditions.fallback()).copied().collect()
            } else {
                ready
            }
        };
        let all = if uses_all { Some(select(false)) } else { None };
        let local = if uses_local { Some(select(true)) } else { None };
        let anywhere = candidates.iter().any(|c| c.conditions.ready || c.conditions.fallback());
        let reason = if anywhere {
            NoEndpoints::OnThisNode
        } else {
            NoEndpoints::Anywhere
        };

        let mut hairpin: Vec<F::Addr> = all
            .iter()
            .chain(&local)
            .flatten()
            .filter(|c| c.local)
            .map(|c| c.endpoint.addr)
            .collect();
        hairpin.sort_unstable();
        hairpin.dedup();
        let usable = |list: Vec<Candidate<'_, F>>, reason| {
            if list.is_empty() {
                Usable::None(reason)
            } else {
                Usable::Endpoints(list.into_iter().map(|candidate| candidate.endpoint).collect())
            }
        };
        Self {
            all: all.map(|list| usable(list, NoEndpoints::Anywhere)),
            local: local.map(|list| usable(list, reason)),
            hairpin,
        }
    }
}

#[cfg(test)]
mod tests;
