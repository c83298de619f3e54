//! The keys of rows as bytes, as the kernel compares them. Rows that exclude each other have the same set and the
//! same key. Used to write elements. Does not read answers of the kernel.

use std::net::IpAddr;

use ipnet::IpNet;
use tandem_core::family::Family;
use tandem_core::id::{EndpointId, ServiceId};
use tandem_core::row::{Class, Frontend, L4Address, Port, Protocol, Row};

use crate::elements::sets::Set;

/// Bytes of a key or value: at most address, protocol, port and address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    bytes: [u8; Self::MOST],
    len: usize,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.bytes().fmt(f)
    }
}

impl Key {
    const MOST: usize = 40;

    pub(crate) fn new() -> Self {
        Self {
            bytes: [0; Self::MOST],
            len: 0,
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Appends a part and pads it to whole words of four bytes.
    fn part(mut self, part: &[u8]) -> Self {
        self.bytes[self.len..self.len + part.len()].copy_from_slice(part);
        self.len += part.len().next_multiple_of(4);
        self
    }

    pub(crate) fn addr<F: Family>(self, addr: &F::Addr) -> Self {
        self.part(F::octets(addr).as_ref())
    }

    pub(crate) fn ip(self, addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(addr) => self.part(&addr.octets()),
            IpAddr::V6(addr) => self.part(&addr.octets()),
        }
    }

    fn protocol(self, protocol: Protocol) -> Self {
        self.part(&[protocol.number()])
    }

    pub(crate) fn port(self, port: Port) -> Self {
        self.part(&port.get().to_be_bytes())
    }

    fn socket<F: Family>(self, at: &L4Address<F>) -> Self {
        self.addr::<F>(&at.addr).protocol(at.protocol).port(at.port)
    }

    /// A number as a packet carries it in its priority.
    pub(crate) fn priority(self, number: u32) -> Self {
        self.part(&number.to_ne_bytes())
    }

    pub(crate) fn service(self, id: ServiceId) -> Self {
        self.priority(id.raw())
    }

    pub(crate) fn endpoint(self, id: EndpointId) -> Self {
        self.priority(id.raw())
    }

    fn slot(self, slot: u16) -> Self {
        self.part(&u32::from(slot).to_ne_bytes())
    }
}

/// The keys that a row's elements cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    /// One key.
    One(Key),
    /// All keys from the first to the last, as one element.
    Range(Key, Key),
    /// All keys from the first up to the second, which is not one of them, as two elements. Without a second key, all
    /// keys from the first on.
    Until(Key, Option<Key>),
}

/// The set that holds a row.
///
/// # Panics
///
/// If no set holds rows of this kind. Changes have no such rows ([`tandem_core::plane::DataPlane`]).
pub(crate) fn set_of<F: Family>(row: &Row<F>) -> Set {
    match row {
        Row::Frontend {
            frontend: Frontend::Address {
                class: Class::Cluster, ..
            },
            ..
        } => Set::ClusterFrontends,
        Row::Frontend {
            frontend: Frontend::Address {
                class: Class::External, ..
            },
            ..
        } => Set::ExternalFrontends,
        Row::Frontend {
            frontend: Frontend::NodePort { .. },
            ..
        } => Set::NodePorts,
        Row::Spread { .. } => unreachable!("a change has a row that only followers hold"),
        Row::Service { .. } => Set::Services,
        Row::Endpoint { .. } => Set::Endpoints,
        Row::StickyEndpoint { .. } => Set::StickyEndpoints,
        Row::EndpointId { .. } => Set::EndpointIds,
        Row::ClusterIp { .. } => Set::ClusterIps,
        Row::ServiceCidr { .. } => Set::ServiceCidrs,
        Row::LocalPods { .. } => Set::LocalPods,
        Row::NodeAddress { .. } => Set::NodeAddresses,
        Row::LocalEndpoint { .. } => Set::Hairpin,
        Row::Restricted { .. } => Set::RestrictedFrontends,
        Row::AllowedSource { .. } => Set::AllowedSources,
    }
}

/// The keys of a row.
pub(crate) fn keys_of<F: Family>(row: &Row<F>) -> Keys {
    let key = Key::new();
    Keys::One(match row {
        Row::Frontend {
            frontend: Frontend::Address { at, .. },
            ..
        }
        | Row::Restricted { at } => key.socket(at),
        Row::Frontend {
            frontend: Frontend::NodePort { protocol, port },
            ..
        } => key.protocol(*protocol).port(*port),
        Row::Spread { service } | Row::Service { service, .. } => key.service(*service),
        Row::Endpoint { service, slot, .. } | Row::StickyEndpoint { service, slot, .. } => {
            key.service(*service).slot(*slot)
        }
        Row::EndpointId { id, .. } => key.endpoint(*id),
        Row::ClusterIp { addr } | Row::NodeAddress { addr } => key.addr::<F>(addr),
        Row::LocalEndpoint { addr } => key.addr::<F>(addr).addr::<F>(addr),
        Row::ServiceCidr { net } | Row::LocalPods { net } => {
            let net: IpNet = (*net).into();
            return Keys::Until(key.ip(net.network()), after(net.broadcast()).map(|addr| key.ip(addr)));
        }
        Row::AllowedSource { at, source } => {
            let (key, net): (_, IpNet) = (key.socket(at), (*source).into());
            return Keys::Range(key.ip(net.network()), key.ip(net.broadcast()));
        }
    })
}

/// The next higher address, if there is one.
fn after(addr: IpAddr) -> Option<IpAddr> {
    match addr {
        IpAddr::V4(addr) => addr.to_bits().checked_add(1).map(|bits| IpAddr::V4(bits.into())),
        IpAddr::V6(addr) => addr.to_bits().checked_add(1).map(|bits| IpAddr::V6(bits.into())),
    }
}
