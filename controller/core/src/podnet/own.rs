//! This node's part of the pod network, and which way leads to a peer.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::carrier::Carrier;
use super::mac::Mac;
use super::peer::Peer;
use super::row::{Device, Hop, Row};
use super::said::{FAMILIES, PerFamily};
use crate::family::{Families, IpFamily};
use crate::node::InterfaceName;

/// The node's own address for one family of outer packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Underlay {
    /// The interface.
    pub link: InterfaceName,
    /// The address.
    pub address: IpAddr,
    /// The interface's MTU.
    pub mtu: u32,
    /// The ranges whose addresses are reached by this interface without a router.
    pub on_link: Vec<IpNet>,
}

/// This node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// Its name.
    pub name: Arc<str>,
    /// The range of its pods.
    pub pods: PerFamily<Option<IpNet>>,
    /// Its devices, by the family of their underlay. None if the family is not used, or not there.
    pub ends: PerFamily<Option<End>>,
    /// Over which families it takes pods of the other family, too.
    pub carries: Families,
    /// Whether peers on the same link are reached without VXLAN.
    pub direct: bool,
    /// The number of the network.
    pub vni: u32,
    /// The UDP port.
    pub port: u16,
    /// Its own addresses, on whatever interface.
    pub addresses: Vec<IpAddr>,
}

/// A device of this node's, and what is below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The device's name.
    pub name: InterfaceName,
    /// Its address.
    pub mac: Mac,
    /// The interface below it.
    pub underlay: Underlay,
}

/// Which way leads to the pods of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The peer is on this node's own link.
    Direct(InterfaceName, IpAddr),
    /// Over a carrier, to this device of the peer's.
    Over(Carrier, Mac, IpAddr),
}

/// Why none does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoWay {
    /// This node has no device for it.
    Here(IpFamily),
    /// The peer has none.
    There(IpFamily),
}

impl Own {
    /// The way to a peer's pods of a family. Both nodes come to the same answer, as far as VXLAN goes: each takes what both have.
    pub fn way(&self, peer: &Peer, pods: IpFamily) -> Result<Way, NoWay> {
        if let Some(way) = self.direct(peer, pods) {
            return Ok(way);
        }
        let [first, second] = Carrier::for_pods(pods);
        if let Some(way) = self.over(peer, first) {
            return Ok(way);
        }
        let family = second.underlay;
        if self.carries.contains(family)
            && peer.carries.contains(family)
            && let Some(way) = self.over(peer, second)
        {
            return Ok(way);
        }
        match self.ends.of(pods) {
            None => Err(NoWay::Here(pods)),
            Some(_) => Err(NoWay::There(pods)),
        }
    }

    fn direct(&self, peer: &Peer, pods: IpFamily) -> Option<Way> {
        let underlay = &self.ends.of(pods).as_ref().filter(|_| self.direct)?.underlay;
        let said = peer.vteps.of(pods).iter().map(|vtep| vtep.address);
        let mut addresses = said.chain(peer.addresses.iter().copied());
        let is_near = |addr: &IpAddr| underlay.on_link.iter().any(|range| range.contains(addr));
        let via = addresses.find(|addr| IpFamily::of(*addr) == pods && is_near(addr))?;
        Some(Way::Direct(underlay.link, via))
    }

    fn over(&self, peer: &Peer, carrier: Carrier) -> Option<Way> {
        self.ends.of(carrier.underlay).as_ref()?;
        let vtep = peer.vteps.of(carrier.underlay).as_ref()?;
        Some(Way::Over(carrier, vtep.mac, vtep.address))
    }

    /// The rows of this node itself.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for carrier in Carrier::ALL {
            let Some(End { name, mac, underlay }) = self.ends.of(carrier.underlay) else {
                continue;
            };
            rows.push(Row::Device(Device {
                carrier,
                name: *name,
                vni: self.vni,
                port: self.port,
                mac: *mac,
                mtu: underlay.mtu.saturating_sub(carrier.header()),
                local: underlay.address,
                link: underlay.link,
            }));
            for pods in FAMILIES {
                let goes_by_it = pods == carrier.underlay || self.carries.contains(carrier.underlay);
                if let Some(range) = self.pods.of(pods)
                    && goes_by_it
                {
                    rows.push(Row::Address {
                        on: carrier,
                        addr: range.network(),
                    });
                }
            }
        }
        let own = FAMILIES.into_iter().filter_map(|pods| *self.pods.of(pods));
        rows.extend(own.map(|range| Row::Refused { range }));
        rows
    }

    /// The largest packet that a pod may send: the smallest of its families' carriers.
    pub fn pod_mtu(&self) -> Option<u32> {
        let mtu = |carrier: &Carrier| {
            let end = self.ends.of(carrier.underlay).as_ref()?;
            Some(end.underlay.mtu.saturating_sub(carrier.header()))
        };
        Carrier::ALL.iter().filter_map(mtu).min()
    }
}

/// The rows that a way to a range needs.
pub fn rows_of_way(range: IpNet, way: Way) -> Vec<Row> {
    match way {
        Way::Direct(link, via) => vec![Row::Route {
            to: range,
            hop: Hop::Direct(link, via),
        }],
        Way::Over(on, mac, to) => {
            let addr = range.network();
            vec![
                Row::Fdb { on, mac, to },
                Row::Neighbour { on, addr, mac },
                Row::Route {
                    to: range,
                    hop: Hop::Over(on, addr),
                },
            ]
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct(link, via) => write!(f, "directly by {link} to {via}"),
            Self::Over(carrier, _, to) => write!(f, "{carrier} to {to}"),
        }
    }
}

impl fmt::Display for NoWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here(family) => write!(
                f,
                "this node has no device for {family}, and both do not say that they carry it otherwise"
            ),
            Self::There(family) => write!(
                f,
                "it has no device for {family}, and both do not say that they carry it otherwise"
            ),
        }
    }
}
