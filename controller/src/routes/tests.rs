use super::kernel::{Standing, difference};
use super::*;
use crate::net::{Address, Change, LOOPBACK, Link, News, Object, Route, Scope};

use tandem_core::family::{V4, V6};
use tandem_core::node::NodeRows;
use tandem_core::object::Node;

fn snapshot(interfaces: &[&str]) -> Snapshot {
    let node = Node {
        name: "node1".into(),
        addresses: ["192.0.2.11", "2001:db8:2::11"]
            .map(|addr| addr.parse().unwrap())
            .to_vec(),
        ..Node::default()
    };
    Snapshot {
        node: Some(Arc::new(node)),
        interfaces: interfaces.iter().map(|addr| addr.parse().unwrap()).collect(),
        node_v4: Arc::new(NodeRows::<V4> {
            service_cidrs: ["10.96.0.0/12".parse().unwrap()].into(),
            ..NodeRows::default()
        }),
        node_v6: Arc::new(NodeRows::<V6> {
            service_cidrs: ["fd00:10:96::/112".parse().unwrap()].into(),
            ..NodeRows::default()
        }),
        ..Snapshot::empty(std::time::SystemTime::UNIX_EPOCH)
    }
}

fn text(routes: &Routes) -> Vec<String> {
    let line = |(range, source): (&IpNet, &Option<IpAddr>)| match source {
        Some(source) => format!("{range} src {source}"),
        None => range.to_string(),
    };
    routes.iter().map(line).collect()
}

#[test]
fn every_range_of_cluster_ips_has_a_route_with_the_nodes_address_as_source() {
    let routes = wanted(&snapshot(&["192.0.2.11", "2001:db8:2::11"]));
    assert_eq!(
        text(&routes),
        ["10.96.0.0/12 src 192.0.2.11", "fd00:10:96::/112 src 2001:db8:2::11"]
    );
}

#[test]
fn an_address_that_the_node_does_not_have_is_no_source() {
    assert_eq!(
        text(&wanted(&snapshot(&["192.0.2.11"]))),
        ["10.96.0.0/12 src 192.0.2.11", "fd00:10:96::/112"]
    );
}

fn wanted_and_standing() -> (Routes, Standing) {
    let wanted = wanted(&snapshot(&["192.0.2.11", "2001:db8:2::11"]));
    let mut standing = Standing::default();
    for change in difference(&wanted, &standing) {
        match change {
            Change::Set(Object::Route(route)) => standing.routes.push(route),
            Change::Set(Object::Rule(rule)) => standing.rules.push(rule),
            other => panic!("{other:?}"),
        }
    }
    (wanted, standing)
}

#[test]
fn nothing_is_written_that_stands() {
    let (wanted, standing) = wanted_and_standing();
    assert_eq!((standing.routes.len(), standing.rules.len()), (2, 2));
    assert_eq!(difference(&wanted, &standing), []);
}

#[test]
fn a_route_with_another_source_is_written_again_and_one_too_many_is_removed() {
    let (mut wanted, mut standing) = wanted_and_standing();
    standing.routes[0].source = None;
    wanted.retain(|range, _| range.addr().is_ipv4());
    let changes = difference(&wanted, &standing);
    let [
        Change::Set(Object::Route(again)),
        Change::Remove(Object::Route(gone)),
        Change::Remove(Object::Rule(rule)),
    ] = changes.as_slice()
    else {
        panic!("{changes:?}")
    };
    assert_eq!(again.destination.to_string(), "10.96.0.0/12");
    assert_eq!(again.source, Some("192.0.2.11".parse().unwrap()));
    assert_eq!(gone.destination.to_string(), "fd00:10:96::/112");
    assert_eq!(rule.family, IpFamily::V6);
}

#[test]
fn only_what_may_have_taken_a_route_away_is_looked_at() {
    let (_, standing) = wanted_and_standing();
    let ours = standing.routes[0];
    let other = Route { table: 254, ..ours };
    let address = Address {
        link: 2,
        address: "192.0.2.11/24".parse().unwrap(),
        peer: None,
        scope: Scope::UNIVERSE,
    };
    let link = |index| Link {
        index,
        ..Link::default()
    };
    assert!(concerns_us(&News::Gone(Object::Route(ours))));
    assert!(!concerns_us(&News::Gone(Object::Route(other))));
    assert!(concerns_us(&News::Gone(Object::Address(address))));
    assert!(!concerns_us(&News::Come(Object::Address(address))));
    assert!(concerns_us(&News::Come(Object::Link(link(LOOPBACK)))));
    assert!(!concerns_us(&News::Come(Object::Link(link(7)))));
    assert!(concerns_us(&News::Gone(Object::Rule(standing.rules[0]))));
    assert!(concerns_us(&News::Lost));
}
