use super::*;

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
