//! The frontends of a Service, computed without a plan.

use std::collections::HashSet;

use crate::family::Family;
use crate::object::Service;
use crate::row::{Class, Frontend, Label, Port, Protocol};

/// The frontends of a Service in one family.
#[derive(Clone, Debug)]
pub struct OwnFrontends<F: Family> {
    name: Label,
    addresses: HashSet<(Class, F::Addr)>,
    ports: HashSet<(Protocol, Port)>,
    node_ports: HashSet<(Protocol, Port)>,
}

impl<F: Family> OwnFrontends<F> {
    /// The frontends of this Service.
    pub fn of(service: &Service) -> Self {
        let name = super::label(&service.key.to_string());
        let Some(cluster_ip) = super::first::<F>(&service.cluster_ips) else {
            return Self {
                name,
                addresses: HashSet::new(),
                ports: HashSet::new(),
                node_ports: HashSet::new(),
            };
        };
        let outside = service.ingress_ips.iter().chain(&service.external_ips);
        let outside = outside.filter_map(|addr| Some((Class::External, F::addr(*addr)?)));
        let node_ports = service
            .ports
            .iter()
            .filter_map(|port| Some((port.protocol, port.node_port?)));
        Self {
            name,
            addresses: outside.chain([(Class::Cluster, cluster_ip)]).collect(),
            ports: service.ports.iter().map(|port| (port.protocol, port.port)).collect(),
            node_ports: node_ports.collect(),
        }
    }

    /// The Service's part of the label of its rows.
    pub fn name(&self) -> &Label {
        &self.name
    }

    /// Whether this frontend is one of them.
    pub fn contains(&self, frontend: &Frontend<F>) -> bool {
        match frontend {
            Frontend::Address { class, at } => {
                self.addresses.contains(&(*class, at.addr)) && self.ports.contains(&(at.protocol, at.port))
            }
            Frontend::NodePort { protocol, port } => self.node_ports.contains(&(*protocol, *port)),
        }
    }
}
