//! Tandem and the real kube-proxy on one node: the short form of `make orders`, and what is said meanwhile.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tandem_tests::cluster::Cluster;
use tandem_tests::eventually;
use tandem_tests::netns::Namespace;
use tandem_tests::orders::{self, all, short};
use tandem_tests::tandem::Tandem;

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn in_the_usual_orders_of_tandem_and_kube_proxy_nothing_is_lost_and_whoever_is_left_decides() -> Result<()> {
    let figures = orders::run(&short(), 4, |order, wrong| println!("{order}: {wrong:?}"))?;
    ensure!(figures.wrong.is_empty(), "{:#?}", figures.wrong);
    ensure!(
        figures.orders == short().len() && figures.requests > 1000,
        "{figures:?}"
    );
    Ok(())
}

#[test]
fn there_are_orders_of_both_modes_each_at_rest_and_in_the_middle_of_changes_and_each_leaves_somebody() {
    let orders = all();
    assert!(orders.len() >= 24);
    for order in &orders {
        assert_ne!(order.running(order.steps.len()), (false, false), "{order}");
        assert_ne!(order.running(order.steps.len()), (true, true), "{order}");
    }
    let names: std::collections::BTreeSet<String> = orders.iter().map(ToString::to_string).collect();
    assert_eq!(names.len(), orders.len());
}

/// `nft monitor`, which prints every chain that is made.
struct Monitor(Child);

impl Monitor {
    fn start(node: &Namespace) -> Result<Self> {
        let mut monitor = Command::new("nft");
        monitor.args(["monitor", "new", "chains"]);
        let child = node.spawn(monitor.stdout(Stdio::piped()).stderr(Stdio::null()))?;
        // It says nothing when it is ready.
        thread::sleep(Duration::from_millis(300));
        Ok(Self(child))
    }

    /// The lines about chains of Tandem that translate addresses.
    fn nat_chains_of_tandem(mut self) -> Result<Vec<String>> {
        self.0.kill()?;
        let mut seen = String::new();
        let mut output = self.0.stdout.take().context("nft monitor without output")?;
        output.read_to_string(&mut seen)?;
        let chains = seen
            .lines()
            .filter(|line| line.contains(" tandem ") && line.contains("type nat"));
        Ok(chains.map(str::to_owned).collect())
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_kube_proxy_beside_tandem_is_named_by_ready_by_the_status_and_by_an_event() -> Result<()> {
    let cluster = Cluster::start(1)?;
    let kube_proxy = cluster.start_kube_proxy(1)?;
    let node = cluster.node(1)?;
    let has_tables = || {
        node.namespace
            .exec(&["nft", "list", "table", "ip6", "kube-proxy"])
            .ok()
            .map(drop)
    };
    eventually(PATIENCE, has_tables).context("kube-proxy makes no tables")?;
    let chains = Monitor::start(&node.namespace)?;
    let mut tandem = Tandem::on(node).kubeconfig(&cluster.tandem_kubeconfig()).start()?;
    tandem.expect_error("metricsBindAddress: cannot listen");
    let mut said = String::new();
    let waits = |tandem: &Tandem, wanted: &str, said: &mut String| {
        eventually(PATIENCE, || {
            *said = tandem.ready().unwrap_or_else(|error| format!("{error:#}"));
            said.contains(wanted).then_some(())
        })
    };
    let named = waits(
        &tandem,
        "not ready: kube-proxy: one runs on this node too: it has 0.0.0.0:10256",
        &mut said,
    );
    ensure!(named.is_some(), "{said}");
    let chains = chains.nat_chains_of_tandem()?;
    // At hook output, nft 1.0.6 writes the number.
    let second = ["dstnat + 1", "priority -99", "srcnat + 1"];
    let is_second = |chain: &String| second.iter().any(|priority| chain.contains(priority));
    ensure!(
        chains.len() == 6 && chains.iter().all(is_second),
        "the rules stood elsewhere at first: {chains:#?}"
    );
    let status = tandem.status()?;
    let problem = status["problems"]
        .as_array()
        .and_then(|problems| problems.iter().find(|problem| problem["object"] == "kube-proxy"));
    let problem = problem.with_context(|| format!("{status:#}"))?;
    ensure!(problem["fatal"] == true, "{problem}");
    let event = eventually(PATIENCE, || {
        let list = cluster
            .api()
            .get("/apis/events.k8s.io/v1/namespaces/default/events")
            .ok()?;
        let items = list["items"].as_array()?.clone();
        items.into_iter().find(|event| event["reason"] == "KubeProxyRuns")
    });
    let event = event.context("there is no Event")?;
    ensure!(
        event["regarding"]["kind"] == "Node" && event["regarding"]["name"] == "node1" && event["type"] == "Warning",
        "{event:#}"
    );
    drop(kube_proxy);
    let alone = waits(&tandem, "ready: serves this node", &mut said);
    ensure!(alone.is_some(), "{said}");
    ensure!(has_tables().is_none(), "kube-proxy's tables are still there");
    let status = tandem.status()?;
    ensure!(
        status["problems"].as_array().is_some_and(Vec::is_empty),
        "{:#}",
        status["problems"]
    );
    tandem.finish()
}
