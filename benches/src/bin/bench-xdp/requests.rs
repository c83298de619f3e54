//! Connections with one request each, from outside to endpoints behind the node: through nftables, and through XDP.
//!
//! Both go the same way: the client, a node with Tandem, the endpoints, with a cable between each two of them. Each has a network and
//! an agent of its own, and they are asked in turns.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tandem_benches::questions::Question;
use tandem_benches::report::{note, print, setting};
use tandem_benches::turns::Turns;
use tandem_tests::bpffs::BpfFolder;
use tandem_tests::manifests::Slice;
use tandem_tests::netns::Namespace;
use tandem_tests::stage::{Ip, NAMESPACE, Stage, bare_service};
use tandem_tests::traffic::Protocol;

/// The node's devices: to the client, and to the endpoints.
const CABLES: [&str; 2] = ["asks", "answers"];
/// The Service's number, and its port.
const WEB: u8 = 10;
const PORT: u16 = 80;
/// Where the endpoints listen.
const TARGET: u16 = 7000;
/// How many endpoints there are: addresses of one server. XDP has 16,384 ports towards each of them, and a connection that was reset
/// keeps its port for ten seconds.
const ENDPOINTS: u8 = 16;
/// How long one turn takes.
const TURN: Duration = Duration::from_millis(500);
/// How many packets a connection has at least that the node forwards: three of each side.
const PACKETS: f64 = 6.0;

/// Who is measured, in this order.
const NFT: usize = 0;
const XDP: usize = 1;

/// A network with an agent.
struct Site {
    is_xdp: bool,
    client: Namespace,
    server: Namespace,
    stage: Stage,
    /// It goes after the agent that uses it.
    _pins: BpfFolder,
}

/// Measures both, and prints figures of each family.
pub(crate) fn measure() -> Result<()> {
    let rounds: usize = setting("ROUNDS", 11)?;
    let clients: usize = setting("THREADS", 2)?;
    note(format_args!(
        "connections with one request each, from outside through a node to {ENDPOINTS} endpoints behind it"
    ));
    let sites = [Site::new("nft")?, Site::new("xdp")?];
    for site in &sites {
        let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), TARGET);
        Question::Request.serve(&site.server, &[any], clients)?;
        site.is_ready()?;
    }
    for (family, infix) in [(Ip::V4, ""), (Ip::V6, "_ipv6")] {
        let ask = |which: usize| sites[which].ask(family, clients);
        [NFT, XDP].into_iter().try_for_each(|which| ask(which).map(drop))?;
        let before = sites[XDP].sent(family)?;
        let turns: Turns<2> = Turns::take(rounds, ask)?;
        let sent = sites[XDP].sent(family)? - before;
        for (name, which) in [("nft", NFT), ("xdp", XDP)] {
            print(&format!("cps{infix}_{name}"), format_args!("{:.0}", turns.rate(which)));
        }
        let (low, high) = turns.spread(XDP, NFT);
        print(
            &format!("cps{infix}_xdp_to_nft"),
            format_args!(
                "{:.2} # goal 1.4 or more, quartiles {low:.2} to {high:.2}",
                turns.ratio(XDP, NFT)
            ),
        );
        let least = 0.9 * PACKETS * turns.rate(XDP) * TURN.as_secs_f64() * f64::from(u32::try_from(rounds)?);
        #[expect(clippy::cast_precision_loss, reason = "there are fewer than 2^52 packets")]
        let sent = sent as f64;
        ensure!(
            sent >= least,
            "XDP sent {sent} packets, and had to send {least:.0} or more: what was measured is not XDP"
        );
    }
    Ok(())
}

impl Site {
    fn new(data_plane: &str) -> Result<Self> {
        let is_xdp = data_plane == "xdp";
        let pins = BpfFolder::new(&format!("pins-requests-{data_plane}"))?;
        let external = Ip::external_ips(WEB);
        let web = bare_service("web", WEB)
            .external_ips(&external.each_ref().map(String::as_str))
            .port("http", Protocol::Tcp, PORT, TARGET);
        let mut objects = vec![web.build()];
        objects.extend(Ip::BOTH.map(|family| {
            let name = format!("web-{}", family.of(["v4", "v6"]));
            let slice = Slice::new(NAMESPACE, &name, "web").port("http", Protocol::Tcp, TARGET);
            let add = |slice: Slice, number| slice.ready(address(1, family, 2 + number), "node2");
            (0..ENDPOINTS).fold(slice, add).build()
        }));
        let stage = Stage::with(&objects, |plan| {
            let plan = plan
                .own_setting("dataPlane", data_plane)
                .own_setting("socketLoadBalancing", "off")
                .own_setting("bpfFolder", pins.path().display().to_string());
            if is_xdp {
                plan.own_setting("xdp", json!({ "devices": CABLES }))
            } else {
                plan
            }
        })?;
        let (client, server) = (Namespace::new("asks")?, Namespace::new("answers")?);
        connect(stage.node(), 0, &client, 1)?;
        connect(stage.node(), 1, &server, ENDPOINTS)?;
        // The kernel must forget closed connections before their ports are used again, for both alike.
        stage
            .node()
            .sysctls(&[("net/netfilter/nf_conntrack_tcp_timeout_close", "1")])?;
        client.sysctls(&[("net/ipv4/ip_local_port_range", "1024 65535")])?;
        Ok(Self {
            is_xdp,
            client,
            server,
            stage,
            _pins: pins,
        })
    }

    /// Waits until everything is answered as it is measured.
    fn is_ready(&self) -> Result<()> {
        if self.is_xdp {
            self.stage.tandem.wait_outside()?;
        }
        // The first packets teach the node the MAC addresses of its neighbours.
        Ip::BOTH
            .into_iter()
            .try_for_each(|family| self.ask(family, 1).map(drop))
    }

    /// How many requests a second are answered.
    fn ask(&self, family: Ip, clients: usize) -> Result<f64> {
        let frontend = [SocketAddr::new(family.external_ip(WEB), PORT)];
        Question::Request.per_second(&self.client, &frontend, clients, TURN)
    }

    /// How many packets of a family XDP translated and sent.
    fn sent(&self, family: Ip) -> Result<u64> {
        let outside: Value = self.stage.tandem.status()?["outside"].clone();
        let sent = outside["families"][usize::from(family == Ip::V6)]["sent"].as_u64();
        sent.with_context(|| format!("the status does not say what was sent: {outside}"))
    }
}

/// Makes a cable from the node to another network, which has so many addresses and sends everything by the cable.
fn connect(node: &Namespace, cable: usize, other: &Namespace, count: u8) -> Result<()> {
    let text = |number| {
        let with_length = |family: Ip| format!("{}/{}", address(cable, family, number), family.of([24, 64]));
        Ip::BOTH.map(with_length)
    };
    let own = text(1);
    let theirs: Vec<String> = (2..2 + count).flat_map(text).collect();
    let theirs: Vec<&str> = theirs.iter().map(String::as_str).collect();
    node.cable(
        CABLES[cable],
        &own.each_ref().map(String::as_str),
        other,
        "eth0",
        &theirs,
    )?;
    // As a network card has it: packets that come have their checksums, and what XDP sends is taken.
    other.exec(&["ethtool", "-K", "eth0", "tx", "off", "gro", "on"])?;
    let via = Ip::BOTH.map(|family| format!("route add default via {}\n", address(cable, family, 1)));
    other.ip(&via.concat())
}

/// An address on a cable.
fn address(cable: usize, family: Ip, number: u8) -> IpAddr {
    let cable = if cable == 0 { 1 } else { 2 };
    match family {
        Ip::V4 => Ipv4Addr::new(198, 18, cable, number).into(),
        Ip::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0x1800, cable.into(), 0, 0, 0, number.into()).into(),
    }
}
