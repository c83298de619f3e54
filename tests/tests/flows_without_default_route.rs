//! A node without a default route. Its own programs reach ClusterIPs nevertheless, by routes of the Service ranges to
//! `lo`.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tandem_tests::eventually;
use tandem_tests::netns::Namespace;
use tandem_tests::stage::{Ip, Stage, service, slices};
use tandem_tests::tandem::Plan;
use tandem_tests::traffic::{Outcome, Protocol};

const MANY: usize = 40;

fn stage() -> Result<Stage> {
    let mut objects = vec![service("web", 10).build()];
    objects.extend(slices("web", &["web-1", "web-3"]));
    Stage::new(&objects)
}

/// Removes the node's default routes. Routes to other nodes' pods stay.
fn without_default_route(stage: &Stage) -> Result<()> {
    for family in ["-4", "-6"] {
        stage.node().exec(&["ip", family, "route", "delete", "default"])?;
    }
    Ok(())
}

/// The routes and rules of Tandem, as `ip` prints them.
fn routes(node: &Namespace) -> Result<String> {
    let mut text = String::new();
    for family in ["-4", "-6"] {
        text += &node.exec(&["ip", family, "rule", "show", "priority", "32800"])?;
        // For ip, a table without a route is an error.
        text += &node
            .exec(&["ip", family, "route", "show", "table", "7473"])
            .unwrap_or_default();
    }
    Ok(text)
}

fn reaches(stage: &Stage, family: Ip) -> Result<()> {
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let answers = stage.ask(stage.node(), MANY, protocol, (family.cluster_ip(10), 80))?;
        ensure!(
            answers.names() == ["web-1", "web-3"],
            "{protocol} {family:?}: {:?}",
            answers.names()
        );
        ensure!(
            answers.only_from(&stage.masqueraded(family)),
            "{protocol} {family:?}: {:?}",
            answers.sources()
        );
    }
    Ok(())
}

#[test]
fn the_nodes_own_programs_reach_cluster_ips_without_a_default_route() -> Result<()> {
    let stage = stage()?;
    without_default_route(&stage)?;
    let shown = routes(stage.node())?;
    for part in [
        "iif lo lookup 7473",
        "10.96.0.0/12 dev lo",
        "src 192.0.2.11",
        "fd00:10:96::/112 dev lo",
        "src 2001:db8:2::11",
    ] {
        ensure!(shown.contains(part), "{part} is not in:\n{shown}");
    }
    for family in Ip::BOTH {
        reaches(&stage, family)?;
        // A packet to an address of the range that no Service has is dropped, and not sent in a loop.
        let outcome = stage.send(stage.node(), Protocol::Tcp, (family.cluster_ip(200), 80))?;
        ensure!(outcome.timed_out(), "{family:?}: {outcome}");
    }
    Ok(())
}

#[test]
fn an_address_outside_the_service_ranges_stays_unreachable() -> Result<()> {
    let stage = stage()?;
    without_default_route(&stage)?;
    let outcome = stage.send(stage.node(), Protocol::Tcp, ("198.51.100.2".parse()?, 80))?;
    ensure!(matches!(outcome, Outcome::Unreachable { .. }), "{outcome}");
    Ok(())
}

#[test]
fn a_default_route_is_used_where_there_is_one() -> Result<()> {
    let stage = stage()?;
    let way = stage.node().exec(&["ip", "route", "get", "10.96.0.10"])?;
    ensure!(way.contains("via 192.0.2.1 dev eth0"), "{way}");
    let way = stage.node().exec(&["ip", "-6", "route", "get", "fd00:10:96::10"])?;
    ensure!(way.contains("via 2001:db8:2::1 dev eth0"), "{way}");
    Ok(())
}

#[test]
fn routes_follow_the_service_ranges_and_stay_when_tandem_ends() -> Result<()> {
    let mut stage = stage()?;
    without_default_route(&stage)?;
    let cidr = serde_json::json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": {"name": "more"}, "spec": {"cidrs": ["10.200.0.0/24", "fd00:10:200::/112"]},
    });
    stage.apply("more.yaml", &[cidr])?;
    let has = |stage: &Stage, part: &str| routes(stage.node()).is_ok_and(|shown| shown.contains(part));
    eventually(Duration::from_secs(5), || {
        has(&stage, "10.200.0.0/24 dev lo").then_some(())
    })
    .context("not added")?;
    stage.remove("more.yaml")?;
    eventually(Duration::from_secs(5), || (!has(&stage, "10.200.0.0/24")).then_some(())).context("not removed")?;
    ensure!(has(&stage, "10.96.0.0/12 dev lo"), "the other range lost its route");

    stage.tandem.terminate()?;
    reaches(&stage, Ip::V4)?;
    reaches(&stage, Ip::V6)?;
    stage.tandem.restart()?;
    stage.tandem.wait_ready()
}

#[test]
fn routes_are_there_without_a_configuration_file_and_come_back_when_others_take_them_away() -> Result<()> {
    let mut objects = vec![service("web", 10).build()];
    objects.extend(slices("web", &["web-1", "web-3"]));
    let stage = Stage::with(&objects, Plan::without_a_file)?;
    without_default_route(&stage)?;
    for family in Ip::BOTH {
        reaches(&stage, family)?;
    }
    let come_back = || {
        let back = eventually(Duration::from_secs(5), || {
            reaches(&stage, Ip::V4).and_then(|()| reaches(&stage, Ip::V6)).ok()
        });
        back.context("the routes never came back")
    };
    // A network manager that starts again does this.
    for family in ["-4", "-6"] {
        stage
            .node()
            .exec(&["ip", family, "rule", "delete", "priority", "32800"])?;
        stage.node().exec(&["ip", family, "route", "flush", "table", "7473"])?;
    }
    come_back()?;
    // The kernel removes the routes that leave by a link that goes down, and does not say so.
    for state in ["down", "up"] {
        stage.node().exec(&["ip", "link", "set", "lo", state])?;
    }
    come_back()
}
