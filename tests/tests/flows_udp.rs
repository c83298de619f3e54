//! UDP flows that the kernel remembers. They are cut if their endpoint, their frontend or their Service goes, and left
//! alone otherwise. Every client here keeps its source port, so that all its packets are one flow.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tandem_tests::conntrack::{Entry, udp};
use tandem_tests::eventually;
use tandem_tests::netns::Namespace;
use tandem_tests::stage::{Ip, NAMESPACE, Stage, TARGET, bare_service, port_name, slice, slices};
use tandem_tests::traffic::{Outcome, Protocol, Request, Server};

const NODE_PORT: u16 = 30_053;
/// How long a cut may take. Usually it takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_millis(400);

/// A Service with a UDP port, and every kind of frontend.
fn dns(name: &str, number: u8, node_port: u16) -> Value {
    bare_service(name, number)
        .external_ips(&Ip::external_ips(number).each_ref().map(String::as_str))
        .node_port(&port_name(Protocol::Udp), Protocol::Udp, 80, TARGET, node_port)
        .build()
}

fn with_pods(pods: &[&str]) -> Vec<Value> {
    let mut objects = vec![dns("dns", 10, NODE_PORT)];
    objects.extend(slices("dns", pods));
    objects
}

/// A client of one frontend, with an address of its own and a port that it keeps.
struct Client<'a> {
    namespace: &'a Namespace,
    from: SocketAddr,
    to: SocketAddr,
}

/// A client for each kind of frontend, in each family.
fn clients(stage: &Stage) -> Vec<Client<'_>> {
    let of_family = |family: Ip| {
        let frontends = [
            (family.cluster_ip(10), 80),
            (family.external_ip(10), 80),
            (stage.node_address(1, family), NODE_PORT),
        ];
        frontends.into_iter().map(move |to| client(stage, family, to))
    };
    Ip::BOTH.into_iter().flat_map(of_family).collect()
}

/// Makes all of them send, and returns the kernel's numbers of their flows.
fn answered_by_web_1(stage: &Stage) -> Result<Vec<u32>> {
    ids_answered_by_web_1(stage, clients(stage))
}

fn ids_answered_by_web_1<'a>(stage: &'a Stage, clients: impl IntoIterator<Item = Client<'a>>) -> Result<Vec<u32>> {
    let ask = |client: Client<'_>| {
        assert_eq!(client.answered_by()?, "web-1");
        Ok(client.must_have_entry(stage)?.id)
    };
    clients.into_iter().map(ask).collect()
}

fn client(stage: &Stage, family: Ip, to: (IpAddr, u16)) -> Client<'_> {
    let port = 40_000 + to.1 % 1000 + u16::from(to.0 == family.external_ip(10));
    Client {
        namespace: stage.pod("web-2"),
        from: SocketAddr::new(stage.pod_address("web-2", family), port),
        to: to.into(),
    }
}

impl Client<'_> {
    fn send(&self) -> Result<Outcome> {
        Request::udp(self.to)
            .from_port(self.from)
            .timeout(SILENCE)
            .send(self.namespace)
    }

    fn answered_by(&self) -> Result<String> {
        let outcome = self.send()?;
        let by = outcome.answered_by().map(str::to_owned);
        by.with_context(|| format!("{} -> {}: {outcome}", self.from, self.to))
    }

    /// Its entry on `node1`.
    fn entry(&self, stage: &Stage) -> Result<Option<Entry>> {
        let mut entries = udp(stage.node())?.into_iter();
        Ok(entries.find(|entry| (entry.from, entry.to) == (self.from, self.to)))
    }

    fn must_have_entry(&self, stage: &Stage) -> Result<Entry> {
        let entry = self.entry(stage)?;
        entry.with_context(|| format!("{} -> {}: no entry", self.from, self.to))
    }

    /// Waits until this entry is gone.
    fn wait_cut(&self, stage: &Stage, id: u32) -> Result<()> {
        let cut = || (self.entry(stage).ok()?.map(|entry| entry.id) != Some(id)).then_some(());
        eventually(PATIENCE, cut).with_context(|| format!("{} -> {}: not cut", self.from, self.to))
    }
}

/// A field of Tandem's status about a family's flows.
fn told(stage: &Stage, family: Ip, field: &str) -> Result<u64> {
    let status = stage.tandem.status()?;
    let flows = &status["families"][usize::from(family == Ip::V6)]["udpFlows"];
    ensure!(flows["lastError"].is_null(), "{flows}");
    flows[field].as_u64().with_context(|| format!("no {field} in {flows}"))
}

#[test]
fn a_client_whose_endpoint_goes_is_answered_by_another_one() -> Result<()> {
    let mut stage = Stage::new(&with_pods(&["web-1"]))?;
    let before = answered_by_web_1(&stage)?;
    stage.apply("objects.yaml", &with_pods(&["web-3"]))?;
    for (client, id) in clients(&stage).iter().zip(before) {
        client.wait_cut(&stage, id)?;
        assert_eq!(client.answered_by()?, "web-3", "{} -> {}", client.from, client.to);
    }
    for family in Ip::BOTH {
        assert_eq!(told(&stage, family, "cut")?, 3, "{family:?}");
    }
    Ok(())
}

#[test]
fn one_frontend_alone_is_enough_to_find_its_flow_by() -> Result<()> {
    fn clients(stage: &Stage) -> [Client<'_>; 2] {
        Ip::BOTH.map(|family| client(stage, family, (family.cluster_ip(10), 80)))
    }
    let with_pod = |pod| {
        let plain = bare_service("dns", 10).port(&port_name(Protocol::Udp), Protocol::Udp, 80, TARGET);
        let mut objects = vec![plain.build()];
        objects.extend(slices("dns", &[pod]));
        objects
    };
    let mut stage = Stage::new(&with_pod("web-1"))?;
    let before = ids_answered_by_web_1(&stage, clients(&stage))?;
    stage.apply("objects.yaml", &with_pod("web-3"))?;
    for (client, id) in clients(&stage).iter().zip(before) {
        client.wait_cut(&stage, id)?;
        assert_eq!(client.answered_by()?, "web-3", "{} -> {}", client.from, client.to);
    }
    Ok(())
}

#[test]
fn clients_of_a_service_scaled_to_zero_are_refused_and_answered_when_an_endpoint_comes_back() -> Result<()> {
    let mut stage = Stage::new(&with_pods(&["web-1"]))?;
    let before = answered_by_web_1(&stage)?;
    stage.apply("objects.yaml", &with_pods(&[]))?;
    for (client, id) in clients(&stage).iter().zip(before) {
        client.wait_cut(&stage, id)?;
        let outcome = client.send()?;
        assert!(outcome.refused_at_once(), "{} -> {}: {outcome}", client.from, client.to);
    }
    stage.apply("objects.yaml", &with_pods(&["web-1"]))?;
    answered_by_web_1(&stage)?;
    Ok(())
}

#[test]
fn a_deleted_service_leaves_no_flow_behind_whichever_way_it_came() -> Result<()> {
    let mut stage = Stage::new(&with_pods(&["web-1"]))?;
    let before = answered_by_web_1(&stage)?;
    stage.remove("objects.yaml")?;
    for (client, id) in clients(&stage).iter().zip(before) {
        client.wait_cut(&stage, id)?;
        let outcome = client.send()?;
        assert!(
            outcome.answer().is_none(),
            "{} -> {}: {outcome}",
            client.from,
            client.to
        );
    }
    Ok(())
}

#[test]
fn flows_that_are_still_right_keep_their_entry_whatever_else_changes() -> Result<()> {
    let other = |pods: &[&str]| {
        let mut objects = vec![dns("other", 11, NODE_PORT + 1)];
        objects.extend(slices("other", pods));
        objects
    };
    let mut stage = Stage::new(&with_pods(&["web-1"]))?;
    stage.apply("other.yaml", &other(&["web-1"]))?;
    let mut right = Vec::new();
    for client in clients(&stage) {
        assert_eq!(client.answered_by()?, "web-1");
        right.push(client.must_have_entry(&stage)?);
    }
    // The other Service's flows must be cut each time. So they show when Tandem has checked.
    let wrong = |stage: &Stage| -> Result<Vec<u32>> {
        let entry = |family: Ip| {
            let client = client(stage, family, (family.cluster_ip(11), 80));
            client.answered_by()?;
            Ok(client.must_have_entry(stage)?.id)
        };
        Ip::BOTH.map(entry).into_iter().collect()
    };
    let cut = |stage: &Stage, ids: Vec<u32>| {
        let clients = Ip::BOTH.map(|family| client(stage, family, (family.cluster_ip(11), 80)));
        clients
            .iter()
            .zip(ids)
            .try_for_each(|(client, id)| client.wait_cut(stage, id))
    };
    let still_right = |stage: &Stage, when: &str| -> Result<()> {
        for (client, entry) in clients(stage).iter().zip(&right) {
            assert_eq!(client.answered_by()?, "web-1", "{when}");
            assert_eq!(client.must_have_entry(stage)?, *entry, "{when}");
        }
        Ok(())
    };

    let ids = wrong(&stage)?;
    stage.apply("other.yaml", &other(&["web-3"]))?;
    cut(&stage, ids)?;
    still_right(&stage, "another Service changed")?;

    stage.apply("objects.yaml", &with_pods(&["web-1", "web-3"]))?;
    stage.apply("objects.yaml", &with_pods(&["web-1"]))?;
    let ids = wrong(&stage)?;
    stage.apply("other.yaml", &other(&["web-1"]))?;
    cut(&stage, ids)?;
    still_right(&stage, "another endpoint came and went")?;

    let ids = wrong(&stage)?;
    stage.tandem.kill()?;
    stage.folder.write("other.yaml", &other(&["web-3"]))?;
    stage.tandem.restart()?;
    stage.tandem.wait_ready()?;
    cut(&stage, ids)?;
    still_right(&stage, "Tandem was restarted and an endpoint had gone meanwhile")?;

    let ids = wrong(&stage)?;
    stage.tandem.terminate()?;
    stage.folder.remove("other.yaml")?;
    stage.tandem.restart()?;
    stage.tandem.wait_ready()?;
    cut(&stage, ids)?;
    still_right(&stage, "Tandem was restarted and a Service had gone meanwhile")
}

#[test]
fn a_finishing_endpoint_keeps_its_flows_until_it_is_gone() -> Result<()> {
    let states = |stage: &Stage, finishing: bool| -> Vec<Value> {
        let mut objects = vec![dns("dns", 10, NODE_PORT)];
        objects.extend(Ip::BOTH.map(|family| {
            let [old, new] = ["web-1", "web-3"].map(|pod| stage.pod_address(pod, family));
            let slice = slice(&format!("dns-{}", family.of(["v4", "v6"])), "dns", family);
            if finishing {
                slice.terminating(old, "node1").ready(new, "node2").build()
            } else {
                slice.ready(old, "node1").build()
            }
        }));
        objects
    };
    let mut stage = Stage::new(&[])?;
    stage.apply("objects.yaml", &states(&stage, false))?;
    let before = answered_by_web_1(&stage)?;
    let looks = told(&stage, Ip::V4, "reconciliations")?;
    stage.apply("objects.yaml", &states(&stage, true))?;
    for (client, id) in clients(&stage).iter().zip(&before) {
        assert_eq!(client.answered_by()?, "web-1", "it still answers");
        assert_eq!(client.must_have_entry(&stage)?.id, *id);
    }
    assert_eq!(told(&stage, Ip::V4, "reconciliations")?, looks, "nothing became wrong");
    stage.apply("objects.yaml", &with_pods(&["web-3"]))?;
    for (client, id) in clients(&stage).iter().zip(before) {
        client.wait_cut(&stage, id)?;
        assert_eq!(client.answered_by()?, "web-3");
    }
    Ok(())
}

#[test]
fn a_client_that_sent_before_there_was_an_endpoint_is_answered_afterwards() -> Result<()> {
    let mut stage = Stage::new(&[])?;
    // No Service has these addresses yet. On the nodePort, the node itself refuses, and its kernel remembers the flow.
    for client in clients(&stage) {
        let outcome = client.send()?;
        assert!(
            outcome.answer().is_none(),
            "{} -> {}: {outcome}",
            client.from,
            client.to
        );
    }
    let mut remembered = Vec::new();
    for family in Ip::BOTH {
        let client = client(&stage, family, (stage.node_address(1, family), NODE_PORT));
        let entry = client.must_have_entry(&stage)?;
        assert_eq!(entry.with, entry.to, "not translated");
        remembered.push(entry.id);
    }
    stage.apply("objects.yaml", &with_pods(&[]))?;
    for (family, id) in Ip::BOTH.into_iter().zip(remembered) {
        let client = client(&stage, family, (stage.node_address(1, family), NODE_PORT));
        client.wait_cut(&stage, id)?;
    }
    for client in clients(&stage) {
        let outcome = client.send()?;
        assert!(outcome.refused_at_once(), "{} -> {}: {outcome}", client.from, client.to);
    }
    stage.apply("objects.yaml", &with_pods(&["web-1"]))?;
    answered_by_web_1(&stage)?;
    Ok(())
}

#[test]
fn udp_that_is_no_services_business_is_left_alone() -> Result<()> {
    let mut stage = Stage::new(&with_pods(&["web-1"]))?;
    // The same port numbers elsewhere: on the other node, on this node's other address, on a pod, and in what the node
    // itself sends.
    let mut servers = Vec::new();
    let mut others = Vec::new();
    for family in Ip::BOTH {
        let gateway = stage.masqueraded(family)[1];
        let outside = family.of(tandem_tests::topology::CLIENT);
        let node2 = &stage.world.nodes[1];
        let elsewhere = [
            (
                &node2.namespace,
                stage.node_address(2, family),
                NODE_PORT,
                stage.pod("web-2"),
            ),
            (stage.node(), gateway, NODE_PORT, stage.pod("web-2")),
            (stage.client(), outside, 80, stage.node()),
        ];
        for (at, address, port, from) in elsewhere {
            let to = SocketAddr::new(address, port);
            servers.push(Server::start(at, "other", Protocol::Udp, to)?);
            let source = if from.name() == stage.node().name() {
                stage.node_address(1, family)
            } else {
                stage.pod_address("web-2", family)
            };
            let from_port = SocketAddr::new(source, 41_000 + u16::try_from(others.len())?);
            let outcome = Request::udp(to).from_port(from_port).send(from)?;
            assert_eq!(outcome.answered_by(), Some("other"), "{to}: {outcome}");
            others.push((from_port, to));
        }
    }
    let entries = |stage: &Stage| -> Result<Vec<Entry>> {
        let mut entries = udp(stage.node())?;
        entries.retain(|entry| others.contains(&(entry.from, entry.to)));
        Ok(entries)
    };
    let before = entries(&stage)?;
    assert_eq!(before.len(), others.len(), "{before:?}");

    for objects in [with_pods(&["web-3"]), with_pods(&[]), vec![], with_pods(&["web-1"])] {
        let mut ids = Vec::new();
        for client in clients(&stage) {
            if client.send()?.answer().is_some() {
                ids.push(client.must_have_entry(&stage)?.id);
            }
        }
        stage.apply("objects.yaml", &objects)?;
        for client in clients(&stage) {
            for id in &ids {
                client.wait_cut(&stage, *id)?;
            }
        }
    }
    stage.tandem.kill()?;
    stage.tandem.restart()?;
    stage.tandem.wait_ready()?;
    let looked = || {
        let looked = |family| told(&stage, family, "reconciliations").is_ok_and(|count| count > 0);
        Ip::BOTH.into_iter().all(looked).then_some(())
    };
    eventually(PATIENCE, looked).context("nothing was looked at after a restart")?;
    assert_eq!(entries(&stage)?, before, "namespace {NAMESPACE}");
    Ok(())
}
