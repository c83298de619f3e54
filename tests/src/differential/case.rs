//! What a client does: random cases.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use fastrand::Rng;

use super::history::{Specs, numbers};
use super::spec::{CLIENTS, Spec, Way, frontend};
use crate::addresses::Ip;

/// A datagram of this size goes in parts.
const IN_PARTS: usize = 4500;
/// The largest size that fits into one packet.
const WHOLE: usize = 1400;

/// A client's connection, or its datagrams of one socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    /// The Service, which may not be there.
    pub(super) number: u8,
    pub(super) way: Way,
    pub(super) family: Ip,
    pub(super) is_udp: bool,
    /// Which of the client's addresses.
    pub(super) client: u8,
    /// Whether it asks for a port that nobody has.
    is_stranger: bool,
    /// How long its questions are.
    pub(super) lengths: [usize; 2],
}

/// The list from which half of a step's cases are answered. So there are enough of them to tell its shares.
#[derive(Clone, Copy, Debug)]
pub(super) struct Favourite {
    number: u8,
    family: Ip,
    is_udp: bool,
}

fn family(random: &mut Rng) -> Ip {
    if random.bool() { Ip::V4 } else { Ip::V6 }
}

impl Favourite {
    /// One with several endpoints; none if there is no such list.
    pub(super) fn choose(specs: &Specs, random: &mut Rng) -> Option<Self> {
        let many = |spec: &&Spec| !spec.affinity && !spec.local && spec.set(Way::ClusterIp).len() > 1;
        let many: Vec<u8> = specs.values().filter(many).map(|spec| spec.number).collect();
        Some(Self {
            number: random.choice(many)?,
            family: family(random),
            is_udp: random.bool(),
        })
    }
}

impl Case {
    /// Any case.
    pub(super) fn choose(specs: &Specs, favourite: Option<Favourite>, random: &mut Rng) -> Self {
        let favourite = favourite.filter(|_| random.bool());
        let number = match favourite {
            Some(favourite) => favourite.number,
            None => random.choice(numbers().collect::<Vec<_>>()).unwrap_or_default(),
        };
        let is_udp = favourite.map_or_else(|| random.bool(), |favourite| favourite.is_udp);
        let has = |way: &Way| specs.get(&number).is_some_and(|spec| spec.has(*way));
        let mut ways: Vec<Way> = Way::ALL.into_iter().filter(has).collect();
        // Some go where nobody is, or nobody is any more.
        if ways.is_empty() || (favourite.is_none() && random.u8(..8) == 0) {
            ways = Way::ALL.to_vec();
        }
        let small = random.usize(..WHOLE);
        let lengths = match random.u8(..8) {
            0 if is_udp => [IN_PARTS, small],
            1 if is_udp => [small, IN_PARTS],
            0 | 1 => [small, IN_PARTS],
            _ => [small, random.usize(..WHOLE)],
        };
        Self {
            number,
            way: random.choice(ways).unwrap_or(Way::ClusterIp),
            family: favourite.map_or_else(|| family(random), |favourite| favourite.family),
            is_udp,
            client: random.u8(..CLIENTS),
            is_stranger: favourite.is_none() && random.u8(..16) == 0,
            lengths,
        }
    }

    /// Where it asks.
    pub(super) fn to(&self, node: IpAddr) -> SocketAddr {
        let mut to = frontend(self.number, self.way, self.family, node);
        if self.is_stranger {
            to.set_port(to.port() + 100);
        }
        to
    }

    /// The Service that it asks, if that has the frontend.
    pub(super) fn spec<'a>(&self, specs: &'a Specs) -> Option<&'a Spec> {
        let spec = specs.get(&self.number)?;
        (spec.has(self.way) && !self.is_stranger).then_some(spec)
    }

    /// Who may answer a new client; nobody if it is not let in.
    pub(super) fn set(&self, specs: &Specs) -> Vec<usize> {
        let spec = self.spec(specs).filter(|spec| spec.lets_in(self.way, self.client));
        spec.map(|spec| spec.set(self.way)).unwrap_or_default()
    }

    /// Whether XDP chooses who answers, if there is XDP.
    pub(super) fn is_xdps(&self, specs: &Specs) -> bool {
        let is_whole = !self.is_udp || self.lengths[0] <= WHOLE;
        let spec = self.spec(specs);
        is_whole && self.way != Way::ClusterIp && spec.is_some_and(|spec| !spec.is_local(self.way))
    }
}

impl fmt::Display for Case {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = if self.is_udp { "UDP" } else { "TCP" };
        let stranger = if self.is_stranger {
            ", at a port that nobody has"
        } else {
            ""
        };
        let (name, way, client) = (Spec::name(self.number), self.way, self.client);
        let (family, [one, other]) = (self.family, self.lengths);
        write!(
            formatter,
            "{protocol} {family:?}, client {client} to {name} by {way:?}{stranger}, {one} and {other} bytes"
        )
    }
}
