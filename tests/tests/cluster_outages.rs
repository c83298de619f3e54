//! Tandem with the real control plane: the API server dies and comes back, and Tandem dies and comes back. Needs root
//! and the helper program that `make test` builds.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::{Value, json};
use tandem_tests::cluster::{Api, path};
use tandem_tests::fleet::{Fleet, TARGET, changes, cluster_ips, lost_sources, rows, shared, tables};
use tandem_tests::manifests::{Service, Slice};
use tandem_tests::netns::Namespace;
use tandem_tests::nft;
use tandem_tests::tandem::Tandem;
use tandem_tests::traffic::{Protocol, Repeat, Request};

/// How long an API server is away. This is enough for several attempts to reach it.
const OUTAGE: Duration = Duration::from_secs(3);
/// The time between two requests. They leave the processor to the control plane, which starts beside them.
const PAUSE: Duration = Duration::from_millis(4);
/// How long to wait for a line of the log.
const PATIENCE: Duration = Duration::from_secs(20);
const KINDS: [&str; 4] = ["EndpointSlice", "Node", "Service", "ServiceCIDR"];

/// Requests from every node and from a pod, in both families.
fn keep_asking(fleet: &Fleet, addresses: [IpAddr; 2]) -> Result<Vec<Repeat>> {
    let request = |address: IpAddr| Request::tcp((address, 80).into()).interval(PAUSE);
    let ask = |from: &Namespace| addresses.map(|address| request(address).repeat(from));
    fleet.places()?.into_iter().flat_map(ask).collect()
}

fn none_failed(background: Vec<Repeat>) -> Result<()> {
    for requests in background {
        let tally = requests.stop()?;
        ensure!(tally.lost() == 0 && tally.sent() > 100, "{tally}");
    }
    Ok(())
}

/// Changes and rows of every node.
fn figures(statuses: &[Value]) -> Vec<[[Option<u64>; 2]; 2]> {
    statuses.iter().map(|status| [changes(status), rows(status)]).collect()
}

fn all_lost(status: &Value) -> bool {
    lost_sources(status).len() == KINDS.len()
}

fn all_watched(status: &Value) -> bool {
    status["sources"].as_array().map(Vec::len) == Some(KINDS.len()) && lost_sources(status).is_empty()
}

#[test]
fn an_api_server_that_dies_and_comes_back_changes_nothing_and_is_followed_again() -> Result<()> {
    shared(|fleet| {
        let addresses = cluster_ips(&fleet.add_fixed("outage", &[1, 2, 3])?)?;
        let background = keep_asking(fleet, addresses)?;
        let before = figures(&fleet.statuses()?);

        fleet.cluster.kill_api_server();
        fleet.wait_status("said that all kinds are lost", all_lost)?;
        for (kind, reason) in lost_sources(&fleet.tandems[0].status()?) {
            // A watch that has just begun anew may still have been listing.
            let resource = format!("{}s", kind.to_lowercase());
            let says = |verb: &str| reason.starts_with(&format!("cannot {verb} {resource}: "));
            ensure!(says("watch") || says("list"), "{kind}: {reason}");
        }
        let text = fleet.tandems[0].command(&["status"])?;
        ensure!(text.contains("Service: cannot "), "{text}");
        thread::sleep(OUTAGE);
        assert_eq!(figures(&fleet.statuses()?), before);

        fleet.cluster.start_api_server()?;
        fleet.wait_status("watched everything again", all_watched)?;
        assert_eq!(figures(&fleet.statuses()?), before);

        fleet.settle()?; // this change concerns only IPv4
        let after = figures(&fleet.statuses()?);
        for (before, after) in before.iter().zip(&after) {
            assert_ne!(before[0][0], after[0][0]);
            assert_eq!(before[0][1], after[0][1]);
            assert_eq!(before[1], after[1]);
        }
        let later = cluster_ips(&fleet.add_fixed("later", &[1, 2])?)?;
        for address in later {
            fleet.expect_answers(Protocol::Tcp, (address, 80), &["later-1", "later-2"])?;
        }
        none_failed(background)
    })
}

#[test]
fn a_tandem_that_starts_without_an_api_server_keeps_the_tables_and_takes_them_over_later() -> Result<()> {
    shared(|fleet| {
        let addresses = cluster_ips(&fleet.add_fixed("absent", &[1, 2, 3])?)?;
        let background = keep_asking(fleet, addresses)?;
        let node = fleet.cluster.node(3)?.namespace.clone();
        let before = figures(&fleet.statuses()?);
        let standing = tables(&node)?;

        fleet.cluster.kill_api_server();
        fleet.tandems[2].kill()?;
        fleet.tandems[2].restart()?;
        let status = || fleet.tandems[2].status().ok().filter(all_lost);
        let status = tandem_tests::eventually(PATIENCE, status).context("the new tandem does not say what is lost")?;
        assert_eq!(status["complete"], false, "{status:#}");
        for (kind, reason) in lost_sources(&status) {
            ensure!(reason.starts_with("cannot list "), "{kind}: {reason}");
        }
        let refused = fleet.tandems[2]
            .command(&["status"])
            .err()
            .context("a status as if all were well")?;
        ensure!(
            format!("{refused:#}").contains("not every list is complete yet"),
            "{refused:#}"
        );

        // If there were no tables, none are made.
        let bare = Namespace::new("bare")?;
        let kubeconfig = fleet.cluster.tandem_kubeconfig();
        let newcomer = Tandem::in_namespace(&bare, "node4").kubeconfig(&kubeconfig).start()?;
        newcomer.wait_log("cannot list services: ", PATIENCE)?;
        thread::sleep(OUTAGE);
        for family in nft::FAMILIES {
            ensure!(!nft::has_table(&bare, family)?);
        }
        newcomer.finish()?;
        assert_eq!(tables(&node)?, standing);

        fleet.cluster.start_api_server()?;
        fleet.wait_status("watched everything again", all_watched)?;
        fleet.tandems[2].wait_ready()?;
        let status = fleet.tandems[2].status()?;
        assert_eq!(
            (changes(&status), rows(&status)),
            ([Some(0); 2], before[2][1]),
            "{status:#}"
        );
        let adopted = [0, 1].map(|family: usize| status["families"][family]["rowsAdopted"].as_u64());
        assert_eq!(adopted, before[2][1], "{status:#}");
        assert_eq!(tables(&node)?, standing);
        fleet.settle()?;
        none_failed(background)
    })
}

/// Creates, changes and deletes Services one after the other until `stop` is set. At the end, deletes all.
fn storm(api: &Api, stop: &AtomicBool) -> Result<usize> {
    let name = |number: usize| format!("storm-{number}");
    let delete = |number: usize| -> Result<()> {
        for kind in ["Service", "EndpointSlice"] {
            api.delete(&path(kind, "default", &name(number))?, &json!({}))?;
        }
        Ok(())
    };
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        let name = name(count);
        let mut service = Service::new("default", &name)
            .port("", Protocol::Tcp, 80, TARGET)
            .build();
        service["spec"]["selector"] = Value::Null;
        let slice = Slice::new("default", &name, &name).port("", Protocol::Tcp, TARGET);
        let slice = slice.ready(IpAddr::from([192, 0, 2, 200]), "elsewhere").build();
        api.create(&service)?;
        api.create(&slice)?;
        let more = json!({ "endpoints": [slice["endpoints"][0], { "addresses": ["192.0.2.201"] }] });
        api.patch(&path("EndpointSlice", "default", &name)?, &more)?;
        if count % 2 == 1 {
            delete(count - 1)?;
        }
        count += 1;
    }
    (0..count)
        .filter(|number| number % 2 == 1 || number + 1 == count)
        .try_for_each(delete)?;
    Ok(count)
}

#[test]
fn a_tandem_killed_while_services_change_catches_up_without_a_failed_request() -> Result<()> {
    shared(|fleet| {
        let addresses = cluster_ips(&fleet.add_fixed("killed", &[1, 2, 3])?)?;
        let background = keep_asking(fleet, addresses)?;
        let before = figures(&fleet.statuses()?);
        let stop = AtomicBool::new(false);
        let count = thread::scope(|scope| -> Result<usize> {
            let api = fleet.cluster.api().clone();
            let storm = scope.spawn(|| storm(&{ api }, &stop));
            let killed = (0..4).try_for_each(|round| {
                thread::sleep(Duration::from_millis(300 + round * 70));
                fleet.tandems[2].kill()?;
                thread::sleep(Duration::from_millis(200));
                fleet.tandems[2].restart()?;
                fleet.tandems[2].wait_ready()
            });
            stop.store(true, Ordering::Relaxed);
            let count = storm.join().map_err(|_| anyhow!("the storm panicked"))?;
            killed.and(count)
        })?;
        ensure!(count > 20, "only {count} Services came and went");
        fleet.settle()?;
        let after = figures(&fleet.statuses()?);
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(before[1], after[1], "rows after {count} Services came and went");
        }
        let adopted = fleet.tandems[2].status()?["families"][0]["rowsAdopted"].as_u64();
        ensure!(adopted > Some(0), "{adopted:?}");
        none_failed(background)
    })
}
