//! The settings that the agent takes from the configuration.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tandem_core::node::NodePortAddresses;

use crate::node_settings::DetectLocal;
use crate::ways::Ways;
use crate::xdp::XdpSettings;

/// The agent's settings.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in the files")]
pub struct Settings {
    /// The Node object's name.
    pub node_name: String,
    /// How traffic from pods is distinguished from other traffic.
    pub detect_local: DetectLocal,
    /// Whether all traffic to ClusterIPs is masqueraded.
    pub masquerade_all: bool,
    /// Which bit of the packet mark asks for masquerading.
    pub masquerade_bit: u8,
    /// Which of the node's addresses accept nodePort traffic.
    pub node_port_addresses: NodePortAddresses,
    /// The kubeconfig; none means the pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// The API server's address. It replaces the kubeconfig's.
    pub master: Option<String>,
    /// How the API server is asked for objects.
    pub ways: Ways,
    /// Where `/healthz` and `/livez` are served; none if they are turned off. An unspecified address of either family
    /// means all addresses of both, as in kube-proxy.
    pub healthz_bind_address: Option<SocketAddr>,
    /// Where `/proxyMode` and a plain `/healthz` are served, and later `/metrics`; none if they are turned off. An
    /// unspecified address means the same as above.
    pub metrics_bind_address: Option<SocketAddr>,
    /// Whether the agent ends if an address cannot be bound.
    pub bind_address_hard_fail: bool,
    /// Whether the agent writes Kubernetes Events about unusable objects.
    pub events: bool,
    /// Whether nodePorts are also served on loopback addresses.
    pub node_port_loopback: bool,
    /// Whether the ranges of ClusterIPs get a route to `lo`.
    pub service_routes: bool,
    /// Whether forwarded packets that conntrack calls invalid are dropped.
    pub drop_invalid: bool,
    /// The second data plane.
    pub xdp: XdpSettings,
    /// Whether the nftables tables that kube-proxy left are removed once everything is programmed.
    pub remove_kube_proxy_rules: bool,
    /// Kernel settings of connection tracking.
    pub conntrack: Conntrack,
    /// The kernel's OOM score adjustment for this process.
    pub oom_score_adj: i32,
    /// Where the local API is served.
    pub socket: PathBuf,
    /// What to log.
    pub log_filter: String,
    /// How to write the log.
    pub log_format: LogFormat,
    /// Both configurations with their defaults. Changes are found by comparing them.
    pub(super) effective: Effective,
}

/// The `conntrack` section. None leaves a setting as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conntrack {
    /// Connections per processor, and the least total.
    pub max: Option<ConntrackMax>,
    /// `nf_conntrack_tcp_timeout_established`
    pub tcp_established: Option<Duration>,
    /// `nf_conntrack_tcp_timeout_close_wait`
    pub tcp_close_wait: Option<Duration>,
    /// `nf_conntrack_tcp_be_liberal`
    pub tcp_be_liberal: bool,
    /// `nf_conntrack_udp_timeout`
    pub udp: Option<Duration>,
    /// `nf_conntrack_udp_timeout_stream`
    pub udp_stream: Option<Duration>,
}

/// How many connections may be tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConntrackMax {
    /// The number for each processor.
    pub per_core: u32,
    /// The least total.
    pub min: u32,
}

/// How to write the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Both configurations with their defaults.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Effective {
    pub(super) kube_proxy: Value,
    pub(super) tandem: Value,
}

impl Settings {
    /// The `KubeProxyConfiguration` that is in effect, with all its defaults. `--write-config-to` writes it.
    pub fn kube_proxy_configuration(&self) -> &Value {
        &self.effective.kube_proxy
    }
}
