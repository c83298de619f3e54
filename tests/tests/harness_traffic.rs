//! The harness's own tests: namespaces, clients and servers. Needs root; touches nothing outside its namespaces.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tandem_tests::netns::Namespace;
use tandem_tests::traffic::{Outcome, Protocol, Request, Server};

const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

struct Pair {
    client: Namespace,
    server: Namespace,
}

impl Pair {
    fn new() -> Result<Self> {
        let (client, server) = (Namespace::new("client")?, Namespace::new("server")?);
        client.cable(
            "eth0",
            &["192.0.2.1/24", "2001:db8::1/64"],
            &server,
            "eth0",
            &["192.0.2.2/24", "2001:db8::2/64"],
        )?;
        Ok(Self { client, server })
    }
}

fn addresses(port: u16) -> [SocketAddr; 2] {
    let v4 = Ipv4Addr::new(192, 0, 2, 2);
    let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
    [(v4, port).into(), (v6, port).into()]
}

#[test]
fn a_namespace_is_gone_when_it_is_dropped() -> Result<()> {
    let namespace = Namespace::new("short")?;
    let path = Path::new("/run/netns").join(namespace.name());
    assert!(path.exists());
    assert!(namespace.exec(&["ip", "-o", "link"])?.contains("lo"));
    drop(namespace);
    assert!(!path.exists());
    Ok(())
}

#[test]
fn a_program_that_fails_says_why() -> Result<()> {
    let namespace = Namespace::new("wrong")?;
    let error = namespace
        .ip("addr add nonsense dev lo")
        .err()
        .context("an address that is none was taken")?;
    assert!(format!("{error:#}").contains("nonsense"), "{error:#}");
    Ok(())
}

#[test]
fn a_process_that_is_killed_leaves_no_namespace() -> Result<()> {
    // This starts the test's own program again. It runs the test below, which waits to be killed.
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--ignored", "--exact", "waits_to_be_killed", "--test-threads=1"])
        .stdout(Stdio::null())
        .spawn()?;
    let path = |name: &str| Path::new("/run/netns").join(format!("tdm-{}-0-{name}", child.id()));
    let victim = path("victim");
    let appeared = wait_until(|| victim.exists());
    child.kill()?;
    child.wait()?;
    assert!(appeared, "it never made its namespace");
    assert!(wait_until(|| !victim.exists()), "{} is still there", victim.display());
    Ok(())
}

#[test]
#[ignore = "run by a_process_that_is_killed_leaves_no_namespace"]
fn waits_to_be_killed() -> Result<()> {
    let namespace = Namespace::new("victim")?;
    let _sleeper = namespace.spawn(Command::new("sleep").arg("60"))?;
    thread::sleep(Duration::from_mins(1));
    Ok(())
}

#[test]
fn every_protocol_says_who_answered_and_which_source_it_saw() -> Result<()> {
    let pair = Pair::new()?;
    let _servers = Server::start_all(&pair.server, "web-1", &PROTOCOLS, &addresses(8080))?;
    for (to, source) in addresses(8080).into_iter().zip(["192.0.2.1", "2001:db8::1"]) {
        for protocol in PROTOCOLS {
            let outcome = Request::new(protocol, to).send(&pair.client)?;
            assert_eq!(outcome.answered_by(), Some("web-1"), "{protocol} {to}: {outcome}");
            assert_eq!(outcome.source(), Some(source.parse()?), "{protocol} {to}: {outcome}");
        }
    }
    Ok(())
}

#[test]
fn a_request_can_choose_its_source_address_and_port() -> Result<()> {
    let pair = Pair::new()?;
    pair.client.address("eth0", &["192.0.2.7/24"])?;
    let _servers = Server::start_all(&pair.server, "web-1", &PROTOCOLS, &addresses(8080)[..1])?;
    for protocol in PROTOCOLS {
        let from = "192.0.2.7:4321".parse()?;
        let outcome = Request::new(protocol, addresses(8080)[0])
            .from_port(from)
            .send(&pair.client)?;
        assert_eq!(
            outcome.answer().map(|answer| answer.source),
            Some(from),
            "{protocol}: {outcome}"
        );
    }
    Ok(())
}

#[test]
fn refused_and_dropped_are_told_apart() -> Result<()> {
    let pair = Pair::new()?;
    pair.server.exec(&[
        "nft",
        "add table inet wall; add chain inet wall input { type filter hook input priority 0; };
         add rule inet wall input th dport 81 drop;
         add rule inet wall input meta l4proto tcp th dport 82 reject with tcp reset;
         add rule inet wall input th dport 82 reject;",
    ])?;
    for protocol in PROTOCOLS {
        for (to, rejected) in addresses(81).into_iter().zip(addresses(82)) {
            let dropped = Request::new(protocol, to)
                .timeout(Duration::from_millis(200))
                .send(&pair.client)?;
            assert!(dropped.timed_out(), "{protocol} {to}: {dropped}");
            let refused = Request::new(protocol, rejected).send(&pair.client)?;
            assert!(refused.refused_at_once(), "{protocol} {rejected}: {refused}");
        }
    }
    Ok(())
}

#[test]
fn an_address_without_a_route_is_unreachable() -> Result<()> {
    let pair = Pair::new()?;
    for to in ["203.0.113.1:80", "[2001:db8:113::1]:80"] {
        let outcome = Request::tcp(to.parse()?).send(&pair.client)?;
        assert!(matches!(outcome, Outcome::Unreachable { .. }), "{to}: {outcome}");
    }
    Ok(())
}

#[test]
fn requests_in_the_background_are_counted_by_kind() -> Result<()> {
    let pair = Pair::new()?;
    let server = Server::start(&pair.server, "web-1", Protocol::Tcp, addresses(8080)[0])?;
    let repeat = Request::tcp(server.address())
        .interval(Duration::ZERO)
        .repeat(&pair.client)?;
    repeat.wait_for(1000, Duration::from_secs(20))?;
    drop(server);
    repeat.wait_for(10, Duration::from_secs(20))?;
    let tally = repeat.stop()?;
    println!("{tally}");
    assert!(tally.answered["web-1"] >= 1000, "{tally}");
    assert!(tally.failed["refused"] >= 9, "{tally}");
    assert!(tally.failures[0].0 > Duration::ZERO, "{tally}");
    Ok(())
}

#[test]
fn a_stream_notices_when_its_server_goes() -> Result<()> {
    let pair = Pair::new()?;
    let server = Server::start(&pair.server, "web-1", Protocol::Tcp, addresses(8080)[1])?;
    let whole = Request::tcp(server.address()).stream(&pair.client)?;
    assert_eq!(whole.by(), "web-1");
    thread::sleep(Duration::from_millis(100));
    let report = whole.stop()?;
    assert!(report.is_whole() && report.sent > 5, "{report}");

    let cut = Request::tcp(server.address()).stream(&pair.client)?;
    drop(server);
    thread::sleep(Duration::from_millis(200));
    let report = cut.stop()?;
    assert!(report.broken.is_some(), "{report}");
    Ok(())
}

fn wait_until(condition: impl Fn() -> bool) -> bool {
    (0..500).any(|_| {
        thread::sleep(Duration::from_millis(10));
        condition()
    })
}
