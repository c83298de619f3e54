//! What is wrong with this node itself: with its object, with its addresses, with other programs' rules. This is
//! collected when one of these changes, never when a Service changes.

mod beside;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use tandem_core::family::{Family, IpFamily};
use tandem_core::node::{InterfaceName, NodePortAddresses, NodeRows};
use tandem_core::object::Node;
use tandem_core::plane::{Ahead, ForwardDrop, Place};

use crate::event::{ApiServer, KubeProxy, Neighbour, NodeFact};
use crate::node_settings::{DetectLocal, NodeSettings, PodRanges};

/// Something wrong with this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeProblem {
    /// No object with this name was read since the start.
    NoNode {
        /// The name that was looked for.
        name: String,
    },
    /// The object existed and is gone.
    NodeGone {
        /// The node's name.
        name: String,
    },
    /// The object lists no address of this family. The addresses that it listed before still count.
    AddressesKept {
        /// The family.
        family: IpFamily,
        /// The addresses that count.
        addresses: Vec<IpAddr>,
    },
    /// The object lists no address, and no earlier address is known that an interface still has.
    NoAddresses,
    /// The object has no pods' range of this family. The ranges that it had before still count.
    PodRangesKept {
        /// The family.
        family: IpFamily,
        /// The ranges that count.
        ranges: Vec<IpNet>,
    },
    /// The object has no pods' ranges, but the configuration says to recognise pods by them.
    NoPodRanges,
    /// An interface has addresses inside a range of ClusterIPs.
    Overlap {
        /// The interface.
        interface: InterfaceName,
        /// The range.
        range: IpNet,
        /// The first of these addresses.
        address: IpAddr,
        /// The number of further addresses.
        more: usize,
    },
    /// The API server's address is a ClusterIP.
    ServerIsService {
        /// The address.
        address: IpAddr,
        /// The range of ClusterIPs.
        range: IpNet,
    },
    /// Another program's chain drops forwarded packets.
    ForwardDrop(ForwardDrop),
    /// A kube-proxy is there, or something that one left.
    KubeProxy(KubeProxy),
    /// New clients of Services with session affinity are not remembered.
    AffinityFull {
        /// The family.
        family: IpFamily,
        /// How many clients are remembered.
        most: u32,
    },
}

/// The device to which kube-proxy's ipvs mode adds every ClusterIP.
const IPVS: &str = "kube-ipvs0";

/// The device of NodeLocal DNSCache. It has the ClusterIP of the cluster's DNS on purpose.
const LOCAL_DNS: &str = "nodelocaldns";

impl NodeProblem {
    /// What has the problem: `Node name`, an interface, a chain.
    pub fn object(&self) -> String {
        match self {
            Self::NoNode { name } | Self::NodeGone { name } => format!("Node {name}"),
            Self::AddressesKept { .. } | Self::NoAddresses | Self::PodRangesKept { .. } | Self::NoPodRanges => {
                "this node".into()
            }
            Self::Overlap { interface, .. } => format!("interface {interface}"),
            Self::ServerIsService { .. } => "API server".into(),
            Self::ForwardDrop(chain) => format!("chain {chain}"),
            Self::KubeProxy(_) => "kube-proxy".into(),
            Self::AffinityFull { family, .. } => format!("map {} tandem affinity", table(*family)),
        }
    }

    /// Whether a kube-proxy, or a program that makes its rules, runs on this node too.
    pub fn is_of_kube_proxy(&self) -> bool {
        matches!(self, Self::KubeProxy(it) if it.is_there())
    }

    /// Whether Tandem does not serve this node alone, or does not answer its health checks.
    pub fn keeps_from_being_ready(&self) -> bool {
        matches!(self, Self::KubeProxy(it) if it.neighbour != Neighbour::None)
    }

    /// Whether nothing that depends on the node's own object can be right, or other rules than Tandem's decide. Then
    /// `tandem status` fails.
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::NoNode { .. } => true,
            other => other.is_of_kube_proxy(),
        }
    }
}

fn table(family: IpFamily) -> &'static str {
    match family {
        IpFamily::V4 => "ip",
        IpFamily::V6 => "ip6",
    }
}

fn list<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for NodeProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNode { name } => write!(
                f,
                "no Node object named {name:?} was read: the node's own rows stay as an earlier run left them, endpoints on \
                 this node are not known as such, and hints for zones do not count. If this node's object has another name, \
                 give it with --hostname-override (names are compared in lower case, dots and all)"
            ),
            Self::NodeGone { .. } => f.write_str("the object is gone: what it said last still counts"),
            Self::AddressesKept { family, addresses } => write!(
                f,
                "the Node object lists no {family} address: {} still takes nodePort traffic, as an interface has it",
                list(addresses)
            ),
            Self::NoAddresses => f.write_str(
                "the Node object lists no address, and none is known from before that an interface has: nothing takes \
                 nodePort traffic",
            ),
            Self::PodRangesKept { family, ranges } => write!(
                f,
                "the Node object has no {family} range in spec.podCIDRs: sources in {} still count as pods",
                list(ranges)
            ),
            Self::NoPodRanges => f.write_str(
                "the Node object has no spec.podCIDRs, which detectLocalMode NodeCIDR asks for: no source counts as a pod",
            ),
            Self::Overlap {
                interface,
                range,
                address,
                more,
            } => {
                let addresses = match more {
                    0 => format!("{address} lies"),
                    more => format!("{address} and {more} more lie"),
                };
                write!(f, "{addresses} inside the Service range {range}: ")?;
                if interface.as_str() == IPVS {
                    return f.write_str(
                        "kube-proxy's ipvs mode left them; ports of a ClusterIP that no Service has reach this node's own \
                         programs. Run `kube-proxy --cleanup` once on this node",
                    );
                }
                f.write_str(
                    "give the interface other addresses, or the Services another range. For now this node answers there; once a \
                     Service has such an address as ClusterIP, the Service's ports lead to the Service",
                )
            }
            Self::ServerIsService { address, range } => write!(
                f,
                "its address {address} lies inside the Service range {range}: only a service proxy makes it answer. After a \
                 restart of this node, Tandem cannot reach it, and no Service works. Give the API server's own address, by \
                 --master or in a kubeconfig"
            ),
            Self::ForwardDrop(chain) => write!(
                f,
                "policy drop: packets to pods, also those to nodePorts and LoadBalancer addresses, are dropped unless a rule \
                 there accepts them (kube-proxy's iptables mode had such a rule, Tandem has none). Accept what was \
                 translated: {}; or all that is forwarded: {}",
                accept_translated(chain),
                accept_all(chain),
            ),
            Self::KubeProxy(kube_proxy) => beside::describe(kube_proxy, f),
            Self::AffinityFull { most, .. } => write!(
                f,
                "it is full: {most} clients of Services with sessionAffinity ClientIP are remembered, and no more \
                 can be. New clients reach any endpoint each time, until the timeouts of others have passed. One Service \
                 alone cannot fill it: look for sources that are not what they seem"
            ),
        }
    }
}

/// The program that wrote the chain, if it was `iptables` or `ip6tables`.
fn iptables(chain: &ForwardDrop) -> Option<&'static str> {
    let standard = chain.table == "filter" && chain.chain == "FORWARD";
    match chain.family {
        "ip" if standard => Some("iptables"),
        "ip6" if standard => Some("ip6tables"),
        _ => None,
    }
}

fn accept_translated(chain: &ForwardDrop) -> String {
    match iptables(chain) {
        Some(program) => format!("`{program} -I FORWARD -m conntrack --ctstate DNAT -j ACCEPT`"),
        None => format!("`nft insert rule {chain} ct status dnat accept`"),
    }
}

fn accept_all(chain: &ForwardDrop) -> String {
    match iptables(chain) {
        Some(program) => format!("`{program} -P FORWARD ACCEPT`"),
        None => format!("`nft chain {chain} '{{ policy accept; }}'`"),
    }
}

/// What is on the node beside Tandem, as last reported.
#[derive(Debug, Default)]
pub(super) struct Surroundings {
    addresses: Vec<(IpAddr, InterfaceName)>,
    forward_drops: Vec<ForwardDrop>,
    /// None before the first look.
    kube_proxy: Option<KubeProxy>,
    ahead: Ahead,
    /// None if objects come from a folder.
    server: Option<ApiServer>,
    /// Families whose memory of clients was full a short time ago, with its size.
    full: BTreeMap<IpFamily, u32>,
}

impl Surroundings {
    /// Where the rules are to stand.
    pub(super) fn place(&self) -> Place {
        self.kube_proxy.map(|kube_proxy| kube_proxy.place).unwrap_or_default()
    }

    /// Who sees packets from outside before the rules do.
    pub(super) fn ahead(&self) -> Ahead {
        self.ahead
    }

    /// Whether the rules are kept before those that a kube-proxy makes. While it is not known whether one runs, they are
    /// left where they are.
    pub(super) fn comes_before_kube_proxy(&self) -> bool {
        self.kube_proxy
            .is_some_and(|it| it.neighbour == Neighbour::Reappears && it.place == Place::First)
    }

    /// What is known of a kube-proxy.
    pub(super) fn kube_proxy(&self) -> Option<KubeProxy> {
        self.kube_proxy
    }

    /// Why objects cannot be read, with the name of the API server that was asked.
    pub(super) fn with_server(&self, reason: String) -> String {
        match &self.server {
            Some(ApiServer { name, .. }) if !reason.contains(&**name) => format!("{reason} (API server {name})"),
            _ => reason,
        }
    }

    pub(super) fn take(&mut self, around: NodeFact) {
        match around {
            NodeFact::Addresses(addresses) => self.addresses = addresses,
            NodeFact::ForwardDrops(chains) => self.forward_drops = chains,
            NodeFact::KubeProxy(kube_proxy) => self.kube_proxy = Some(kube_proxy),
            NodeFact::Ahead(ahead) => self.ahead = ahead,
            NodeFact::ApiServer(server) => self.server = Some(server),
            NodeFact::Unremembered {
                family, lately, most, ..
            } => {
                self.full.remove(&family);
                self.full.extend(lately.then_some((family, most)));
            }
        }
    }
}

/// The facts that problems are computed from.
pub(super) struct Facts<'a> {
    pub(super) settings: &'a NodeSettings,
    /// Whether every list was complete once. Before that, nothing counts as missing.
    pub(super) complete: bool,
    /// This node's object as it is.
    pub(super) node: Option<&'a Node>,
    pub(super) gone: bool,
    pub(super) around: &'a Surroundings,
}

impl Facts<'_> {
    /// The problems of both families.
    pub(super) fn problems<V4: Family, V6: Family>(
        &self,
        v4: (&Node, &NodeRows<V4>),
        v6: (&Node, &NodeRows<V6>),
    ) -> Vec<NodeProblem> {
        let mut problems = Vec::new();
        match self.node {
            _ if !self.complete => {}
            None => problems.push(NodeProblem::NoNode {
                name: self.settings.node_name.to_string(),
            }),
            Some(node) => {
                if self.gone {
                    let name = node.name.to_string();
                    problems.push(NodeProblem::NodeGone { name });
                }
                problems.extend(self.addresses(node, [v4.0, v6.0]));
                problems.extend(self.pod_ranges(node, [v4.0, v6.0]));
            }
        }
        problems.extend(self.overlaps(v4.1));
        problems.extend(self.overlaps(v6.1));
        problems.extend(self.server_is_service([ranges(v4.1), ranges(v6.1)].concat()));
        problems.extend(self.around.forward_drops.iter().cloned().map(NodeProblem::ForwardDrop));
        problems.extend(
            self.around
                .kube_proxy
                .filter(beside::is_problem)
                .map(NodeProblem::KubeProxy),
        );
        let full = self.around.full.iter().map(|(family, most)| (*family, *most));
        problems.extend(full.map(|(family, most)| NodeProblem::AffinityFull { family, most }));
        problems
    }

    fn addresses(&self, said: &Node, counts: [&Node; 2]) -> Vec<NodeProblem> {
        if self.settings.node_port_addresses != NodePortAddresses::Primary {
            return Vec::new();
        }
        if counts.iter().all(|node| node.addresses.is_empty()) {
            return vec![NodeProblem::NoAddresses];
        }
        let kept = [IpFamily::V4, IpFamily::V6].into_iter().zip(counts);
        let kept = kept.filter(|(family, _)| said.primary(*family).is_none());
        kept.filter_map(|(family, node)| {
            let addresses = vec![node.primary(family)?];
            Some(NodeProblem::AddressesKept { family, addresses })
        })
        .collect()
    }

    fn pod_ranges(&self, said: &Node, counts: [&Node; 2]) -> Vec<NodeProblem> {
        if self.settings.detect_local != DetectLocal::Sources(PodRanges::OfNode) {
            return Vec::new();
        }
        if counts.iter().all(|node| node.pod_cidrs.is_empty()) {
            return vec![NodeProblem::NoPodRanges];
        }
        let has = |family| said.pod_cidrs.iter().any(|net| IpFamily::of(net.addr()) == family);
        let kept = [IpFamily::V4, IpFamily::V6].into_iter().zip(counts);
        let kept = kept.filter(|(family, node)| !has(*family) && !node.pod_cidrs.is_empty());
        kept.map(|(family, node)| {
            let ranges = node.pod_cidrs.clone();
            NodeProblem::PodRangesKept { family, ranges }
        })
        .collect()
    }

    fn server_is_service(&self, ranges: Vec<IpNet>) -> Option<NodeProblem> {
        let address = self.around.server.as_ref()?.address?;
        let range = ranges.into_iter().find(|range| range.contains(&address))?;
        Some(NodeProblem::ServerIsService { address, range })
    }

    /// Addresses of interfaces inside the ranges of ClusterIPs, by interface and range.
    fn overlaps<F: Family>(&self, rows: &NodeRows<F>) -> Vec<NodeProblem> {
        let mut found: BTreeMap<(&str, IpNet), (InterfaceName, IpAddr, usize)> = BTreeMap::new();
        for (address, interface) in &self.around.addresses {
            let Some(range) = ranges(rows).into_iter().find(|range| range.contains(address)) else {
                continue;
            };
            if interface.as_str() != LOCAL_DNS {
                let first = (*interface, *address, 0);
                found
                    .entry((interface.as_str(), range))
                    .and_modify(|(_, _, more)| *more += 1)
                    .or_insert(first);
            }
        }
        let overlap = |((_, range), (interface, address, more))| NodeProblem::Overlap {
            interface,
            range,
            address,
            more,
        };
        found.into_iter().map(overlap).collect()
    }
}

/// The ranges of ClusterIPs of one family.
fn ranges<F: Family>(rows: &NodeRows<F>) -> Vec<IpNet> {
    rows.service_cidrs.iter().map(|range| (*range).into()).collect()
}

#[cfg(test)]
mod tests;
