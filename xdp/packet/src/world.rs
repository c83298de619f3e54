//! What the program sees beside the packet.

use tandem_xdp_layout::{
    DeviceKey, DeviceNumber, FlowAddress, FlowKey, FragmentKey, FrontendKey, ListIndex, Mac, Maps, Record,
    RecordNumber, Switch, VisitorKey,
};

use crate::frame::Frame;

/// Where a packet's IP header is, and of which family it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Whether it is IPv6.
    pub six: bool,
    /// Whether there is a VLAN tag before it.
    pub tagged: bool,
}

/// What a route is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Way<A> {
    /// The source that the packet will have.
    pub source: A,
    /// Where it goes.
    pub to: A,
    /// The protocol.
    pub protocol: u8,
    /// How long the packet may be: the way must take one as long. 0 does not ask.
    pub length: u16,
}

/// What the routes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// By this device, to this neighbour.
    Out(u32, Mac),
    /// The neighbour is not known at this moment.
    NoNeighbour,
    /// The way takes only packets that are not larger than this.
    Small(u16),
    /// To the node itself, or nowhere.
    Elsewhere,
}

/// What the program sees of a packet's surroundings.
pub trait World {
    /// A packet.
    type Frame: Frame;

    /// The packet.
    fn frame(&self) -> Self::Frame;
    /// The packet with so many bytes more before it (or fewer); none if that is not to be had. Its parts are to be asked for again.
    fn grow(&self, by: i32) -> Option<Self::Frame>;
    /// The packet without what is behind its first `len` bytes.
    fn cut(&self, len: u32) -> Option<Self::Frame>;
    /// A word of the settings.
    fn setting(&self, at: usize) -> u64;
    /// The seconds since the node was started.
    fn now(&self) -> u32;
    /// The device that the packet came in by.
    fn ingress(&self) -> u32;
    /// That device's MAC address, if it is one whose packets are taken.
    fn ingress_mac(&self) -> Option<Mac>;
    /// The number of a device.
    fn device_number(&self, key: DeviceKey) -> Option<DeviceNumber>;
    /// A word of a device.
    fn device_word(&self, device: DeviceNumber, at: u32) -> u64;
    /// Whether one more answer may be sent in this second.
    fn may_answer(&self, most: u32) -> bool;
}

/// What it sees of one family.
pub trait FamilyWorld<A: FlowAddress>: World + Maps<A> {
    /// A record of a flow, or a bucket of the index.
    type Words: Record;

    /// The switch of the family's rows.
    fn switch(&self) -> Switch;
    /// Whether some frontend may have this port, in network order.
    fn has_port(&self, port: u16, protocol: u8) -> bool;
    /// A record.
    fn record(&self, number: RecordNumber) -> Option<Self::Words>;
    /// A bucket of the index.
    fn bucket(&self, number: u32) -> Option<Self::Words>;
    /// How many buckets the index has: a power of two.
    fn buckets(&self, pages: u32) -> u32 {
        // Twice as many words as there are records.
        pages * (2 * tandem_xdp_layout::SLOTS / tandem_xdp_layout::BUCKET)
    }
    /// Whether a source may reach a frontend that only some may reach.
    fn allows(&self, frontend: &FrontendKey<A>, source: A) -> bool;
    /// Counts a flow to the Service port of a list.
    fn count(&self, list: ListIndex);
    /// What is remembered of a flow that nftables has.
    fn held(&self, key: &FlowKey<A>) -> Option<u64>;
    /// Remembers a flow that nftables has.
    fn hold(&self, key: &FlowKey<A>, word: u64);
    /// What is remembered of a client.
    fn visitor(&self, key: &VisitorKey<A>) -> Option<u64>;
    /// Remembers a client.
    fn remember(&self, key: &VisitorKey<A>, word: u64);
    /// What is remembered of a packet's first fragment.
    fn fragment(&self, key: &FragmentKey<A>) -> Option<u64>;
    /// Remembers a packet's first fragment.
    fn remember_fragment(&self, key: &FragmentKey<A>, word: u64);
    /// Asks the routes.
    fn route(&self, way: &Way<A>) -> Route;
}
