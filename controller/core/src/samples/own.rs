//! Small objects for tests, and rows and changes as readable text.

use std::fmt::Display;
use std::net::IpAddr;

use ipnet::IpNet;

use super::objects::{mk_port, mk_service};
pub(crate) use crate::family::Families;
use crate::family::{Family, IpFamily};
use crate::object::{
    Choice, Conditions, EndpointSlice, Node, ObjectKey, Service, ServicePort, ServiceType, SliceEndpoint, SlicePort,
};
use crate::plan::{PortKey, PortPlan, Usable, plan};
use crate::plane::Delta;
use crate::row::{Frontend, Port, Protocol, Row};

pub(crate) fn port(number: u16) -> Port {
    Port::new(number).unwrap()
}

pub(crate) fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

pub(crate) fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// Both families if `both` is true, or none.
pub(crate) fn closed(both: bool) -> Families {
    if both { Families::BOTH } else { Families::NONE }
}

/// A Service as [`mk_service`] makes it, with every kind of external address and nodePort.
pub(crate) fn mk_exposed(name: &str) -> Service {
    let port = ServicePort {
        node_port: Some(port(30080)),
        ..mk_port("http", Protocol::Tcp, 80)
    };
    Service {
        kind: ServiceType::LoadBalancer,
        external_ips: ips(&["198.51.100.1"]),
        ingress_ips: ips(&["203.0.113.1"]),
        ports: vec![port],
        ..mk_service(name)
    }
}

/// A slice of a Service in namespace `ns`, with port `http`, 8080/TCP, of the family of its first endpoint.
pub(crate) fn mk_slice(service: &str, endpoints: &[SliceEndpoint]) -> EndpointSlice {
    EndpointSlice {
        key: ObjectKey::new("ns", format!("{service}-abcde")),
        service: service.into(),
        family: endpoints.first().map_or(IpFamily::V4, |entry| IpFamily::of(entry.addr)),
        ports: [mk_slice_port("http", Protocol::Tcp, 8080)].into(),
        endpoints: endpoints.into(),
        hints: Box::default(),
    }
}

pub(crate) fn mk_slice_port(name: &str, protocol: Protocol, number: u16) -> SlicePort {
    SlicePort {
        name: name.into(),
        protocol,
        port: port(number),
    }
}

pub(crate) fn local(addr: &str) -> SliceEndpoint {
    SliceEndpoint {
        addr: addr.parse().unwrap(),
        conditions: Conditions::READY,
        local: true,
    }
}

pub(crate) fn remote(addr: &str) -> SliceEndpoint {
    SliceEndpoint {
        local: false,
        ..local(addr)
    }
}

/// The same endpoint, terminating and still serving.
pub(crate) fn terminating(entry: SliceEndpoint) -> SliceEndpoint {
    let conditions = Conditions {
        ready: false,
        serving: true,
        terminating: true,
    };
    SliceEndpoint { conditions, ..entry }
}

/// The same endpoint, not ready and not serving.
pub(crate) fn unready(entry: SliceEndpoint) -> SliceEndpoint {
    let conditions = Conditions {
        ready: false,
        serving: false,
        terminating: false,
    };
    SliceEndpoint { conditions, ..entry }
}

pub(crate) fn mk_node() -> Node {
    Node {
        name: "node1".into(),
        addresses: ips(&["192.0.2.11", "2001:db8:2::11"]),
        ..Node::default()
    }
}

pub(crate) fn plans<F: Family>(service: &Service, slices: &[EndpointSlice]) -> Vec<PortPlan<F>> {
    plan::<F>(service, &slices.iter(), &mk_node(), Choice::Random).unwrap()
}

/// The plan of a Service with one port.
pub(crate) fn plan_one<F: Family>(service: &Service, slices: &[EndpointSlice]) -> PortPlan<F> {
    let mut plans = plans::<F>(service, slices);
    assert_eq!(plans.len(), 1, "one port is planned");
    plans.remove(0)
}

/// The key of port `http` of a Service in namespace `ns`.
pub(crate) fn http(service: &str) -> PortKey {
    PortKey {
        service: ObjectKey::new("ns", service),
        port: "http".into(),
        protocol: Protocol::Tcp,
    }
}

fn join<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    items
        .into_iter()
        .map(|item| item.to_string())
        .collect::<Vec<_>>()
        .join(" ")
}

/// What a client of a list gets: endpoints, `refused`, `discarded`, or `-` if there is no such list.
pub(crate) fn list_text<F: Family>(list: Option<&Usable<F>>) -> String {
    use crate::plan::NoEndpoints::{Anywhere, OnThisNode};
    match list {
        None => "-".to_owned(),
        Some(Usable::Endpoints(endpoints)) => join(endpoints.iter().map(|e| format!("{}:{}", e.addr, e.port))),
        Some(Usable::None(Anywhere)) => "refused".to_owned(),
        Some(Usable::None(OnThisNode)) => "discarded".to_owned(),
    }
}

/// What a client of one frontend gets.
pub(crate) fn outcome<F: Family>(plan: &PortPlan<F>, frontend: &str) -> String {
    let found = plan
        .frontends
        .iter()
        .find(|other| frontend_text(&other.frontend) == frontend);
    let found = found.unwrap_or_else(|| panic!("no frontend {frontend}"));
    list_text(if found.local { &plan.local } else { &plan.all }.as_ref())
}

pub(crate) fn frontend_texts<F: Family>(plan: &PortPlan<F>) -> Vec<String> {
    plan.frontends
        .iter()
        .map(|plan| frontend_text(&plan.frontend))
        .collect()
}

pub(crate) fn frontend_text<F: Family>(frontend: &Frontend<F>) -> String {
    frontend.to_string()
}

/// The rows in a fixed order, with their labels, one a line.
pub(crate) fn rows_text<F: Family>(rows: &[Row<F>]) -> String {
    let label = |row: &Row<F>| row.label().map_or(String::new(), |label| format!("  # {label}"));
    let mut lines: Vec<String> = rows.iter().map(|row| row.to_string() + &label(row)).collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// A change as lines: `+ row`, `- row`, `~ old -> new value`, in its order.
pub(crate) fn delta_text<F: Family>(delta: &Delta<F>) -> Vec<String> {
    delta.to_string().lines().map(str::to_owned).collect()
}
