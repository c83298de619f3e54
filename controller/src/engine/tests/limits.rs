//! Services that ask for more than the limits allow.

use super::*;

/// A Service with this many externalIPs and ports.
fn exposed(name: &str, n: u8, addresses: u16, ports: u16) -> Event {
    let Event::Applied(Object::Service(mut service), notices) = service(name, n) else {
        panic!("no Service")
    };
    let addr = |at: u16| std::net::Ipv4Addr::from(0xc612_0000 + u32::from(at)).into();
    service.external_ips = (0..addresses).map(addr).collect();
    service.ports = (1..=ports)
        .map(|number| ServicePort {
            name: format!("p{number}").into(),
            protocol: Protocol::Tcp,
            port: Port::new(number).unwrap(),
            node_port: None,
        })
        .collect();
    Event::Applied(Object::Service(service), notices)
}

fn labels(node: &Host) -> usize {
    node.services()
        .0
        .iter()
        .filter(|label| label.starts_with("shop/large"))
        .count()
}

#[test]
fn a_service_that_is_too_large_is_set_aside_as_it_was_and_all_others_go_through() {
    let node = Host::default();
    let mut engine = started(&node, [exposed("large", 1, 2, 3)]);
    assert_eq!(labels(&node), 3);
    let before = node.v4.rows();
    engine.step([exposed("large", 1, 4096, 1000)], at(Instant::now()));
    assert_eq!(node.v4.rows(), before);
    let status = engine.published().load().v4.set_aside.clone();
    assert_eq!(status[0].service, ObjectKey::new("shop", "large"));
    assert_eq!(
        status[0].reason,
        "is too large: its addresses times its ports are 4097000 frontends; a Service can have 32768; it stays as it was"
    );
    engine.step([service("web", 2)], at(Instant::now()));
    assert!(node.services().0.contains("shop/web"));

    engine.step([exposed("large", 1, 3, 4)], at(Instant::now()));
    assert_eq!(labels(&node), 4);
    assert!(engine.published().load().v4.set_aside.is_empty());
}

#[test]
fn rows_of_a_service_that_is_too_large_survive_a_restart_and_go_with_it() {
    let node = Host::default();
    drop(started(&node, [exposed("large", 1, 2, 3), service("gone", 2)]));
    let mut engine = started(&node, [exposed("large", 1, 4096, 1000)]);
    assert_eq!((labels(&node), node.services().0.len()), (3, 3));
    engine.step(
        [Event::Deleted(
            ObjectKind::Service,
            ObjectKey::new("shop", "large"),
            Vec::new(),
        )],
        at(Instant::now()),
    );
    assert_eq!(node.services().0.len(), 0);
}

#[test]
fn a_service_that_is_too_large_does_not_keep_an_address_that_it_gave_up() {
    let node = Host::default();
    let mut engine = started(&node, [exposed("large", 1, 2, 1)]);
    let Event::Applied(Object::Service(mut moved), notices) = exposed("large", 9, 4096, 1000) else {
        panic!("no Service")
    };
    moved.external_ips.remove(1);
    engine.step([Event::Applied(Object::Service(moved), notices)], at(Instant::now()));
    let rows = node.v4.rows();
    let frontends = rows.iter().filter(|row| matches!(row, Row::Frontend { .. }));
    assert_eq!(
        frontends.count(),
        1,
        "the ClusterIP and the second externalIP are somebody else's by now"
    );
}

#[test]
fn a_service_without_an_id_gets_one_as_soon_as_another_service_goes() {
    let node = Host::default();
    let nth = |n: u32| {
        let Event::Applied(Object::Service(mut service), notices) = service(&format!("s{n:05}"), 0) else {
            panic!("no Service")
        };
        service.affinity = Some(60);
        service.cluster_ips = vec![std::net::Ipv4Addr::from(0x0a60_0000 + n).into()];
        Event::Applied(Object::Service(service), notices)
    };
    let mut engine = started(&node, (0..=16_384).map(nth));
    let aside = engine.published().load().v4.set_aside.clone();
    assert_eq!(aside.len(), 1);
    assert!(aside[0].reason.contains("no session affinity"), "{}", aside[0].reason);
    engine.step(
        [Event::Deleted(
            ObjectKind::Service,
            ObjectKey::new("shop", "s00007"),
            Vec::new(),
        )],
        at(Instant::now()),
    );
    assert!(engine.published().load().v4.set_aside.is_empty());
    let last = engine.v4().table().ports(&aside[0].service).next().cloned().unwrap();
    assert!(engine.v4().table().id(&last).unwrap().is_sticky());
}
