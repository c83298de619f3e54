//! Zones and hints of nodes and endpoints, and whether the node will go.

use tandem_core::object::{Hints, Node, NodeHint};

use super::*;

fn hints(endpoints: &str) -> Vec<Hints> {
    let (slice, notices) = slice(&with_endpoints("IPv4", endpoints));
    assert!(notices.is_empty(), "{notices:?}");
    slice.hints.into_vec()
}

fn hint(zones: &[&str], nodes: NodeHint) -> Hints {
    Hints {
        zones: zones.iter().map(|zone| (*zone).into()).collect(),
        nodes,
    }
}

#[test]
fn hints_name_zones_and_say_whether_this_node_is_meant() {
    let found = hints(
        r#"[{"addresses":["10.0.0.1"],"hints":{"forZones":[{"name":"a"},{"name":"b"}]}},
            {"addresses":["10.0.0.2"],"hints":{"forNodes":[{"name":"node-b"},{"name":"node-a"}]}},
            {"addresses":["10.0.0.3"],"hints":{"forZones":[{"name":"a"}],"forNodes":[{"name":"node-b"}]}},
            {"addresses":["10.0.0.4"]}]"#,
    );
    assert_eq!(
        found,
        [
            hint(&["a", "b"], NodeHint::None),
            hint(&[], NodeHint::Here),
            hint(&["a"], NodeHint::Elsewhere),
            hint(&[], NodeHint::None),
        ]
    );
}

#[test]
fn hints_belong_to_the_endpoints_that_are_kept() {
    let (slice, _) = slice(&with_endpoints(
        "IPv4",
        r#"[{"addresses":["10.0.0.1"]},{"addresses":["127.0.0.1"],"hints":{"forZones":[{"name":"x"}]}},
            {"addresses":["10.0.0.3"],"hints":{"forZones":[{"name":"a"}]}}]"#,
    ));
    assert_eq!(*slice.hints, [Hints::default(), hint(&["a"], NodeHint::None)]);
}

#[test]
fn empty_hints_are_none_and_take_no_room() {
    for none in [
        r#"{"addresses":["10.0.0.1"]}"#,
        r#"{"addresses":["10.0.0.1"],"hints":null}"#,
        r#"{"addresses":["10.0.0.1"],"hints":{}}"#,
        r#"{"addresses":["10.0.0.1"],"hints":{"forZones":[],"forNodes":null}}"#,
        r#"{"addresses":["10.0.0.1"],"hints":{"forZones":[{"name":""},{}]}}"#,
    ] {
        assert!(hints(&format!("[{none}]")).is_empty(), "{none}");
    }
}

fn node(json: &str) -> Node {
    let (decoded, notices) = check(ObjectKind::Node, json);
    assert!(notices.is_empty(), "{notices:?}");
    let Decoded::Apply(Object::Node(node)) = decoded else {
        panic!("{decoded:?}")
    };
    node
}

#[test]
fn the_zone_is_a_label_of_the_node() {
    let labelled = |label: &str| node(&format!(r#"{{"metadata":{{"name":"node-a","labels":{label}}}}}"#)).zone;
    assert_eq!(labelled(r#"{"topology.kubernetes.io/zone":"a"}"#).as_deref(), Some("a"));
    for none in [r#"{"topology.kubernetes.io/zone":""}"#, r#"{"zone":"a"}"#, "null"] {
        assert_eq!(labelled(none), None, "{none}");
    }
}

#[test]
fn a_node_that_is_deleted_or_scaled_away_is_leaving() {
    for (json, leaving) in [
        (r#"{"metadata":{"name":"node-a"}}"#, false),
        (
            r#"{"metadata":{"name":"node-a","deletionTimestamp":"2026-01-01T00:00:00Z"}}"#,
            true,
        ),
        (
            r#"{"metadata":{"name":"node-a","deletionTimestamp":null},"spec":{"taints":[{"key":"other","effect":"NoSchedule"}]}}"#,
            false,
        ),
        (
            r#"{"metadata":{"name":"node-a"},"spec":{"taints":[{"key":"ToBeDeletedByClusterAutoscaler","effect":"NoSchedule"}]}}"#,
            true,
        ),
    ] {
        assert_eq!(node(json).leaving, leaving, "{json}");
    }
}
