//! Tandem with the real control plane: the connection to the API server. Needs root and the helper program that `make
//! test` builds.

use std::fs;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tandem_tests::eventually;
use tandem_tests::fleet::{Fleet, cluster_ips, connections, lost_sources, shared};
use tandem_tests::netns::Namespace;
use tandem_tests::nft;
use tandem_tests::scratch::Scratch;
use tandem_tests::tandem::Tandem;
use tandem_tests::traffic::Protocol;

/// In this time, a peer that sends nothing any more must be noticed.
const NOTICED: Duration = Duration::from_secs(40);
const KINDS: usize = 4;

fn watches_all(status: &Value) -> bool {
    status["sources"].as_array().map(Vec::len) == Some(KINDS) && lost_sources(status).is_empty()
}

/// Discards everything that comes from the API server, without a message to either side.
fn drop_packets(node: &Namespace) -> Result<()> {
    let rule = "table inet outage { chain input { type filter hook input priority -300; tcp sport 6443 drop; }; }";
    node.exec(&["nft", rule]).map(drop)
}

#[test]
fn all_watches_of_a_node_share_one_connection() -> Result<()> {
    shared(|fleet| {
        fleet.add_fixed("shared", &[1, 2])?;
        fleet.wait_status("watched everything", watches_all)?;
        for (tandem, node) in fleet.tandems.iter().zip(&fleet.cluster.nodes) {
            let all = connections(&node.namespace)?;
            // By HTTP/1.1, each watch has its own. One may be left from a list.
            let is_so = match tandem.way() {
                Some(way) if way.has_connections_of_its_own() => all.len() >= KINDS,
                _ => all.len() == 1,
            };
            ensure!(is_so, "{}: {all:#?}", node.name);
        }
        Ok(())
    })
}

#[test]
fn the_name_of_the_api_server_is_looked_up_again_after_each_failure() -> Result<()> {
    const NAME: &str = "kubernetes.default.svc";
    shared(|fleet| {
        let scratch = Scratch::new("hosts")?;
        let (hosts, kubeconfig) = (scratch.path().join("hosts"), scratch.path().join("kubeconfig"));
        let known = fs::read_to_string(fleet.cluster.tandem_kubeconfig())?;
        let address = known
            .split_once("https://")
            .and_then(|(_, rest)| rest.split_once(":6443"));
        let address = address.context("no address in the kubeconfig")?.0;
        fs::write(&kubeconfig, known.replace(address, NAME))?;
        fs::write(&hosts, "127.0.0.1 localhost\n")?;
        fleet.tandems[2].terminate()?;
        let plan = Tandem::on(fleet.cluster.node(3)?).kubeconfig(&kubeconfig).hosts(&hosts);
        let mut other = plan.start()?;
        let loses = |other: &Tandem, word: &str| {
            let says = |status: &Value| lost_sources(status).values().all(|reason| reason.contains(word));
            let status = || {
                other
                    .status()
                    .ok()
                    .filter(|status| lost_sources(status).len() == KINDS && says(status))
            };
            eventually(NOTICED, status).with_context(|| format!("never {word}: {:#?}", other.status()))
        };
        loses(&other, "lookup")?;
        // Nobody listens at this address.
        fs::write(&hosts, format!("127.0.0.1 {NAME}\n"))?;
        loses(&other, "onnection refused")?;
        fs::write(&hosts, format!("{address} {NAME}\n"))?;
        other.wait_ready()?;
        let status = || other.status().ok().filter(watches_all);
        eventually(NOTICED, status).context("not everything is watched")?;
        other.finish()?;
        fleet.tandems[2].restart()?;
        fleet.tandems[2].wait_ready()
    })
}

fn answers(fleet: &Fleet, addresses: [IpAddr; 2], servers: &[&str]) -> Result<()> {
    for address in addresses {
        fleet.expect_answers(Protocol::Tcp, (address, 80), servers)?;
    }
    Ok(())
}

#[test]
fn an_api_server_whose_packets_are_dropped_is_noticed_within_40_s_and_followed_again() -> Result<()> {
    shared(|fleet| {
        let before = cluster_ips(&fleet.add_fixed("before", &[1, 2])?)?;
        fleet.wait_status("watched everything", watches_all)?;
        let node = fleet.cluster.node(3)?.namespace.clone();
        drop_packets(&node)?;
        let began = Instant::now();
        let noticed = eventually(NOTICED, || {
            let status = fleet.tandems[2].status().ok()?;
            (lost_sources(&status).len() == KINDS).then_some(status)
        });
        let status = noticed.with_context(|| format!("not noticed: {:#?}", fleet.tandems[2].status()))?;
        ensure!(
            began.elapsed() > Duration::from_secs(5),
            "noticed by something else: {status:#}"
        );
        for (kind, reason) in lost_sources(&status) {
            ensure!(reason.starts_with("cannot watch "), "{kind}: {reason}");
        }
        fleet.tandems[2].wait_log("the API server did not answer a ping within 15 s", NOTICED)?;
        answers(fleet, before, &["before-1", "before-2"])?;
        for family in nft::FAMILIES {
            ensure!(nft::has_table(&node, family)?);
        }

        node.exec(&["nft", "delete", "table", "inet", "outage"])?;
        fleet.wait_status("watched everything again", watches_all)?;
        let later = cluster_ips(&fleet.add_fixed("later", &[1, 3])?)?;
        answers(fleet, later, &["later-1", "later-2"])?;
        ensure!(connections(&node)?.len() == 1, "{:#?}", connections(&node)?);
        Ok(())
    })
}
