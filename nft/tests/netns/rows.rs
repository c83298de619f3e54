//! Rows for tests, of both families and of every kind.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;

use tandem_core::family::{Family, IpFamily};
use tandem_core::id::ServiceId;
use tandem_core::row::{Class, Endpoint, Frontend, L4Address, Pick, Port, Protocol, Row};

/// Address `n` of a network. The network has the same purpose in both families.
pub(crate) fn addr<F: Family>(v4: &str, v6: &str) -> F::Addr {
    let text = if F::FAMILY == IpFamily::V4 { v4 } else { v6 };
    F::addr(text.parse().expect(text)).expect(text)
}

/// The same for a range.
pub(crate) fn net<F: Family>(v4: &str, v6: &str) -> F::Net {
    let text = if F::FAMILY == IpFamily::V4 { v4 } else { v6 };
    F::net(text.parse().expect(text)).expect(text)
}

/// The `n`th of many addresses.
pub(crate) fn nth<F: Family>(n: u32) -> F::Addr {
    let addr: IpAddr = match F::FAMILY {
        IpFamily::V4 => Ipv4Addr::from_bits(0x0a00_0000 | n).into(),
        IpFamily::V6 => Ipv6Addr::from_bits(0xfd00 << 112 | u128::from(n)).into(),
    };
    F::addr(addr).expect("of this family")
}

pub(crate) fn port(port: u16) -> Port {
    NonZeroU16::new(port).expect("not zero")
}

pub(crate) fn plain(n: u32) -> ServiceId {
    ServiceId::plain(n - 1).expect("in range")
}

pub(crate) fn sticky(n: u32) -> ServiceId {
    ServiceId::sticky(n).expect("in range")
}

pub(crate) fn at<F: Family>(addr: F::Addr, protocol: Protocol, number: u16) -> L4Address<F> {
    L4Address {
        addr,
        protocol,
        port: port(number),
    }
}

pub(crate) fn frontend<F: Family>(class: Class, at: L4Address<F>, service: ServiceId, label: &str) -> Row<F> {
    Row::Frontend {
        frontend: Frontend::Address { class, at },
        service,
        label: label.into(),
    }
}

pub(crate) fn service<F: Family>(service: ServiceId, pick: Pick, label: &str) -> Row<F> {
    Row::Service {
        service,
        pick,
        label: label.into(),
    }
}

pub(crate) fn any(count: u16) -> Pick {
    Pick::Any { count: port(count) }
}

pub(crate) fn endpoint<F: Family>(addr: F::Addr, number: u16) -> Endpoint<F> {
    Endpoint {
        addr,
        port: port(number),
    }
}

/// The rows of the reference ruleset, in the order of adding.
pub(crate) fn reference<F: Family>() -> Vec<Row<F>> {
    let (api, dns) = (
        addr::<F>("10.96.0.1", "fd00:96::1"),
        addr::<F>("10.96.0.10", "fd00:96::10"),
    );
    let web = at::<F>(addr::<F>("203.0.113.7", "2001:db8:113::7"), Protocol::Tcp, 80);
    let pod = addr::<F>("10.244.0.5", "fd00:244::5");
    let id = sticky(0).endpoint(1).expect("sticky");
    vec![
        Row::EndpointId {
            id,
            endpoint: endpoint(pod, 53),
        },
        Row::StickyEndpoint {
            service: sticky(0),
            slot: 0,
            id,
        },
        Row::Endpoint {
            service: plain(1),
            slot: 0,
            endpoint: endpoint(addr::<F>("192.168.0.1", "fd00:192::1"), 6443),
        },
        service(plain(1), any(1), "default/kubernetes:https"),
        service(plain(2), any(3), "shop/web:http"),
        service(plain(3), Pick::Refuse, "shop/none:http"),
        service(plain(2).local(), Pick::Discard, "shop/web:http"),
        service(
            sticky(0),
            Pick::Sticky {
                count: port(3),
                seconds: 10_800,
            },
            "kube-system/kube-dns:dns",
        ),
        Row::ClusterIp { addr: api },
        Row::ClusterIp { addr: dns },
        Row::ServiceCidr {
            net: net::<F>("10.96.0.0/12", "fd00:96::/108"),
        },
        Row::LocalPods {
            net: net::<F>("10.244.0.0/24", "fd00:244::/64"),
        },
        Row::NodeAddress {
            addr: addr::<F>("192.168.0.2", "fd00:192::2"),
        },
        Row::LocalEndpoint { addr: pod },
        Row::AllowedSource {
            at: web,
            source: net::<F>("198.51.100.0/24", "2001:db8:51::/48"),
        },
        Row::Restricted { at: web },
        frontend(
            Class::Cluster,
            at(api, Protocol::Tcp, 443),
            plain(1),
            "default/kubernetes:https",
        ),
        frontend(
            Class::Cluster,
            at(dns, Protocol::Udp, 53),
            sticky(0),
            "kube-system/kube-dns:dns",
        ),
        frontend(Class::External, web, plain(2).local(), "shop/web:http"),
        Row::Frontend {
            frontend: Frontend::NodePort {
                protocol: Protocol::Tcp,
                port: port(30080),
            },
            service: plain(3),
            label: "shop/web:http".into(),
        },
    ]
}
