//! Routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_bindings::rt_route::{OpGetrouteDump, OpNewrouteDo, RtmFlag, Rtmsg};
use netlink_bindings::traits::NetlinkRequest as _;
use tandem_core::family::IpFamily;

use super::object::{Listed, family, kind, number};

/// `RTM_F_CLONED`: an entry of the kernel's cache, not a route that somebody made.
const CLONED: u32 = RtmFlag::Cloned as u32;
/// `RTNH_F_ONLINK`: the gateway is on the link, even if no range of the link contains it.
const ON_LINK: u32 = 4;

/// How far a route's destination is away (`RT_SCOPE_…`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope(pub u8);

impl Scope {
    /// Anywhere. IPv6 routes have no other.
    pub const UNIVERSE: Self = Self(0);
    /// On the link.
    pub const LINK: Self = Self(253);
    /// On this host.
    pub const HOST: Self = Self(254);
}

/// Who made a route or a rule (`RTPROT_…`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin(pub u8);

impl Origin {
    /// Tandem. No routing daemon has this number.
    pub const TANDEM: Self = Self(116);
}

/// What happens to packets that take a route (`RTN_…`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteKind(pub u8);

impl RouteKind {
    /// They are forwarded.
    pub const UNICAST: Self = Self(1);
    /// They are for this host.
    pub const LOCAL: Self = Self(2);
    /// They are dropped.
    pub const BLACKHOLE: Self = Self(6);
    /// They are refused.
    pub const UNREACHABLE: Self = Self(7);
}

/// A route with at most one next hop. Parts that Tandem does not need (metrics, several next hops) are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its destination.
    pub destination: IpNet,
    /// The routing table that it is in.
    pub table: u32,
    /// The index of the link that packets leave by.
    pub link: Option<u32>,
    /// The next hop.
    pub gateway: Option<IpAddr>,
    /// Whether the next hop is on the link, even if no range of the link contains it.
    pub on_link: bool,
    /// The source address that the node's own packets get.
    pub source: Option<IpAddr>,
    /// The lowest wins. 0 lets the kernel choose: for IPv6 it takes 1024.
    pub metric: u32,
    /// Who made it.
    pub origin: Origin,
    /// How far the destination is away.
    pub scope: Scope,
    /// What happens to its packets.
    pub kind: RouteKind,
}

/// The routes of one family, in one table or in all.
#[derive(Clone, Copy, Debug)]
pub struct Routes {
    /// The family.
    pub family: IpFamily,
    /// Only this table.
    pub table: Option<u32>,
    /// Only those that leave by this link.
    pub link: Option<u32>,
}

impl Listed for Route {
    type Filter = Routes;
    const NAME: &'static str = "routes";
    const GET: u16 = kind::ROUTE + kind::GET;

    fn ask(filter: &Routes, body: &mut Vec<u8>) {
        let header = Rtmsg {
            rtm_family: number(filter.family),
            ..Rtmsg::new()
        };
        let mut request = OpGetrouteDump::encode_request(body, &header);
        if let Some(table) = filter.table {
            request = request.push_table(table);
        }
        if let Some(link) = filter.link {
            let _ = request.push_oif(link);
        }
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let (header, route) = OpGetrouteDump::decode_reply(body);
        let everything = match family(header.rtm_family)? {
            IpFamily::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpFamily::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        if header.rtm_flags & CLONED != 0 {
            return None;
        }
        // A default route has no destination.
        let destination = route.get_dst().unwrap_or(everything);
        Some(Self {
            destination: IpNet::new(destination, header.rtm_dst_len).ok()?,
            table: route.get_table().unwrap_or(header.rtm_table.into()),
            link: route.get_oif().ok(),
            gateway: route.get_gateway().ok(),
            on_link: header.rtm_flags & ON_LINK != 0,
            source: route.get_prefsrc().ok(),
            metric: route.get_priority().unwrap_or_default(),
            origin: Origin(header.rtm_protocol),
            scope: Scope(header.rtm_scope),
            kind: RouteKind(header.rtm_type),
        })
    }

    fn passes(&self, filter: &Routes) -> bool {
        IpFamily::of(self.destination.addr()) == filter.family
            && filter.table.is_none_or(|table| table == self.table)
            && filter.link.is_none_or(|link| Some(link) == self.link)
    }
}

impl Route {
    pub(super) fn encode(&self, body: &mut Vec<u8>) {
        let header = Rtmsg {
            rtm_family: number(IpFamily::of(self.destination.addr())),
            rtm_dst_len: self.destination.prefix_len(),
            rtm_protocol: self.origin.0,
            rtm_scope: self.scope.0,
            rtm_type: self.kind.0,
            rtm_flags: if self.on_link { ON_LINK } else { 0 },
            ..Rtmsg::new()
        };
        let mut route = OpNewrouteDo::encode_request(body, &header)
            .push_dst(self.destination.network())
            .push_table(self.table);
        if let Some(link) = self.link {
            route = route.push_oif(link);
        }
        if let Some(gateway) = self.gateway {
            route = route.push_gateway(gateway);
        }
        if let Some(source) = self.source {
            route = route.push_prefsrc(source);
        }
        if self.metric != 0 {
            let _ = route.push_priority(self.metric);
        }
    }
}
