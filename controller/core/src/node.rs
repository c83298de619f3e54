//! The rows that depend only on the node: the ranges of ClusterIPs, the sources that count as pods, the addresses that
//! take nodePort traffic.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::addr;
use crate::family::{Family, IpFamily};
use crate::object::Node;
use crate::plan::aggregate;

/// The name of a network interface, or the first letters of several.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct InterfaceName {
    /// The name, padded with zeros. At least one zero follows it, as in the kernel.
    bytes: [u8; Self::SIZE],
}

/// Why a text is no interface name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a network interface: 1 to 15 characters, no /, no blanks")]
pub struct BadInterfaceName;

impl InterfaceName {
    /// `IFNAMSIZ`: the bytes that the kernel keeps of a name, with the zero at its end.
    pub const SIZE: usize = 16;

    /// Accepts what the kernel accepts (`dev_valid_name`), except for characters that mean something else to nft.
    pub fn parse(text: &str) -> Result<Self, BadInterfaceName> {
        let valid = |byte: u8| byte.is_ascii_graphic() && !b"/:*\"\\".contains(&byte);
        let fits = (1..Self::SIZE).contains(&text.len()) && text.bytes().all(valid) && !matches!(text, "." | "..");
        if !fits {
            return Err(BadInterfaceName);
        }
        let mut bytes = [0; Self::SIZE];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Self { bytes })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        // The bytes are ASCII, so this cannot fail.
        std::str::from_utf8(&self.bytes[..self.len()]).unwrap_or_default()
    }

    /// The name as the kernel compares it: all bytes, with zeros after the name.
    pub fn padded(&self) -> &[u8; Self::SIZE] {
        &self.bytes
    }

    fn len(&self) -> usize {
        self.bytes.iter().position(|byte| *byte == 0).unwrap_or(Self::SIZE)
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

/// `nodePortAddresses`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// The node's first address of each family (`primary`, also the default).
    Primary,
    /// The addresses of this node inside these ranges. A family without any range takes all of the node's addresses,
    /// as in kube-proxy. Loopback addresses never count.
    Ranges(Vec<IpNet>),
}

/// The node's own rows of one family, as they must be programmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRows<F: Family> {
    /// Ranges of ClusterIPs, without overlaps.
    pub service_cidrs: BTreeSet<F::Net>,
    /// Ranges whose sources count as pods, without overlaps.
    pub local_pods: BTreeSet<F::Net>,
    /// Addresses that take nodePort traffic.
    pub node_addresses: BTreeSet<F::Addr>,
}

impl<F: Family> Default for NodeRows<F> {
    fn default() -> Self {
        Self {
            service_cidrs: BTreeSet::new(),
            local_pods: BTreeSet::new(),
            node_addresses: BTreeSet::new(),
        }
    }
}

/// The last addresses and pod ranges that a Node object listed for each family, even if it lists none now. An object
/// may lose what it had: a kubelet with an external cloud provider registers its node without addresses, and a new
/// object has no `podCIDRs` yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastListed {
    addresses: Vec<IpAddr>,
    pod_cidrs: Vec<IpNet>,
}

impl LastListed {
    /// Takes the values from the object. If it has none of a family, the family keeps the values of before.
    pub fn take(&mut self, node: &Node) {
        renew(&mut self.addresses, &node.addresses, |addr| IpFamily::of(*addr));
        renew(&mut self.pod_cidrs, &node.pod_cidrs, |net| IpFamily::of(net.addr()));
    }

    /// The node's addresses and pod ranges that count in one family. If the object has none, the last known ones count.
    /// Before any were known, those of `found` count, which are the rows of an earlier run.
    ///
    /// If the object has no addresses, only addresses that an interface still has are kept. While there is no object at
    /// all, everything is kept, because nothing says that it changed.
    pub fn node<F: Family>(&self, said: Option<&Node>, found: &NodeRows<F>, interfaces: &[IpAddr]) -> Node {
        let addresses = |list: &[IpAddr]| -> Vec<IpAddr> {
            let of_family = list.iter().copied().filter(|addr| IpFamily::of(*addr) == F::FAMILY);
            of_family.collect()
        };
        let ranges = |list: &[IpNet]| -> Vec<IpNet> {
            let of_family = list.iter().copied().filter(|net| F::net(*net).is_some());
            of_family.collect()
        };
        let node = said.cloned().unwrap_or_default();
        let kept = || {
            let found = || found.node_addresses.iter().copied().map(Into::into).collect();
            let last = otherwise(addresses(&self.addresses), found).into_iter();
            last.filter(|addr| said.is_none() || interfaces.contains(addr))
                .collect()
        };
        let kept_ranges = || {
            let found = || found.local_pods.iter().copied().map(Into::into).collect();
            otherwise(ranges(&self.pod_cidrs), found)
        };
        Node {
            addresses: otherwise(addresses(&node.addresses), kept),
            pod_cidrs: otherwise(ranges(&node.pod_cidrs), kept_ranges),
            ..node
        }
    }
}

/// Replaces the known values of each family for which `said` has any.
fn renew<T: Copy>(known: &mut Vec<T>, said: &[T], family: impl Fn(&T) -> IpFamily) {
    known.retain(|item| said.iter().all(|other| family(other) != family(item)));
    known.extend(said);
}

fn otherwise<T>(list: Vec<T>, other: impl FnOnce() -> Vec<T>) -> Vec<T> {
    if list.is_empty() { other() } else { list }
}

impl<F: Family> NodeRows<F> {
    /// Makes the rows from configuration, the Node object and the addresses of the node's interfaces.
    pub fn new(
        service_cidrs: &[IpNet],
        local_pods: &[IpNet],
        choice: &NodePortAddresses,
        node: &Node,
        interfaces: &[IpAddr],
    ) -> Self {
        let of_family =
            |nets: &[IpNet]| -> Vec<IpNet> { nets.iter().copied().filter(|net| F::net(*net).is_some()).collect() };
        let unless_loopback = |addr: &IpAddr| addr::forbidden(*addr) != Some(addr::Forbidden::Loopback);
        let node_addresses = match choice {
            NodePortAddresses::Primary => node.primary(F::FAMILY).into_iter().filter_map(F::addr).collect(),
            NodePortAddresses::Ranges(ranges) => {
                let ranges = of_family(ranges);
                let chosen = |addr: &&IpAddr| ranges.is_empty() || ranges.iter().any(|range| range.contains(*addr));
                interfaces
                    .iter()
                    .filter(|addr| unless_loopback(addr))
                    .filter(chosen)
                    .copied()
                    .filter_map(F::addr)
                    .collect()
            }
        };
        Self {
            service_cidrs: aggregate::<F>(&of_family(service_cidrs)).into_iter().collect(),
            local_pods: aggregate::<F>(&of_family(local_pods)).into_iter().collect(),
            node_addresses,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::{V4, V6};

    fn node() -> Node {
        Node {
            name: "node1".into(),
            addresses: ["192.0.2.11", "192.0.2.111", "2001:db8:2::11"]
                .map(|addr| addr.parse().unwrap())
                .to_vec(),
            ..Node::default()
        }
    }

    fn addresses<F: Family>(choice: &NodePortAddresses) -> Vec<String> {
        let interfaces: Vec<IpAddr> = [
            "127.0.0.1",
            "::1",
            "192.0.2.11",
            "198.51.100.7",
            "fe80::1",
            "2001:db8:2::11",
        ]
        .map(|a| a.parse().unwrap())
        .to_vec();
        let rows = NodeRows::<F>::new(&[], &[], choice, &node(), &interfaces);
        rows.node_addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn primary_is_the_first_address_of_each_family() {
        assert_eq!(addresses::<V4>(&NodePortAddresses::Primary), ["192.0.2.11"]);
        assert_eq!(addresses::<V6>(&NodePortAddresses::Primary), ["2001:db8:2::11"]);
    }

    #[test]
    fn ranges_choose_among_the_addresses_that_the_interfaces_have() {
        let choice = NodePortAddresses::Ranges(vec!["198.51.100.0/24".parse().unwrap()]);
        assert_eq!(addresses::<V4>(&choice), ["198.51.100.7"]);
    }

    #[test]
    fn a_family_without_ranges_takes_every_address_but_loopback() {
        let choice = NodePortAddresses::Ranges(vec!["198.51.100.0/24".parse().unwrap()]);
        assert_eq!(addresses::<V6>(&choice), ["2001:db8:2::11", "fe80::1"]);
    }

    #[test]
    fn loopback_never_takes_node_port_traffic() {
        let choice = NodePortAddresses::Ranges(vec!["0.0.0.0/0".parse().unwrap(), "127.0.0.0/8".parse().unwrap()]);
        assert_eq!(addresses::<V4>(&choice), ["192.0.2.11", "198.51.100.7"]);
    }

    fn parse<T: std::str::FromStr<Err: fmt::Debug>>(texts: &[&str]) -> Vec<T> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn said(addresses: &[&str], pod_cidrs: &[&str]) -> Node {
        Node {
            addresses: parse(addresses),
            pod_cidrs: parse(pod_cidrs),
            ..Node::default()
        }
    }

    /// The addresses that count, and then the pods' ranges, of both families.
    fn counts(last_listed: &LastListed, node: Option<&Node>, interfaces: &[&str]) -> (Vec<String>, Vec<String>) {
        let interfaces: Vec<IpAddr> = parse(interfaces);
        let v4 = last_listed.node::<V4>(node, &NodeRows::default(), &interfaces);
        let v6 = last_listed.node::<V6>(node, &NodeRows::default(), &interfaces);
        let addresses = v4.addresses.iter().chain(&v6.addresses);
        let ranges = v4.pod_cidrs.iter().chain(&v6.pod_cidrs);
        (
            addresses.map(ToString::to_string).collect(),
            ranges.map(ToString::to_string).collect(),
        )
    }

    const OWN: [&str; 2] = ["192.0.2.11", "2001:db8:2::11"];
    const PODS: [&str; 2] = ["10.244.1.0/24", "fd00:10:244:1::/64"];

    #[test]
    fn a_family_that_a_node_says_nothing_of_keeps_its_addresses_while_an_interface_has_them() {
        let mut last_listed = LastListed::default();
        last_listed.take(&said(&OWN, &[]));
        for addresses in [&[][..], &OWN[..1], &OWN[1..], &OWN] {
            let node = said(addresses, &[]);
            last_listed.take(&node);
            assert_eq!(counts(&last_listed, Some(&node), &OWN).0, OWN, "{addresses:?}");
        }
        let silent = said(&[], &[]);
        assert_eq!(
            counts(&last_listed, Some(&silent), &OWN[..1]).0,
            OWN[..1],
            "gone from the interface"
        );
        assert_eq!(counts(&last_listed, Some(&silent), &OWN).0, OWN, "and back");
        let moved = said(&["192.0.2.99"], &[]);
        last_listed.take(&moved);
        assert_eq!(
            counts(&last_listed, Some(&moved), &OWN).0,
            ["192.0.2.99", OWN[1]],
            "what is said counts at once"
        );
    }

    #[test]
    fn pod_ranges_stay_until_the_family_has_others() {
        let mut last_listed = LastListed::default();
        last_listed.take(&said(&[], &PODS));
        for ranges in [&[][..], &PODS[..1], &PODS[1..]] {
            let node = said(&[], ranges);
            last_listed.take(&node);
            assert_eq!(counts(&last_listed, Some(&node), &[]).1, PODS, "{ranges:?}");
        }
        let other = said(&[], &["10.244.9.0/24"]);
        last_listed.take(&other);
        assert_eq!(counts(&last_listed, Some(&other), &[]).1, ["10.244.9.0/24", PODS[1]]);
    }

    #[test]
    fn zone_and_leaving_are_what_the_node_says_now() {
        let mut last_listed = LastListed::default();
        let before = Node {
            zone: Some("a".into()),
            leaving: true,
            ..said(&OWN, &PODS)
        };
        last_listed.take(&before);
        let now = said(&[], &[]);
        last_listed.take(&now);
        let node = last_listed.node::<V4>(Some(&now), &NodeRows::default(), &[]);
        assert_eq!((node.zone, node.leaving), (None, false));
    }

    #[test]
    fn rows_of_an_earlier_run_stand_for_what_nobody_said_yet() {
        let found = NodeRows::<V4> {
            node_addresses: parse(&OWN[..1]).into_iter().collect(),
            local_pods: parse(&PODS[..1]).into_iter().collect(),
            ..NodeRows::default()
        };
        let counts = |last_listed: &LastListed, node: Option<&Node>, interfaces: &[&str]| {
            let node = last_listed.node::<V4>(node, &found, &parse::<IpAddr>(interfaces));
            let pods: Vec<String> = node.pod_cidrs.iter().map(ToString::to_string).collect();
            (node.primary(IpFamily::V4).map(|addr| addr.to_string()), pods)
        };
        let all = (Some(OWN[0].to_owned()), vec![PODS[0].to_owned()]);
        let nothing = LastListed::default();
        assert_eq!(counts(&nothing, None, &[]), all, "no Node object: all as it was");
        assert_eq!(
            counts(&nothing, Some(&said(&[], &[])), &OWN),
            all,
            "one that says nothing"
        );
        assert_eq!(
            counts(&nothing, Some(&said(&[], &[])), &[]).0,
            None,
            "and no interface has it"
        );
        let mut last_listed = LastListed::default();
        last_listed.take(&said(&["192.0.2.99"], &["10.244.9.0/24"]));
        let last = (Some("192.0.2.99".to_owned()), vec!["10.244.9.0/24".to_owned()]);
        assert_eq!(counts(&last_listed, None, &[]), last, "what was said counts more");
    }

    #[test]
    fn an_interface_name_is_what_the_kernel_takes_for_one() {
        for name in ["cni0", "eth0.100", "a", "abcdefghijklmno", "veth-1_x"] {
            assert_eq!(InterfaceName::parse(name).unwrap().as_str(), name);
        }
        for name in [
            "",
            ".",
            "..",
            "abcdefghijklmnop",
            "a b",
            "a/b",
            "a:1",
            "pod*",
            "é",
            "a\"b",
            "a\n",
        ] {
            assert_eq!(InterfaceName::parse(name), Err(BadInterfaceName), "{name:?}");
        }
    }

    #[test]
    fn overlapping_ranges_become_one() {
        let nets: Vec<IpNet> = ["10.0.0.0/9", "10.128.0.0/9", "10.1.0.0/16", "fd00::/8"]
            .map(|n| n.parse().unwrap())
            .to_vec();
        let rows = NodeRows::<V4>::new(&nets, &nets, &NodePortAddresses::Primary, &node(), &[]);
        assert_eq!(
            rows.service_cidrs.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["10.0.0.0/8"]
        );
        assert_eq!(rows.local_pods.len(), 1);
    }
}
