//! nodePorts: on which addresses they answer, with which endpoints, and which source the endpoint sees.

use anyhow::Result;
use serde_json::{Value, json};
use tandem_tests::manifests::Policy;
use tandem_tests::stage::{Ip, PROTOCOLS, Stage, node_port_service, slices};
use tandem_tests::topology::CLIENT;

const MANY: usize = 40;
const NODE_PORT: u16 = 30_080;

fn web(policy: Policy, pods: &[&str]) -> Vec<Value> {
    let mut objects = vec![node_port_service("web", 10, NODE_PORT).external_policy(policy).build()];
    objects.extend(slices("web", pods));
    objects
}

#[test]
fn policy_cluster_masquerades_and_uses_every_endpoint() -> Result<()> {
    let stage = Stage::new(&web(Policy::Cluster, &["web-1", "web-3"]))?;
    for family in Ip::BOTH {
        for protocol in PROTOCOLS {
            for from in [stage.client(), stage.pod("web-2"), stage.pod("web-3"), stage.node()] {
                let answers = stage.ask(from, MANY, protocol, (stage.node_address(1, family), NODE_PORT))?;
                assert_eq!(
                    answers.names(),
                    ["web-1", "web-3"],
                    "{protocol} {family:?} from {}",
                    from.name()
                );
                assert!(
                    answers.only_from(&stage.masqueraded(family)),
                    "{protocol}: {:?}",
                    answers.sources()
                );
            }
            stage.expect_counted(family, "web", protocol, 4 * MANY)?;
        }
    }
    Ok(())
}

#[test]
fn policy_local_keeps_the_source_and_uses_local_endpoints_only() -> Result<()> {
    let stage = Stage::new(&web(Policy::Local, &["web-1", "web-2", "web-3"]))?;
    for family in Ip::BOTH {
        for protocol in PROTOCOLS {
            let answers = stage.ask(
                stage.client(),
                MANY,
                protocol,
                (stage.node_address(1, family), NODE_PORT),
            )?;
            assert_eq!(answers.names(), ["web-1", "web-2"], "{protocol} {family:?}");
            assert_eq!(answers.sources(), [family.of(CLIENT)], "{protocol} {family:?}");
        }
    }
    Ok(())
}

#[test]
fn policy_local_leads_pods_and_the_node_to_every_endpoint() -> Result<()> {
    let stage = Stage::new(&web(Policy::Local, &["web-1", "web-3"]))?;
    for family in Ip::BOTH {
        let to = (stage.node_address(1, family), NODE_PORT);
        for protocol in PROTOCOLS {
            let answers = stage.ask(stage.pod("web-2"), MANY, protocol, to)?;
            assert_eq!(answers.names(), ["web-1", "web-3"], "{protocol} {family:?} from a pod");
            assert_eq!(
                answers.sources(),
                [stage.pod_address("web-2", family)],
                "{protocol} {family:?} from a pod"
            );
            let answers = stage.ask(stage.node(), MANY, protocol, to)?;
            assert_eq!(
                answers.names(),
                ["web-1", "web-3"],
                "{protocol} {family:?} from the node"
            );
            assert!(
                answers.only_from(&stage.masqueraded(family)),
                "{protocol}: {:?}",
                answers.sources()
            );
        }
    }
    Ok(())
}

#[test]
fn no_endpoint_here_is_silent_and_none_anywhere_refuses() -> Result<()> {
    let mut stage = Stage::new(&web(Policy::Local, &["web-3"]))?;
    for family in Ip::BOTH {
        for protocol in PROTOCOLS {
            let outcome = stage.send(stage.client(), protocol, (stage.node_address(1, family), NODE_PORT))?;
            assert!(outcome.timed_out(), "{protocol} {family:?}: {outcome}");
        }
    }
    stage.apply("objects.yaml", &web(Policy::Local, &[]))?;
    for family in Ip::BOTH {
        for protocol in PROTOCOLS {
            stage.expect_refused(protocol, (stage.node_address(1, family), NODE_PORT))?;
        }
    }
    Ok(())
}

#[test]
fn only_the_primary_address_of_each_family_takes_node_ports() -> Result<()> {
    let stage = Stage::new(&web(Policy::Cluster, &["web-1"]))?;
    stage
        .node()
        .address("eth0", &["192.0.2.111/24", "2001:db8:2::111/64"])?;
    for protocol in PROTOCOLS {
        for family in Ip::BOTH {
            let primary = (stage.node_address(1, family), NODE_PORT);
            assert_eq!(
                stage.ask(stage.client(), 3, protocol, primary)?.names(),
                ["web-1"],
                "{protocol} {family:?}"
            );
            let gateway = stage.masqueraded(family)[1];
            for other in [family.of(["192.0.2.111".parse()?, "2001:db8:2::111".parse()?]), gateway] {
                let outcome = stage.send(stage.pod("web-2"), protocol, (other, NODE_PORT))?;
                assert!(outcome.answer().is_none(), "{protocol} {other}: {outcome}");
            }
        }
    }
    Ok(())
}

#[test]
fn ranges_choose_the_addresses_also_those_that_come_later() -> Result<()> {
    let ranges = json!(["192.0.2.100/30", "2001:db8:2::100/126"]);
    let mut stage = Stage::with(&web(Policy::Cluster, &["web-1"]), |plan| {
        plan.setting("nodePortAddresses", ranges)
    })?;
    let chosen = ["192.0.2.101".parse()?, "2001:db8:2::101".parse()?];
    stage
        .node()
        .address("eth0", &["192.0.2.101/24", "2001:db8:2::101/64"])?;
    let taken = || {
        let status = stage.tandem.status().ok()?;
        let is_taken = |family: &Value| {
            family["nodePortAddresses"]
                .as_array()
                .is_some_and(|list| list.len() == 1)
        };
        status["families"].as_array()?.iter().all(is_taken).then_some(())
    };
    assert!(
        tandem_tests::eventually(std::time::Duration::from_secs(5), taken).is_some(),
        "{:#}",
        stage.tandem.status()?
    );
    for protocol in PROTOCOLS {
        for family in Ip::BOTH {
            let to = (family.of(chosen), NODE_PORT);
            assert_eq!(
                stage.ask(stage.client(), 3, protocol, to)?.names(),
                ["web-1"],
                "{protocol} {family:?}"
            );
            let outcome = stage.send(stage.client(), protocol, (stage.node_address(1, family), NODE_PORT))?;
            assert!(outcome.answer().is_none(), "{protocol} {family:?}: {outcome}");
        }
    }
    stage
        .node()
        .ip("addr del 192.0.2.101/24 dev eth0\naddr del 2001:db8:2::101/64 dev eth0\n")?;
    let gone = || {
        let status = stage.tandem.status().ok()?;
        let none = |family: &Value| family["nodePortAddresses"].as_array().is_some_and(Vec::is_empty);
        status["families"].as_array()?.iter().all(none).then_some(())
    };
    assert!(
        tandem_tests::eventually(std::time::Duration::from_secs(5), gone).is_some(),
        "{:#}",
        stage.tandem.status()?
    );
    stage.settle()
}

#[test]
fn a_pod_reaches_itself_through_its_nodes_port() -> Result<()> {
    for policy in [Policy::Cluster, Policy::Local] {
        let stage = Stage::new(&web(policy, &["web-1"]))?;
        for family in Ip::BOTH {
            for protocol in PROTOCOLS {
                let to = (stage.node_address(1, family), NODE_PORT);
                let answers = stage.ask(stage.pod("web-1"), 3, protocol, to)?;
                assert_eq!(answers.names(), ["web-1"], "{policy:?} {protocol} {family:?}");
                assert!(
                    answers.only_from(&stage.masqueraded(family)),
                    "{protocol}: {:?}",
                    answers.sources()
                );
            }
        }
    }
    Ok(())
}
