//! The network between the nodes, and the connection to the outside. [`crate::topology`] and [`crate::cluster`] both
//! use it.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::Result;

use crate::addresses::{CLIENT, EXTERNAL_RANGES, SERVICE_RANGES};
use crate::netns::Namespace;
use crate::node::{Node, PodRanges};

/// A namespace with a bridge for the nodes. It is their gateway.
#[derive(Clone, Debug)]
pub(crate) struct Fabric {
    pub(crate) namespace: Namespace,
}

pub(crate) const GATEWAYS: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(192, 0, 2, 1),
    Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1),
);
const BRIDGE: &str = "nodes";
/// The routing table for packets from the client.
const CLIENT_TABLE: u32 = 100;

impl Fabric {
    pub(crate) fn new(namespace: Namespace) -> Result<Self> {
        let addresses = [format!("{}/24", GATEWAYS.0), format!("{}/64", GATEWAYS.1)];
        // The gateway's addresses are on a cable into the bridge, because the kernel may take a second to tell IPv6
        // that a bridge itself has a carrier (see `Namespace::cable`).
        namespace.ip(&format!("link add {BRIDGE} type bridge\nlink set {BRIDGE} up\n"))?;
        namespace.cable(
            "gateway",
            &addresses.each_ref().map(String::as_str),
            &namespace,
            "port",
            &[],
        )?;
        namespace.ip(&format!("link set port master {BRIDGE}"))?;
        namespace.forward()?;
        Ok(Self { namespace })
    }

    /// Connects the client outside the cluster. Its packets have a routing table of their own.
    pub(crate) fn connect_client(&self, client: &Namespace) -> Result<()> {
        let addresses = CLIENT.map(|address| format!("{address}/{}", if address.is_ipv4() { 24 } else { 64 }));
        let addresses = addresses.each_ref().map(String::as_str);
        self.namespace.cable(
            "client",
            &["198.51.100.1/24", "2001:db8:99::1/64"],
            client,
            "eth0",
            &addresses,
        )?;
        client.ip("route add default via 198.51.100.1\nroute add default via 2001:db8:99::1\n")?;
        let table = CLIENT_TABLE.to_string();
        for family in ["-4", "-6"] {
            self.namespace
                .exec(&["ip", family, "rule", "add", "iif", "client", "lookup", &table])?;
        }
        Ok(())
    }

    /// Connects node 1, 2, …. It and the other nodes get routes to each other's pods.
    pub(crate) fn connect_node(
        &self,
        number: u8,
        namespace: Namespace,
        pods: PodRanges,
        peers: &[Node],
    ) -> Result<Node> {
        let (name, (v4, v6)) = (format!("node{number}"), node_addresses(number));
        let addresses = [format!("{v4}/24"), format!("{v6}/64")];
        let addresses = addresses.each_ref().map(String::as_str);
        self.namespace.cable(&name, &[], &namespace, "eth0", &addresses)?;
        self.namespace.ip(&format!(
            "link set {name} master {BRIDGE}\nroute add {}/24 via {v4}\nroute add {}/64 via {v6}\n",
            pods.v4, pods.v6
        ))?;
        namespace.forward()?;
        let (gateway4, gateway6) = GATEWAYS;
        namespace.ip(&format!(
            "route add default via {gateway4}\nroute add default via {gateway6}\n"
        ))?;
        let node = Node {
            name,
            namespace,
            v4,
            v6,
            pods,
        };
        for peer in peers {
            node.route_pods_of(peer)?;
            peer.route_pods_of(&node)?;
        }
        Ok(node)
    }

    /// Has the cable to a node be as that of a network card is: packets that come by it have their checksums, and packets that XDP sends
    /// by it are taken.
    pub(crate) fn ready_for_xdp(&self, node: &Node) -> Result<()> {
        self.namespace
            .exec(&["ethtool", "-K", &node.name, "tx", "off", "gro", "on"])?;
        Ok(())
    }

    /// From now on, sends the client's packets for service, LoadBalancer and external addresses to this node.
    pub(crate) fn enter_by(&self, node: &Node) -> Result<()> {
        let (table, via4, via6) = (CLIENT_TABLE, node.v4, node.v6);
        let routes = [SERVICE_RANGES, EXTERNAL_RANGES].map(|[v4, v6]| {
            format!("route replace {v4} via {via4} table {table}\nroute replace {v6} via {via6} table {table}\n")
        });
        self.namespace.ip(&routes.concat())
    }
}

/// The addresses of node 1, 2, …: 192.0.2.11 and 2001:db8:2::11 first.
fn node_addresses(number: u8) -> (Ipv4Addr, Ipv6Addr) {
    (
        Ipv4Addr::new(192, 0, 2, 10 + number),
        Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x10 + u16::from(number)),
    )
}
