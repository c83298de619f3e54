//! What changes without a restart: the node, and the configuration.

use tandem_core::node::InterfaceName;
use tandem_core::object::{Hints, NodeHint};

use super::*;

fn node_event(zone: Option<&str>) -> Event {
    let node = Node {
        name: "node1".into(),
        addresses: vec![[192, 0, 2, 11].into()],
        zone: zone.map(Into::into),
        ..Node::default()
    };
    Event::Applied(Object::Node(node), Vec::new())
}

/// The slice of a Service with endpoints 1 and 2, the first for zone a, the second for zone b.
fn hinted(service: &str) -> Event {
    let Event::Applied(Object::EndpointSlice(mut slice), notices) = slice(service, &[1, 2]) else {
        panic!("not a slice")
    };
    let hints = |zone: &str| Hints {
        zones: [zone.into()].into(),
        nodes: NodeHint::None,
    };
    slice.hints = [hints("a"), hints("b")].into();
    Event::Applied(Object::EndpointSlice(slice), notices)
}

fn endpoints(host: &Host) -> usize {
    let rows = &host.v4.rows();
    rows.iter().filter(|row| matches!(row, Row::Endpoint { .. })).count()
}

fn configured(change: impl FnOnce(&mut NodeSettings)) -> Event {
    let mut settings = Host::settings();
    change(&mut settings);
    Event::Configured(Box::new(settings))
}

fn step(engine: &mut Engine, event: Event) {
    engine.step([event], at(Instant::now()));
}

#[test]
fn the_zone_of_the_node_decides_again_about_services_with_hints_and_no_others() {
    let host = Host::default();
    let mut engine = started(
        &host,
        [
            service("near", 1),
            hinted("near"),
            service("far", 2),
            slice("far", &[1, 2]),
        ],
    );
    assert_eq!(endpoints(&host), 4, "no zone yet: hints do not count");
    host.v4.forget_transactions();
    step(&mut engine, node_event(Some("a")));
    assert_eq!(endpoints(&host), 3);
    assert_eq!(
        host.v4.transactions(),
        [2],
        "an endpoint less, and one way to pick instead of another"
    );
    step(&mut engine, node_event(Some("c")));
    assert_eq!(endpoints(&host), 4, "a zone that no endpoint is for");
}

#[test]
fn node_port_addresses_that_are_configured_anew_are_rows_that_change() {
    let host = Host::default();
    let mut engine = started(&host, [service("web", 1)]);
    step(
        &mut engine,
        Event::Interfaces(vec![[192, 0, 2, 11].into(), [198, 51, 100, 7].into()]),
    );
    let opened = host.v4.opened();
    host.v4.forget_transactions();
    step(
        &mut engine,
        configured(|settings| {
            settings.node_port_addresses = NodePortAddresses::Ranges(vec!["198.51.100.0/24".parse().unwrap()]);
        }),
    );
    let addresses = &engine.published().load().node_v4.node_addresses;
    assert_eq!(
        addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["198.51.100.7"]
    );
    assert_eq!(host.v4.transactions(), [2], "one address goes, one comes");
    assert_eq!(host.v4.opened(), opened, "no rule changed");
}

#[test]
fn rules_that_are_configured_anew_are_written_and_no_row_changes() {
    let changes: [fn(&mut NodeSettings); 4] = [
        |settings| settings.masquerade_bit = 20,
        |settings| settings.masquerade_all = true,
        |settings| settings.drop_invalid = true,
        |settings| settings.detect_local = DetectLocal::Interface(InterfaceName::parse("cni0").unwrap()),
    ];
    for change in changes {
        let host = Host::default();
        let mut engine = started(&host, [service("web", 1), slice("web", &[1])]);
        let opened = host.v4.opened();
        host.v4.forget_transactions();
        step(&mut engine, configured(change));
        assert_eq!(
            host.v4.opened(),
            opened + 1,
            "rules are written where tables are opened"
        );
        assert_eq!(host.v4.transactions(), [0; 0]);
        step(&mut engine, configured(change));
        assert_eq!(host.v4.opened(), opened + 1, "the same again is no change");
    }
}
