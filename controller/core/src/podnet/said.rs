//! What a Node object says, as far as the pod network reads it. Texts are kept as they were written: what is wrong with them is said
//! where they are read.

use std::net::IpAddr;
use std::sync::Arc;

use crate::family::IpFamily;
use crate::uid::Uid;

/// A Node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeSaid {
    /// Its name.
    pub name: Arc<str>,
    /// Its uid. None in manifests.
    pub uid: Option<Uid>,
    /// `creationTimestamp`, in seconds since 1970. None in manifests.
    pub created: Option<i64>,
    /// `spec.podCIDRs`, or `podCIDR` if there are none.
    pub pod_cidrs: Vec<Box<str>>,
    /// Its addresses of the type InternalIP.
    pub addresses: Vec<IpAddr>,
    /// Its annotations.
    pub annotations: Annotations,
}

/// The annotations that count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations {
    /// `kube-subnet-manager`
    pub manager: Option<Box<str>>,
    /// `backend-type`
    pub backend: Option<Box<str>>,
    /// `backend-data`, `backend-v6-data`
    pub device: PerFamily<Option<Box<str>>>,
    /// `public-ip`, `public-ipv6`
    pub public: PerFamily<Option<Box<str>>>,
    /// `public-ip-overwrite`, `public-ipv6-overwrite`
    pub overwrite: PerFamily<Option<Box<str>>>,
    /// `node-public-ip`, `node-public-ipv6`
    pub wished: PerFamily<Option<Box<str>>>,
    /// `podnet.tandem.config/carries`: over which families the node takes pods of the other family.
    pub carries: Option<Box<str>>,
}

/// One value of each family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerFamily<T> {
    /// IPv4's.
    pub v4: T,
    /// IPv6's.
    pub v6: T,
}

impl<T> PerFamily<T> {
    /// The one of a family.
    pub fn of(&self, family: IpFamily) -> &T {
        match family {
            IpFamily::V4 => &self.v4,
            IpFamily::V6 => &self.v6,
        }
    }

    /// The one of a family, to change it.
    pub fn of_mut(&mut self, family: IpFamily) -> &mut T {
        match family {
            IpFamily::V4 => &mut self.v4,
            IpFamily::V6 => &mut self.v6,
        }
    }
}

/// Both families, in the order in which they are gone through.
pub const FAMILIES: [IpFamily; 2] = [IpFamily::V4, IpFamily::V6];

/// Tandem's own annotation.
pub const CARRIES: &str = "podnet.tandem.config/carries";

impl Annotations {
    /// Keeps an annotation, if it counts. `prefix` is flannel's, and ends in `/` or `-`.
    pub fn keep(&mut self, prefix: &str, key: &str, value: &str) {
        let value = || Some(Box::from(value));
        if key == CARRIES {
            self.carries = value();
            return;
        }
        let place = match key.strip_prefix(prefix) {
            Some("kube-subnet-manager") => &mut self.manager,
            Some("backend-type") => &mut self.backend,
            Some("backend-data") => &mut self.device.v4,
            Some("backend-v6-data") => &mut self.device.v6,
            Some("public-ip") => &mut self.public.v4,
            Some("public-ipv6") => &mut self.public.v6,
            Some("public-ip-overwrite") => &mut self.overwrite.v4,
            Some("public-ipv6-overwrite") => &mut self.overwrite.v6,
            Some("node-public-ip") => &mut self.wished.v4,
            Some("node-public-ipv6") => &mut self.wished.v6,
            _ => return,
        };
        *place = value();
    }
}

/// The annotations' names that a node writes about itself, without the prefix.
pub mod names {
    use crate::family::IpFamily;

    /// Where a node describes its device.
    pub fn device(family: IpFamily) -> &'static str {
        match family {
            IpFamily::V4 => "backend-data",
            IpFamily::V6 => "backend-v6-data",
        }
    }

    /// Where a node says at which address its device is reached.
    pub fn public(family: IpFamily) -> &'static str {
        match family {
            IpFamily::V4 => "public-ip",
            IpFamily::V6 => "public-ipv6",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_below_the_prefix_are_kept_and_no_others() {
        let mut kept = Annotations::default();
        let prefix = "flannel.alpha.coreos.com/";
        for (key, value) in [
            ("flannel.alpha.coreos.com/public-ip", "192.0.2.1"),
            ("flannel.alpha.coreos.com/public-ipv6", "2001:db8::1"),
            ("flannel.alpha.coreos.com/node-public-ipv6", "2001:db8::2"),
            ("flannel.alpha.coreos.com/other", "x"),
            ("public-ip", "x"),
            ("example.com/public-ip", "x"),
            (CARRIES, "ipv4"),
        ] {
            kept.keep(prefix, key, value);
        }
        let text = |text: &str| Some(Box::from(text));
        let wanted = Annotations {
            public: PerFamily {
                v4: text("192.0.2.1"),
                v6: text("2001:db8::1"),
            },
            wished: PerFamily {
                v4: None,
                v6: text("2001:db8::2"),
            },
            carries: text("ipv4"),
            ..Annotations::default()
        };
        assert_eq!(kept, wanted);
    }
}
