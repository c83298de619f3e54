//! The engine with a data plane in memory. Tests can make this data plane fail.

mod aside;
mod beside;
mod flows;
mod follow;
mod limits;
mod live;
mod node;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use tandem_core::family::{Family, IpFamily, V4, V6};
use tandem_core::node::NodePortAddresses;
use tandem_core::object::{
    Choice, Conditions, EndpointSlice, Node, ObjectKey, Service, ServicePort, SliceEndpoint, SlicePort,
};
use tandem_core::plane::Memory;
use tandem_core::row::{Pick, Port, Protocol, Row};
use tandem_core::samples::{mk_port, mk_service};

use super::*;
use crate::event::{Object, ObjectKind};
use crate::node_settings::{DetectLocal, PodRanges};

struct Host {
    v4: Memory<V4>,
    v6: Memory<V6>,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            v4: Memory::strict(),
            v6: Memory::strict(),
        }
    }
}

impl Host {
    fn settings() -> NodeSettings {
        NodeSettings {
            node_name: "node1".into(),
            detect_local: DetectLocal::Sources(PodRanges::OfNode),
            node_port_addresses: NodePortAddresses::Primary,
            masquerade_all: false,
            masquerade_bit: 14,
            drop_invalid: false,
            usual_choice: Choice::Random,
        }
    }

    fn start(&self) -> Engine {
        Engine::new(Self::settings(), self.v4.opener(), self.v6.opener(), at(Instant::now()))
    }

    fn services(&self) -> (HashSet<String>, HashSet<String>) {
        fn labels<F: Family>(kernel: &Memory<F>) -> HashSet<String> {
            let rows = kernel.rows();
            let services = rows
                .iter()
                .filter(|row| row.kind() == tandem_core::row::RowKind::Service);
            services.filter_map(Row::label).map(str::to_owned).collect()
        }
        (labels(&self.v4), labels(&self.v6))
    }
}

fn at(monotonic: Instant) -> Now {
    Now {
        monotonic,
        wall: SystemTime::now(),
    }
}

fn service(name: &str, n: u8) -> Event {
    let service = Service {
        key: ObjectKey::new("shop", name),
        cluster_ips: vec![[10, 96, 0, n].into(), format!("fd00:10:96::{n}").parse().unwrap()],
        ports: vec![mk_port("", Protocol::Tcp, 80)],
        ..mk_service(name)
    };
    Event::Applied(Object::Service(service), Vec::new())
}

fn slice(service: &str, endpoints: &[u8]) -> Event {
    let port = SlicePort {
        name: "".into(),
        protocol: Protocol::Tcp,
        port: Port::new(8080).unwrap(),
    };
    let endpoint = |n: &u8| SliceEndpoint {
        addr: [10, 0, 0, *n].into(),
        conditions: Conditions::READY,
        local: false,
    };
    let slice = EndpointSlice {
        key: ObjectKey::new("shop", format!("{service}-1")),
        service: service.into(),
        family: IpFamily::V4,
        ports: [port].into(),
        endpoints: endpoints.iter().map(endpoint).collect(),
        hints: Box::default(),
    };
    Event::Applied(Object::EndpointSlice(slice), Vec::new())
}

fn lists(objects: impl IntoIterator<Item = Event>) -> Vec<Event> {
    let node = Node {
        name: "node1".into(),
        addresses: vec![[192, 0, 2, 11].into()],
        ..Node::default()
    };
    let mut events: Vec<Event> = ObjectKind::ALL.into_iter().map(Event::Listing).collect();
    events.push(Event::Applied(Object::Node(node), Vec::new()));
    events.extend(objects);
    events.extend(ObjectKind::ALL.into_iter().map(Event::Listed));
    events
}

fn started(node: &Host, objects: impl IntoIterator<Item = Event>) -> Engine {
    let mut engine = node.start();
    engine.step(lists(objects), at(Instant::now()));
    engine
}

fn names(names: &[&str]) -> HashSet<String> {
    names.iter().map(ToString::to_string).collect()
}

#[test]
fn nothing_is_applied_before_every_list_is_complete() {
    let node = Host::default();
    let mut engine = node.start();
    let mut events = lists([service("web", 1)]);
    let last = events.pop().unwrap();
    engine.step(events, at(Instant::now()));
    assert_eq!(node.v4.opened(), 0, "even the tables are left alone");
    engine.step([last], at(Instant::now()));
    assert_eq!(node.services(), (names(&["shop/web"]), names(&["shop/web"])));
}

#[test]
fn one_endpoint_more_is_two_rows_in_one_transaction_and_none_in_the_other_family() {
    let node = Host::default();
    let mut engine = started(&node, [service("web", 1), slice("web", &[1, 2])]);
    node.v4.forget_transactions();
    node.v6.forget_transactions();
    engine.step([slice("web", &[1, 2, 3])], at(Instant::now()));
    assert_eq!(node.v4.transactions(), [2]);
    assert_eq!(node.v6.transactions(), [0; 0]);
}

#[test]
fn a_restart_with_the_same_objects_changes_no_row() {
    let node = Host::default();
    let objects = || {
        [
            service("api", 2),
            service("web", 1),
            slice("web", &[1, 2]),
            slice("api", &[3]),
        ]
    };
    drop(started(&node, objects()));
    node.v4.forget_transactions();
    let mut reversed = objects();
    reversed.reverse();
    let engine = started(&node, reversed);
    assert_eq!(node.v4.transactions(), [0; 0]);
    assert!(engine.published().load().v4.adopted > 0);
}

#[test]
fn a_restart_removes_what_is_gone_and_keeps_the_rest() {
    let node = Host::default();
    drop(started(
        &node,
        [service("api", 2), service("web", 1), slice("web", &[1, 2])],
    ));
    drop(started(&node, [service("web", 1), slice("web", &[1, 2])]));
    assert_eq!(node.services(), (names(&["shop/web"]), names(&["shop/web"])));
}

#[test]
fn a_refused_service_is_set_aside_and_all_others_go_through() {
    let node = Host::default();
    node.v4.refuse("bad");
    let mut engine = started(&node, [service("good", 1), service("bad", 2), service("well", 3)]);
    assert_eq!(
        node.services(),
        (
            names(&["shop/good", "shop/well"]),
            names(&["shop/good", "shop/well", "shop/bad"])
        )
    );
    let status = engine.published().load().v4.clone();
    assert_eq!(status.set_aside.len(), 1);
    assert!(
        status.set_aside[0].reason.contains("shop/bad"),
        "{}",
        status.set_aside[0].reason
    );
    assert!(status.last_error.is_none(), "the family as a whole is well");

    node.v4.mend();
    engine.step([], at(Instant::now() + Duration::from_secs(1)));
    assert_eq!(node.services().0, names(&["shop/good", "shop/well", "shop/bad"]));
    assert!(engine.published().load().v4.set_aside.is_empty());
}

#[test]
fn a_refused_change_leaves_the_service_as_it_was() {
    let node = Host::default();
    let mut engine = started(&node, [service("web", 1), slice("web", &[1])]);
    let before = node.v4.rows();
    node.v4.refuse("web");
    engine.step([slice("web", &[1, 2])], at(Instant::now()));
    assert_eq!(node.v4.rows(), before);

    node.v4.mend();
    engine.step([slice("web", &[1, 2, 3])], at(Instant::now()));
    let counts: Vec<Pick> = node.v4.rows().iter().filter_map(Row::pick).collect();
    assert_eq!(
        counts,
        [Pick::Any {
            count: Port::new(3).unwrap()
        }],
        "a new version is tried at once"
    );
}

#[test]
fn a_family_that_fails_does_not_hold_the_other_back_and_catches_up() {
    let node = Host::default();
    let mut engine = started(&node, [service("web", 1)]);
    node.v4.break_down("table ip tandem is gone");
    engine.take([service("api", 2)]);
    let now = Instant::now();
    engine.step([], at(now));
    assert_eq!(
        node.services(),
        (names(&["shop/web"]), names(&["shop/web", "shop/api"]))
    );
    let error = engine.published().load().v4.last_error.clone().unwrap().1;
    assert_eq!(error, "table ip tandem is gone");

    let tries = node.v4.opened();
    engine.step([], at(now + Duration::from_millis(50)));
    assert_eq!(node.v4.opened(), tries, "not before the backoff is over");

    node.v4.mend();
    engine.step([], at(now + Duration::from_millis(200)));
    assert_eq!(node.services().0, names(&["shop/web", "shop/api"]));
    assert!(engine.published().load().v4.last_error.is_none());
}

#[test]
fn changes_that_wait_for_a_broken_family_are_not_lost() {
    let node = Host::default();
    let mut engine = started(&node, [service("web", 1), slice("web", &[1])]);
    node.v4.break_down("no");
    let mut now = Instant::now();
    for endpoints in [&[1, 2][..], &[2], &[2, 3, 4]] {
        engine.step([slice("web", endpoints)], at(now));
        now += Duration::from_millis(10);
    }
    engine.take([Event::Deleted(
        ObjectKind::Service,
        ObjectKey::new("shop", "none"),
        Vec::new(),
    )]);
    node.v4.mend();
    engine.step([], at(now + Duration::from_mins(1)));
    let endpoints = node
        .v4
        .rows()
        .iter()
        .filter(|row| matches!(row, Row::Endpoint { .. }))
        .count();
    assert_eq!(endpoints, 3);
}

#[test]
fn a_first_load_goes_out_in_several_transactions() {
    let node = Host::default();
    let objects = (0..250u8).flat_map(|n| {
        let name = format!("s{n}");
        let many: Vec<u8> = (1..=200).collect();
        [service(&name, n), slice(&name, &many)]
    });
    let engine = started(&node, objects.collect::<Vec<_>>());
    let transactions = node.v4.transactions();
    assert!(transactions.len() >= 2, "{transactions:?}");
    assert_eq!(transactions.iter().sum::<usize>(), node.v4.rows().len());
    assert_eq!(engine.published().load().v4.rows, node.v4.rows().len());
}
