//! Large Services. Up to the limits, they are planned and programmed in a moment; beyond them, they are refused at
//! once. Every test here takes minutes if any code compares all with all.

use crate::family::V4;
use crate::object::{Choice, EndpointSlice, Service, ServicePort};
use crate::plan::{MOST_ENDPOINTS, MOST_FRONTENDS, MOST_SOURCES, OwnFrontends, TooLarge, plan};
use crate::row::Protocol;
use crate::samples::*;
use crate::table::Table;

/// Converts a number; the numbers of these tests always fit.
fn small<T: TryFrom<usize>>(number: usize) -> T {
    T::try_from(number).ok().expect("a small number")
}

fn addresses(count: usize) -> Vec<std::net::IpAddr> {
    let nth = |n: usize| std::net::Ipv4Addr::from(0xc612_0000 + small::<u32>(n)).into();
    (0..count).map(nth).collect()
}

fn ports(count: usize) -> Vec<ServicePort> {
    (1..=count)
        .map(|n| mk_port(&format!("p{n}"), Protocol::Udp, small(n)))
        .collect()
}

fn ranges(count: usize) -> Vec<ipnet::IpNet> {
    // Every second range, so that no two are neighbours.
    let nth = |n: usize| {
        ipnet::Ipv4Net::new((0x0a00_0000 + (small::<u32>(n) << 9)).into(), 24)
            .unwrap()
            .into()
    };
    (0..count).map(nth).collect()
}

/// This number of slices, each with this number of ports and endpoints.
fn slices(count: usize, ports: usize, endpoints: usize) -> Vec<EndpointSlice> {
    let slice = |n: usize| {
        let entries: Vec<_> = (0..endpoints)
            .map(|at| remote(&std::net::Ipv4Addr::from(0x0a00_0000 + small::<u32>(n * endpoints + at)).to_string()))
            .collect();
        EndpointSlice {
            ports: (1..=ports)
                .map(|port| mk_slice_port(&format!("p{port}"), Protocol::Udp, small(port)))
                .collect(),
            ..mk_slice("web", &entries)
        }
    };
    (0..count).map(slice).collect()
}

/// How many rows a Service adds, and how many rows change if it has one address less. At the end, no row is left.
fn programmed(service: &Service, slices: &[EndpointSlice]) -> (usize, usize) {
    let mut table = Table::<V4>::default();
    let mut set = |service: &Service| {
        for plan in plans::<V4>(service, slices) {
            assert_eq!(table.set(plan), None);
        }
        let delta = table.take();
        table.commit();
        delta.len()
    };
    let all = set(service);
    let mut fewer = service.clone();
    fewer.external_ips.pop();
    fewer.source_ranges.pop();
    let change = set(&fewer);
    let (mut adopted, strays) = Table::adopt(table.rows());
    assert!(strays.is_empty());
    for plan in plans::<V4>(&fewer, slices) {
        assert_eq!(adopted.set(plan), None);
    }
    assert!(adopted.take().is_empty());
    let ports: Vec<_> = adopted.ports(&service.key).cloned().collect();
    for port in ports {
        adopted.remove(&port);
    }
    adopted.take();
    assert!(adopted.rows().is_empty());
    (all, change)
}

#[test]
fn a_service_with_as_many_addresses_as_can_be_is_programmed_in_a_moment() {
    let service = Service {
        external_ips: addresses(MOST_FRONTENDS - 1),
        ..mk_service("web")
    };
    let (all, change) = programmed(&service, &[mk_slice("web", &[remote("10.0.2.1")])]);
    assert_eq!((all, change), (MOST_FRONTENDS + 3, 1));
}

#[test]
fn a_service_with_as_many_addresses_and_ports_as_can_be_is_programmed_in_a_moment() {
    let service = Service {
        external_ips: addresses(199),
        ports: ports(163),
        ..mk_service("web")
    };
    let (all, change) = programmed(&service, &slices(3, 163, 2));
    // Frontends, ClusterIP, lists, endpoints.
    assert_eq!((all, change), (163 * 200 + 1 + 163 + 163 * 6, 163));
}

#[test]
fn a_service_with_as_many_source_ranges_as_can_be_is_programmed_in_a_moment() {
    let service = Service {
        ingress_ips: ips(&["203.0.113.1", "203.0.113.2"]),
        source_ranges: ranges(MOST_SOURCES / 2),
        restricted: Families::BOTH,
        ..mk_service("web")
    };
    let (all, change) = programmed(&service, &[]);
    assert_eq!((all, change), (3 + 1 + 1 + 2 + MOST_SOURCES, 2));
}

#[test]
fn a_service_with_as_many_slices_and_ports_as_can_be_is_programmed_in_a_moment() {
    let service = Service {
        ports: ports(100),
        ..mk_service("web")
    };
    let (all, _) = programmed(&service, &slices(400, 100, 3));
    assert_eq!(all, 100 * 2 + 1 + 100 * 1200);
}

#[test]
fn what_is_too_large_is_told_before_anything_is_made_of_it() {
    let plan = |service: &Service, slices: &[EndpointSlice]| {
        plan::<V4>(service, &slices.iter(), &mk_node(), Choice::Random).map(|plans| plans.len())
    };
    let addresses_and_ports = Service {
        external_ips: addresses(4096),
        ports: ports(1000),
        ..mk_service("web")
    };
    assert_eq!(plan(&addresses_and_ports, &[]), Err(TooLarge::Frontends(4_097_000)));
    let sources = Service {
        ingress_ips: addresses(100),
        source_ranges: ranges(1000),
        restricted: Families::BOTH,
        ports: ports(100),
        ..mk_service("web")
    };
    assert_eq!(plan(&sources, &[]), Err(TooLarge::Sources(10_000_000)));
    let endpoints = Service {
        ports: ports(100),
        ..mk_service("web")
    };
    assert_eq!(
        plan(&endpoints, &slices(30, 100, 50)),
        Err(TooLarge::Endpoints(150_000))
    );
    assert_eq!(plan(&endpoints, &slices(26, 100, 50)), Ok(100), "{MOST_ENDPOINTS}");
}

#[test]
fn a_service_without_an_address_of_a_family_is_never_too_large_in_it() {
    let service = Service {
        external_ips: addresses(4096),
        cluster_ips: ips(&["fd00::1"]),
        ports: ports(1000),
        ..mk_service("web")
    };
    assert_eq!(
        plan::<V4>(&service, &[].iter(), &mk_node(), Choice::Random),
        Ok(Vec::new())
    );
}

#[test]
fn the_frontends_of_a_service_are_those_that_are_planned_for_it() {
    let service = mk_exposed("web");
    let own = OwnFrontends::<V4>::of(&service);
    let planned = plan_one::<V4>(&service, &[]).frontends;
    assert!(planned.iter().all(|plan| own.contains(&plan.frontend)));
    let other = Service {
        cluster_ips: ips(&["10.96.0.2"]),
        external_ips: Vec::new(),
        ingress_ips: Vec::new(),
        ports: vec![mk_port("http", Protocol::Tcp, 80)],
        ..service
    };
    let own = OwnFrontends::<V4>::of(&other);
    assert!(!planned.iter().any(|plan| own.contains(&plan.frontend)));
    assert_eq!(&**own.name(), "ns/web");
}
