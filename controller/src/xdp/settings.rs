//! What the configuration says about the second data plane.

use std::path::PathBuf;

use tandem_core::object::Choice;

/// Which data plane answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DataPlane {
    /// nftables alone.
    #[default]
    Nft,
    /// eBPF answers what it can, by the rows of nftables. nftables has the others.
    Xdp,
}

/// Whose calls sockets translate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SocketsOf {
    /// The node's and the pods'.
    #[default]
    All,
    /// The node's alone. A mesh in the pods then sees ClusterIPs, as it does without Tandem.
    Node,
    /// Nobody's.
    Off,
}

/// The fields of the second data plane. All of them can change while the agent runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XdpSettings {
    /// `dataPlane`
    pub data_plane: DataPlane,
    /// `socketLoadBalancing`
    pub sockets: SocketsOf,
    /// `nodeCgroup`; none if the table of mounts says it.
    pub node_cgroup: Option<PathBuf>,
    /// `podCgroup`, below the node's; none for the names that kubelet uses.
    pub pod_cgroup: Option<PathBuf>,
    /// `bpfFolder`
    pub pins: PathBuf,
    /// `xdp.pick`
    pub pick: Choice,
}

impl XdpSettings {
    /// Whether sockets translate anything.
    pub fn wants_sockets(&self) -> bool {
        self.data_plane == DataPlane::Xdp && self.sockets != SocketsOf::Off
    }
}
