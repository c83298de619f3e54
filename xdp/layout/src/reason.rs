//! Why a connection is left to nftables.

/// Why a program leaves what it sees to nftables. The number of each is its place in the array of counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Reason {
    /// It goes to no frontend. This is not counted: it is nobody's loss.
    NoFrontend = 0,
    /// The socket has sent to another frontend, and has the same endpoint there: it could not tell the answers apart.
    SameEndpoint = 1,
    /// The maps changed while they were read.
    Changing = 2,
    /// The Service port has no such list.
    NoList = 3,
    /// The Service port has no endpoint: the connection is refused.
    Refuse = 4,
    /// The Service port has no endpoint on this node: the packet is dropped.
    Discard = 5,
    /// Only some sources may reach the frontend, and a socket has no source yet.
    Restricted = 6,
    /// A UDP socket that is connected: no program sees all its datagrams.
    ConnectedUdp = 7,
    /// The protocol is neither TCP nor UDP.
    Protocol = 8,
    /// A pod asks a ClusterIP, and `masqueradeAll` wants the node's address as the source.
    MasqueradeAll = 9,
    /// The process is in the topmost cgroup folder, as the kernel's own threads are, for example those of NFS.
    KernelThread = 10,
    /// The socket is bound to a device.
    BoundToDevice = 11,
    /// The TCP socket is bound to an address or a port, or the UDP socket to an address.
    Bound = 12,
    /// A container that is not in kubelet's folder asks.
    NoPod = 13,
    /// nftables served the socket when sockets were switched on.
    Held = 14,
    /// The socket remembers four frontends already.
    FifthFrontend = 15,
    /// The kernel had no memory to remember the frontend in the socket.
    NoMemory = 16,
    /// A packet of TCP that belongs to no flow of XDP's, and begins none.
    NoFlow = 17,
    /// It goes to a ClusterIP.
    ClusterIp = 18,
    /// The frontend's traffic policy is Local.
    LocalPolicy = 19,
    /// The frontend's source ranges do not name the source: nftables drops it.
    Denied = 20,
    /// A fragment of a packet that belongs to no flow of XDP's.
    Fragment = 21,
    /// The header has options, or another header follows it.
    Options = 22,
    /// The packet is shorter than it says.
    Malformed = 23,
    /// The endpoint is on this node, or no device of XDP's leads to it.
    NoWayOut = 24,
    /// No device of XDP's leads to the client, or the client is this node.
    NoWayBack = 25,
    /// The MAC address of the next hop is not known.
    NoNeighbour = 26,
    /// The way out takes smaller packets only.
    SmallWay = 27,
    /// All ports towards this endpoint that were tried are in use.
    PageFull = 28,
    /// The index has no room for the client.
    IndexFull = 29,
    /// The packet has come as far as its hop limit (TTL) lets it.
    HopLimit = 30,
    /// XDP takes no new flows.
    Off = 31,
    /// The packet is larger than its way out takes, and is not answered. It is dropped.
    TooBig = 32,
    /// The device of a flow's way out is gone. The packet is dropped.
    NoDevice = 33,
    /// The driver left no room for a VLAN tag. The packet is dropped.
    NoRoom = 34,
    /// Flows are being carried over from another layout, and the packet may belong to one. It is dropped.
    Moving = 35,
    /// The device of the way out has no address of the family that the endpoint could answer to.
    NoSource = 36,
}

impl Reason {
    /// All reasons, each at its number.
    pub const ALL: [Self; 37] = [
        Self::NoFrontend,
        Self::SameEndpoint,
        Self::Changing,
        Self::NoList,
        Self::Refuse,
        Self::Discard,
        Self::Restricted,
        Self::ConnectedUdp,
        Self::Protocol,
        Self::MasqueradeAll,
        Self::KernelThread,
        Self::BoundToDevice,
        Self::Bound,
        Self::NoPod,
        Self::Held,
        Self::FifthFrontend,
        Self::NoMemory,
        Self::NoFlow,
        Self::ClusterIp,
        Self::LocalPolicy,
        Self::Denied,
        Self::Fragment,
        Self::Options,
        Self::Malformed,
        Self::NoWayOut,
        Self::NoWayBack,
        Self::NoNeighbour,
        Self::SmallWay,
        Self::PageFull,
        Self::IndexFull,
        Self::HopLimit,
        Self::Off,
        Self::TooBig,
        Self::NoDevice,
        Self::NoRoom,
        Self::Moving,
        Self::NoSource,
    ];

    /// How many places an array of counts has.
    pub const PLACES: u32 = 64;

    /// Its place in the array of counts.
    #[inline(always)]
    pub fn number(self) -> u32 {
        self as u32
    }

    /// It in words, for `tandem status`.
    pub fn words(self) -> &'static str {
        match self {
            Self::NoFrontend => "goes to no frontend",
            Self::SameEndpoint => "second frontend of a socket's endpoint",
            Self::Changing => "maps changed meanwhile",
            Self::NoList => "no list of endpoints",
            Self::Refuse => "refused: no endpoint",
            Self::Discard => "discarded: no endpoint on this node",
            Self::Restricted => "source ranges",
            Self::ConnectedUdp => "connected UDP",
            Self::Protocol => "neither TCP nor UDP",
            Self::MasqueradeAll => "masqueradeAll",
            Self::KernelThread => "process in the topmost cgroup folder (kernel threads)",
            Self::BoundToDevice => "bound to a device",
            Self::Bound => "bound to an address or port",
            Self::NoPod => "container that is no pod",
            Self::Held => "served by nftables before",
            Self::FifthFrontend => "fifth frontend of a socket",
            Self::NoMemory => "no memory",
            Self::NoFlow => "TCP of no flow of XDP's",
            Self::ClusterIp => "ClusterIP",
            Self::LocalPolicy => "traffic policy Local",
            Self::Denied => "source not in the source ranges",
            Self::Fragment => "fragment of no flow of XDP's",
            Self::Options => "IP options or extension headers",
            Self::Malformed => "shorter than it says",
            Self::NoWayOut => "endpoint on this node, or behind no XDP device",
            Self::NoWayBack => "client on this node, or behind no XDP device",
            Self::NoNeighbour => "next hop's MAC address unknown",
            Self::SmallWay => "way out has a smaller MTU",
            Self::PageFull => "no free port towards the endpoint",
            Self::IndexFull => "no room in the index of clients",
            Self::HopLimit => "hop limit (TTL) reached",
            Self::Off => "XDP takes no new flows",
            Self::TooBig => "dropped: larger than the way out takes",
            Self::NoDevice => "dropped: device of the way out is gone",
            Self::NoRoom => "dropped: no room for a VLAN tag",
            Self::Moving => "dropped: flows are being carried over",
            Self::NoSource => "device of the way out has no address of the family",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn each_reason_stands_at_its_number() {
        for (number, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason.number() as usize, number);
        }
    }
}
