//! The node changes while Tandem runs: its addresses, its pods' ranges, its zone. Nothing is restarted, and what the
//! change does not concern goes on.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tandem_tests::stage::{Ip, Stage, node_port_service, service, slices};
use tandem_tests::traffic::{Protocol, Request};
use tandem_tests::{eventually, manifests};

const MANY: usize = 40;
const NODE_PORT: u16 = 30_080;

/// The objects of every cluster, with this change of `node1`.
fn cluster(stage: &Stage, change: impl FnOnce(&mut Value)) -> Vec<Value> {
    let mut objects: Vec<Value> = stage.world.nodes.iter().map(manifests::node).collect();
    change(&mut objects[0]);
    objects.push(manifests::service_cidr());
    objects
}

fn web() -> Vec<Value> {
    let mut objects = vec![node_port_service("web", 10, NODE_PORT).build()];
    objects.extend(slices("web", &["web-1", "web-3"]));
    objects
}

fn addresses(list: &[IpAddr]) -> Value {
    let address = |address: &IpAddr| json!({ "type": "InternalIP", "address": address });
    list.iter().map(address).collect()
}

fn answers(stage: &Stage, to: IpAddr) -> Result<bool> {
    // If no host has the address, there is an error at once. If one has it, it may have to be found first.
    let request = Request::tcp((to, NODE_PORT).into()).timeout(Duration::from_secs(2));
    Ok(request.send(stage.client())?.answer().is_some())
}

#[test]
fn a_node_loses_and_gains_an_address_family_and_the_other_is_not_disturbed() -> Result<()> {
    let mut stage = Stage::new(&web())?;
    let [v4, v6] = Ip::BOTH.map(|family| stage.node_address(1, family));
    let request = Request::tcp((v4, NODE_PORT).into()).interval(Duration::ZERO);
    let (steady, stream) = (request.repeat(stage.client())?, request.stream(stage.client())?);
    for families in [&[v4, v6][..], &[v4], &[v4, v6], &[v4]] {
        let objects = cluster(&stage, |node| node["status"]["addresses"] = addresses(families));
        stage.apply("cluster.yaml", &objects)?;
        ensure!(answers(&stage, v4)?, "{families:?}: IPv4 does not answer");
        ensure!(
            answers(&stage, v6)?,
            "{families:?}: IPv6 does not answer, and an interface has the address"
        );
        let said = stage.tandem.command(&["status"])?.contains("lists no IPv6 address");
        ensure!(said != families.contains(&v6), "{families:?}: said is {said}");
    }
    stage.node().ip(&format!("addr del {v6}/64 dev eth0"))?;
    stage.settle()?;
    let left = || {
        let status = stage.tandem.status().ok()?;
        (status["families"][1]["nodePortAddresses"] == json!([])).then_some(())
    };
    eventually(Duration::from_secs(20), left).context("the address is on no interface and still takes nodePorts")?;
    let tally = steady.stop()?;
    ensure!(tally.failed.is_empty(), "{tally:?}");
    let report = stream.stop()?;
    ensure!(report.broken.is_none() && report.sent > 0, "{report:?}");
    Ok(())
}

#[test]
fn node_ports_move_with_the_nodes_address() -> Result<()> {
    let mut stage = Stage::new(&web())?;
    stage
        .node()
        .address("eth0", &["192.0.2.111/24", "2001:db8:2::111/64"])?;
    let (old, new) = (
        Ip::BOTH.map(|family| stage.node_address(1, family)),
        ["192.0.2.111".parse()?, "2001:db8:2::111".parse()?],
    );
    for family in Ip::BOTH {
        ensure!(
            answers(&stage, family.of(old))? && !answers(&stage, family.of(new))?,
            "{family:?}"
        );
    }
    let objects = cluster(&stage, |node| node["status"]["addresses"] = addresses(&new));
    stage.apply("cluster.yaml", &objects)?;
    for family in Ip::BOTH {
        ensure!(!answers(&stage, family.of(old))?, "{family:?}: the old address answers");
        ensure!(answers(&stage, family.of(new))?, "{family:?}: the new one does not");
    }
    Ok(())
}

#[test]
fn the_nodes_pod_ranges_tell_who_is_masqueraded_also_when_they_change() -> Result<()> {
    let mut objects = vec![service("web", 10).build()];
    objects.extend(slices("web", &["web-3"]));
    let mut stage = Stage::with(&objects, |plan| plan.setting("detectLocalMode", "NodeCIDR"))?;
    let own = manifests::node(&stage.world.nodes[0])["spec"]["podCIDRs"].clone();
    let other = json!(["10.245.0.0/24", "fd00:10:245::/64"]);
    let both = json!([
        "10.245.0.0/24",
        "10.244.1.0/24",
        "fd00:10:245::/64",
        "fd00:10:244:1::/64"
    ]);
    for (ranges, is_pod) in [(&own, true), (&other, false), (&both, true), (&json!([]), true)] {
        let objects = cluster(&stage, |node| {
            node["spec"]["podCIDRs"] = ranges.clone();
            node["spec"]["podCIDR"] = ranges[0].clone();
        });
        stage.apply("cluster.yaml", &objects)?;
        for family in Ip::BOTH {
            let answers = stage.ask(stage.pod("web-2"), 3, Protocol::Tcp, (family.cluster_ip(10), 80))?;
            let pod = [stage.pod_address("web-2", family)];
            // An object without ranges changes nothing: the earlier ranges still count.
            ensure!(
                (answers.sources() == pod) == is_pod,
                "{ranges} {family:?}: {:?}",
                answers.sources()
            );
        }
    }
    Ok(())
}

/// Slices of web-1 and web-3, hinted for zones a and b.
fn hinted() -> Vec<Value> {
    let mut slices = slices("web", &["web-1", "web-3"]);
    for slice in &mut slices {
        for (endpoint, zone) in [(0, "a"), (1, "b")] {
            slice["endpoints"][endpoint]["hints"] = json!({ "forZones": [{ "name": zone }] });
        }
    }
    slices
}

#[test]
fn the_nodes_zone_chooses_among_hinted_endpoints_also_when_it_changes() -> Result<()> {
    let mut objects = vec![service("web", 10).build()];
    objects.extend(hinted());
    let mut stage = Stage::new(&objects)?;
    let cases: [(Option<&str>, &[&str]); 5] = [
        (None, &["web-1", "web-3"]),
        (Some("a"), &["web-1"]),
        (Some("b"), &["web-3"]),
        (Some("c"), &["web-1", "web-3"]),
        (None, &["web-1", "web-3"]),
    ];
    for (zone, expected) in cases {
        let objects = cluster(&stage, |node| {
            if let Some(zone) = zone {
                node["metadata"]["labels"]["topology.kubernetes.io/zone"] = zone.into();
            }
        });
        stage.apply("cluster.yaml", &objects)?;
        for family in Ip::BOTH {
            let answers = stage.ask(stage.pod("web-2"), MANY, Protocol::Tcp, (family.cluster_ip(10), 80))?;
            ensure!(
                answers.names() == expected,
                "{zone:?} {family:?}: {:?}",
                answers.names()
            );
        }
    }
    Ok(())
}
