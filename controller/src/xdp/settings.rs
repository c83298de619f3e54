//! What the configuration says about the second data plane.

use std::path::PathBuf;

use tandem_core::object::Choice;

use super::devices::DevicePattern;

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
    /// `xdp.devices`
    pub devices: Vec<DevicePattern>,
    /// `xdp.mode`
    pub mode: DeviceMode,
    /// `xdp.maxFlows`: the most flows of each family; a multiple of a page, by a power of two.
    pub max_flows: u32,
}

/// Who runs the programs of devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceMode {
    /// Their drivers.
    #[default]
    Native,
    /// The kernel, on every device, and slower.
    Generic,
}

/// How many flows a page has.
pub const PAGE: u32 = 16_384;
/// The most flows of a family.
pub const MOST_FLOWS: u32 = 512 * PAGE;

impl XdpSettings {
    /// Whether sockets translate anything.
    pub fn wants_sockets(&self) -> bool {
        self.data_plane == DataPlane::Xdp && self.sockets != SocketsOf::Off
    }

    /// Whether packets from outside are looked at on any device.
    pub fn wants_devices(&self) -> bool {
        self.data_plane == DataPlane::Xdp && !self.devices.is_empty()
    }

    /// Whether any programs are loaded.
    pub fn wants_programs(&self) -> bool {
        self.wants_sockets() || self.wants_devices()
    }

    /// How many pages the flows of each family have.
    pub fn pages(&self) -> u32 {
        self.max_flows / PAGE
    }
}
