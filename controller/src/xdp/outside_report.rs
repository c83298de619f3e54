//! What readers of the status want to know of packets from outside.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use tandem_core::family::IpFamily;
use tandem_core::row::Protocol;

use crate::net::Mac;

/// Where packets from outside are in their life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OutsideStage {
    /// Nobody asked for it, and nothing is left of it.
    #[default]
    Off,
    /// Nobody asks for it any more. Its flows go on until this time, unless all end before.
    Ending {
        /// Until when.
        until: SystemTime,
    },
    /// It is on its way.
    Waiting {
        /// What it waits for.
        why: Arc<str>,
    },
    /// New flows are taken.
    On {
        /// Since when.
        since: SystemTime,
    },
    /// It cannot be. nftables answers alone, and it is tried again.
    Failed {
        /// Why.
        why: Arc<str>,
    },
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceState {
    /// Its name.
    pub name: String,
    /// Its index; 0 if there is none.
    pub index: u32,
    /// What it is used for.
    pub role: DeviceRole,
}

/// What a device is used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceRole {
    /// Packets that come in by it are looked at, and packets may leave by it.
    Attached {
        /// `native` or `generic`
        mode: &'static str,
        /// Since when.
        since: SystemTime,
    },
    /// Packets may leave by it, with a VLAN tag and by another device.
    WayOut {
        /// The VLAN's number.
        vlan: u16,
        /// The name of the other device.
        carrier: String,
    },
    /// nftables serves it.
    Refused {
        /// Why.
        why: Arc<str>,
    },
}

/// The state of packets from outside.
#[derive(Clone, Default)]
pub struct OutsideState {
    /// Whether the configuration names devices.
    pub wanted: bool,
    /// Where it is in its life.
    pub stage: OutsideStage,
    /// The devices.
    pub devices: Vec<DeviceState>,
    /// How many instructions the kernel's verifier looked at.
    pub verified: u64,
    /// What the programs count; none if there is nothing of them.
    pub counts: Option<Arc<dyn OutsideCounts>>,
}

/// What the programs in the kernel know. It is read when somebody asks.
pub trait OutsideCounts: Send + Sync {
    /// What was done with packets of a family.
    fn traffic(&self, family: IpFamily) -> TrafficCounts;

    /// How full a family's pages are.
    fn fill(&self, family: IpFamily) -> Fill;

    /// The flows of a family.
    fn flows(&self, family: IpFamily, each: &mut dyn FnMut(FlowShown));
}

/// Packets of a family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrafficCounts {
    /// How many were translated and sent.
    pub sent: u64,
    /// How many were answered, because they were too big.
    pub answered: u64,
    /// How many were passed to nftables, or dropped, by reason.
    pub left: Vec<(String, u64)>,
}

/// How full a family's pages are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fill {
    /// The pages, of 16,384 records each.
    pub pages: u32,
    /// The records of flows.
    pub flows: u32,
    /// The records of flows that are over.
    pub over: u32,
    /// The ports that somebody else uses.
    pub held: u32,
    /// The most records that are not free in one page.
    pub fullest: u32,
}

/// A flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowShown {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Who asked.
    pub client: SocketAddr,
    /// What it asked for.
    pub frontend: SocketAddr,
    /// Who answers.
    pub endpoint: SocketAddr,
    /// What the endpoint sees as the client.
    pub source: SocketAddr,
    /// What it is doing, as `conntrack -L` has it.
    pub state: &'static str,
    /// For how many seconds there has been one.
    pub age: u32,
    /// For how many seconds there was no packet.
    pub idle: u32,
    /// Where packets to the endpoint go next.
    pub to_endpoint: HopShown,
    /// Where packets to the client go next.
    pub to_client: HopShown,
}

/// Where packets go next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HopShown {
    /// The index of the device; none if it is gone.
    pub device: Option<u32>,
    /// The neighbour's MAC address.
    pub mac: Mac,
    /// Whether it was found by the routes as they are now.
    pub current: bool,
}
