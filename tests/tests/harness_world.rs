//! The harness's own tests: the networks of the demo without a Tandem, manifests and rulesets. Needs root.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde_json::json;
use tandem_tests::manifests::{Folder, Policy, Service, Slice};
use tandem_tests::netns::Namespace;
use tandem_tests::nft;
use tandem_tests::scratch::Scratch;
use tandem_tests::topology::{CLIENT, World};
use tandem_tests::traffic::{Outcome, Protocol, Request, Server};

#[test]
fn everyone_reaches_every_pod_with_its_own_address() -> Result<()> {
    let start = Instant::now();
    let world = World::new()?;
    println!("made in {:.1?}", start.elapsed());
    for pod in &world.pods {
        for address in pod.addresses() {
            let _server = Server::start(&pod.namespace, &pod.name, Protocol::Tcp, (address, 8080).into())?;
            let client = (&world.client, CLIENT);
            let pods = world.pods.iter().map(|other| (&other.namespace, other.addresses()));
            for (from, sources) in pods.chain([client]) {
                let outcome = Request::tcp((address, 8080).into()).send(from)?;
                let source = sources.into_iter().find(|source| source.is_ipv4() == address.is_ipv4());
                assert_eq!(
                    outcome.answered_by(),
                    Some(pod.name.as_str()),
                    "from {}: {outcome}",
                    from.name()
                );
                assert_eq!(outcome.source(), source, "from {}: {outcome}", from.name());
            }
            for node in &world.nodes {
                let outcome = Request::tcp((address, 8080).into()).send(&node.namespace)?;
                assert_eq!(
                    outcome.answered_by(),
                    Some(pod.name.as_str()),
                    "from {}: {outcome}",
                    node.name
                );
            }
        }
    }
    Ok(())
}

#[test]
fn service_addresses_lead_the_client_to_one_node_and_nobody_else_anywhere() -> Result<()> {
    let world = World::new()?;
    let addresses = ["10.96.0.10", "203.0.113.10", "fd00:10:96::10", "2001:db8:113::10"];
    for address in addresses {
        let to = SocketAddr::new(address.parse::<IpAddr>()?, 80);
        let prefix = if to.is_ipv4() { "32" } else { "128" };
        for number in [1, 2] {
            let node = world.node(number)?;
            node.namespace.address("lo", &[&format!("{address}/{prefix}")])?;
            world.enter_by(number)?;
            let server = Server::start(&node.namespace, &node.name, Protocol::Tcp, to)?;
            let outcome = Request::tcp(to).send(&world.client)?;
            assert_eq!(outcome.answered_by(), Some(node.name.as_str()), "{to}: {outcome}");
            drop(server);
            node.namespace.ip(&format!("addr del {address}/{prefix} dev lo"))?;
        }
        let outcome = Request::tcp(to).send(&world.pod("web-3")?.namespace)?;
        assert!(matches!(outcome, Outcome::Unreachable { .. }), "{to}: {outcome}");
    }
    Ok(())
}

#[test]
fn a_pod_that_is_removed_answers_no_more() -> Result<()> {
    let mut world = World::new()?;
    let to = SocketAddr::from((world.pod("web-1")?.v4, 8080));
    let _server = Server::start(&world.pod("web-1")?.namespace, "web-1", Protocol::Tcp, to)?;
    assert_eq!(Request::tcp(to).send(&world.client)?.answered_by(), Some("web-1"));
    world.remove_pod("web-1")?;
    assert_eq!(Request::tcp(to).send(&world.client)?.answered_by(), None);
    world.add_pod("web-4", 1, 12)?;
    Ok(())
}

#[test]
fn manifests_are_written_as_documents_of_one_file() -> Result<()> {
    let scratch = Scratch::new("manifests")?;
    let folder = Folder::new(scratch.path().join("objects"))?;
    let service = Service::new("default", "web")
        .cluster_ips(&["10.96.0.10", "fd00:10:96::10"])
        .node_port("http", Protocol::Tcp, 80, 8080, 30080)
        .external_policy(Policy::Local)
        .build();
    assert_eq!(service["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
    assert_eq!(service["spec"]["type"], "NodePort");
    let slice = Slice::new("default", "web-v4", "web")
        .port("http", Protocol::Tcp, 8080)
        .ready("10.244.1.10".parse()?, "node1")
        .build();
    folder.write("web.yaml", &[service, slice])?;
    let text = std::fs::read_to_string(folder.path().join("web.yaml"))?;
    assert_eq!(text.matches("\n---\n").count(), 1, "{text}");
    assert!(text.contains("externalTrafficPolicy: Local\n"), "{text}");
    folder.remove("web.yaml")
}

#[test]
fn counters_are_read_by_service_and_a_ruleset_is_loaded_again() -> Result<()> {
    let namespace = Namespace::new("rules")?;
    namespace.exec(&[
        "nft",
        "add table ip tandem
         add map ip tandem services { typeof meta priority : meta priority; counter; }
         add chain ip tandem refuse
         add element ip tandem services { f000:0200 counter packets 3 bytes 120 comment \"default/web:http\" : f000:0201 }",
    ])?;
    let counters = nft::counters(&namespace, "ip")?;
    let counter = counters.first().context("no counter")?;
    assert_eq!((counter.id, counter.packets, counter.way), (0xf000_0200, 3, 1));
    assert_eq!(nft::connections(&namespace, "ip", "default/web:http")?, 3);
    nft::check(&namespace)?;
    assert!(nft::load("table ip tandem { chain nonsense { gibberish } }").is_err());
    Ok(())
}
