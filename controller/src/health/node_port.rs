//! Health checks of LoadBalancer Services with `externalTrafficPolicy: Local`: they say whether this node has
//! endpoints.
//!
//! Each Service has one server per family on its `healthCheckNodePort`, as in kube-proxy. The IPv6 server counts IPv6
//! endpoints.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use http::{Response, StatusCode};
use tandem_core::family::IpFamily;
use tandem_core::node::NodePortAddresses;
use tandem_core::object::{ObjectKey, Service, ServiceType, TrafficPolicy};
use tandem_core::row::Port;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::Shared;
use crate::config::Settings;
use crate::engine::Snapshot;
use crate::http::{Connections, json, serve};
use crate::index::Entry;
use crate::listeners::{Purpose, Wanted};
use crate::recorder::{Fault, Recorder};

/// The listeners of all health checks.
pub(super) struct HealthChecks {
    pub(super) shared: Arc<Shared>,
    pub(super) connections: Arc<Connections>,
    pub(super) recorder: Recorder,
}

impl Purpose for HealthChecks {
    type For = IpFamily;

    fn wanted(&self, entry: &Entry, snapshot: &Snapshot, settings: &Settings) -> Wanted<IpFamily> {
        let Some(service) = entry.service.as_deref() else {
            return Wanted::new();
        };
        let Some(port) = port(service) else {
            return Wanted::new();
        };
        let mut wanted = Wanted::new();
        for family in [IpFamily::V4, IpFamily::V6] {
            if service.cluster_ips.iter().any(|addr| IpFamily::of(*addr) == family) {
                let addresses = addresses(family, snapshot, &settings.node_port_addresses);
                wanted.extend(
                    addresses
                        .into_iter()
                        .map(|ip| (SocketAddr::new(ip, port.get()), family)),
                );
            }
        }
        wanted
    }

    fn serve(&self, listener: TcpListener, service: &ObjectKey, family: IpFamily) -> JoinHandle<()> {
        let (shared, service) = (Arc::clone(&self.shared), service.clone());
        tokio::spawn(serve(listener, self.connections.room(), move |_| {
            let snapshot = shared.published.load();
            let count = snapshot
                .services
                .get(&service)
                .map_or(0, |entry| local_ready(entry, family));
            answer(&service, count, shared.healthy())
        }))
    }

    fn refused(&self, service: &ObjectKey, address: SocketAddr, error: &io::Error) {
        let node = self.recorder.node();
        let problem = format!(
            "node {node} failed to start healthcheck \"{service}\" on {address}: {error}; tried again until it works"
        );
        tracing::error!(%service, %address, "{problem}");
        self.recorder.tell(Fault::of_service(
            service,
            "FailedToStartServiceHealthcheck",
            "Listen",
            problem,
        ));
    }
}

/// The port, if the Service has a health check.
fn port(service: &Service) -> Option<Port> {
    let checked = service.kind == ServiceType::LoadBalancer && service.external_policy == TrafficPolicy::Local;
    service.health_check_node_port.filter(|_| checked)
}

/// The addresses that nodePorts are on. If the configuration names no range of this family, or one that contains every
/// address, this is the unspecified address.
fn addresses(family: IpFamily, snapshot: &Snapshot, choice: &NodePortAddresses) -> Vec<IpAddr> {
    let all = match choice {
        NodePortAddresses::Primary => false,
        NodePortAddresses::Ranges(ranges) => {
            let mut of_family = ranges
                .iter()
                .filter(|range| IpFamily::of(range.addr()) == family)
                .peekable();
            of_family.peek().is_none() || of_family.any(|range| range.prefix_len() == 0)
        }
    };
    match (family, all) {
        (IpFamily::V4, true) => vec![Ipv4Addr::UNSPECIFIED.into()],
        (IpFamily::V6, true) => vec![Ipv6Addr::UNSPECIFIED.into()],
        (IpFamily::V4, false) => snapshot
            .node_v4
            .node_addresses
            .iter()
            .copied()
            .map(IpAddr::V4)
            .collect(),
        (IpFamily::V6, false) => {
            // A link-local address cannot be used without its link.
            let reachable = |addr: &&Ipv6Addr| !addr.is_unicast_link_local();
            let addresses = snapshot.node_v6.node_addresses.iter().filter(reachable);
            addresses.copied().map(IpAddr::V6).collect()
        }
    }
}

/// How many addresses of this family are ready here, whatever their ports. An endpoint that terminates and still serves
/// does not count, because load balancers must turn away before it is gone.
fn local_ready(entry: &Entry, family: IpFamily) -> usize {
    let slices = entry
        .slices
        .iter()
        .filter(|slice| slice.family == family && !slice.ports.is_empty());
    let endpoints = slices.flat_map(|slice| slice.endpoints.iter());
    let here = endpoints.filter(|endpoint| endpoint.local && endpoint.conditions.ready);
    here.map(|endpoint| endpoint.addr).collect::<HashSet<_>>().len()
}

/// The same answer as kube-proxy's, byte for byte, for every request.
fn answer(service: &ObjectKey, count: usize, healthy: bool) -> Response<String> {
    let status = if count > 0 && healthy {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let mut body = String::new();
    // Names of objects contain no characters that JSON escapes. Writing into a String cannot fail.
    let _ = write!(
        body,
        "{{\n\t\"service\": {{\n\t\t\"namespace\": \"{}\",\n\t\t\"name\": \"{}\"\n\t}},\n\t\"localEndpoints\": {count},\n\t\
         \"serviceProxyHealthy\": {healthy}\n}}",
        service.namespace, service.name
    );
    let mut response = json(status, body);
    response
        .headers_mut()
        .insert("x-load-balancing-endpoint-weight", count.into());
    response
}
