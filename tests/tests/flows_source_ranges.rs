//! loadBalancerSourceRanges: which sources may reach a load balancer's addresses, and what the ranges do not restrict.

use anyhow::Result;
use serde_json::Value;
use tandem_tests::stage::{Ip, PROTOCOLS, Stage, node_port_service, slices};

const BALANCER: u8 = 20;
const EXTERNAL: u8 = 10;
const NODE_PORT: u16 = 30_080;

fn restricted(ranges: &[&str]) -> Vec<Value> {
    let (balancer, external) = (Ip::external_ips(BALANCER), Ip::external_ips(EXTERNAL));
    let service = node_port_service("web", 10, NODE_PORT)
        .load_balancer(&balancer.each_ref().map(String::as_str))
        .external_ips(&external.each_ref().map(String::as_str))
        .source_ranges(ranges);
    let mut objects = vec![service.build()];
    objects.extend(slices("web", &["web-1"]));
    objects
}

#[test]
fn sources_inside_a_range_are_let_in() -> Result<()> {
    let stage = Stage::new(&restricted(&[
        "198.51.100.0/24",
        "203.0.113.128/25",
        "2001:db8:99::/64",
    ]))?;
    for family in Ip::BOTH {
        for protocol in PROTOCOLS {
            let answers = stage.ask(stage.client(), 5, protocol, (family.external_ip(BALANCER), 80))?;
            assert_eq!(answers.names(), ["web-1"], "{protocol} {family:?}");
        }
    }
    Ok(())
}

#[test]
fn other_sources_get_no_answer_and_are_not_counted_as_connections() -> Result<()> {
    let stage = Stage::new(&restricted(&["198.51.100.128/25", "2001:db8:99:0:8000::/65"]))?;
    for family in Ip::BOTH {
        for protocol in PROTOCOLS {
            for from in [stage.client(), stage.pod("web-2"), stage.node()] {
                let outcome = stage.send(from, protocol, (family.external_ip(BALANCER), 80))?;
                let silent = outcome.answer().is_none() && !outcome.refused_at_once();
                assert!(silent, "{protocol} {family:?} from {}: {outcome}", from.name());
            }
            stage.expect_counted(family, "web", protocol, 0)?;
        }
    }
    Ok(())
}

#[test]
fn ranges_restrict_neither_node_ports_nor_other_addresses() -> Result<()> {
    let stage = Stage::new(&restricted(&["192.0.2.128/25", "2001:db8:ffff::/64"]))?;
    for family in Ip::BOTH {
        for protocol in PROTOCOLS {
            let open = [
                (stage.node_address(1, family), NODE_PORT),
                (family.external_ip(EXTERNAL), 80),
                (family.cluster_ip(10), 80),
            ];
            for to in open {
                assert_eq!(
                    stage.ask(stage.client(), 3, protocol, to)?.names(),
                    ["web-1"],
                    "{protocol} {to:?}"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn a_range_with_the_node_lets_the_node_in() -> Result<()> {
    let stage = Stage::new(&restricted(&["192.0.2.0/24", "2001:db8:2::/64"]))?;
    for family in Ip::BOTH {
        for protocol in PROTOCOLS {
            let to = (family.external_ip(BALANCER), 80);
            assert_eq!(
                stage.ask(stage.node(), 3, protocol, to)?.names(),
                ["web-1"],
                "{protocol} {family:?}"
            );
            let outcome = stage.send(stage.client(), protocol, to)?;
            assert!(outcome.timed_out(), "{protocol} {family:?}: {outcome}");
        }
    }
    // A load balancer may put its address on the node. Then the node sends from that address.
    stage.node().address(
        "lo",
        &[
            &format!("{}/32", Ip::V4.external_ip(BALANCER)),
            &format!("{}/128", Ip::V6.external_ip(BALANCER)),
        ],
    )?;
    for family in Ip::BOTH {
        for protocol in PROTOCOLS {
            let to = (family.external_ip(BALANCER), 80);
            assert_eq!(
                stage.ask(stage.node(), 3, protocol, to)?.names(),
                ["web-1"],
                "{protocol} {family:?}"
            );
        }
    }
    Ok(())
}

#[test]
fn ranges_of_one_family_leave_the_other_open() -> Result<()> {
    let stage = Stage::new(&restricted(&["192.0.2.128/25"]))?;
    for protocol in PROTOCOLS {
        let outcome = stage.send(stage.client(), protocol, (Ip::V4.external_ip(BALANCER), 80))?;
        assert!(outcome.timed_out(), "{protocol}: {outcome}");
        let answers = stage.ask(stage.client(), 3, protocol, (Ip::V6.external_ip(BALANCER), 80))?;
        assert_eq!(answers.names(), ["web-1"], "{protocol}");
    }
    Ok(())
}
