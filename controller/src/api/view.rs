//! What the local API says, as it is written in JSON and YAML.

use serde::{Deserialize, Serialize};

/// A Service as Tandem makes it work.
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
    /// Per family that the Service has.
    pub families: Vec<FamilyPortView>,
}

/// One port of a Service in one family.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FamilyPortView {
    /// `IPv4` or `IPv6`
    pub family: String,
    /// What leads here: `address:port`, or `nodePort N`
    pub frontends: Vec<String>,
    /// What the Service asks for, and another one has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken: Vec<TakenView>,
    /// The last change was refused: the rows in the kernel are those from before it, and not what stands here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub set_aside: bool,
    /// What frontends of traffic policy Cluster, pods and the node itself may use; none where nothing uses it.
    pub all: Option<EndpointsView>,
    /// What frontends of traffic policy Local may use; none where nothing uses it.
    pub local: Option<EndpointsView>,
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

/// A list of endpoints, and what a client sees where it is empty.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointsView {
    /// `address:port`
    pub endpoints: Vec<String>,
    /// Where there are none: `refused: …` or `discarded: …`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub empty: Option<String>,
}

/// How the agent is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusView {
    /// The agent's version.
    pub version: String,
    /// The node's name; empty while its object was not read.
    pub node: String,
    /// The name of the object that is looked for.
    #[serde(default)]
    pub node_looked_for: String,
    /// The node's addresses.
    pub node_addresses: Vec<String>,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// Whether every list was complete once; before that the kernel is left as it was found.
    pub complete: bool,
    /// How many Services are known.
    pub services: usize,
    /// How many EndpointSlices are known.
    pub endpoint_slices: usize,
    /// Per kind of object, whether it can be read: `watching`, or why not.
    pub sources: Vec<(String, String)>,
    /// IPv4, then IPv6.
    pub families: Vec<FamilyStatusView>,
    /// What is wrong with the node, with objects, and with the configuration.
    pub problems: Vec<ProblemView>,
    /// What of the configuration files is not in effect.
    #[serde(default)]
    pub configuration: ConfigurationView,
}

/// What of the configuration files is not in effect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigurationView {
    /// Why the files are not used as they are now; none where they are.
    pub rejected: Option<String>,
    /// Changes that wait for the next start: `field: old becomes new`.
    pub waiting: Vec<String>,
}

/// How one family is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FamilyStatusView {
    /// `IPv4` or `IPv6`
    pub family: String,
    /// The table's name for nft.
    pub table: String,
    /// Who may change the table; none while it is not open.
    pub ownership: Option<String>,
    /// Rows in the kernel.
    pub rows: usize,
    /// Rows that the start found there.
    pub rows_adopted: usize,
    /// Ranges that ClusterIPs are taken from.
    pub service_ranges: Vec<String>,
    /// Ranges whose sources count as pods.
    pub pod_ranges: Vec<String>,
    /// Addresses that take nodePort traffic.
    pub node_port_addresses: Vec<String>,
    /// Transactions that changed something.
    pub changes: u64,
    /// Seconds since the last one.
    pub last_change_seconds_ago: Option<f64>,
    /// Rows it touched.
    pub last_change_rows: usize,
    /// From handing it to the kernel to the kernel's acknowledgement.
    pub last_change_microseconds: u64,
    /// Why changes wait; none where they do not.
    pub last_error: Option<String>,
    /// Transactions that failed as a whole.
    pub failures: u64,
    /// Services that are not, or not wholly, programmed.
    pub set_aside: usize,
    /// New connections whose client could not be remembered for session affinity, since the table was made.
    #[serde(default)]
    pub unremembered: u64,
    /// Flows that changes made wrong; none before the first change.
    #[serde(default)]
    pub udp_flows: Option<UdpFlowsView>,
}

/// What became of flows whose endpoints, addresses or Services are gone, or came too late for them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UdpFlowsView {
    /// Flows that were cut.
    pub cut: u64,
    /// Of them: UDP flows that an endpoint's last answer had begun.
    #[serde(default)]
    pub cut_turned: u64,
    /// Of them: TCP and SCTP connections that began before their frontend was there.
    #[serde(default)]
    pub cut_connecting: u64,
    /// How often flows were looked at after changes.
    pub reconciliations: u64,
    /// How often they were looked at once more.
    #[serde(default)]
    pub second_looks: u64,
    /// Seconds since the last time.
    pub last_seconds_ago: Option<f64>,
    /// How long that took.
    pub last_microseconds: u64,
    /// How many flows were read for it.
    pub last_read: u64,
    /// How often it failed.
    pub failures: u64,
    /// Why it failed the last time; none where it did not.
    pub last_error: Option<String>,
}

/// Something wrong with the node or an object.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProblemView {
    /// `ObjectKind namespace/name`, `file name`, `configuration`, or a part of the node: `interface name`, `chain …`
    pub object: String,
    /// Where, what, and what happens instead.
    pub problem: String,
    /// Whether `tandem status` fails for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fatal: bool,
}
