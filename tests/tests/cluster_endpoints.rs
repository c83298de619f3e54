//! Tandem with the real control plane: endpoints that the real EndpointSlice controller makes from Pods. Needs root and
//! the helper program that `make test` builds.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tandem_tests::fleet::{Fleet, TARGET, cluster_ip, shared};
use tandem_tests::manifests::{Policy, Service};
use tandem_tests::stage::Ip;
use tandem_tests::topology::CLIENT;
use tandem_tests::traffic::{Protocol, Request};

fn create(fleet: &Fleet, service: Service) -> Result<Value> {
    let service = service
        .spec("ipFamilyPolicy", "RequireDualStack")
        .port("http", Protocol::Tcp, 80, TARGET);
    fleet.cluster.api().create(&service.build())
}

/// Waits for these endpoints on every node and asks both ClusterIPs.
fn served_by(fleet: &Fleet, service: &Value, pods: &[&str]) -> Result<()> {
    let name = service["metadata"]["name"].as_str().context("no name")?;
    fleet.wait_for(name, &Ip::BOTH, pods, TARGET)?;
    for family in Ip::BOTH {
        let address = (cluster_ip(service, family)?, 80);
        if pods.is_empty() {
            fleet.expect_refused(address)?;
        } else {
            fleet.expect_answers(Protocol::Tcp, address, pods)?;
        }
    }
    Ok(())
}

#[test]
fn a_service_follows_its_pods_from_none_to_four_and_back() -> Result<()> {
    shared(|fleet| {
        let service = create(fleet, Service::new("default", "scale"))?;
        served_by(fleet, &service, &[])?;
        let pods = ["scale-1", "scale-2", "scale-3", "scale-4"];
        for (count, node) in [(1, 1), (2, 2), (3, 3), (4, 1)] {
            fleet.add_pod(pods[count - 1], node, "scale")?;
            served_by(fleet, &service, &pods[..count])?;
        }
        for first in 1..=4 {
            fleet.remove_pod(pods[first - 1])?;
            served_by(fleet, &service, &pods[first..])?;
        }
        Ok(())
    })
}

#[test]
fn a_pod_that_terminates_serves_only_while_no_other_is_ready() -> Result<()> {
    shared(|fleet| {
        fleet.add_pod("finish-1", 1, "finish")?;
        fleet.add_pod("finish-2", 3, "finish")?;
        let service = create(fleet, Service::new("default", "finish"))?;
        served_by(fleet, &service, &["finish-1", "finish-2"])?;
        let requests = |family| {
            let address: IpAddr = cluster_ip(&service, family)?;
            Request::tcp((address, 80).into()).repeat(&fleet.cluster.node(2)?.namespace)
        };
        let background = [requests(Ip::V4)?, requests(Ip::V6)?];

        fleet.cluster.delete_pod("finish-1")?;
        served_by(fleet, &service, &["finish-2"])?;
        fleet.cluster.delete_pod("finish-2")?;
        served_by(fleet, &service, &["finish-1", "finish-2"])?; // both still serve, none is ready
        fleet.add_pod("finish-3", 2, "finish")?;
        served_by(fleet, &service, &["finish-3"])?;
        for pod in ["finish-1", "finish-2"] {
            fleet.remove_pod(pod)?;
        }
        served_by(fleet, &service, &["finish-3"])?;
        for requests in background {
            let tally = requests.stop()?;
            ensure!(tally.lost() == 0 && tally.sent() > 100, "{tally}");
        }
        fleet.remove_pod("finish-3")?;
        served_by(fleet, &service, &[])
    })
}

#[test]
fn a_pod_is_used_while_it_is_ready() -> Result<()> {
    shared(|fleet| {
        fleet.add_pod("ready-1", 1, "ready")?;
        fleet.add_pod("ready-2", 2, "ready")?;
        let service = create(fleet, Service::new("default", "ready"))?;
        served_by(fleet, &service, &["ready-1", "ready-2"])?;
        for round in 0..2 {
            fleet.cluster.set_ready("ready-2", false)?;
            served_by(fleet, &service, &["ready-1"]).with_context(|| format!("round {round}"))?;
            fleet.cluster.set_ready("ready-1", false)?;
            served_by(fleet, &service, &[]).with_context(|| format!("round {round}"))?;
            fleet.cluster.set_ready("ready-2", true)?;
            served_by(fleet, &service, &["ready-2"]).with_context(|| format!("round {round}"))?;
            fleet.cluster.set_ready("ready-1", true)?;
            served_by(fleet, &service, &["ready-1", "ready-2"]).with_context(|| format!("round {round}"))?;
        }
        Ok(())
    })
}

/// What the client outside gets from an address if it enters by this node: who answered, and which sources were seen.
fn outside(fleet: &Fleet, node: u8, to: (IpAddr, u16)) -> Result<Option<(Vec<String>, Vec<IpAddr>)>> {
    fleet.cluster.enter_by(node)?;
    if fleet.send(&fleet.cluster.client, to)?.timed_out() {
        return Ok(None);
    }
    let answers = fleet.ask(&fleet.cluster.client, Protocol::Tcp, to)?;
    let names = answers.names().into_iter().map(str::to_owned).collect();
    Ok(Some((names, answers.sources())))
}

#[test]
fn policy_local_keeps_the_source_and_only_nodes_with_endpoints_answer() -> Result<()> {
    shared(|fleet| {
        fleet.add_pod("local-1", 1, "local")?;
        fleet.add_pod("local-2", 1, "local")?;
        fleet.add_pod("local-3", 3, "local")?;
        let pods = ["local-1", "local-2", "local-3"];
        let service = Service::new("default", "local").spec("type", "LoadBalancer");
        let service = create(fleet, service.external_policy(Policy::Local))?;
        let ingress = Ip::external_ips(8).map(|address| json!({ "ip": address }));
        fleet.patch(
            "local",
            &json!({ "status": { "loadBalancer": { "ingress": ingress } } }),
        )?;
        fleet.settle()?;
        served_by(fleet, &service, &pods)?;

        let node_port = service["spec"]["ports"][0]["nodePort"]
            .as_u64()
            .context("no nodePort")?;
        let node_port = u16::try_from(node_port)?;
        for (number, local) in [(1, Some(&pods[..2])), (2, None), (3, Some(&pods[2..]))] {
            for family in Ip::BOTH {
                let node = family.of(fleet.cluster.node(number)?.addresses());
                for to in [(node, node_port), (family.external_ip(8), 80)] {
                    let expected =
                        local.map(|pods| (pods.iter().map(ToString::to_string).collect(), vec![family.of(CLIENT)]));
                    assert_eq!(outside(fleet, number, to)?, expected, "{to:?} by node{number}");
                }
                // Clients inside the cluster reach all of them, on every node.
                fleet.expect_answers(Protocol::Tcp, (family.external_ip(8), 80), &pods)?;
            }
        }

        // With policy Cluster, every node reaches all endpoints, and the source is the node's.
        fleet.patch("local", &json!({ "spec": { "externalTrafficPolicy": "Cluster" } }))?;
        fleet.settle()?;
        for number in 1..=3 {
            for family in Ip::BOTH {
                let node = family.of(fleet.cluster.node(number)?.addresses());
                for to in [(node, node_port), (family.external_ip(8), 80)] {
                    let (names, sources) =
                        outside(fleet, number, to)?.with_context(|| format!("{to:?} not answered"))?;
                    assert_eq!(names, pods, "{to:?} by node{number}");
                    ensure!(
                        !sources.contains(&family.of(CLIENT)),
                        "{to:?} by node{number}: {sources:?}"
                    );
                }
            }
        }

        // The local pods move, so other servers answer.
        fleet.patch("local", &json!({ "spec": { "externalTrafficPolicy": "Local" } }))?;
        fleet.remove_pod("local-3")?;
        fleet.add_pod("local-4", 2, "local")?;
        served_by(fleet, &service, &["local-1", "local-2", "local-4"])?;
        fleet.settle()?;
        for family in Ip::BOTH {
            let to = (family.external_ip(8), 80);
            let expected = (vec!["local-4".to_owned()], vec![family.of(CLIENT)]);
            assert_eq!(outside(fleet, 2, to)?, Some(expected), "{to:?}");
            assert_eq!(outside(fleet, 3, to)?, None, "{to:?}");
        }
        Ok(())
    })
}
