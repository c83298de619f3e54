//! A slice's endpoints, packed. A node holds every endpoint of the cluster, so each takes only 5 bytes (IPv4) or 17
//! (IPv6).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Conditions, SliceEndpoint};

/// The endpoints of one slice, in their order.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoints(List);

#[derive(Clone, PartialEq, Eq)]
enum List {
    /// All addresses are IPv4.
    V4(Box<[([u8; 4], Flags)]>),
    /// Any addresses. An IPv4 address is stored as an IPv4-mapped one. No endpoint has an address that is IPv4-mapped:
    /// [`crate::addr::parse_ip`] reads it as IPv4.
    Any(Box<[([u8; 16], Flags)]>),
}

/// Conditions, and whether the endpoint is on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flags(u8);

impl Flags {
    const READY: u8 = 1;
    const SERVING: u8 = 2;
    const TERMINATING: u8 = 4;
    const LOCAL: u8 = 8;

    fn of(endpoint: &SliceEndpoint) -> Self {
        let conditions = endpoint.conditions;
        let all = [
            (conditions.ready, Self::READY),
            (conditions.serving, Self::SERVING),
            (conditions.terminating, Self::TERMINATING),
            (endpoint.local, Self::LOCAL),
        ];
        Self(all.into_iter().filter(|(set, _)| *set).map(|(_, flag)| flag).sum())
    }

    fn with(self, addr: IpAddr) -> SliceEndpoint {
        let set = |flag| self.0 & flag != 0;
        SliceEndpoint {
            addr,
            conditions: Conditions {
                ready: set(Self::READY),
                serving: set(Self::SERVING),
                terminating: set(Self::TERMINATING),
            },
            local: set(Self::LOCAL),
        }
    }
}

impl Endpoints {
    /// How many there are.
    pub fn len(&self) -> usize {
        match &self.0 {
            List::V4(list) => list.len(),
            List::Any(list) => list.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All endpoints.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = SliceEndpoint> + '_ {
        (0..self.len()).map(|at| match &self.0 {
            List::V4(list) => list[at].1.with(Ipv4Addr::from(list[at].0).into()),
            List::Any(list) => list[at].1.with(Ipv6Addr::from(list[at].0).to_canonical()),
        })
    }
}

impl Default for Endpoints {
    fn default() -> Self {
        Self(List::V4(Box::default()))
    }
}

impl fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl From<&[SliceEndpoint]> for Endpoints {
    fn from(endpoints: &[SliceEndpoint]) -> Self {
        let v4 = |endpoint: &SliceEndpoint| match endpoint.addr {
            IpAddr::V4(addr) => Some((addr.octets(), Flags::of(endpoint))),
            IpAddr::V6(_) => None,
        };
        let any = |endpoint: &SliceEndpoint| {
            let addr = match endpoint.addr {
                IpAddr::V4(addr) => addr.to_ipv6_mapped(),
                IpAddr::V6(addr) => addr,
            };
            (addr.octets(), Flags::of(endpoint))
        };
        Self(match endpoints.iter().map(v4).collect() {
            Some(all) => List::V4(all),
            None => List::Any(endpoints.iter().map(any).collect()),
        })
    }
}

impl FromIterator<SliceEndpoint> for Endpoints {
    fn from_iter<T: IntoIterator<Item = SliceEndpoint>>(endpoints: T) -> Self {
        let endpoints: Vec<_> = endpoints.into_iter().collect();
        Self::from(&*endpoints)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn endpoints() -> impl Strategy<Value = Vec<SliceEndpoint>> {
        let addr = prop_oneof![
            any::<Ipv4Addr>().prop_map(IpAddr::from),
            any::<Ipv6Addr>().prop_map(|addr| addr.to_canonical())
        ];
        let flags = (0u8..16).prop_map(Flags);
        prop::collection::vec((addr, flags).prop_map(|(addr, flags)| flags.with(addr)), 0..8)
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(endpoints in endpoints()) {
            let packed: Endpoints = endpoints.iter().copied().collect();
            prop_assert_eq!(packed.iter().collect::<Vec<_>>(), endpoints);
        }
    }

    #[test]
    fn an_endpoint_takes_five_or_seventeen_bytes() {
        assert_eq!(size_of::<([u8; 4], Flags)>(), 5);
        assert_eq!(size_of::<([u8; 16], Flags)>(), 17);
    }
}
