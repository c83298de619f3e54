//! Addresses of interfaces.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_bindings::rt_addr::{Ifaddrmsg, OpGetaddrDump, OpNewaddrDo};
use netlink_bindings::traits::NetlinkRequest as _;
use tandem_core::family::IpFamily;

use super::Scope;
use super::object::{Listed, UNSPECIFIED, kind, number};

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The index of the interface.
    pub link: u32,
    /// The address itself, with the length of the link's prefix.
    pub address: IpNet,
    /// The other end, if the link is point-to-point.
    pub peer: Option<IpAddr>,
    /// How far the address is valid.
    pub scope: Scope,
}

/// Addresses of one family or both, of one link or all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Addresses {
    /// Only this family.
    pub family: Option<IpFamily>,
    /// Only the link with this index.
    pub link: Option<u32>,
}

impl Listed for Address {
    type Filter = Addresses;
    const NAME: &'static str = "addresses";
    const GET: u16 = kind::ADDRESS + kind::GET;

    fn ask(filter: &Addresses, body: &mut Vec<u8>) {
        let header = Ifaddrmsg {
            ifa_family: filter.family.map_or(UNSPECIFIED, number),
            ifa_index: filter.link.unwrap_or_default(),
            ..Ifaddrmsg::new()
        };
        let _ = OpGetaddrDump::encode_request(body, &header);
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let (header, attributes) = OpGetaddrDump::decode_reply(body);
        // On a point-to-point link, `address` is the address of the other end. For IPv6, `local` exists only there.
        let (local, other) = (attributes.get_local().ok(), attributes.get_address().ok());
        let address = local.or(other)?;
        Some(Self {
            link: header.ifa_index,
            address: IpNet::new(address, header.ifa_prefixlen).ok()?,
            peer: other.filter(|other| *other != address),
            scope: Scope(header.ifa_scope),
        })
    }

    fn passes(&self, filter: &Addresses) -> bool {
        let family = IpFamily::of(self.address.addr());
        filter.family.is_none_or(|wanted| wanted == family) && filter.link.is_none_or(|link| link == self.link)
    }
}

impl Address {
    pub(super) fn encode(&self, body: &mut Vec<u8>) {
        let address = self.address.addr();
        let header = Ifaddrmsg {
            ifa_family: number(IpFamily::of(address)),
            ifa_prefixlen: self.address.prefix_len(),
            ifa_scope: self.scope.0,
            ifa_index: self.link,
            ..Ifaddrmsg::new()
        };
        let _ = OpNewaddrDo::encode_request(body, &header)
            .push_local(address)
            .push_address(self.peer.unwrap_or(address));
    }
}
