//! One node's network: a namespace with a link to the fabric, and pods behind it.
//!
//! Each pod has a cable of its own, as with the `ptp` plugin. There is no bridge, so packets between two pods of one
//! node pass through the node's routing. A pod's gateway is the first address of the node's pod range, which is on
//! every cable. [`crate::topology`] and [`crate::cluster`] both use this.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;

use crate::netns::Namespace;

/// A node: its namespace, addresses and pod ranges.
#[derive(Clone, Debug)]
pub struct Node {
    /// The name of its Node object, and the value of `--hostname-override`.
    pub name: String,
    /// The namespace of Tandem and of programs in the host network.
    pub namespace: Namespace,
    /// Its address on the fabric.
    pub v4: Ipv4Addr,
    /// Its IPv6 address on the fabric.
    pub v6: Ipv6Addr,
    pub(crate) pods: PodRanges,
}

/// A pod: a namespace, one address of each family.
#[derive(Debug)]
pub struct Pod {
    /// The name with which its servers answer.
    pub name: String,
    /// The node it is on.
    pub node: String,
    /// Its namespace.
    pub namespace: Namespace,
    /// Its address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
}

/// The ranges of a node's pods: a /24 and a /64, given by their first addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PodRanges {
    /// For example 10.244.1.0.
    pub v4: Ipv4Addr,
    /// For example fd00:10:244:1::.
    pub v6: Ipv6Addr,
}

/// A pod's link to its node.
const UPLINK: &str = "eth0";

impl Node {
    /// Adds routes to the other node's pods, for both families.
    pub(crate) fn route_pods_of(&self, other: &Self) -> Result<()> {
        let (pods, v4, v6) = (other.pods, other.v4, other.v6);
        self.namespace.ip(&format!(
            "route replace {}/24 via {v4}\nroute replace {}/64 via {v6}\n",
            pods.v4, pods.v6
        ))
    }

    /// Adds a pod whose addresses end in `number` (2 to 254).
    pub fn add_pod(&self, name: &str, number: u8) -> Result<Pod> {
        self.add_pod_in(Namespace::new(name)?, name, number)
    }

    /// The same in an existing namespace.
    pub(crate) fn add_pod_in(&self, namespace: Namespace, name: &str, number: u8) -> Result<Pod> {
        let (v4, v6) = (self.pods.v4(number), self.pods.v6(number));
        let (gateway4, gateway6) = (self.pods.v4(1), self.pods.v6(1));
        let (ours, theirs) = (format!("{gateway4}/32"), format!("{v4}/32"));
        let (ours6, theirs6) = (format!("{gateway6}/128"), format!("{v6}/128"));
        let link = format!("pod{number}");
        self.namespace
            .cable(&link, &[&ours, &ours6], &namespace, UPLINK, &[&theirs, &theirs6])?;
        self.namespace.ip(&format!(
            "route replace {v4} dev {link}\nroute replace {v6} dev {link}\n"
        ))?;
        namespace.ip(&format!(
            "route add default via {gateway4} dev {UPLINK} onlink\n\
             route add default via {gateway6} dev {UPLINK} onlink\n"
        ))?;
        Ok(Pod {
            name: name.to_owned(),
            node: self.name.clone(),
            namespace,
            v4,
            v6,
        })
    }

    /// Its address of the same family as the one given.
    pub fn address_like(&self, other: IpAddr) -> IpAddr {
        if other.is_ipv4() {
            self.v4.into()
        } else {
            self.v6.into()
        }
    }

    /// Its addresses, IPv4 first.
    pub fn addresses(&self) -> [IpAddr; 2] {
        [self.v4.into(), self.v6.into()]
    }

    /// The ranges of its pods.
    pub fn pod_ranges(&self) -> PodRanges {
        self.pods
    }
}

impl Pod {
    /// Removes its link, so that the programs in it reach nothing.
    pub fn unplug(&self) -> Result<()> {
        self.namespace.ip(&format!("link delete {UPLINK}"))
    }

    /// Its addresses, IPv4 first.
    pub fn addresses(&self) -> [IpAddr; 2] {
        [self.v4.into(), self.v6.into()]
    }
}

impl PodRanges {
    /// The pods of node 1, 2, …: 10.244.N.0/24 and fd00:10:244:N::/64.
    pub fn of_node(number: u8) -> Self {
        Self {
            v4: Ipv4Addr::new(10, 244, number, 0),
            v6: Ipv6Addr::new(0xfd00, 0x10, 0x244, number.into(), 0, 0, 0, 0),
        }
    }

    /// The address that ends in `number`.
    pub fn v4(&self, number: u8) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.v4.to_bits() | u32::from(number))
    }

    /// The address that ends in `number`, with its decimal digits: pod 10 has `::10`.
    pub fn v6(&self, number: u8) -> Ipv6Addr {
        let digits = u128::from(number / 100) << 8 | u128::from(number / 10 % 10) << 4 | u128::from(number % 10);
        Ipv6Addr::from_bits(self.v6.to_bits() | digits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_has_the_same_digits_in_both_families() {
        let ranges = PodRanges::of_node(2);
        assert_eq!(ranges.v4(10), Ipv4Addr::new(10, 244, 2, 10));
        assert_eq!(ranges.v6(10).to_string(), "fd00:10:244:2::10");
        assert_eq!(ranges.v6(254).to_string(), "fd00:10:244:2::254");
    }
}
