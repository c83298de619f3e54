//! UDP flows that turn round. A server on the node's own address answers a client, and another endpoint takes over
//! meanwhile. The answer begins an entry of its own, and the client's next packets count as answers to it.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tandem_tests::conntrack::{Entry, make, udp};
use tandem_tests::eventually;
use tandem_tests::manifests;
use tandem_tests::netns::Namespace;
use tandem_tests::stage::{Ip, Stage, TARGET, bare_service, port_name, slice, slices};
use tandem_tests::topology::CLIENT;
use tandem_tests::traffic::{Protocol, Request, Server};

const NODE_PORT: u16 = 30_053;
const PATIENCE: Duration = Duration::from_secs(12);

/// A Service whose LoadBalancer address is the address of `node1`. Its endpoint is the server there, or these pods.
fn k3s(stage: &Stage, on_node: bool, pods: &[&str]) -> Vec<Value> {
    let addresses = Ip::BOTH.map(|family| stage.node_address(1, family).to_string());
    let mut service = bare_service("dns", 10)
        .port(&port_name(Protocol::Udp), Protocol::Udp, TARGET, TARGET)
        .build();
    service["spec"]["type"] = "LoadBalancer".into();
    service["spec"]["externalTrafficPolicy"] = "Local".into();
    service["status"]["loadBalancer"]["ingress"] = addresses.iter().map(|address| json!({ "ip": address })).collect();
    let mut objects = vec![service];
    if on_node {
        objects.extend(Ip::BOTH.map(|family| {
            let name = format!("dns-{}", family.of(["v4", "v6"]));
            slice(&name, "dns", family)
                .ready(stage.node_address(1, family), "node1")
                .build()
        }));
    } else {
        objects.extend(slices("dns", pods));
    }
    objects
}

/// A Service with a nodePort.
fn with_node_port(pods: &[&str]) -> Vec<Value> {
    let service = bare_service("dns", 10);
    let mut service = service
        .node_port(&port_name(Protocol::Udp), Protocol::Udp, 80, TARGET, NODE_PORT)
        .build();
    service["spec"]["externalTrafficPolicy"] = "Local".into();
    let mut objects = vec![service];
    objects.extend(slices("dns", pods));
    objects
}

/// Answers datagrams with the name `host`. It answers the first one only when it is told to.
struct HeldUp {
    heard: mpsc::Receiver<()>,
    go: mpsc::Sender<()>,
    answered: mpsc::Receiver<()>,
    /// Dropping this ends it.
    alive: Arc<()>,
}

impl HeldUp {
    fn start(at: &Namespace, address: SocketAddr) -> Result<Self> {
        let (ready, is_ready) = mpsc::channel();
        let (tell, heard) = mpsc::channel();
        let (go, told) = mpsc::channel();
        let (answers, answered) = mpsc::channel();
        let alive = Arc::new(());
        let still_wanted = Arc::downgrade(&alive);
        at.entrance().thread("held up", move || {
            let socket = UdpSocket::bind(address);
            let _ = ready.send(socket.is_ok());
            let Ok(socket) = socket else { return };
            let _ = socket.set_read_timeout(Some(Duration::from_millis(20)));
            let mut question = [0; 512];
            while still_wanted.upgrade().is_some() {
                let Ok((_, client)) = socket.recv_from(&mut question) else {
                    continue;
                };
                if tell.send(()).is_ok() {
                    let _ = told.recv_timeout(PATIENCE);
                }
                let _ = socket.send_to(format!("host {client}\n").as_bytes(), client);
                let _ = answers.send(());
            }
        })?;
        ensure!(is_ready.recv()?, "no server on {address}");
        Ok(Self {
            heard,
            go,
            answered,
            alive,
        })
    }
}

/// Makes a client send from one port, again and again, until this server answers it. Gives up after some time.
fn answered_in_the_end(from: &Namespace, source: SocketAddr, to: SocketAddr, by: &str) -> Result<()> {
    let started = Instant::now();
    loop {
        let request = Request::udp(to).from_port(source).timeout(Duration::from_millis(150));
        let outcome = request.send(from)?;
        if outcome.answered_by() == Some(by) {
            return Ok(());
        }
        ensure!(started.elapsed() < PATIENCE, "{source} -> {to}: still {outcome}");
    }
}

/// On a busy machine, what must happen between the first check and the second may happen too late. Then the attempt is
/// repeated.
fn soon_enough(mut attempt: impl FnMut() -> Result<()>) -> Result<()> {
    let mut result = attempt();
    for _ in 0..2 {
        if result.is_ok() {
            break;
        }
        result = attempt();
    }
    result
}

/// Objects change while an answer of a server on the node to a client is under way. The client is moved to `web-1`.
fn moved_while_an_answer_is_under_way(stage: &mut Stage, port: u16, before: &[Value], after: &[Value]) -> Result<()> {
    for family in Ip::BOTH {
        let to = SocketAddr::new(stage.node_address(1, family), port);
        let mut source = SocketAddr::new(family.of(CLIENT), 41_000);
        soon_enough(|| {
            source.set_port(source.port() + 1);
            stage.apply("objects.yaml", before)?;
            let HeldUp {
                heard,
                go,
                answered,
                alive: _alive,
            } = HeldUp::start(stage.node(), to)?;
            stage.client().run(|| -> Result<()> {
                UdpSocket::bind(source)?.send_to(b"who are you?\n", to)?;
                Ok(())
            })??;
            heard.recv_timeout(PATIENCE).context("the server heard nothing")?;
            stage.folder.write("objects.yaml", after)?;
            // By then, the first check is over.
            wait_gone(stage, source, to)?;
            drop(heard);
            go.send(())?;
            answered.recv_timeout(PATIENCE).context("the server sent nothing")?;
            answered_in_the_end(stage.client(), source, to, "web-1")?;
            stage.settle()
        })?;
    }
    Ok(())
}

#[test]
fn a_client_is_moved_though_an_answer_of_the_node_itself_is_under_way() -> Result<()> {
    let mut stage = Stage::new(&[])?;
    let (before, after) = (k3s(&stage, true, &[]), k3s(&stage, false, &["web-1"]));
    moved_while_an_answer_is_under_way(&mut stage, TARGET, &before, &after)
}

#[test]
fn a_node_port_takes_over_from_a_program_on_the_node_whose_answer_is_under_way() -> Result<()> {
    let mut stage = Stage::new(&[])?;
    moved_while_an_answer_is_under_way(&mut stage, NODE_PORT, &[], &with_node_port(&["web-1"]))
}

/// An entry that is not translated.
fn plain(from: SocketAddr, to: SocketAddr) -> Entry {
    Entry {
        from,
        to,
        with: to,
        id: 0,
    }
}

/// Waits until there is no entry from `from` to `to`.
fn wait_gone(stage: &Stage, from: SocketAddr, to: SocketAddr) -> Result<()> {
    let gone = || {
        let entries = udp(stage.node()).ok()?;
        let there = entries.iter().any(|entry| (entry.from, entry.to) == (from, to));
        (!there).then_some(())
    };
    eventually(PATIENCE, gone).with_context(|| format!("{from} -> {to}: not cut"))
}

#[test]
fn what_a_server_said_by_itself_is_cut_too_once_it_serves_no_more() -> Result<()> {
    let mut stage = Stage::new(&[])?;
    stage.apply("objects.yaml", &k3s(&stage, true, &[]))?;
    // These entries look as if a program had sent something to clients that were silent for long.
    let ends = Ip::BOTH.map(|family| {
        let client = SocketAddr::new(family.of(CLIENT), 41_001);
        (SocketAddr::new(stage.node_address(1, family), TARGET), client)
    });
    make(stage.node(), &ends.map(|(server, client)| plain(server, client)), 600)?;
    stage.apply("objects.yaml", &k3s(&stage, false, &["web-1"]))?;
    for (server, client) in ends {
        wait_gone(&stage, server, client)?;
    }
    let status = stage.tandem.status()?;
    for family in [0, 1] {
        ensure!(status["families"][family]["udpFlows"]["cutTurned"] == 1, "{status}");
    }
    Ok(())
}

#[test]
fn an_entry_that_is_made_late_by_what_was_before_is_found_a_second_later() -> Result<()> {
    let mut stage = Stage::new(&[])?;
    for family in Ip::BOTH {
        let client = |stage: &Stage, port| Entry {
            with: SocketAddr::new(stage.pod_address("web-1", family), TARGET),
            ..plain(
                SocketAddr::new(family.of(CLIENT), port),
                SocketAddr::new(stage.node_address(1, family), NODE_PORT),
            )
        };
        // The first check cuts one. Then the other comes, as if a policy agent had held its datagram for some time.
        let mut port = 41_000;
        soon_enough(|| {
            port += 10;
            let (first, late) = (client(&stage, port), client(&stage, port + 1));
            stage.apply("objects.yaml", &with_node_port(&["web-1"]))?;
            make(stage.node(), &[first], 600)?;
            stage.folder.write("objects.yaml", &with_node_port(&["web-2"]))?;
            wait_gone(&stage, first.from, first.to)?;
            make(stage.node(), &[late], 600)?;
            stage.settle()?;
            wait_gone(&stage, late.from, late.to)
        })?;
    }
    Ok(())
}

#[test]
fn what_programs_of_the_node_send_from_a_port_that_becomes_a_services_is_left_alone() -> Result<()> {
    let mut stage = Stage::new(&[])?;
    // A program of the node asks a server outside. Its source port is a nodePort, or becomes a LoadBalancer's a moment
    // later.
    let mut asked = Vec::new();
    let mut servers = Vec::new();
    for family in Ip::BOTH {
        for port in [NODE_PORT, TARGET] {
            let to = SocketAddr::new(family.of(CLIENT), 9_000 + port % 100);
            servers.push(Server::start(stage.client(), "outside", Protocol::Udp, to)?);
            let from = SocketAddr::new(stage.node_address(1, family), port);
            let outcome = Request::udp(to).from_port(from).send(stage.node())?;
            ensure!(outcome.answered_by() == Some("outside"), "{from} -> {to}: {outcome}");
            asked.push((from, to));
        }
    }
    let entries = |stage: &Stage| -> Result<Vec<Entry>> {
        let mut entries = udp(stage.node())?;
        entries.retain(|entry| asked.contains(&(entry.from, entry.to)));
        Ok(entries)
    };
    let before = entries(&stage)?;
    ensure!(before.len() == asked.len(), "{before:?}");
    let second_looks = |stage: &Stage| -> Result<u64> {
        let status = stage.tandem.status()?;
        let of = |family: usize| status["families"][family]["udpFlows"]["secondLooks"].as_u64();
        Ok(of(0).unwrap_or(0).min(of(1).unwrap_or(0)))
    };
    for pods in [&["web-1"][..], &["web-2"], &[]] {
        let looked = second_looks(&stage)?;
        let mut objects = with_node_port(pods);
        let mut balanced = k3s(&stage, false, pods);
        for object in &mut balanced {
            let name = object["metadata"]["name"]
                .as_str()
                .unwrap_or_default()
                .replace("dns", "k3s");
            object["metadata"]["name"] = name.into();
            if object["kind"] == "EndpointSlice" {
                object["metadata"]["labels"]["kubernetes.io/service-name"] = "k3s".into();
            } else {
                let addresses = Ip::BOTH.map(|family| family.cluster_ip(11).to_string());
                object["spec"]["clusterIP"] = addresses[0].clone().into();
                object["spec"]["clusterIPs"] = json!(addresses);
            }
        }
        objects.extend(balanced);
        stage.apply("objects.yaml", &objects)?;
        eventually(PATIENCE, || (second_looks(&stage).ok()? > looked).then_some(()))
            .context("it did not look a second time")?;
        ensure!(entries(&stage)? == before, "{pods:?}: {:?}", entries(&stage)?);
    }
    Ok(())
}

/// The objects of every cluster, with other addresses of `node1`.
fn cluster(stage: &Stage, addresses: &[String]) -> Vec<Value> {
    let mut objects: Vec<Value> = stage.world.nodes.iter().map(manifests::node).collect();
    let address = |address: &String| json!({ "type": "InternalIP", "address": address });
    objects[0]["status"]["addresses"] = addresses.iter().map(address).collect();
    objects.push(manifests::service_cidr());
    objects
}

#[test]
fn a_client_of_an_address_that_takes_node_ports_no_more_is_cut_and_others_are_not() -> Result<()> {
    let new = ["192.0.2.111", "2001:db8:2::111"];
    let mut stage = Stage::new(&with_node_port(&["web-1"]))?;
    stage
        .node()
        .address("eth0", &["192.0.2.111/24", "2001:db8:2::111/64"])?;
    let clients = |stage: &Stage| {
        Ip::BOTH.map(|family| {
            let from = SocketAddr::new(family.of(CLIENT), 41_003);
            (from, SocketAddr::new(stage.node_address(1, family), NODE_PORT))
        })
    };
    let ask = |stage: &Stage, (from, to): (SocketAddr, SocketAddr)| {
        let request = Request::udp(to).from_port(from).timeout(Duration::from_millis(400));
        request.send(stage.client())
    };
    for end in clients(&stage) {
        let outcome = ask(&stage, end)?;
        ensure!(outcome.answered_by() == Some("web-1"), "{end:?}: {outcome}");
    }
    // These are translated by another program, at a port that is no nodePort.
    let other = Ip::BOTH.map(|family| Entry {
        with: SocketAddr::new(stage.pod_address("web-2", family), TARGET),
        ..plain(
            SocketAddr::new(family.of(CLIENT), 41_004),
            SocketAddr::new(stage.node_address(1, family), NODE_PORT + 1),
        )
    });
    make(stage.node(), &other, 600)?;
    stage.apply("cluster.yaml", &cluster(&stage, &new.map(str::to_owned)))?;
    for end in clients(&stage) {
        wait_gone(&stage, end.0, end.1)?;
        let outcome = ask(&stage, end)?;
        ensure!(outcome.answer().is_none(), "{end:?}: {outcome}");
    }
    let entries = udp(stage.node())?;
    for other in other {
        let kept = entries
            .iter()
            .any(|entry| (entry.from, entry.to, entry.with) == (other.from, other.to, other.with));
        ensure!(kept, "{other:?} is gone");
    }
    // The same happens while Tandem is away.
    let back = Ip::BOTH.map(|family| stage.node_address(1, family).to_string());
    stage.apply("cluster.yaml", &cluster(&stage, &back))?;
    for (from, to) in clients(&stage) {
        answered_in_the_end(stage.client(), from, to, "web-1")?;
    }
    stage.tandem.terminate()?;
    stage
        .folder
        .write("cluster.yaml", &cluster(&stage, &new.map(str::to_owned)))?;
    stage.tandem.restart()?;
    stage.tandem.wait_ready()?;
    for end in clients(&stage) {
        wait_gone(&stage, end.0, end.1)?;
    }
    Ok(())
}
