//! What carries packets from node to node: a backend over one family of the nodes' own addresses.

use std::fmt;

use crate::family::IpFamily;

/// How packets are wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Backend {
    /// RFC 7348: Ethernet frames in UDP.
    Vxlan,
}

/// A backend over IPv4 or over IPv6. Each has a device of its own on a node, and takes packets of pods of both families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Carrier {
    /// How packets are wrapped.
    pub backend: Backend,
    /// The family of the outer addresses.
    pub underlay: IpFamily,
}

impl Carrier {
    /// All of them, in the order in which they are tried for pods of IPv4.
    pub const ALL: [Self; 2] = [Self::vxlan(IpFamily::V4), Self::vxlan(IpFamily::V6)];

    /// VXLAN over this family.
    pub const fn vxlan(underlay: IpFamily) -> Self {
        Self {
            backend: Backend::Vxlan,
            underlay,
        }
    }

    /// Those that may carry pods of a family, the best first: flannel's way is the pods' own family.
    pub fn for_pods(pods: IpFamily) -> [Self; 2] {
        let other = match pods {
            IpFamily::V4 => IpFamily::V6,
            IpFamily::V6 => IpFamily::V4,
        };
        [Self::vxlan(pods), Self::vxlan(other)]
    }

    /// How many bytes a packet of a pod grows by: outer Ethernet frame, IP, UDP and VXLAN, without the outer frame's own header,
    /// which no MTU counts.
    pub fn header(self) -> u32 {
        let Backend::Vxlan = self.backend;
        // UDP 8, VXLAN 8, the inner Ethernet header 14.
        30 + match self.underlay {
            IpFamily::V4 => 20,
            IpFamily::V6 => 40,
        }
    }

    /// flannel's name of the device.
    pub fn device_name(self, vni: u32) -> String {
        let Backend::Vxlan = self.backend;
        match self.underlay {
            IpFamily::V4 => format!("flannel.{vni}"),
            IpFamily::V6 => format!("flannel-v6.{vni}"),
        }
    }
}

impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Backend::Vxlan = self.backend;
        write!(f, "VXLAN over {}", self.underlay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_names_are_flannels() {
        let shown = Carrier::ALL.map(|carrier| (carrier.device_name(1), carrier.header(), carrier.to_string()));
        let wanted = [
            ("flannel.1", 50, "VXLAN over IPv4"),
            ("flannel-v6.1", 70, "VXLAN over IPv6"),
        ];
        assert_eq!(
            shown,
            wanted.map(|(name, header, text)| (name.to_owned(), header, text.to_owned()))
        );
    }
}
