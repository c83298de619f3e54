//! Tandem with the real control plane: the ways in which it can read from the API server. Needs root and the helper program
//! that `make test` builds. `make cluster-ways` runs all tests of the cluster in all ways. This is the short form: each
//! value is met once.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tandem_tests::cluster::Cluster;
use tandem_tests::fleet::{Fleet, OTHER, TARGET, cluster_ips, connections, lost_sources};
use tandem_tests::stage::Ip;
use tandem_tests::tandem::Tandem;
use tandem_tests::traffic::Protocol;
use tandem_tests::way::Way;

const KINDS: usize = 4;
/// How long to wait for a line of the log.
const PATIENCE: Duration = Duration::from_secs(20);
/// The ways of node 1, 2 and 3.
const WAYS: [&str; 3] = ["stream,json,http1", "cache,protobuf,http2", "pages,json,http2"];

fn all_lost(status: &Value) -> bool {
    lost_sources(status).len() == KINDS
}

fn all_watched(status: &Value) -> bool {
    status["sources"].as_array().map(Vec::len) == Some(KINDS) && lost_sources(status).is_empty()
}

/// A Service that is made, changed, emptied and deleted is followed on every node.
fn follows(fleet: &mut Fleet, name: &str) -> Result<()> {
    let service = fleet.add_fixed(name, &[1, 3])?;
    let pods = [format!("{name}-1"), format!("{name}-2")];
    let pods = pods.each_ref().map(String::as_str);
    for address in cluster_ips(&service)? {
        fleet.expect_answers(Protocol::Tcp, (address, 80), &pods)?;
    }
    let port = json!([{ "name": "http", "protocol": "TCP", "port": OTHER, "targetPort": TARGET }]);
    fleet.patch(name, &json!({ "spec": { "ports": port } }))?;
    fleet.settle()?;
    for address in cluster_ips(&service)? {
        fleet.expect_answers(Protocol::Tcp, (address, OTHER), &pods)?;
    }
    fleet.delete(name)?;
    fleet.settle()?;
    for address in cluster_ips(&service)? {
        fleet.expect_lost((address, OTHER))?;
    }
    Ok(())
}

/// Kills the API server and starts it again. Nothing changes, and everything is followed again.
fn survives_an_outage(fleet: &mut Fleet, name: &str) -> Result<()> {
    let service = fleet.add_fixed(name, &[2, 3])?;
    let pods = [format!("{name}-1"), format!("{name}-2")];
    let pods = pods.each_ref().map(String::as_str);
    fleet.cluster.kill_api_server();
    fleet.wait_status("said that all kinds are lost", all_lost)?;
    for address in cluster_ips(&service)? {
        fleet.expect_answers(Protocol::Tcp, (address, 80), &pods)?;
    }
    fleet.cluster.start_api_server()?;
    fleet.wait_status("watched everything again", all_watched)?;
    fleet.settle()?;
    fleet.wait_for(name, &Ip::BOTH, &pods, TARGET)
}

/// What a Tandem's log says about lists.
fn lists(tandem: &Tandem) -> Vec<String> {
    let log = tandem.log();
    log.into_iter().filter(|line| line.contains(" listed ")).collect()
}

#[test]
fn in_each_way_changes_are_followed_and_an_outage_changes_nothing() -> Result<()> {
    let ways = WAYS.map(str::parse::<Way>);
    let ways = ways.into_iter().collect::<Result<Vec<_>>>()?;
    let mut fleet = Fleet::start_with(Cluster::start(3)?, |number, plan| plan.way(ways[number - 1]))?;
    follows(&mut fleet, "before")?;
    survives_an_outage(&mut fleet, "during")?;
    follows(&mut fleet, "after")?;
    for (tandem, node) in fleet.tandems.iter_mut().zip(&fleet.cluster.nodes) {
        let all = connections(&node.namespace)?;
        let is_so = if tandem.way().is_some_and(Way::has_connections_of_its_own) {
            all.len() >= KINDS
        } else {
            all.len() == 1
        };
        ensure!(is_so, "{:?}: {all:#?}", tandem.way());
        // Another start lists everything anew, and removes nothing.
        tandem.kill()?;
        tandem.restart()?;
        tandem.wait_ready()?;
        let way = tandem.way().context("no way")?;
        ensure!(way.check(&tandem.log())? >= 2 * KINDS, "{way}: {:#?}", lists(tandem));
    }
    fleet.settle()?;
    // This compares each log with its way.
    fleet.judge()
}

/// All lists came from the watch cache, and there were at least as many as kinds, and at most so many.
fn expect_cached(tandem: &Tandem, most: usize) -> Result<()> {
    let lists = lists(tandem);
    let cached = lists
        .iter()
        .filter(|line| line.contains(" in 1 piece from the watch cache, in protobuf"));
    ensure!(
        cached.count() == lists.len() && (KINDS..=most).contains(&lists.len()),
        "{lists:#?}"
    );
    Ok(())
}

#[test]
fn a_server_that_streams_no_lists_gives_each_once_from_its_watch_cache_and_is_followed() -> Result<()> {
    let cluster = Cluster::start_by(3, &["--feature-gates=WatchList=false"])?;
    let mut fleet = Fleet::start_with(cluster, |_, plan| {
        plan.arguments(&["--log", "info,tandem::cluster=debug"])
    })?;
    follows(&mut fleet, "before")?;
    for tandem in &fleet.tandems {
        tandem.wait_log("asking the watch cache", PATIENCE)?;
        expect_cached(tandem, KINDS)?;
    }
    survives_an_outage(&mut fleet, "during")?;
    follows(&mut fleet, "after")?;
    for tandem in &fleet.tandems {
        // A server that has just started may not be able to go on behind the last version. Then each kind is listed again.
        expect_cached(tandem, 2 * KINDS)?;
    }
    fleet.judge()
}
