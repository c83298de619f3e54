//! Neighbours and FDB entries. A neighbour says which link-layer address an IP address has on a link (ARP and neighbour
//! discovery). An FDB entry says how to reach a link-layer address: by which port of a bridge, or by which VTEP behind
//! a VXLAN device.

use std::fmt;
use std::net::IpAddr;

use netlink_bindings::rt_neigh::{Ndmsg, NtfFlags, NudState, OpGetneighDump, OpNewneighDo};
use netlink_bindings::traits::NetlinkRequest as _;
use tandem_core::family::IpFamily;

use super::object::{BRIDGE, Listed, UNSPECIFIED, family, kind, number};

/// `NTF_SELF`: the entry of the device itself.
const SELF: u8 = NtfFlags::_Self as u8;
/// `NTF_USE`: the entry is used now.
const USE: u8 = NtfFlags::Use as u8;
/// `NTF_MASTER`: the entry of the bridge that the device belongs to.
const MASTER: u8 = NtfFlags::Master as u8;

/// A link-layer address of six bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let colon = if index == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02x}")?;
        }
        Ok(())
    }
}

/// The kernel's state of an entry (`NUD_…`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighbourState(pub u16);

impl NeighbourState {
    /// The kernel never checks the entry and never removes it.
    pub const PERMANENT: Self = Self(NudState::Permanent as u16);
    /// The neighbour did not answer.
    pub const FAILED: Self = Self(NudState::Failed as u16);
}

/// A neighbour's link-layer address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The index of the link.
    pub link: u32,
    /// The neighbour's address.
    pub address: IpAddr,
    /// Its link-layer address. None if it is not known.
    pub mac: Option<Mac>,
    /// The kernel's state of the entry.
    pub state: NeighbourState,
}

/// Neighbours of one family or both, on one link or all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Neighbours {
    /// Only this family.
    pub family: Option<IpFamily>,
    /// Only on the link with this index.
    pub link: Option<u32>,
}

impl Listed for Neighbour {
    type Filter = Neighbours;
    const NAME: &'static str = "neighbours";
    const GET: u16 = kind::NEIGHBOUR + kind::GET;

    fn ask(filter: &Neighbours, body: &mut Vec<u8>) {
        ask(filter.family.map_or(UNSPECIFIED, number), filter.link, body);
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let (header, neighbour) = OpGetneighDump::decode_reply(body);
        family(header.ndm_family)?;
        Some(Self {
            link: u32::try_from(header.ndm_ifindex).ok()?,
            address: neighbour.get_dst().ok()?,
            mac: mac(neighbour.get_lladdr().ok()),
            state: NeighbourState(header.ndm_state),
        })
    }

    fn passes(&self, filter: &Neighbours) -> bool {
        let family = IpFamily::of(self.address);
        filter.family.is_none_or(|wanted| wanted == family) && filter.link.is_none_or(|link| link == self.link)
    }
}

impl Neighbour {
    pub(super) fn encode(&self, body: &mut Vec<u8>) {
        let header = header(number(IpFamily::of(self.address)), self.link, self.state, 0);
        let entry = OpNewneighDo::encode_request(body, &header).push_dst(self.address);
        if let Some(Mac(mac)) = self.mac {
            let _ = entry.push_lladdr(&mac);
        }
    }

    pub(super) fn encode_probe(&self, body: &mut Vec<u8>) {
        let header = header(number(IpFamily::of(self.address)), self.link, NeighbourState(0), USE);
        let _ = OpNewneighDo::encode_request(body, &header).push_dst(self.address);
    }
}

/// An entry of the forwarding table of a bridge or a VXLAN device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FdbEntry {
    /// The index of the device.
    pub link: u32,
    /// The link-layer address that packets are for. All zeros means all unknown addresses.
    pub mac: Mac,
    /// The VTEP that they are sent to. None for an entry of a bridge.
    pub vtep: Option<IpAddr>,
    /// Whether the entry belongs to the bridge of the device, not to the device itself.
    pub of_master: bool,
    /// The kernel's state of the entry.
    pub state: NeighbourState,
}

/// The FDB entries of one device or of all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fdb {
    /// Only those of the device with this index.
    pub link: Option<u32>,
}

impl Listed for FdbEntry {
    type Filter = Fdb;
    const NAME: &'static str = "FDB entries";
    const GET: u16 = kind::NEIGHBOUR + kind::GET;

    fn ask(filter: &Fdb, body: &mut Vec<u8>) {
        ask(BRIDGE, filter.link, body);
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let (header, entry) = OpGetneighDump::decode_reply(body);
        if header.ndm_family != BRIDGE {
            return None;
        }
        Some(Self {
            link: u32::try_from(header.ndm_ifindex).ok()?,
            mac: mac(entry.get_lladdr().ok())?,
            vtep: entry.get_dst().ok(),
            of_master: header.ndm_flags & MASTER != 0,
            state: NeighbourState(header.ndm_state),
        })
    }

    fn passes(&self, filter: &Fdb) -> bool {
        filter.link.is_none_or(|link| link == self.link)
    }
}

impl FdbEntry {
    pub(super) fn encode(&self, body: &mut Vec<u8>) {
        let owner = if self.of_master { MASTER } else { SELF };
        let header = header(BRIDGE, self.link, self.state, owner);
        let entry = OpNewneighDo::encode_request(body, &header).push_lladdr(&self.mac.0);
        if let Some(vtep) = self.vtep {
            let _ = entry.push_dst(vtep);
        }
    }
}

fn ask(family: u8, link: Option<u32>, body: &mut Vec<u8>) {
    let header = Ndmsg {
        ndm_family: family,
        ..Ndmsg::new()
    };
    let request = OpGetneighDump::encode_request(body, &header);
    if let Some(link) = link {
        let _ = request.push_ifindex(link);
    }
}

fn header(family: u8, link: u32, state: NeighbourState, flags: u8) -> Ndmsg {
    Ndmsg {
        ndm_family: family,
        ndm_ifindex: link.cast_signed(),
        ndm_state: state.0,
        ndm_flags: flags,
        ..Ndmsg::new()
    }
}

fn mac(bytes: Option<&[u8]>) -> Option<Mac> {
    bytes?.try_into().ok().map(Mac)
}
