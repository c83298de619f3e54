//! What the engine makes its reconcilers check, and when.

use tandem_core::flows::{Destination, FlowCheck};
use tandem_core::row::Endpoint;

use super::*;
use crate::flows::Reconciler;
use crate::flows::tests::Probe;

/// The same objects with UDP instead of TCP, and a nodePort.
fn udp(event: Event) -> Event {
    match event {
        Event::Applied(Object::Service(mut service), notices) => {
            service.ports[0].protocol = Protocol::Udp;
            service.ports[0].node_port = Port::new(30_053);
            Event::Applied(Object::Service(service), notices)
        }
        Event::Applied(Object::EndpointSlice(mut slice), notices) => {
            Arc::make_mut(&mut slice.ports)[0].protocol = Protocol::Udp;
            Event::Applied(Object::EndpointSlice(slice), notices)
        }
        other => other,
    }
}

fn gone(service: &str) -> Event {
    Event::Deleted(ObjectKind::Service, ObjectKey::new("shop", service), Vec::new())
}

fn probed(node: &Host, objects: impl IntoIterator<Item = Event>) -> (Engine, Probe<V4>) {
    let (v4, probe) = Reconciler::probed();
    let (v6, _) = Reconciler::probed();
    let mut engine = node.start();
    engine.observe(v4, v6);
    engine.step(lists(objects), at(Instant::now()));
    (engine, probe)
}

fn bring(engine: &mut Engine, event: Event) {
    engine.step([event], at(Instant::now()));
}

fn address(n: u8) -> Destination<V4> {
    Destination::Address([10, 96, 0, n].into(), Port::new(80).unwrap())
}

fn node_port() -> Destination<V4> {
    Destination::NodePort(Port::new(30_053).unwrap())
}

fn endpoint(n: u8) -> Endpoint<V4> {
    Endpoint {
        addr: [10, 0, 0, n].into(),
        port: Port::new(8080).unwrap(),
    }
}

fn changed(destinations: &[Destination<V4>]) -> FlowCheck<V4> {
    FlowCheck {
        everything: false,
        changed: destinations.iter().copied().collect(),
        ..FlowCheck::default()
    }
}

#[test]
fn everything_is_looked_at_once_at_the_start_and_then_what_changes_make_wrong() {
    let node = Host::default();
    let (mut engine, probe) = probed(
        &node,
        [
            udp(service("dns", 1)),
            udp(slice("dns", &[1, 2])),
            service("web", 2),
            slice("web", &[3]),
        ],
    );
    let everything = FlowCheck {
        everything: true,
        // web's
        arrivals: true,
        ..FlowCheck::default()
    };
    assert_eq!(probe.asked(), Some(everything));
    bring(&mut engine, udp(slice("dns", &[1, 2, 3])));
    assert_eq!(probe.asked(), None, "an endpoint more");
    bring(&mut engine, slice("web", &[]));
    assert_eq!(probe.asked(), None, "TCP");
    bring(&mut engine, udp(slice("dns", &[1, 3])));
    assert_eq!(probe.asked(), Some(changed(&[address(1), node_port()])));
    bring(&mut engine, gone("dns"));
    assert_eq!(probe.asked(), Some(changed(&[address(1), node_port()])));
}

#[test]
fn without_udp_only_frontends_that_come_are_asked_about() {
    let node = Host::default();
    let (mut engine, probe) = probed(&node, [service("web", 1), slice("web", &[1])]);
    let arrivals = FlowCheck {
        arrivals: true,
        ..FlowCheck::default()
    };
    assert_eq!(
        probe.asked(),
        Some(arrivals.clone()),
        "clients may have connected before"
    );
    bring(&mut engine, slice("web", &[2]));
    assert_eq!(probe.asked(), None, "an endpoint is no frontend");
    bring(&mut engine, service("shop", 2));
    assert_eq!(probe.asked(), Some(arrivals));
    bring(&mut engine, gone("shop"));
    assert_eq!(probe.asked(), None);
    drop(engine);
    let (_, probe) = probed(&node, [service("web", 1), slice("web", &[1])]);
    assert_eq!(probe.asked(), None, "they were there before the restart");
}

#[test]
fn frontends_that_the_kernel_refused_have_not_come() {
    let node = Host::default();
    let (mut engine, probe) = probed(&node, []);
    node.v4.refuse("bad");
    bring(&mut engine, service("bad", 1));
    assert_eq!(engine.v4().status().set_aside.len(), 1);
    assert_eq!(probe.asked(), None);
    assert!(!probe.waits());
    node.v4.mend();
    engine.step([], at(Instant::now() + Duration::from_secs(1)));
    assert!(probe.asked().unwrap().arrivals);
}

#[test]
fn a_restart_looks_at_what_went_meanwhile_too() {
    let node = Host::default();
    drop(probed(&node, [udp(service("dns", 1)), udp(service("old", 2))]));
    let mut kept = udp(service("dns", 1));
    if let Event::Applied(Object::Service(service), _) = &mut kept {
        service.ports[0].node_port = None;
    }
    let (_, probe) = probed(&node, [kept, udp(slice("dns", &[1]))]);
    let look = FlowCheck {
        everything: true,
        changed: [address(2), node_port()].into(),
        ..FlowCheck::default()
    };
    assert_eq!(probe.asked(), Some(look));
}

#[test]
fn what_the_kernel_refused_is_not_looked_at() {
    let node = Host::default();
    let (mut engine, probe) = probed(&node, [udp(service("bad", 1)), udp(slice("bad", &[1]))]);
    drop(probe.asked());
    node.v4.refuse("bad");
    bring(&mut engine, udp(slice("bad", &[2, 3])));
    assert_eq!(engine.v4().status().set_aside.len(), 1);
    assert_eq!(probe.asked(), None);
    assert_eq!(probe.allows(address(1), endpoint(1)), Some(true), "it stays as it was");
    assert!(!probe.waits());

    node.v4.mend();
    engine.step([], at(Instant::now() + Duration::from_secs(1)));
    assert_eq!(probe.asked(), Some(changed(&[address(1), node_port()])));
    assert_eq!(probe.allows(address(1), endpoint(1)), Some(false));
}

#[test]
fn while_changes_wait_nothing_is_looked_at_and_afterwards_everything_is() {
    let node = Host::default();
    let (mut engine, probe) = probed(&node, [udp(service("dns", 1)), udp(slice("dns", &[1]))]);
    drop(probe.asked());
    node.v4.break_down("out of memory");
    bring(&mut engine, udp(slice("dns", &[2])));
    bring(&mut engine, gone("dns"));
    assert_eq!(probe.asked(), None);
    assert_eq!(probe.allows(address(1), endpoint(1)), Some(true));

    node.v4.mend();
    engine.step([], at(Instant::now() + Duration::from_secs(1)));
    let look = probe.asked().unwrap();
    assert_eq!(look, changed(&[address(1), node_port()]));
    assert_eq!(probe.allows(address(1), endpoint(1)), None);
}
