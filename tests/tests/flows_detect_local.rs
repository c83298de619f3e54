//! Which sources count as pods: by the interface through which their packets come in, and if an address belongs to a
//! pod and to the node.

use std::io::Read as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use tandem_tests::manifests::Policy;
use tandem_tests::netns::Namespace;
use tandem_tests::stage::{Ip, Stage, bare_service, slices};
use tandem_tests::traffic::{Protocol, Request};

const MANY: usize = 40;

/// A Service with local policy on its external addresses, with an endpoint on each node.
fn web() -> Vec<Value> {
    let addresses = Ip::external_ips(7);
    let service = bare_service("web", 10)
        .port("tcp", Protocol::Tcp, 80, 8080)
        .load_balancer(&addresses.each_ref().map(String::as_str))
        .external_policy(Policy::Local);
    let mut objects = vec![service.build()];
    objects.extend(slices("web", &["web-1", "web-3"]));
    objects
}

fn detected_by(mode: &str, field: &str, name: &str) -> Result<Stage> {
    Stage::with(&web(), |plan| {
        plan.setting("detectLocalMode", mode)
            .setting("detectLocal", json!({ field: name }))
    })
}

/// Checks how packets from this sender are treated: as a pod's, or as those of others.
fn expect(stage: &Stage, from: &Namespace, family: Ip, is_pod: bool) -> Result<()> {
    let own = match from {
        pod if pod.name() == stage.pod("web-2").name() => stage.pod_address("web-2", family),
        _ => stage.pod_address("web-1", family),
    };
    let inside = stage.ask(from, 5, Protocol::Tcp, (family.cluster_ip(10), 80))?;
    ensure!(
        (inside.sources() == [own]) == is_pod,
        "{family:?} ClusterIP: {:?}",
        inside.sources()
    );
    let outside = stage.ask(from, MANY, Protocol::Tcp, (family.external_ip(7), 80))?;
    let expected: &[&str] = if is_pod { &["web-1", "web-3"] } else { &["web-1"] };
    ensure!(outside.names() == expected, "{family:?} outside: {:?}", outside.names());
    Ok(())
}

#[test]
fn interfaces_by_prefix_are_pods() -> Result<()> {
    let stage = detected_by("InterfaceNamePrefix", "interfaceNamePrefix", "pod")?;
    for family in Ip::BOTH {
        expect(&stage, stage.pod("web-2"), family, true)?;
        let client = stage.ask(stage.client(), MANY, Protocol::Tcp, (family.external_ip(7), 80))?;
        ensure!(client.names() == ["web-1"], "{family:?}: {:?}", client.names());
        let client = stage.ask(stage.client(), 5, Protocol::Tcp, (family.cluster_ip(10), 80))?;
        ensure!(client.only_from(&stage.masqueraded(family)), "{:?}", client.sources());
        let node = stage.ask(stage.node(), 5, Protocol::Tcp, (family.cluster_ip(10), 80))?;
        ensure!(node.only_from(&stage.masqueraded(family)), "{:?}", node.sources());
    }
    Ok(())
}

#[test]
fn one_interface_by_name_is_pods_and_its_neighbours_are_not() -> Result<()> {
    // This is the cable of web-2. web-1 is on pod10.
    let stage = detected_by("BridgeInterface", "bridgeInterface", "pod11")?;
    for family in Ip::BOTH {
        expect(&stage, stage.pod("web-2"), family, true)?;
        let other = stage.ask(stage.pod("web-1"), MANY, Protocol::Tcp, (family.cluster_ip(10), 80))?;
        ensure!(other.only_from(&stage.masqueraded(family)), "{:?}", other.sources());
    }
    Ok(())
}

#[test]
fn a_pods_address_that_is_the_nodes_own_is_a_pods_towards_local_policies() -> Result<()> {
    let stage = Stage::new(&web())?;
    let ranges = stage.world.nodes[0].pod_ranges();
    for family in Ip::BOTH {
        // The gateway's address is inside the pods' range, and belongs to the node.
        let gateway = family.of([ranges.v4(1).into(), ranges.v6(1).into()]);
        let mut names = Vec::new();
        for _ in 0..MANY {
            let request = Request::tcp((family.external_ip(7), 80).into()).from(gateway);
            let outcome = request.send(stage.node())?;
            let answer = outcome.answer().with_context(|| format!("{family:?}: {outcome}"))?;
            ensure!(answer.source.ip() == gateway, "{family:?}: masqueraded: {answer:?}");
            names.push(answer.by.clone());
        }
        names.sort();
        names.dedup();
        ensure!(names == ["web-1", "web-3"], "{family:?}: {names:?}");
    }
    Ok(())
}

/// Sends a TCP segment that connection tracking calls invalid, and returns whether it arrived.
fn segment_arrives(stage: &Stage, family: Ip) -> Result<bool> {
    let domain = family.of([Domain::IPV4, Domain::IPV6]);
    let open = || Socket::new(domain, Type::RAW, Some(socket2::Protocol::TCP));
    let to = stage.pod_address("web-1", family);
    let server = stage.pod("web-1").run(open)?.context("listen in the pod")?;
    server.set_read_timeout(Some(Duration::from_millis(500)))?;
    let client = stage.client().run(open)?.context("a raw socket")?;
    // From port 4242 to 8080, with SYN and FIN at once and without a checksum.
    let mut segment = [0_u8; 20];
    segment[..4].copy_from_slice(&[0x10, 0x92, 0x1f, 0x90]);
    segment[12..14].copy_from_slice(&[0x50, 0x03]);
    client.send_to(&segment, &std::net::SocketAddr::new(to, 0).into())?;
    let mut buffer = [0; 2048];
    while let Ok(length) = (&server).read(&mut buffer) {
        if buffer[..length].windows(4).any(|window| window == &segment[..4]) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[test]
fn invalid_packets_are_dropped_only_where_that_is_configured() -> Result<()> {
    for drop in [false, true] {
        let stage = Stage::with(&web(), |plan| plan.own_setting("dropInvalid", drop))?;
        for family in Ip::BOTH {
            ensure!(
                segment_arrives(&stage, family)? != drop,
                "dropInvalid: {drop}, {family:?}"
            );
            expect(&stage, stage.pod("web-2"), family, true)?;
        }
    }
    Ok(())
}
