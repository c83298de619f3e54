//! Keys of rows.

use ipnet::IpNet;

use crate::family::Family;
use crate::id::{EndpointId, ServiceId};

use super::{Frontend, L4Address, Row, RowKind};

/// The key of a row. No other row may have the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each variant is the key of the row of that name")]
pub enum Key<F: Family> {
    Frontend(Frontend<F>),
    Spread(ServiceId),
    Service(ServiceId),
    Slot(RowKind, ServiceId, u16),
    EndpointId(EndpointId),
    Addr(RowKind, F::Addr),
    Net(RowKind, F::Net),
    Restricted(L4Address<F>),
    AllowedSource(L4Address<F>, F::Net),
}

impl<F: Family> Row<F> {
    /// The row's key.
    pub fn key(&self) -> Key<F> {
        match self {
            Self::Frontend { frontend, .. } => Key::Frontend(*frontend),
            Self::Spread { service } => Key::Spread(*service),
            Self::Service { service, .. } => Key::Service(*service),
            Self::Endpoint { service, slot, .. } | Self::StickyEndpoint { service, slot, .. } => {
                Key::Slot(self.kind(), *service, *slot)
            }
            Self::EndpointId { id, .. } => Key::EndpointId(*id),
            Self::ClusterIp { addr } | Self::NodeAddress { addr } | Self::LocalEndpoint { addr } => {
                Key::Addr(self.kind(), *addr)
            }
            Self::ServiceCidr { net } | Self::LocalPods { net } => Key::Net(self.kind(), *net),
            Self::Restricted { at } => Key::Restricted(*at),
            Self::AllowedSource { at, source } => Key::AllowedSource(*at, *source),
        }
    }
}

impl<F: Family> Key<F> {
    /// Whether it covers a range of addresses.
    pub fn is_range(&self) -> bool {
        matches!(self, Self::Net(..) | Self::AllowedSource(..))
    }

    /// Whether rows with these two keys cannot exist together.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Net(kind, a), Self::Net(other, b)) => kind == other && have_common(*a, *b),
            (Self::AllowedSource(at, a), Self::AllowedSource(other, b)) => at == other && have_common(*a, *b),
            (a, b) => a == b,
        }
    }
}

fn have_common(a: impl Into<IpNet>, b: impl Into<IpNet>) -> bool {
    let (a, b) = (a.into(), b.into());
    a.contains(&b) || b.contains(&a)
}
