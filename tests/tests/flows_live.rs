//! Changes while Tandem runs: endpoints come, get ready, finish and go; Services change and vanish.

use anyhow::Result;
use serde_json::{Value, json};
use tandem_tests::manifests::Policy;
use tandem_tests::node::PodRanges;
use tandem_tests::stage::{Ip, PROTOCOLS, Stage, node_port_service, service, slice, slices};
use tandem_tests::traffic::{Protocol, Request};

const MANY: usize = 40;

/// A Service whose endpoints are in these states, by the number of the pod: 1 and 2 on `node1`, 3 on `node2`.
fn in_states(states: &[(u8, &str)]) -> Vec<Value> {
    let mut objects = vec![service("web", 10).build()];
    objects.extend(Ip::BOTH.map(|family| {
        let empty = slice(&format!("web-{}", family.of(["v4", "v6"])), "web", family);
        let add = |slice: tandem_tests::manifests::Slice, (pod, state): &(u8, &str)| {
            let (node, number) = if *pod == 3 { (2, 10) } else { (1, 9 + pod) };
            let ranges = PodRanges::of_node(node);
            let address = family.of([ranges.v4(number).into(), ranges.v6(number).into()]);
            let node = format!("node{node}");
            match *state {
                "ready" => slice.ready(address, &node),
                "terminating" => slice.terminating(address, &node),
                _ => slice.unready(address, &node),
            }
        };
        states.iter().fold(empty, add).build()
    }));
    objects
}

fn answered_by(stage: &Stage, expected: &[&str]) -> Result<()> {
    for family in Ip::BOTH {
        for protocol in PROTOCOLS {
            let to = (family.cluster_ip(10), 80);
            if expected.is_empty() {
                stage.expect_refused(protocol, to)?;
            } else {
                assert_eq!(
                    stage.ask(stage.pod("web-2"), MANY, protocol, to)?.names(),
                    expected,
                    "{protocol} {family:?}"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn endpoints_scaled_from_none_to_three_and_back_are_followed() -> Result<()> {
    let mut stage = Stage::new(&[service("web", 10).build()])?;
    answered_by(&stage, &[])?;
    let pods = ["web-1", "web-2", "web-3"];
    for count in [1, 3, 2, 0, 2] {
        stage.apply("slices.yaml", &slices("web", &pods[..count]))?;
        answered_by(&stage, &pods[..count])?;
    }
    stage.remove("slices.yaml")?;
    answered_by(&stage, &[])
}

#[test]
fn only_ready_endpoints_are_used_and_finishing_ones_where_none_is_ready() -> Result<()> {
    let mut stage = Stage::new(&in_states(&[(1, "ready"), (2, "terminating"), (3, "unready")]))?;
    answered_by(&stage, &["web-1"])?;
    stage.apply(
        "objects.yaml",
        &in_states(&[(1, "terminating"), (2, "terminating"), (3, "unready")]),
    )?;
    answered_by(&stage, &["web-1", "web-2"])?;
    stage.apply(
        "objects.yaml",
        &in_states(&[(1, "terminating"), (2, "terminating"), (3, "ready")]),
    )?;
    answered_by(&stage, &["web-3"])?;
    stage.apply(
        "objects.yaml",
        &in_states(&[(1, "unready"), (2, "unready"), (3, "unready")]),
    )?;
    answered_by(&stage, &[])
}

#[test]
fn conditions_that_are_not_given_mean_ready() -> Result<()> {
    let mut objects = in_states(&[(1, "unready")]);
    for slice in &mut objects[1..] {
        slice["endpoints"][0]["conditions"] = json!({});
    }
    let stage = Stage::new(&objects)?;
    answered_by(&stage, &["web-1"])
}

#[test]
fn a_service_that_vanishes_is_dropped_like_one_that_never_was() -> Result<()> {
    let mut objects = vec![service("web", 10).build()];
    objects.extend(slices("web", &["web-1"]));
    let mut stage = Stage::new(&objects)?;
    answered_by(&stage, &["web-1"])?;
    stage.remove("objects.yaml")?;
    for family in Ip::BOTH {
        let outcome = stage.send(stage.pod("web-2"), Protocol::Tcp, (family.cluster_ip(10), 80))?;
        assert!(outcome.timed_out(), "{family:?}: {outcome}");
    }
    stage.apply("objects.yaml", &objects)?;
    answered_by(&stage, &["web-1"])
}

#[test]
fn policies_and_types_switch_while_requests_run() -> Result<()> {
    let with = |policy: Policy, node_port: bool| {
        let base = if node_port {
            node_port_service("web", 10, 30_080)
        } else {
            service("web", 10)
        };
        let addresses = Ip::external_ips(10);
        let service = base
            .external_ips(&addresses.each_ref().map(String::as_str))
            .external_policy(policy);
        let mut objects = vec![service.build()];
        objects.extend(slices("web", &["web-1", "web-3"]));
        objects
    };
    let mut stage = Stage::new(&with(Policy::Cluster, true))?;
    let background = Ip::BOTH.map(|family| Request::tcp((family.cluster_ip(10), 80).into()).repeat(stage.client()));
    for round in 0..3 {
        for (policy, node_port) in [(Policy::Local, true), (Policy::Local, false), (Policy::Cluster, true)] {
            stage.apply("objects.yaml", &with(policy, node_port))?;
            let expected = if policy == Policy::Local {
                &["web-1"][..]
            } else {
                &["web-1", "web-3"]
            };
            for family in Ip::BOTH {
                let answers = stage.ask(stage.client(), MANY, Protocol::Tcp, (family.external_ip(10), 80))?;
                assert_eq!(answers.names(), expected, "round {round} {policy:?} {family:?}");
                let outcome = stage.send(stage.client(), Protocol::Tcp, (stage.node_address(1, family), 30_080))?;
                assert_eq!(
                    outcome.answer().is_some(),
                    node_port,
                    "round {round} {policy:?} {family:?}: {outcome}"
                );
            }
        }
    }
    for tally in background {
        let tally = tally?.stop()?;
        assert!(tally.lost() == 0 && tally.sent() > 100, "{tally}");
    }
    Ok(())
}

#[test]
fn a_renamed_port_and_a_moved_cluster_ip_are_followed() -> Result<()> {
    let mut objects = vec![service("web", 10).build()];
    objects.extend(slices("web", &["web-1"]));
    let mut stage = Stage::new(&objects)?;
    answered_by(&stage, &["web-1"])?;

    for object in &mut objects {
        let ports = if object["kind"] == "Service" {
            &mut object["spec"]["ports"]
        } else {
            &mut object["ports"]
        };
        ports[0]["name"] = json!("renamed");
    }
    stage.apply("objects.yaml", &objects)?;
    answered_by(&stage, &["web-1"])?;
    for family in Ip::BOTH {
        assert!(stage.connections(family, "web", "renamed")? > 0, "{family:?}");
    }

    let mut moved = vec![service("web", 11).build()];
    moved.extend(slices("web", &["web-1"]));
    stage.apply("objects.yaml", &moved)?;
    for family in Ip::BOTH {
        let outcome = stage.send(stage.client(), Protocol::Tcp, (family.cluster_ip(11), 80))?;
        assert_eq!(outcome.answered_by(), Some("web-1"), "{family:?}: {outcome}");
        let outcome = stage.send(stage.client(), Protocol::Tcp, (family.cluster_ip(10), 80))?;
        assert!(outcome.timed_out(), "{family:?}: {outcome}");
    }
    Ok(())
}
