//! Rows: what a data plane stores. A row has a key and a value. Two rows with one [`Key`] cannot exist together.

mod key;
mod text;

use std::fmt;
use std::num::NonZeroU16;
use std::sync::Arc;

use crate::family::Family;
use crate::id::{EndpointId, ServiceId};

pub use key::Key;
pub use text::Value;

/// A transport protocol that Services can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

impl Protocol {
    /// The number in the IP header.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The protocol with this number in the IP header.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            132 => Some(Self::Sctp),
            _ => None,
        }
    }
}

/// Writes the protocol as the Kubernetes API does: `TCP`.
impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

/// A port number. It is never 0.
pub type Port = NonZeroU16;

/// The kind of a frontend's address. It decides about masquerading and short circuits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A ClusterIP.
    Cluster,
    /// An externalIP or a LoadBalancer ingress address.
    External,
}

/// What a packet is addressed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Frontend<F: Family> {
    /// An address that belongs to one Service port.
    Address {
        /// The kind of address.
        class: Class,
        /// The address and port.
        at: L4Address<F>,
    },
    /// A nodePort on the node's addresses.
    NodePort {
        /// The protocol.
        protocol: Protocol,
        /// The port on the node.
        port: Port,
    },
}

/// Address, protocol and port of a frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct L4Address<F: Family> {
    /// The address.
    pub addr: F::Addr,
    /// The protocol.
    pub protocol: Protocol,
    /// The port.
    pub port: Port,
}

/// The destination of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint<F: Family> {
    /// The pod's address.
    pub addr: F::Addr,
    /// The port on that address.
    pub port: Port,
}

/// How a Service answers a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pick {
    /// Any endpoint of the slots `0..count`.
    Any {
        /// How many endpoints the list has.
        count: Port,
    },
    /// The endpoint that this client was sent to before. If it has none, any of the slots `0..count`.
    Sticky {
        /// How many endpoints the list has.
        count: Port,
        /// How long a client is remembered.
        seconds: u32,
    },
    /// Refuse the connection at once.
    Refuse,
    /// Drop the packet without an answer.
    Discard,
}

/// "namespace/name:port". Rows carry it so that people who read the kernel's tables know which Service a row belongs
/// to.
pub type Label = Arc<str>;

/// One row of one family's table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each variant's line names its fields in their order, key : value"
)]
pub enum Row<F: Family> {
    /// frontend : list of endpoints
    Frontend {
        frontend: Frontend<F>,
        service: ServiceId,
        label: Label,
    },
    /// A list with endpoints that are picked by Maglev for packets from outside ([`crate::maglev`]). The cells are no rows:
    /// who picks by them computes them from the list. Only followers hold this row, see [`RowKind::is_stored`].
    Spread { service: ServiceId },
    /// list : how to pick
    Service {
        service: ServiceId,
        pick: Pick,
        label: Label,
    },
    /// list . slot : endpoint, for lists without affinity
    Endpoint {
        service: ServiceId,
        slot: u16,
        endpoint: Endpoint<F>,
    },
    /// list . slot : endpoint id, for lists with affinity
    StickyEndpoint {
        service: ServiceId,
        slot: u16,
        id: EndpointId,
    },
    /// endpoint id : endpoint, for lists with affinity
    EndpointId { id: EndpointId, endpoint: Endpoint<F> },
    /// An address that is a ClusterIP. Packets to a port of it that no Service has are refused.
    ClusterIp { addr: F::Addr },
    /// A range of ClusterIPs. Packets to an address of it that no Service has are discarded.
    ServiceCidr { net: F::Net },
    /// A range whose sources count as pods (detectLocal).
    LocalPods { net: F::Net },
    /// An address of this node that accepts nodePort traffic.
    NodeAddress { addr: F::Addr },
    /// An endpoint on this node that may reach itself through a Service.
    LocalEndpoint { addr: F::Addr },
    /// A LoadBalancer address that only some sources may reach (loadBalancerSourceRanges).
    Restricted { at: L4Address<F> },
    /// A source that may reach a restricted frontend.
    AllowedSource { at: L4Address<F>, source: F::Net },
}

/// The kinds of rows, in the order in which they are added: a row is added after the rows that it points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowKind {
    /// [`Row::EndpointId`]
    EndpointId,
    /// [`Row::StickyEndpoint`]
    StickyEndpoint,
    /// [`Row::Endpoint`]
    Endpoint,
    /// [`Row::Spread`]
    Spread,
    /// [`Row::Service`]
    Service,
    /// [`Row::ClusterIp`]
    ClusterIp,
    /// [`Row::ServiceCidr`]
    ServiceCidr,
    /// [`Row::LocalPods`]
    LocalPods,
    /// [`Row::NodeAddress`]
    NodeAddress,
    /// [`Row::LocalEndpoint`]
    LocalEndpoint,
    /// [`Row::AllowedSource`]
    AllowedSource,
    /// [`Row::Restricted`]
    Restricted,
    /// [`Row::Frontend`]
    Frontend,
}

impl RowKind {
    /// Whether a data plane stores rows of this kind. It is given no others, and hands back no others. They stand in the
    /// table all the same, so that followers get them.
    pub fn is_stored(self) -> bool {
        self != Self::Spread
    }
}

impl<F: Family> Row<F> {
    /// The row's kind.
    pub fn kind(&self) -> RowKind {
        match self {
            Self::Frontend { .. } => RowKind::Frontend,
            Self::Spread { .. } => RowKind::Spread,
            Self::Service { .. } => RowKind::Service,
            Self::Endpoint { .. } => RowKind::Endpoint,
            Self::StickyEndpoint { .. } => RowKind::StickyEndpoint,
            Self::EndpointId { .. } => RowKind::EndpointId,
            Self::ClusterIp { .. } => RowKind::ClusterIp,
            Self::ServiceCidr { .. } => RowKind::ServiceCidr,
            Self::LocalPods { .. } => RowKind::LocalPods,
            Self::NodeAddress { .. } => RowKind::NodeAddress,
            Self::LocalEndpoint { .. } => RowKind::LocalEndpoint,
            Self::Restricted { .. } => RowKind::Restricted,
            Self::AllowedSource { .. } => RowKind::AllowedSource,
        }
    }

    /// The list of endpoints that this row belongs to, if it belongs to one.
    pub fn service(&self) -> Option<ServiceId> {
        match self {
            Self::Frontend { service, .. }
            | Self::Spread { service }
            | Self::Service { service, .. }
            | Self::Endpoint { service, .. }
            | Self::StickyEndpoint { service, .. } => Some(*service),
            Self::EndpointId { id, .. } => Some(id.service()),
            _ => None,
        }
    }
    /// The name of the Service port that this row carries, if it carries one.
    pub fn label(&self) -> Option<&str> {
        match self {
            Self::Frontend { label, .. } | Self::Service { label, .. } => Some(label),
            _ => None,
        }
    }

    /// How an endpoint is picked, if this is the row that says so.
    pub fn pick(&self) -> Option<Pick> {
        match self {
            Self::Service { pick, .. } => Some(*pick),
            _ => None,
        }
    }
}
