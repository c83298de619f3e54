//! Which destinations must be checked after a change, and which flows are wrong. The last tests compare random
//! histories with the definition.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

use super::*;
use crate::family::V4;
use crate::object::SliceEndpoint;
use crate::samples::{
    ips, local, mk_exposed, mk_port, mk_service, mk_slice, mk_slice_port, plans, port, remote, terminating, unready,
};

mod arrivals;
mod inputs;
mod turned;

type Change = (ObjectKey, Box<[PortFlows<V4>]>);

fn endpoint(last: u8) -> Endpoint<V4> {
    Endpoint {
        addr: [10, 244, 0, last].into(),
        port: port(5353),
    }
}

fn address(last: u8) -> Destination<V4> {
    Destination::Address([10, 96, 0, last].into(), port(53))
}

fn node_port() -> Destination<V4> {
    Destination::NodePort(port(30_053))
}

/// A flow that was answered. Only its destination is translated.
fn flow(from: Endpoint<V4>, to: Endpoint<V4>, with: Endpoint<V4>) -> Flow<V4> {
    Flow {
        protocol: Protocol::Udp,
        from,
        to,
        with,
        back: from,
        answered: true,
        opening: false,
    }
}

fn change(service: &str, destinations: &[Destination<V4>], endpoints: &[u8]) -> Change {
    let endpoints: Vec<_> = endpoints.iter().map(|last| endpoint(*last)).collect();
    let ports = [PortFlows::new(destinations.iter().copied(), &endpoints)];
    (ObjectKey::new("ns", service), ports.into())
}

fn gone(service: &str) -> Change {
    (ObjectKey::new("ns", service), [].into())
}

fn ledger(changes: impl IntoIterator<Item = Change>) -> Ledger<V4> {
    let mut ledger = Ledger::default();
    ledger.apply(changes);
    ledger
}

fn look(ledger: &mut Ledger<V4>, changes: impl IntoIterator<Item = Change>) -> Vec<Destination<V4>> {
    let mut found = ledger.apply(changes).destinations;
    found.sort_unstable();
    found
}

/// This test takes minutes if the code compares the endpoints of every destination.
#[test]
fn a_port_with_very_many_destinations_and_endpoints_is_judged_in_a_moment() {
    let nth = |n: u32| Destination::Address((0x0a60_0000 + n).into(), port(53));
    let destinations: Vec<Destination<V4>> = (0..30_000).map(nth).collect();
    let endpoint = |n: u32| Endpoint {
        addr: (0x0af4_0000 + n).into(),
        port: port(5353),
    };
    let endpoints: Vec<Endpoint<V4>> = (0..30_000).map(endpoint).collect();
    let dns = |endpoints: &[Endpoint<V4>]| -> Change {
        let ports = [PortFlows::new(destinations.iter().copied(), endpoints)];
        (ObjectKey::new("ns", "dns"), ports.into())
    };
    let mut ledger = ledger([dns(&endpoints[1..])]);
    assert_eq!(ledger.apply([dns(&endpoints)]).destinations.len(), 0);
    assert_eq!(ledger.apply([dns(&endpoints[..29_999])]).destinations.len(), 30_000);
}

#[test]
fn an_endpoint_that_goes_is_worth_a_look_at_every_destination_and_one_that_comes_is_not() {
    let both = [address(1), node_port()];
    let mut ledger = ledger([change("dns", &both, &[1, 2])]);
    assert_eq!(look(&mut ledger, [change("dns", &both, &[1, 2, 3])]), []);
    assert_eq!(look(&mut ledger, [change("dns", &both, &[2, 3])]), both);
    assert_eq!(look(&mut ledger, [change("dns", &both, &[2, 3])]), []);
}

#[test]
fn the_first_endpoint_is_worth_a_look_and_so_is_the_last() {
    let mut ledger = ledger([change("dns", &[address(1)], &[])]);
    assert_eq!(look(&mut ledger, [change("dns", &[address(1)], &[1])]), [address(1)]);
    assert_eq!(look(&mut ledger, [change("dns", &[address(1)], &[])]), [address(1)]);
}

#[test]
fn destinations_that_come_and_go_are_worth_a_look_and_those_that_stay_are_not() {
    let mut ledger = Ledger::default();
    assert_eq!(
        look(&mut ledger, [change("dns", &[address(1), address(2)], &[1])]),
        [address(1), address(2)]
    );
    assert_eq!(
        look(&mut ledger, [change("dns", &[address(2), node_port()], &[1])]),
        [address(1), node_port()]
    );
    assert_eq!(look(&mut ledger, [gone("dns")]), [address(2), node_port()]);
    assert_eq!(ledger.destinations().len(), 0);
    assert_eq!(look(&mut ledger, [gone("dns")]), []);
}

#[test]
fn what_comes_and_goes_within_one_batch_is_nothing() {
    let mut ledger = ledger([change("dns", &[address(1)], &[1])]);
    let batch = [
        change("dns", &[address(1)], &[]),
        change("other", &[address(2)], &[2]),
        gone("other"),
        change("dns", &[address(1)], &[1]),
    ];
    assert_eq!(look(&mut ledger, batch), []);
}

#[test]
fn a_disputed_destination_may_be_with_the_endpoints_of_all_that_claim_it() {
    let mut ledger = ledger([
        change("dns", &[address(1)], &[1]),
        change("other", &[address(1)], &[1, 2]),
    ]);
    assert_eq!(ledger.allows(&address(1), endpoint(2)), Some(true));
    assert_eq!(look(&mut ledger, [gone("dns")]), []);
    assert_eq!(look(&mut ledger, [change("other", &[address(1)], &[1])]), [address(1)]);
    assert_eq!(ledger.allows(&address(1), endpoint(2)), Some(false));
    assert_eq!(ledger.allows(&address(9), endpoint(2)), None);
}

#[test]
fn only_udp_ports_count_with_everything_that_leads_to_them_and_everyone_who_still_answers() {
    let mut service = mk_exposed("dns");
    service.ports = vec![
        mk_port("tcp", Protocol::Tcp, 53),
        mk_port("sctp", Protocol::Sctp, 53),
        mk_port("udp", Protocol::Udp, 53),
    ];
    service.ports[2].node_port = Some(port(30_053));
    // One address in two classes is one destination.
    service.external_ips.extend(ips(&["10.96.0.1"]));
    let entries: [SliceEndpoint; 4] = [
        local("10.244.0.1"),
        remote("10.244.0.2"),
        terminating(local("10.244.0.3")),
        unready(local("10.244.0.4")),
    ];
    let mut slice = mk_slice("dns", &entries);
    slice.ports = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
        .map(|protocol| mk_slice_port(&protocol.to_string().to_lowercase(), protocol, 5353))
        .into();
    let flows: Vec<_> = plans::<V4>(&service, &[slice]).iter().map(PortFlows::of).collect();
    let at = |text: &str| Destination::Address(text.parse().unwrap(), port(53));
    let expected = PortFlows::new(
        [at("10.96.0.1"), at("198.51.100.1"), at("203.0.113.1"), node_port()],
        &[endpoint(1), endpoint(2), endpoint(3)],
    );
    assert_eq!(flows, [None, None, Some(expected)]);
    assert_eq!(
        plans::<V4>(&mk_service("web"), &[]).iter().find_map(PortFlows::of),
        None
    );
}

#[test]
fn a_flow_is_wrong_where_nobody_has_the_destination_or_its_endpoint_is_another() {
    let ledger = ledger([change("dns", &[address(1), node_port()], &[1])]);
    let look = FlowCheck {
        everything: false,
        changed: [address(1), address(2), node_port()].into(),
        ..FlowCheck::default()
    };
    let node = Endpoint {
        addr: [192, 0, 2, 11].into(),
        port: port(30_053),
    };
    let to = |destination: Destination<V4>| match destination {
        Destination::Address(addr, port) => Endpoint { addr, port },
        Destination::NodePort(_) => node,
    };
    let wrong = |look: &FlowCheck<V4>, to: Endpoint<V4>, with: Endpoint<V4>| {
        look.wrong(&flow(endpoint(9), to, with), &ledger, &[node.addr].into()) == Some(Wrong::Astray)
    };
    for here in [address(1), node_port()].map(to) {
        assert!(!wrong(&look, here, endpoint(1)));
        assert!(wrong(&look, here, endpoint(2)));
        // It began before there were rules, so its endpoint is its own destination.
        assert!(wrong(&look, here, here));
    }
    assert!(wrong(&look, to(address(2)), endpoint(1)), "nobody has it any more");
    assert!(!wrong(&look, to(address(3)), endpoint(2)), "nobody asked");
    let elsewhere = Endpoint {
        addr: [192, 0, 2, 99].into(),
        ..node
    };
    assert!(
        !wrong(&look, elsewhere, elsewhere),
        "the port number of a nodePort on an address that is none of the node's"
    );

    let everything = FlowCheck {
        everything: true,
        ..FlowCheck::default()
    };
    assert!(wrong(&everything, to(address(1)), endpoint(2)));
    assert!(!wrong(&everything, to(address(1)), endpoint(1)));
    assert!(
        !wrong(&everything, to(address(2)), endpoint(2)),
        "no Service's business"
    );
}

#[test]
fn where_only_flows_of_services_stand_a_flow_of_nobodys_is_wrong_if_everything_is_checked() {
    let ledger = ledger([change("dns", &[address(1), node_port()], &[1])]);
    let node = at([192, 0, 2, 11], 30_053);
    let wrong = |everything, to: Endpoint<V4>, with| {
        let look = FlowCheck {
            everything,
            changed: [address(3)].into(),
            ..FlowCheck::default()
        };
        let flow = Translation { to, with };
        look.is_wrong_among_services(flow, &ledger, &[node.addr].into())
    };
    for of_service in [at([10, 96, 0, 1], 53), node] {
        assert!(!wrong(true, of_service, endpoint(1)));
        assert!(wrong(true, of_service, endpoint(2)));
        assert!(!wrong(false, of_service, endpoint(2)), "nobody asked");
    }
    for of_nobody in [
        at([10, 96, 0, 2], 53),
        at([192, 0, 2, 99], 30_053),
        at([192, 0, 2, 11], 53),
    ] {
        assert!(wrong(true, of_nobody, endpoint(1)));
        assert!(!wrong(false, of_nobody, endpoint(1)), "nobody asked");
    }
    assert!(wrong(false, at([10, 96, 0, 3], 53), endpoint(1)), "it went");
}

#[test]
fn few_destinations_are_named_and_many_are_not() {
    let ledger = ledger([change("dns", &[address(1), node_port()], &[1])]);
    let look = |everything, changed: &[Destination<V4>]| FlowCheck {
        everything,
        changed: changed.iter().copied().collect(),
        ..FlowCheck::default()
    };
    let some = |destinations: &[Destination<V4>]| Some(destinations.iter().copied().collect());
    assert_eq!(look(false, &[address(2)]).few(&ledger, 2), some(&[address(2)]));
    assert_eq!(look(false, &[address(1), address(2)]).few(&ledger, 1), None);
    assert_eq!(
        look(true, &[address(1)]).few(&ledger, 2),
        some(&[address(1), node_port()])
    );
    assert_eq!(look(true, &[address(2)]).few(&ledger, 2), None);
    assert_eq!(look(true, &[]).few(&ledger, 1), None);
}

fn at(addr: [u8; 4], number: u16) -> Endpoint<V4> {
    Endpoint {
        addr: addr.into(),
        port: port(number),
    }
}

/// Why this check cuts a flow, if it does; 192.0.2.11 takes nodePort traffic.
fn cut(look: &FlowCheck<V4>, ledger: &Ledger<V4>, flow: Flow<V4>) -> Option<Wrong> {
    look.wrong(&flow, ledger, &[[192, 0, 2, 11].into()].into())
}

#[test]
fn whoever_has_an_address_has_it_before_a_node_port_of_the_same_number() {
    let own = at([192, 0, 2, 11], 30_053);
    let to_own = Destination::Address(own.addr, own.port);
    let mut ledger = ledger([change("port", &[node_port()], &[1])]);
    let with_port = flow(endpoint(9), own, endpoint(1));
    let with_own = flow(endpoint(9), own, endpoint(2));
    let judge = |ledger: &mut Ledger<V4>, changes: [Change; 1]| {
        let look = FlowCheck {
            changed: ledger.apply(changes).destinations.into_iter().collect(),
            ..FlowCheck::default()
        };
        [with_port, with_own].map(|flow| cut(&look, ledger, flow).is_some())
    };
    assert_eq!(judge(&mut ledger, [change("own", &[to_own], &[2])]), [true, false]);
    assert_eq!(judge(&mut ledger, [gone("own")]), [false, true]);
}

#[test]
fn what_went_to_node_ports_of_an_address_that_is_left_is_cut_and_what_was_nobodys_is_not() {
    let ledger = ledger([change("dns", &[node_port(), address(1)], &[1])]);
    let look = FlowCheck {
        everything: true,
        left: [[192, 0, 2, 99].into()].into(),
        ..FlowCheck::default()
    };
    let client = endpoint(9);
    for (to, with, wrong) in [
        (at([192, 0, 2, 99], 30_053), endpoint(1), true),
        (at([192, 0, 2, 99], 30_053), endpoint(7), true),
        // A program of the node, another port, an address that was never one, and one that still is.
        (at([192, 0, 2, 99], 30_053), at([192, 0, 2, 99], 30_053), false),
        (at([192, 0, 2, 99], 30_054), endpoint(1), false),
        (at([192, 0, 2, 98], 30_053), endpoint(1), false),
        (at([192, 0, 2, 11], 30_053), endpoint(1), false),
    ] {
        assert_eq!(
            cut(&look, &ledger, flow(client, to, with)).is_some(),
            wrong,
            "{to:?} {with:?}"
        );
    }
    // The nodePort went in the same change.
    let look = FlowCheck {
        everything: false,
        changed: [Destination::NodePort(port(30_054))].into(),
        ..look
    };
    let stale = flow(client, at([192, 0, 2, 99], 30_054), endpoint(1));
    assert_eq!(cut(&look, &ledger, stale), Some(Wrong::Astray));
}

type Ports = Vec<(BTreeSet<u8>, BTreeSet<u8>)>;
/// Services with their UDP ports: destinations and endpoints.
type Services = BTreeMap<u8, Ports>;

/// The endpoints that flows to each destination may have.
fn allowed(services: &Services) -> BTreeMap<Destination<V4>, BTreeSet<Endpoint<V4>>> {
    let mut allowed: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (destinations, endpoints) in services.values().flatten() {
        for destination in destinations {
            let endpoints = endpoints.iter().map(|last| endpoint(*last));
            allowed.entry(place(*destination)).or_default().extend(endpoints);
        }
    }
    allowed
}

fn place(number: u8) -> Destination<V4> {
    if number == 0 { node_port() } else { address(number) }
}

/// The destinations whose flows may be wrong after the change from `before` to `after`, by definition.
fn between(before: &Services, after: &Services) -> Vec<Destination<V4>> {
    let (before, after) = (allowed(before), allowed(after));
    let all: BTreeSet<_> = before.keys().chain(after.keys()).copied().collect();
    let wrong = |destination: &Destination<V4>| match (before.get(destination), after.get(destination)) {
        (Some(before), Some(after)) => !before.is_subset(after) || (before.is_empty() && !after.is_empty()),
        _ => true,
    };
    all.into_iter().filter(wrong).collect()
}

proptest! {
    #[test]
    fn after_any_history_the_ledger_is_what_the_services_say_and_every_batch_names_exactly_what_it_changed(
        history in vec(vec((0_u8..4, vec((btree_set(0_u8..4, 0..4), btree_set(1_u8..4, 0..4)), 0..3)), 0..4), 0..8),
        start in btree_map(0_u8..4, vec((btree_set(0_u8..4, 0..4), btree_set(1_u8..4, 0..4)), 0..3), 0..4),
    ) {
        let as_change = |(service, ports): (u8, Ports)| -> Change {
            let port = |(destinations, endpoints): &(BTreeSet<u8>, BTreeSet<u8>)| {
                let endpoints: Vec<_> = endpoints.iter().map(|last| endpoint(*last)).collect();
                PortFlows::new(destinations.iter().map(|number| place(*number)), &endpoints)
            };
            (ObjectKey::new("ns", service.to_string()), ports.iter().map(port).collect())
        };
        let mut ledger = ledger(start.clone().into_iter().map(as_change));
        let mut services: Services = start;
        for batch in history {
            let before = services.clone();
            services.extend(batch.iter().cloned());
            let found = look(&mut ledger, batch.into_iter().map(as_change));
            prop_assert_eq!(found, between(&before, &services));
        }
        let allowed = allowed(&services);
        let known: BTreeSet<_> = ledger.destinations().copied().collect();
        prop_assert_eq!(known, allowed.keys().copied().collect::<BTreeSet<_>>());
        for (destination, endpoints) in allowed {
            for last in 1..4 {
                let expected = endpoints.contains(&endpoint(last));
                prop_assert_eq!(ledger.allows(&destination, endpoint(last)), Some(expected));
            }
        }
    }
}
