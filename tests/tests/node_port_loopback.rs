//! nodePorts on loopback addresses, with real packets. They answer if the configuration asks for them, and never for a
//! packet from the network.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tandem_tests::eventually;
use tandem_tests::stage::{Ip, Stage, node_port_service, slices};
use tandem_tests::traffic::{Outcome, Protocol, Request};

const PATIENCE: Duration = Duration::from_secs(20);
const NODE_PORT: u16 = 30_080;
const MANY: usize = 40;

fn web(pods: &[&str]) -> Vec<Value> {
    let mut objects = vec![node_port_service("web", 10, NODE_PORT).build()];
    objects.extend(slices("web", pods));
    objects
}

fn with_loopback(objects: &[Value]) -> Result<Stage> {
    Stage::with(objects, |plan| plan.own_setting("nodePortLoopback", true))
}

fn loopback(family: Ip) -> Result<IpAddr> {
    Ok(family.of(["127.0.0.1", "::1"]).parse()?)
}

/// Waits until the loopback address does what it should.
fn expect(stage: &Stage, family: Ip, what: &str, is_so: impl Fn(&Outcome) -> bool) -> Result<()> {
    let to = (loopback(family)?, NODE_PORT);
    let ask = || stage.send(stage.node(), Protocol::Tcp, to);
    eventually(PATIENCE, || ask().ok().filter(&is_so)).with_context(|| format!("{to:?}: never {what}: {:?}", ask()))?;
    Ok(())
}

fn answered(outcome: &Outcome) -> bool {
    outcome.answered_by().is_some()
}

#[test]
fn both_families_reach_every_endpoint_and_are_counted_by_the_rules() -> Result<()> {
    let stage = with_loopback(&web(&["web-1", "web-3"]))?;
    for family in Ip::BOTH {
        expect(&stage, family, "answered", answered)?;
        let before = stage.connections(family, "web", "tcp")?;
        let answers = stage.ask(stage.node(), MANY, Protocol::Tcp, (loopback(family)?, NODE_PORT))?;
        assert_eq!(answers.names(), ["web-1", "web-3"], "{family:?}");
        let counted = stage.connections(family, "web", "tcp")? - before;
        assert_eq!(counted, MANY as u64, "{family:?}");
        // Datagrams are not relayed.
        let outcome = stage.send(stage.node(), Protocol::Udp, (loopback(family)?, NODE_PORT))?;
        assert!(!answered(&outcome), "{family:?}: {outcome}");
    }
    stage.tandem.finish()
}

#[test]
fn nothing_listens_where_nobody_asked_for_it() -> Result<()> {
    let stage = Stage::new(&web(&["web-1"]))?;
    for family in Ip::BOTH {
        let there = stage.send(stage.node(), Protocol::Tcp, (stage.node_address(1, family), NODE_PORT))?;
        assert!(answered(&there), "{there}");
        let outcome = stage.send(stage.node(), Protocol::Tcp, (loopback(family)?, NODE_PORT))?;
        assert!(outcome.refused_at_once(), "{family:?}: {outcome}");
    }
    stage.tandem.finish()
}

#[test]
fn affinity_holds_for_clients_on_loopback() -> Result<()> {
    let mut objects = web(&["web-1", "web-2", "web-3"]);
    objects[0]["spec"]["sessionAffinity"] = "ClientIP".into();
    let stage = with_loopback(&objects)?;
    for family in Ip::BOTH {
        expect(&stage, family, "answered", answered)?;
        let answers = stage.ask(stage.node(), MANY, Protocol::Tcp, (loopback(family)?, NODE_PORT))?;
        assert_eq!(answers.names().len(), 1, "{family:?}: {:?}", answers.names());
    }
    stage.tandem.finish()
}

#[test]
fn listeners_go_with_their_service_and_connections_stay() -> Result<()> {
    let mut stage = with_loopback(&web(&["web-1"]))?;
    for family in Ip::BOTH {
        expect(&stage, family, "answered", answered)?;
    }
    let to = SocketAddr::new(loopback(Ip::V4)?, NODE_PORT);
    let stream = Request::tcp(to).stream(stage.node())?;
    stage.remove("objects.yaml")?;
    for family in Ip::BOTH {
        expect(&stage, family, "refused", Outcome::refused_at_once)?;
    }
    let report = stream.stop()?;
    assert!(report.is_whole(), "{report:?}");
    stage.apply("objects.yaml", &web(&["web-3"]))?;
    for family in Ip::BOTH {
        expect(&stage, family, "answered by web-3", |outcome| {
            outcome.answered_by() == Some("web-3")
        })?;
    }
    stage.tandem.finish()
}

#[test]
fn a_service_without_endpoints_ends_connections_at_once() -> Result<()> {
    let stage = with_loopback(&web(&[]))?;
    for family in Ip::BOTH {
        let there = stage.send(stage.node(), Protocol::Tcp, (stage.node_address(1, family), NODE_PORT))?;
        assert!(there.refused_at_once(), "{there}");
        // The connection is accepted and then reset, so the client does not wait.
        expect(&stage, family, "reset", |outcome| {
            matches!(outcome, Outcome::Reset { .. })
        })?;
    }
    stage.tandem.finish()
}

#[test]
fn what_was_said_arrives_whole_both_ways_and_after_one_side_has_ended() -> Result<()> {
    const SIZE: usize = 1 << 20;
    let stage = with_loopback(&web(&["web-1", "web-3"]))?;
    for family in Ip::BOTH {
        expect(&stage, family, "answered", answered)?;
        let to = SocketAddr::new(loopback(family)?, NODE_PORT);
        let echo = stage.node().run(|| -> Result<Vec<u8>> {
            let mut stream = TcpStream::connect(to)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut writer = stream.try_clone()?;
            let writing = thread::spawn(move || {
                let bytes: Vec<u8> = (0..SIZE).map(pattern).collect();
                writer.write_all(&bytes)?;
                // The server sees the end of the client's data, and goes on sending.
                writer.shutdown(Shutdown::Write)
            });
            let mut echo = Vec::new();
            stream.read_to_end(&mut echo)?;
            writing.join().ok().context("the writer panicked")??;
            Ok(echo)
        })??;
        let greeting = echo.iter().position(|byte| *byte == b'\n').context("no greeting")?;
        let echo = &echo[greeting + 1..];
        ensure!(echo.len() == SIZE, "{family:?}: {} bytes came back", echo.len());
        assert!(
            echo.iter().enumerate().all(|(at, byte)| *byte == pattern(at)),
            "{family:?}"
        );
    }
    stage.tandem.finish()
}

fn pattern(at: usize) -> u8 {
    u8::try_from(at * 31 % 251).unwrap_or_default()
}

#[test]
fn a_port_that_somebody_else_has_is_told_once_and_taken_when_it_is_free() -> Result<()> {
    let mut stage = with_loopback(&[])?;
    let taken = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), NODE_PORT);
    let holder = stage.node().run(|| TcpListener::bind(taken))??;
    stage.apply("objects.yaml", &web(&["web-1"]))?;
    let line = stage
        .tandem
        .wait_log("cannot serve this nodePort on loopback", PATIENCE)?;
    for part in ["WARN", "shop/web", "127.0.0.1:30080", "in use"] {
        assert!(line.contains(part), "no {part} in {line}");
    }
    expect(&stage, Ip::V6, "answered", answered)?;
    drop(holder);
    expect(&stage, Ip::V4, "answered", answered)?;
    let said = stage.tandem.log();
    let said = said.iter().filter(|line| line.contains("cannot serve this nodePort"));
    assert_eq!(said.count(), 1);
    stage.tandem.finish()
}

/// CVE-2020-8558: a neighbour sends packets for 127.0.0.1 to the node's link address.
#[test]
fn a_neighbour_reaches_no_loopback_address_of_the_node() -> Result<()> {
    let stage = with_loopback(&web(&["web-1"]))?;
    for family in Ip::BOTH {
        expect(&stage, family, "answered", answered)?;
    }
    let setting = stage
        .node()
        .exec(&["sysctl", "-n", "net.ipv4.conf.all.route_localnet"])?;
    assert_eq!(setting.trim(), "0");
    // The attacker's own kernel must send what it normally never sends. So its loopback addresses are no longer its
    // own, and their route leads to the node. Node 2 is on the same link as node 1.
    let attacker = &stage.world.node(2)?.namespace;
    let link = attacker.exec(&[
        "sh",
        "-c",
        "ip -o route get 198.51.100.9 | sed 's/.* dev \\([^ ]*\\).*/\\1/'",
    ])?;
    let link = link.trim();
    let (v4, v6) = (stage.node_address(1, Ip::V4), stage.node_address(1, Ip::V6));
    attacker.sysctls(&[
        ("net/ipv4/conf/all/route_localnet", "1"),
        (&format!("net/ipv4/conf/{link}/route_localnet"), "1"),
    ])?;
    attacker.ip("route del local 127.0.0.0/8 dev lo table local\n\
         route del local 127.0.0.1 dev lo table local\n\
         route del local ::1 dev lo table local\n")?;
    attacker.ip(&format!(
        "route add 127.0.0.1/32 via {v4} dev {link}\nroute add ::1/128 via {v6} dev {link}\n"
    ))?;
    // The attacker's kernel accepts no answer from such an address. So the test watches on the node whether the node
    // answers. The node waits for the attacker to go on.
    let attack = |family: Ip| -> Result<bool> {
        let source = stage.node_address(2, family);
        let request = Request::tcp(SocketAddr::new(loopback(family)?, NODE_PORT)).from(source);
        let outcome = request.timeout(Duration::from_millis(500)).send(attacker)?;
        ensure!(outcome.timed_out(), "{family:?}: {outcome}");
        let waiting = stage.node().exec(&["ss", "-Htan", "state", "syn-recv"])?;
        Ok(waiting.contains(&format!(":{NODE_PORT}")))
    };
    let dropped = || -> Result<u64> {
        let counters = stage.node().exec(&["cat", "/proc/net/snmp6"])?;
        let errors = counters.lines().find(|counter| counter.starts_with("Ip6InHdrErrors"));
        let number = errors.and_then(|errors| errors.split_whitespace().last());
        Ok(number.context("no counter")?.parse()?)
    };
    let before = dropped()?;
    for family in Ip::BOTH {
        assert!(!attack(family)?, "{family:?}: the node answers");
    }
    // Packets for ::1 did arrive. The kernel drops them with every setting.
    assert!(dropped()? > before, "the attack over IPv6 never reached the node");
    // The attack over IPv4 is real as well: it succeeds on a node with the settings that kube-proxy's other modes ask
    // for.
    let links = stage.node().exec(&["ls", "/proc/sys/net/ipv4/conf"])?;
    for link in links.split_whitespace() {
        let setting = format!("net/ipv4/conf/{link}/route_localnet");
        stage.node().sysctls(&[(&setting, "1")])?;
    }
    assert!(attack(Ip::V4)?, "the attack never works, so it proves nothing");
    stage.tandem.finish()
}
