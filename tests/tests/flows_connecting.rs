//! Connections that began before their frontend existed. The kernel remembers them as not translated, and each repeated
//! packet renews that.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tandem_tests::conntrack;
use tandem_tests::eventually;
use tandem_tests::stage::{Ip, Stage, TARGET, bare_service, port_name, slices};
use tandem_tests::traffic::{Protocol, Request, Server};

const PORT: u16 = 8081;
const PATIENCE: Duration = Duration::from_secs(20);
const PROTOCOLS: [Protocol; 2] = [Protocol::Tcp, Protocol::Sctp];

/// A Service with an externalIP, over TCP and SCTP.
fn web(external: bool) -> Vec<Value> {
    let mut service = bare_service("web", 10);
    for protocol in PROTOCOLS {
        service = service.port(&port_name(protocol), protocol, PORT, TARGET);
    }
    if external {
        service = service.external_ips(&Ip::external_ips(10).each_ref().map(String::as_str));
    }
    let mut objects = vec![service.build()];
    objects.extend(slices("web", &["web-1"]));
    objects
}

struct Client {
    protocol: Protocol,
    from: SocketAddr,
    to: SocketAddr,
}

/// Clients of the externalIP, one for each family and protocol.
fn clients(stage: &Stage) -> Vec<Client> {
    let client = |family: Ip, protocol| Client {
        protocol,
        from: SocketAddr::new(stage.pod_address("web-2", family), 42_000),
        to: SocketAddr::new(family.external_ip(10), PORT),
    };
    let of = |family| PROTOCOLS.map(|protocol| client(family, protocol));
    Ip::BOTH.into_iter().flat_map(of).collect()
}

impl Client {
    fn connect(&self, stage: &Stage) -> Result<tandem_tests::traffic::Outcome> {
        let request = Request::new(self.protocol, self.to).from_port(self.from);
        request.timeout(Duration::from_millis(400)).send(stage.pod("web-2"))
    }

    fn entry(&self, stage: &Stage) -> Result<Option<conntrack::Entry>> {
        let entries = conntrack::of(stage.node(), self.protocol)?;
        Ok(entries
            .into_iter()
            .find(|entry| (entry.from, entry.to) == (self.from, self.to)))
    }
}

#[test]
fn a_client_that_connected_before_the_address_was_there_connects_from_the_same_port_afterwards() -> Result<()> {
    let mut stage = Stage::new(&web(false))?;
    for client in clients(&stage) {
        let outcome = client.connect(&stage)?;
        ensure!(
            outcome.answer().is_none(),
            "{} -> {}: {outcome}",
            client.from,
            client.to
        );
        let entry = client.entry(&stage)?;
        ensure!(
            entry.is_some_and(|entry| entry.with == entry.to),
            "{} {}: {entry:?}",
            client.protocol,
            client.to
        );
    }
    stage.apply("objects.yaml", &web(true))?;
    for client in clients(&stage) {
        let mut last = None;
        let answered = || {
            let outcome = client.connect(&stage).ok()?;
            let answered = outcome.answered_by() == Some("web-1");
            last = Some(outcome);
            answered.then_some(())
        };
        let result = eventually(PATIENCE, answered);
        ensure!(
            result.is_some(),
            "{} {} -> {}: {last:?}",
            client.protocol,
            client.from,
            client.to
        );
    }
    let status = stage.tandem.status()?;
    for family in [0, 1] {
        ensure!(status["families"][family]["udpFlows"]["cutConnecting"] == 2, "{status}");
    }
    Ok(())
}

#[test]
fn connections_that_somebody_answered_or_that_go_elsewhere_are_left_alone_when_a_frontend_comes() -> Result<()> {
    let mut stage = Stage::new(&web(false))?;
    // A program of the node answers on an address that becomes an externalIP a moment later. Another client connects to
    // an external address that no Service gets.
    let own: Vec<(SocketAddr, IpAddr)> = Ip::BOTH
        .map(|family| {
            (
                SocketAddr::new(stage.node_address(1, family), PORT),
                stage.pod_address("web-2", family),
            )
        })
        .into();
    let mut kept = Vec::new();
    let mut servers = Vec::new();
    for (at, from) in &own {
        servers.push(Server::start(stage.node(), "host", Protocol::Tcp, *at)?);
        let stream = Request::tcp(*at)
            .from_port(SocketAddr::new(*from, 42_001))
            .stream(stage.pod("web-2"))?;
        kept.push(stream);
    }
    let elsewhere: Vec<Client> = Ip::BOTH
        .map(|family| Client {
            protocol: Protocol::Tcp,
            from: SocketAddr::new(stage.pod_address("web-2", family), 42_002),
            to: SocketAddr::new(family.external_ip(11), PORT),
        })
        .into();
    let mut waiting = Vec::new();
    for client in &elsewhere {
        client.connect(&stage)?;
        let entry = client.entry(&stage)?;
        ensure!(entry.is_some(), "{}: no entry", client.to);
        waiting.push(entry);
    }
    let mut objects = web(true);
    let mut external: Vec<Value> = own.iter().map(|(at, _)| at.ip().to_string().into()).collect();
    external.extend(Ip::external_ips(10).map(Value::from));
    objects[0]["spec"]["externalIPs"] = external.into();
    let looks = |stage: &Stage| -> Option<u64> {
        let status = stage.tandem.status().ok()?;
        let of = |family: usize| status["families"][family]["udpFlows"]["secondLooks"].as_u64();
        Some(of(0)?.min(of(1)?))
    };
    // The check after the start comes first.
    let looked = |stage: &Stage, more: u64| {
        let looked = eventually(PATIENCE, || looks(stage).filter(|looks| *looks > more));
        looked.context("it did not look a second time")
    };
    let before = looked(&stage, 0)?;
    stage.apply("objects.yaml", &objects)?;
    looked(&stage, before)?;
    for stream in kept {
        let report = stream.stop()?;
        ensure!(report.broken.is_none() && report.sent > 0, "{report:?}");
    }
    for (client, entry) in elsewhere.iter().zip(waiting) {
        ensure!(client.entry(&stage)? == entry, "{}: {entry:?} is gone", client.to);
    }
    Ok(())
}
