//! TCP nodePorts on `127.0.0.1` and `[::1]`, if the configuration asks for them (`nodePortLoopback`).
//!
//! The kernel can translate a program's packets for `127.0.0.1` to another host only if it may also accept such
//! addresses from the network (`route_localnet`). That lets neighbours reach programs that listen only on loopback
//! (CVE-2020-8558). So Tandem changes nothing in the kernel here. It accepts connections on the loopback address
//! itself, and connects to the same nodePort on the node's own address. There the rules choose an endpoint, apply
//! policies and affinity, and count, as for every other client. UDP and SCTP are not served, as in KEP-6032: they have
//! no connection that could be relayed like this.

mod splice;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use tandem_core::family::IpFamily;
use tandem_core::object::{ObjectKey, Service};
use tandem_core::row::Protocol;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::accept::accept;
use crate::config::Settings;
use crate::engine::{Changed, Snapshot};
use crate::files;
use crate::index::Entry;
use crate::listeners::{Listeners, Purpose, Wanted};

/// Serves nodePorts on loopback addresses, for ever.
pub async fn run(
    news: watch::Receiver<()>,
    changed: Changed,
    published: Arc<ArcSwap<Snapshot>>,
    settings: watch::Receiver<Arc<Settings>>,
) {
    // More connections wait in the kernel, where they cost no file.
    let carried = Arc::new(Semaphore::new(files::shares().carried));
    Listeners::new(Loopback { carried })
        .follow(news, changed, published, settings)
        .await;
}

struct Loopback {
    carried: Arc<Semaphore>,
}

impl Purpose for Loopback {
    /// The address to which connections are relayed.
    type For = SocketAddr;

    fn wanted(&self, entry: &Entry, snapshot: &Snapshot, _: &Settings) -> Wanted<SocketAddr> {
        let own = [
            snapshot.node_v4.node_addresses.first().copied().map(IpAddr::V4),
            snapshot
                .node_v6
                .node_addresses
                .iter()
                .find(|addr| !addr.is_unicast_link_local())
                .copied()
                .map(IpAddr::V6),
        ];
        entry
            .service
            .as_deref()
            .map(|service| wanted(service, own))
            .unwrap_or_default()
    }

    fn serve(&self, listener: TcpListener, _: &ObjectKey, to: SocketAddr) -> JoinHandle<()> {
        let carried = Arc::clone(&self.carried);
        tokio::spawn(async move {
            loop {
                let client = accept(&listener, || false).await;
                // Only relayed connections count, because there may be more listeners than connections at a time. The
                // semaphore is never closed.
                let Ok(permit) = Arc::clone(&carried).acquire_owned().await else {
                    return;
                };
                // It is a task of its own, because connections outlive their Service's listener, as they outlive its
                // rules.
                tokio::spawn(async move {
                    splice::carry(client, to).await;
                    drop(permit);
                });
            }
        })
    }

    fn refused(&self, service: &ObjectKey, address: SocketAddr, error: &io::Error) {
        tracing::warn!(%service, %address, "cannot serve this nodePort on loopback: {error}; tried again until it works");
    }
}

/// The loopback addresses of a Service's TCP nodePorts, and where each leads: to the same port on the node, or to the
/// ClusterIP if the node has no address of that family.
fn wanted(service: &Service, own: [Option<IpAddr>; 2]) -> Wanted<SocketAddr> {
    let loopbacks = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let mut wanted = Wanted::new();
    for (loopback, own) in loopbacks.into_iter().zip(own) {
        let of_family = |addr: &&IpAddr| IpFamily::of(**addr) == IpFamily::of(loopback);
        let Some(cluster_ip) = service.cluster_ips.iter().find(of_family) else {
            continue;
        };
        for port in service.ports.iter().filter(|port| port.protocol == Protocol::Tcp) {
            let Some(node_port) = port.node_port else { continue };
            let to = own.map_or_else(
                || SocketAddr::new(*cluster_ip, port.port.get()),
                |own| SocketAddr::new(own, node_port.get()),
            );
            wanted.insert(SocketAddr::new(loopback, node_port.get()), to);
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    use tandem_core::object::{ServicePort, ServiceType};
    use tandem_core::samples::mk_service;

    use super::*;

    fn service(cluster_ips: &[&str], ports: &[(Protocol, u16, u16)]) -> Service {
        let port = |(protocol, port, node_port): &(Protocol, u16, u16)| ServicePort {
            name: "".into(),
            protocol: *protocol,
            port: (*port).try_into().unwrap(),
            node_port: (*node_port).try_into().ok(),
        };
        Service {
            key: ObjectKey::new("shop", "web"),
            kind: ServiceType::NodePort,
            cluster_ips: cluster_ips.iter().map(|ip| ip.parse().unwrap()).collect(),
            ports: ports.iter().map(port).collect(),
            ..mk_service("web")
        }
    }

    fn ways(service: &Service, own: [Option<&str>; 2]) -> Vec<String> {
        let own = own.map(|ip| ip.map(|ip| ip.parse().unwrap()));
        let wanted = wanted(service, own);
        wanted.iter().map(|(from, to)| format!("{from} -> {to}")).collect()
    }

    #[test]
    fn tcp_node_ports_lead_to_the_nodes_own_address_of_the_same_family() {
        let ports = [
            (Protocol::Tcp, 80, 30_080),
            (Protocol::Udp, 80, 30_080),
            (Protocol::Tcp, 81, 0),
        ];
        let service = service(&["10.96.0.1", "fd00::1"], &ports);
        assert_eq!(
            ways(&service, [Some("192.0.2.1"), Some("2001:db8::1")]),
            [
                "127.0.0.1:30080 -> 192.0.2.1:30080",
                "[::1]:30080 -> [2001:db8::1]:30080"
            ]
        );
        assert_eq!(
            ways(&service, [Some("192.0.2.1"), None]),
            ["127.0.0.1:30080 -> 192.0.2.1:30080", "[::1]:30080 -> [fd00::1]:80"]
        );
    }

    #[test]
    fn a_service_of_one_family_is_on_that_familys_loopback_address_alone() {
        let service = service(&["fd00::1"], &[(Protocol::Tcp, 80, 30_080)]);
        assert_eq!(
            ways(&service, [Some("192.0.2.1"), Some("2001:db8::1")]),
            ["[::1]:30080 -> [2001:db8::1]:30080"]
        );
    }
}
