//! Rows as text for people: `key : value`.

use std::fmt;

use crate::family::Family;

use super::{Class, Frontend, L4Address, Pick, Row};

impl<F: Family> fmt::Display for L4Address<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.addr, self.port, self.protocol)
    }
}

impl<F: Family> fmt::Display for Frontend<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address {
                class: Class::Cluster,
                at,
            } => write!(f, "cluster {at}"),
            Self::Address {
                class: Class::External,
                at,
            } => write!(f, "external {at}"),
            Self::NodePort { protocol, port } => write!(f, "node-port {port}/{protocol}"),
        }
    }
}

impl fmt::Display for Pick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any { count } => write!(f, "any of {count}"),
            Self::Sticky { count, seconds } => write!(f, "sticky of {count} for {seconds}s"),
            Self::Refuse => f.write_str("refuse"),
            Self::Discard => f.write_str("discard"),
        }
    }
}

/// Writes `kind key : value`, without the label.
impl<F: Family> fmt::Display for Row<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frontend { frontend, .. } => write!(f, "frontend {frontend}"),
            Self::Spread { service } => write!(f, "spread {service}"),
            Self::Service { service, .. } => write!(f, "service {service}"),
            Self::Endpoint { service, slot, .. } => write!(f, "endpoint {service} . {slot}"),
            Self::StickyEndpoint { service, slot, .. } => write!(f, "sticky-endpoint {service} . {slot}"),
            Self::EndpointId { id, .. } => write!(f, "endpoint-id {id}"),
            Self::ClusterIp { addr } => write!(f, "cluster-ip {addr}"),
            Self::ServiceCidr { net } => write!(f, "service-cidr {net}"),
            Self::LocalPods { net } => write!(f, "local-pods {net}"),
            Self::NodeAddress { addr } => write!(f, "node-address {addr}"),
            Self::LocalEndpoint { addr } => write!(f, "hairpin {addr}"),
            Self::Restricted { at } => write!(f, "restricted {at}"),
            Self::AllowedSource { at, source } => write!(f, "allowed-source {at} . {source}"),
        }?;
        match self.value() {
            Some(value) => write!(f, " : {value}"),
            None => Ok(()),
        }
    }
}

impl<F: Family> Row<F> {
    /// The row's value as text; none for rows without a value.
    pub fn value(&self) -> Option<Value<'_, F>> {
        match self {
            Self::Frontend { .. }
            | Self::Service { .. }
            | Self::Endpoint { .. }
            | Self::StickyEndpoint { .. }
            | Self::EndpointId { .. } => Some(Value(self)),
            Self::Spread { .. }
            | Self::ClusterIp { .. }
            | Self::ServiceCidr { .. }
            | Self::LocalPods { .. }
            | Self::NodeAddress { .. }
            | Self::LocalEndpoint { .. }
            | Self::Restricted { .. }
            | Self::AllowedSource { .. } => None,
        }
    }
}

/// The value of a row, as text.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a, F: Family>(&'a Row<F>);

impl<F: Family> fmt::Display for Value<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Row::Frontend { service, .. } => service.fmt(f),
            Row::Service { pick, .. } => pick.fmt(f),
            Row::Endpoint { endpoint, .. } | Row::EndpointId { endpoint, .. } => {
                write!(f, "{}:{}", endpoint.addr, endpoint.port)
            }
            Row::StickyEndpoint { id, .. } => id.fmt(f),
            _ => Ok(()),
        }
    }
}
