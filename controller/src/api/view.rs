//! The answers of the local API, in the form of their JSON and YAML.

use super::outside::OutsideView;
use super::planes::{FollowerView, SocketsView};
use serde::{Deserialize, Serialize};

/// A Service, as Tandem serves it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are named as in the Kubernetes API")]
pub struct ServiceView {
    pub namespace: String,
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Vec<String>,
    #[serde(rename = "externalIPs")]
    pub external_ips: Vec<String>,
    #[serde(rename = "loadBalancerIPs")]
    pub load_balancer_ips: Vec<String>,
    pub load_balancer_source_ranges: Vec<String>,
    pub internal_traffic_policy: String,
    pub external_traffic_policy: String,
    pub session_affinity_seconds: Option<u32>,
    pub age_seconds: Option<u64>,
    pub ports: Vec<PortView>,
    pub problems: Vec<String>,
}

/// One port of a Service.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are named as in the Kubernetes API")]
pub struct PortView {
    pub name: String,
    pub protocol: String,
    pub port: u16,
    pub node_port: Option<u16>,
    /// One for each family of the Service.
    pub families: Vec<FamilyPortView>,
}

/// One port of a Service in one family.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FamilyPortView {
    /// `IPv4` or `IPv6`
    pub family: String,
    /// The frontends of the port: `address:port`, or `nodePort N`
    pub frontends: Vec<String>,
    /// What the Service asks for and another Service has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken: Vec<TakenView>,
    /// The last change was refused. The kernel still has the rows from before it, not those that this view shows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub set_aside: bool,
    /// Who answers programs of this node.
    #[serde(default)]
    pub from_node: AnswersView,
    /// Who answers programs in its pods.
    #[serde(default)]
    pub from_pods: AnswersView,
    /// Who answers packets from outside. None if it has no frontend for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_outside: Option<AnswersView>,
    /// The connections to it since it was programmed; none if they were not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<ConnectionsView>,
    /// How programs in the kernel pick one of `all` for packets from outside, if not at random: `maglev`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pick: Option<String>,
    /// The endpoints for frontends with traffic policy Cluster, for pods and for the node itself. None if nothing uses
    /// them.
    pub all: Option<EndpointsView>,
    /// The endpoints for frontends with traffic policy Local. None if nothing uses them.
    pub local: Option<EndpointsView>,
}

/// Who answers new connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AnswersView {
    /// `sockets`, `xdp` or `nftables`
    pub by: String,
    /// What nftables answers beside the others, or why it answers everything, although the configuration asks for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why_nftables: Option<String>,
}

impl AnswersView {
    pub(super) fn sockets(except: Option<String>) -> Self {
        Self {
            by: "sockets".to_owned(),
            why_nftables: except,
        }
    }

    pub(super) fn xdp(except: Option<String>) -> Self {
        Self {
            by: "xdp".to_owned(),
            why_nftables: except,
        }
    }

    pub(super) fn nftables(why: Option<String>) -> Self {
        Self {
            by: "nftables".to_owned(),
            why_nftables: why,
        }
    }
}

/// How many connections went to a Service port. Each UDP flow is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionsView {
    /// Those that nftables gave an endpoint.
    pub nftables: u64,
    /// Those that sockets were translated for.
    pub sockets: u64,
    /// Those from outside that XDP translates.
    #[serde(default)]
    pub xdp: u64,
}

/// A frontend that an older Service has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TakenView {
    /// `address:port`, or `nodePort N`
    pub frontend: String,
    /// The Service port that has it: `namespace/name:port`
    pub by: String,
}

/// A list of endpoints, and what a client sees if it is empty.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointsView {
    /// `address:port`
    pub endpoints: Vec<String>,
    /// If there are none: `refused: …` or `discarded: …`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub empty: Option<String>,
}

/// The state of the agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusView {
    /// The agent's version.
    pub version: String,
    /// The node's name. It is empty until the node's object is read.
    pub node: String,
    /// The name of the object that Tandem looks for.
    #[serde(default)]
    pub node_looked_for: String,
    /// The node's addresses.
    pub node_addresses: Vec<String>,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// Whether every list was complete once, and no other agent serves the node. Before that, Tandem changes nothing in
    /// the kernel.
    pub complete: bool,
    /// Whether every list was complete once.
    #[serde(default)]
    pub listed: bool,
    /// Whether another agent serves the node, and this one waits for its end.
    #[serde(default)]
    pub stands_by: bool,
    /// How many Services are known.
    pub services: usize,
    /// How many EndpointSlices are known.
    pub endpoint_slices: usize,
    /// For each kind of object, whether it can be read: `watching`, or why not.
    pub sources: Vec<(String, String)>,
    /// Socket load balancing; none if nobody asks for it and nothing is left of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sockets: Option<SocketsView>,
    /// Packets from outside; none if the configuration names no device and nothing is left of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outside: Option<OutsideView>,
    /// IPv4, then IPv6.
    pub families: Vec<FamilyStatusView>,
    /// The problems of the node, of objects, and of the configuration.
    pub problems: Vec<ProblemView>,
    /// The part of the configuration files that is not in effect.
    #[serde(default)]
    pub configuration: ConfigurationView,
}

/// The part of the configuration files that is not in effect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigurationView {
    /// Why the present files are not used. None if they are used.
    pub rejected: Option<String>,
    /// Changes that wait for the next start: `field: old becomes new`.
    pub waiting: Vec<String>,
}

/// The state of one family.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FamilyStatusView {
    /// `IPv4` or `IPv6`
    pub family: String,
    /// The table's name for nft.
    pub table: String,
    /// Who may change the table. None if it is not open.
    pub ownership: Option<String>,
    /// Rows in the kernel.
    pub rows: usize,
    /// Rows that were in the kernel at the start.
    pub rows_adopted: usize,
    /// The ranges of ClusterIPs.
    pub service_ranges: Vec<String>,
    /// Ranges whose sources count as pods.
    pub pod_ranges: Vec<String>,
    /// Addresses that take nodePort traffic.
    pub node_port_addresses: Vec<String>,
    /// Transactions that changed something.
    pub changes: u64,
    /// Seconds since the last one.
    pub last_change_seconds_ago: Option<f64>,
    /// How many rows it touched.
    pub last_change_rows: usize,
    /// The time from the request to the kernel until the kernel's acknowledgement.
    pub last_change_microseconds: u64,
    /// Why changes wait. None if no change waits.
    pub last_error: Option<String>,
    /// Transactions that failed as a whole.
    pub failures: u64,
    /// Services that are not programmed, or only in part.
    pub set_aside: usize,
    /// New connections whose client could not be remembered for session affinity, since the table was made.
    #[serde(default)]
    pub unremembered: u64,
    /// The flows that changes made wrong. None before the first change.
    #[serde(default)]
    pub udp_flows: Option<UdpFlowsView>,
    /// What follows the table. None if nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follower: Option<FollowerView>,
}

/// What happened to wrong flows. Their endpoint, address or Service is gone, or their frontend came after they began.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UdpFlowsView {
    /// Flows that were cut.
    pub cut: u64,
    /// Of these, UDP flows that began with an endpoint's last answer.
    #[serde(default)]
    pub cut_turned: u64,
    /// Of these, TCP and SCTP connections that began before their frontend existed.
    #[serde(default)]
    pub cut_connecting: u64,
    /// How often flows were checked after changes.
    pub reconciliations: u64,
    /// How often they were checked a second time.
    #[serde(default)]
    pub second_looks: u64,
    /// Seconds since the last check.
    pub last_seconds_ago: Option<f64>,
    /// How long the last check took.
    pub last_microseconds: u64,
    /// How many flows the last check read.
    pub last_read: u64,
    /// How many checks failed.
    pub failures: u64,
    /// Why the last check failed. None if it did not fail.
    pub last_error: Option<String>,
}

/// A problem of the node or of an object.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProblemView {
    /// `ObjectKind namespace/name`, `file name`, `configuration`, or a part of the node: `interface name`, `chain …`
    pub object: String,
    /// Where it is, what is wrong, and what happens instead.
    pub problem: String,
    /// Whether `tandem status` exits with an error because of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fatal: bool,
}
