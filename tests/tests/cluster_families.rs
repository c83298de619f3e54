//! Tandem with the real control plane: the address families of Services, as the real allocators choose them. Needs root
//! and the helper program that `make test` builds.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tandem_tests::fleet::{Fleet, TARGET, cluster_ip, shared};
use tandem_tests::manifests::Service;
use tandem_tests::stage::Ip;
use tandem_tests::traffic::{Protocol, Repeat, Request};

/// A Service's name, its ipFamilyPolicy, the requested ipFamilies, and those that it must get, in their order.
type Case = (&'static str, Option<&'static str>, &'static [Ip], &'static [Ip]);

const V4: &[Ip] = &[Ip::V4];
const V6: &[Ip] = &[Ip::V6];
const V4_V6: &[Ip] = &[Ip::V4, Ip::V6];
const V6_V4: &[Ip] = &[Ip::V6, Ip::V4];

/// Every policy, every order.
const CASES: [Case; 9] = [
    ("unsaid", None, &[], V4),
    ("single", Some("SingleStack"), &[], V4),
    ("single-v4", Some("SingleStack"), V4, V4),
    ("single-v6", Some("SingleStack"), V6, V6),
    ("prefer", Some("PreferDualStack"), &[], V4_V6),
    ("prefer-v4", Some("PreferDualStack"), V4_V6, V4_V6),
    ("prefer-v6", Some("PreferDualStack"), V6_V4, V6_V4),
    ("require-v4", Some("RequireDualStack"), V4_V6, V4_V6),
    ("require-v6", Some("RequireDualStack"), V6_V4, V6_V4),
];

fn service(case: &Case, pods: &str) -> Value {
    let (name, policy, asked, _) = case;
    let mut service = Service::new("default", name).spec("selector", json!({ "app": pods }));
    if let Some(policy) = policy {
        service = service.spec("ipFamilyPolicy", *policy);
    }
    if !asked.is_empty() {
        service = service.spec("ipFamilies", names(asked));
    }
    let mut service = service
        .port("tcp", Protocol::Tcp, 80, TARGET)
        .port("udp", Protocol::Udp, 80, TARGET)
        .build();
    service["spec"]["type"] = json!("NodePort");
    service
}

fn names(families: &[Ip]) -> Vec<&'static str> {
    families.iter().map(|family| family.of(["IPv4", "IPv6"])).collect()
}

fn node_port(service: &Value) -> Result<u16> {
    let port = service["spec"]["ports"][0]["nodePort"].as_u64();
    Ok(port.context("no nodePort")?.try_into()?)
}

#[test]
fn every_ip_family_policy_and_order_is_answered_in_its_families_and_no_other() -> Result<()> {
    shared(|fleet| {
        let pods = ["family-1", "family-2", "family-3"];
        for (node, pod) in (1..).zip(pods) {
            fleet.add_pod(pod, node, "family")?;
        }
        for case in &CASES {
            let created = fleet.cluster.api().create(&service(case, "family"))?;
            let (name, _, _, families) = case;
            assert_eq!(created["spec"]["ipFamilies"], json!(names(families)), "{name}");
            fleet.wait_for(name, families, &pods, TARGET)?;
            for family in Ip::BOTH {
                let reaches_nodes = (
                    fleet.cluster.node(3)?.address_like(family.cluster_ip(1)),
                    node_port(&created)?,
                );
                if families.contains(&family) {
                    let address = cluster_ip(&created, family)?;
                    for protocol in [Protocol::Tcp, Protocol::Udp] {
                        fleet.expect_answers(protocol, (address, 80), &pods)?;
                    }
                    let answers = fleet.ask(&fleet.cluster.client, Protocol::Tcp, reaches_nodes)?;
                    assert_eq!(answers.names(), pods, "{name} {family:?}");
                } else {
                    let outcome = fleet.send(&fleet.cluster.client, reaches_nodes)?;
                    assert!(outcome.refused_at_once(), "{name} {family:?}: {outcome}");
                }
            }
        }
        Ok(())
    })
}

/// Requests from every node and from a pod, without a pause.
fn keep_asking(fleet: &Fleet, address: IpAddr) -> Result<Vec<Repeat>> {
    let request = Request::tcp((address, 80).into()).interval(Duration::ZERO);
    fleet.places()?.into_iter().map(|from| request.repeat(from)).collect()
}

fn none_failed(background: Vec<Repeat>) -> Result<()> {
    for requests in background {
        let tally = requests.stop()?;
        ensure!(tally.lost() == 0 && tally.sent() > 100, "{tally}");
        println!("{tally}");
    }
    Ok(())
}

#[test]
fn a_family_comes_and_goes_without_a_failed_request_in_the_other() -> Result<()> {
    shared(|fleet| {
        let pods = ["switch-1", "switch-2", "switch-3"];
        for (node, pod) in (1..).zip(pods) {
            fleet.add_pod(pod, node, "switch")?;
        }
        let first = [("stays-v4", "SingleStack", V4), ("stays-v6", "SingleStack", V6)];
        for (name, policy, families) in first {
            let (stays, comes) = (families[0], if families == V4 { Ip::V6 } else { Ip::V4 });
            let case = (name, Some(policy), families, families);
            let created = fleet.cluster.api().create(&service(&case, "switch"))?;
            fleet.wait_for(name, families, &pods, TARGET)?;
            let background = keep_asking(fleet, cluster_ip(&created, stays)?)?;
            for round in 0..3 {
                let grown = fleet.patch(name, &json!({ "spec": { "ipFamilyPolicy": "PreferDualStack" } }))?;
                let address = cluster_ip(&grown, comes).with_context(|| format!("round {round}"))?;
                fleet.wait_for(name, &[stays, comes], &pods, TARGET)?;
                fleet.expect_answers(Protocol::Tcp, (address, 80), &pods)?;

                fleet.patch(name, &json!({ "spec": { "ipFamilyPolicy": "SingleStack" } }))?;
                fleet.wait_for(name, families, &pods, TARGET)?;
                fleet
                    .expect_lost((address, 80))
                    .with_context(|| format!("round {round}"))?;
            }
            none_failed(background)?;
        }
        Ok(())
    })
}
