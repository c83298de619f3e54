//! What `tandem status` says about the node itself and about Services that want the same address, compared with what
//! packets meet.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tandem_tests::stage::{Ip, Stage, node_port_service, service, slices};
use tandem_tests::traffic::Protocol;
use tandem_tests::{eventually, manifests};

const NODE_PORT: u16 = 30_080;
const PATIENCE: Duration = Duration::from_secs(30);

fn web() -> Vec<Value> {
    let mut objects = vec![node_port_service("web", 10, NODE_PORT).build()];
    objects.extend(slices("web", &["web-1", "web-3"]));
    objects
}

fn node_ports(stage: &Stage) -> Vec<(IpAddr, u16)> {
    Ip::BOTH
        .map(|family| (stage.node_address(1, family), NODE_PORT))
        .to_vec()
}

fn answers(stage: &Stage, to: (IpAddr, u16)) -> Result<bool> {
    Ok(stage.send(stage.client(), Protocol::Tcp, to)?.answer().is_some())
}

fn problems(stage: &Stage) -> Result<Vec<String>> {
    let status = stage.tandem.status()?;
    let list = status["problems"].as_array().context("no problems")?;
    let line = |problem: &Value| {
        Some(format!(
            "{}: {}",
            problem["object"].as_str()?,
            problem["problem"].as_str()?
        ))
    };
    Ok(list.iter().filter_map(line).collect())
}

/// Waits until a problem begins with this text.
fn wait_for(stage: &Stage, begin: &str) -> Result<String> {
    let found = eventually(PATIENCE, || {
        let problems = problems(stage).ok()?;
        problems.into_iter().find(|problem| problem.starts_with(begin))
    });
    found.with_context(|| format!("no problem begins with {begin:?}: {:?}", problems(stage)))
}

fn wait_for_none(stage: &Stage) -> Result<()> {
    let none = eventually(PATIENCE, || problems(stage).ok()?.is_empty().then_some(()));
    none.with_context(|| format!("problems stay: {:?}", problems(stage)))
}

fn cluster(stage: &Stage, with_node: bool) -> Vec<Value> {
    let nodes = stage.world.nodes.iter().skip(usize::from(!with_node));
    let mut objects: Vec<Value> = nodes.map(manifests::node).collect();
    objects.push(manifests::service_cidr());
    objects
}

#[test]
fn a_restart_without_a_node_object_keeps_node_ports_and_says_what_was_looked_for() -> Result<()> {
    let mut stage = Stage::new(&web())?;
    stage.tandem.command(&["status"])?;
    stage.tandem.kill()?;
    stage.folder.write("cluster.yaml", &cluster(&stage, false))?;
    stage.tandem.restart()?;
    stage.tandem.wait_ready()?;
    for to in node_ports(&stage) {
        ensure!(answers(&stage, to)?, "{to:?} does not answer");
    }
    wait_for(&stage, "Node node1: no Node object named \"node1\" was read")?;
    stage.tandem.wait_log("no Node object named \"node1\"", PATIENCE)?;
    let failure = stage.tandem.command(&["status"]).err().context("status ends with 0")?;
    let failure = format!("{failure:#}");
    ensure!(failure.contains("--hostname-override"), "{failure}");
    stage.apply("cluster.yaml", &cluster(&stage, true))?;
    wait_for_none(&stage)?;
    stage.tandem.command(&["status"])?;
    Ok(())
}

#[test]
fn a_chain_that_drops_what_is_forwarded_is_named_and_what_the_status_advises_helps() -> Result<()> {
    let stage = Stage::new(&web())?;
    wait_for_none(&stage)?;
    let nft = |command: &str| stage.node().exec(&["nft", command]);
    nft("add table inet fw")?;
    nft("add chain inet fw guard { type filter hook forward priority 0; policy drop; }")?;
    for to in node_ports(&stage) {
        ensure!(!answers(&stage, to)?, "{to:?}: the chain does not drop");
    }
    let problem = wait_for(&stage, "chain inet fw guard: policy drop")?;
    let advice: Vec<&str> = problem.split('`').skip(1).step_by(2).collect();
    let [translated, all] = advice[..] else {
        anyhow::bail!("{problem}")
    };
    stage.node().exec(&["sh", "-c", translated])?;
    for to in node_ports(&stage) {
        ensure!(answers(&stage, to)?, "{translated} does not help {to:?}");
    }
    nft("flush chain inet fw guard")?;
    stage.node().exec(&["sh", "-c", all])?;
    for to in node_ports(&stage) {
        ensure!(answers(&stage, to)?, "{all} does not help {to:?}");
    }
    wait_for_none(&stage)
}

#[test]
fn an_address_inside_a_service_range_is_named_as_long_as_an_interface_has_it() -> Result<()> {
    let stage = Stage::new(&web())?;
    wait_for_none(&stage)?;
    for (link, begin) in [
        ("docker0", "interface docker0: "),
        ("kube-ipvs0", "interface kube-ipvs0: "),
    ] {
        for family in Ip::BOTH {
            let address = family.cluster_ip(200);
            let bits = if address.is_ipv4() { 32 } else { 128 };
            stage.node().ip(&format!("link add {link} type bridge"))?;
            stage.node().address(link, &[&format!("{address}/{bits}")])?;
            let problem = wait_for(&stage, &format!("{begin}{address} lies inside the Service range "))?;
            ensure!(
                problem.contains("kube-proxy --cleanup") == (link == "kube-ipvs0"),
                "{problem}"
            );
            stage.node().ip(&format!("link del {link}"))?;
            wait_for_none(&stage)?;
        }
    }
    stage.node().ip("link add nodelocaldns type bridge")?;
    let own = Ip::V4.cluster_ip(10);
    stage.node().address("nodelocaldns", &[&format!("{own}/32")])?;
    stage.node().ip("link add last type bridge")?;
    stage
        .node()
        .address("last", &[&format!("{}/32", Ip::V4.cluster_ip(201))])?;
    wait_for(&stage, "interface last: ")?;
    let all = problems(&stage)?;
    ensure!(all.len() == 1, "a DNS cache of the node is no problem: {all:?}");
    Ok(())
}

#[test]
fn services_shows_what_stands_where_two_want_one_address() -> Result<()> {
    let shared = Ip::external_ips(1);
    let addresses = shared.each_ref().map(String::as_str);
    let claim = |name: &str, number: u8| service(name, number).external_ips(&addresses).build();
    let mut objects = vec![claim("first", 10), claim("second", 11)];
    objects.extend(slices("first", &["web-1"]));
    objects.extend(slices("second", &["web-3"]));
    let mut stage = Stage::new(&objects)?;
    let family = |stage: &Stage, name: &str| -> Result<Value> {
        let services = stage.tandem.services()?;
        let mut found = services.as_array().into_iter().flatten();
        let found = found
            .find(|service| service["name"] == name)
            .context("no such Service")?;
        Ok(found["ports"][0]["families"][0].clone())
    };
    let at = json!(format!("{}:80", shared[0]));
    let contains = |list: &Value| list.as_array().is_some_and(|list| list.contains(&at));
    ensure!(
        contains(&family(&stage, "first")?["frontends"]),
        "the first by name has it"
    );
    let second = family(&stage, "second")?;
    ensure!(!contains(&second["frontends"]), "{second:#}");
    ensure!(second["taken"][0]["frontend"] == at, "{second:#}");
    let text = stage.tandem.command(&["services", "-A", "-o", "wide"])?;
    ensure!(text.contains(&format!("{}(taken", shared[0])), "{text}");
    let namespace = tandem_tests::stage::NAMESPACE;
    let problem = wait_for(&stage, &format!("Service {namespace}/second: IPv4: {}:80/", shared[0]))?;
    ensure!(
        problem.contains(&format!("Service {namespace}/first claims the same")),
        "{problem}"
    );

    // The next one takes over in the same change in which the holder goes.
    let mut objects = vec![claim("second", 11)];
    objects.extend(slices("second", &["web-3"]));
    stage.apply("objects.yaml", &objects)?;
    let second = family(&stage, "second")?;
    ensure!(
        contains(&second["frontends"]) && second["taken"].is_null(),
        "{second:#}"
    );
    wait_for_none(&stage)
}
