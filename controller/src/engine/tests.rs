//! The engine against a data plane in memory that can be told to fail.

mod aside;
mod flows;
mod limits;
mod live;
mod node;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tandem_core::delta::{ApplyError, DataPlane, Delta, ReadError, Rejection};
use tandem_core::family::{Families, Family, IpFamily, V4, V6};
use tandem_core::node::NodePortAddresses;
use tandem_core::object::{
    Conditions, EndpointSlice, Node, ObjectKey, Service, ServicePort, ServiceType, SliceEndpoint, SlicePort,
    TrafficPolicy,
};
use tandem_core::row::{Pick, Port, Protocol, Row};

use super::*;
use crate::event::{Kind, Object};
use crate::node_settings::LocalPods;

/// A data plane that outlives the engine, as the kernel does.
#[derive(Debug)]
struct Kernel<F: Family> {
    rows: Vec<Row<F>>,
    transactions: Vec<usize>,
    /// Rows of Services with this name are refused.
    refuse: Option<&'static str>,
    /// The next calls fail as a whole.
    broken: Option<&'static str>,
    /// For how many ways to pick an endpoint there is room.
    room: Option<usize>,
    opened: usize,
    /// What it was opened with last.
    rules: Option<tandem_nft::Settings>,
}

impl<F: Family> Default for Kernel<F> {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            transactions: Vec::new(),
            refuse: None,
            broken: None,
            room: None,
            opened: 0,
            rules: None,
        }
    }
}

impl<F: Family> Kernel<F> {
    /// The ways to pick an endpoint that rows have.
    fn ways(&self) -> HashSet<Pick> {
        self.rows.iter().filter_map(pick).collect()
    }

    /// The rows for whose way to pick an endpoint there is no room.
    fn unplaced<'r>(&self, new: impl Iterator<Item = &'r Row<F>>) -> Vec<Rejection<F>> {
        let mut ways = self.ways();
        let unplaced = new.filter(|row| {
            let Some(way) = pick(row).filter(|way| !matches!(way, Pick::Refuse | Pick::Discard)) else {
                return false;
            };
            let full = self.room.is_some_and(|room| ways.len() >= room) && !ways.contains(&way);
            if !full {
                ways.insert(way);
            }
            full
        });
        let refused = |row: &Row<F>| Rejection {
            row: row.clone(),
            reason: "no room".into(),
        };
        unplaced.map(refused).collect()
    }
}

struct Handle<F: Family>(Arc<Mutex<Kernel<F>>>);

fn label<F: Family>(row: &Row<F>) -> &str {
    match row {
        Row::Frontend { label, .. } | Row::Service { label, .. } => label,
        _ => "",
    }
}

impl<F: Family> DataPlane<F> for Handle<F> {
    fn read(&mut self) -> Result<Vec<Row<F>>, ReadError> {
        Ok(self.0.lock().unwrap().rows.clone())
    }

    fn apply(&mut self, delta: &Delta<F>) -> Result<(), ApplyError<F>> {
        let mut kernel = self.0.lock().unwrap();
        if let Some(reason) = kernel.broken {
            return Err(ApplyError::Failed(reason.into()));
        }
        let new = delta.added.iter().chain(delta.changed.iter().map(|(_, new)| new));
        let unplaced = kernel.unplaced(new.clone());
        if !unplaced.is_empty() {
            return Err(ApplyError::UsedUp(unplaced));
        }
        if let Some(name) = kernel.refuse {
            let refused = new.filter(|row| label(row).contains(name));
            let rejections: Vec<Rejection<F>> = refused
                .map(|row| Rejection {
                    row: row.clone(),
                    reason: "no".into(),
                })
                .collect();
            if !rejections.is_empty() {
                return Err(ApplyError::Rejected(rejections));
            }
        }
        for row in delta.removed.iter().chain(delta.changed.iter().map(|(old, _)| old)) {
            let at = kernel
                .rows
                .iter()
                .position(|other| other == row)
                .expect("only what is there is removed");
            kernel.rows.swap_remove(at);
        }
        for row in delta.changed.iter().map(|(_, new)| new).chain(&delta.added) {
            // Large tables would take minutes.
            let known = kernel.rows.len() < 5_000 && kernel.rows.contains(row);
            assert!(!known, "{row:?} is there already");
            kernel.rows.push(row.clone());
        }
        kernel.transactions.push(delta.len());
        Ok(())
    }

    fn ways(&self) -> Vec<Pick> {
        self.0.lock().unwrap().ways().into_iter().collect()
    }
}

impl<F: Family> Plane<F> for Handle<F> {
    fn ownership(&self) -> String {
        "the test's".into()
    }

    fn tidy(&mut self) -> Result<(), String> {
        Ok(())
    }
}

#[derive(Default)]
struct Host {
    v4: Arc<Mutex<Kernel<V4>>>,
    v6: Arc<Mutex<Kernel<V6>>>,
}

fn opener<F: Family>(kernel: &Arc<Mutex<Kernel<F>>>) -> Open<F> {
    let kernel = kernel.clone();
    Box::new(move |rules| {
        kernel.lock().unwrap().opened += 1;
        kernel.lock().unwrap().rules = Some(rules);
        Ok(Box::new(Handle(kernel.clone())) as _)
    })
}

impl Host {
    fn settings() -> NodeSettings {
        NodeSettings {
            node_name: "node1".into(),
            local_pods: LocalPods::NodeCidrs,
            node_port_addresses: NodePortAddresses::Primary,
            masquerade_all: false,
            masquerade_bit: 14,
            drop_invalid: false,
        }
    }

    fn start(&self) -> Engine {
        Engine::new(Self::settings(), opener(&self.v4), opener(&self.v6))
    }

    fn services(&self) -> (HashSet<String>, HashSet<String>) {
        fn labels<F: Family>(kernel: &Mutex<Kernel<F>>) -> HashSet<String> {
            let rows = &kernel.lock().unwrap().rows;
            rows.iter()
                .filter(|row| matches!(row, Row::Service { .. }))
                .map(|row| label(row).to_owned())
                .collect()
        }
        (labels(&self.v4), labels(&self.v6))
    }
}

fn service(name: &str, n: u8) -> Event {
    let port = Port::new(80).unwrap();
    let service = Service {
        key: ObjectKey::new("shop", name),
        uid: None,
        created: 0,
        kind: ServiceType::ClusterIp,
        cluster_ips: vec![[10, 96, 0, n].into(), format!("fd00:10:96::{n}").parse().unwrap()],
        external_ips: Vec::new(),
        ingress_ips: Vec::new(),
        source_ranges: Vec::new(),
        restricted: Families::NONE,
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
        affinity: None,
        health_check_node_port: None,
        ports: vec![ServicePort {
            name: "".into(),
            protocol: Protocol::Tcp,
            port,
            node_port: None,
        }],
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
        ports: Box::new([port]),
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
    let mut events: Vec<Event> = Kind::ALL.into_iter().map(Event::Listing).collect();
    events.push(Event::Applied(Object::Node(node), Vec::new()));
    events.extend(objects);
    events.extend(Kind::ALL.into_iter().map(Event::Listed));
    events
}

fn started(node: &Host, objects: impl IntoIterator<Item = Event>) -> Engine {
    let mut engine = node.start();
    engine.take(lists(objects));
    engine.sync(Instant::now());
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
    engine.take(events);
    engine.sync(Instant::now());
    assert_eq!(node.v4.lock().unwrap().opened, 0, "even the tables are left alone");
    engine.take([last]);
    engine.sync(Instant::now());
    assert_eq!(node.services(), (names(&["shop/web"]), names(&["shop/web"])));
}

#[test]
fn one_endpoint_more_is_two_rows_in_one_transaction_and_none_in_the_other_family() {
    let node = Host::default();
    let mut engine = started(&node, [service("web", 1), slice("web", &[1, 2])]);
    node.v4.lock().unwrap().transactions.clear();
    node.v6.lock().unwrap().transactions.clear();
    engine.take([slice("web", &[1, 2, 3])]);
    engine.sync(Instant::now());
    assert_eq!(node.v4.lock().unwrap().transactions, [2]);
    assert_eq!(node.v6.lock().unwrap().transactions, [0; 0]);
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
    node.v4.lock().unwrap().transactions.clear();
    let mut reversed = objects();
    reversed.reverse();
    let engine = started(&node, reversed);
    assert_eq!(node.v4.lock().unwrap().transactions, [0; 0]);
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
    node.v4.lock().unwrap().refuse = Some("bad");
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

    node.v4.lock().unwrap().refuse = None;
    engine.sync(Instant::now() + Duration::from_secs(1));
    assert_eq!(node.services().0, names(&["shop/good", "shop/well", "shop/bad"]));
    assert!(engine.published().load().v4.set_aside.is_empty());
}

#[test]
fn a_refused_change_leaves_the_service_as_it_was() {
    let node = Host::default();
    let mut engine = started(&node, [service("web", 1), slice("web", &[1])]);
    let before = node.v4.lock().unwrap().rows.clone();
    node.v4.lock().unwrap().refuse = Some("web");
    engine.take([slice("web", &[1, 2])]);
    engine.sync(Instant::now());
    assert_eq!(node.v4.lock().unwrap().rows, before);

    node.v4.lock().unwrap().refuse = None;
    engine.take([slice("web", &[1, 2, 3])]);
    engine.sync(Instant::now());
    let counts: Vec<Pick> = node.v4.lock().unwrap().rows.iter().filter_map(pick).collect();
    assert_eq!(
        counts,
        [Pick::Any {
            count: Port::new(3).unwrap()
        }],
        "a new version is tried at once"
    );
}

fn pick<F: Family>(row: &Row<F>) -> Option<Pick> {
    match row {
        Row::Service { pick, .. } => Some(*pick),
        _ => None,
    }
}

#[test]
fn a_family_that_fails_does_not_hold_the_other_back_and_catches_up() {
    let node = Host::default();
    let mut engine = started(&node, [service("web", 1)]);
    node.v4.lock().unwrap().broken = Some("table ip tandem is gone");
    engine.take([service("api", 2)]);
    let now = Instant::now();
    engine.sync(now);
    assert_eq!(
        node.services(),
        (names(&["shop/web"]), names(&["shop/web", "shop/api"]))
    );
    let error = engine.published().load().v4.last_error.clone().unwrap().1;
    assert_eq!(error, "table ip tandem is gone");

    let tries = node.v4.lock().unwrap().opened;
    engine.sync(now + Duration::from_millis(50));
    assert_eq!(node.v4.lock().unwrap().opened, tries, "not before the backoff is over");

    node.v4.lock().unwrap().broken = None;
    engine.sync(now + Duration::from_millis(200));
    assert_eq!(node.services().0, names(&["shop/web", "shop/api"]));
    assert!(engine.published().load().v4.last_error.is_none());
}

#[test]
fn changes_that_wait_for_a_broken_family_are_not_lost() {
    let node = Host::default();
    let mut engine = started(&node, [service("web", 1), slice("web", &[1])]);
    node.v4.lock().unwrap().broken = Some("no");
    let mut now = Instant::now();
    for endpoints in [&[1, 2][..], &[2], &[2, 3, 4]] {
        engine.take([slice("web", endpoints)]);
        engine.sync(now);
        now += Duration::from_millis(10);
    }
    engine.take([Event::Deleted(
        Kind::Service,
        ObjectKey::new("shop", "none"),
        Vec::new(),
    )]);
    node.v4.lock().unwrap().broken = None;
    engine.sync(now + Duration::from_mins(1));
    let endpoints = node
        .v4
        .lock()
        .unwrap()
        .rows
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
    let transactions = node.v4.lock().unwrap().transactions.clone();
    assert!(transactions.len() >= 2, "{transactions:?}");
    assert_eq!(transactions.iter().sum::<usize>(), node.v4.lock().unwrap().rows.len());
    assert_eq!(engine.published().load().v4.rows, node.v4.lock().unwrap().rows.len());
}
