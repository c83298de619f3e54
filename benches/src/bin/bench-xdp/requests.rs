//! Connections with one request each, from outside to endpoints on another node: through nftables, and through XDP.
//!
//! Both go the same way: client, router, node with Tandem, router, the endpoints' node, pod. Each has a network and an agent of its
//! own, and they are asked in turns.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tandem_benches::questions::Question;
use tandem_benches::report::{note, print, setting};
use tandem_benches::turns::Turns;
use tandem_tests::bpffs::BpfFolder;
use tandem_tests::manifests::Slice;
use tandem_tests::netns::Namespace;
use tandem_tests::stage::{Ip, NAMESPACE, Stage, bare_service};
use tandem_tests::traffic::Protocol;

/// The pod that serves. It is on the other node.
const POD: &str = "web-3";
/// The Service's number, and its port.
const WEB: u8 = 10;
const PORT: u16 = 80;
/// Where the pod listens.
const TARGET: u16 = 7000;
/// How many endpoints there are: addresses of the pod. XDP has 16,384 ports towards each of them, and a connection that was reset
/// keeps its port for ten seconds.
const ENDPOINTS: u8 = 16;
/// How long one turn takes.
const TURN: Duration = Duration::from_millis(500);

/// Who is measured, in this order.
const NFT: usize = 0;
const XDP: usize = 1;

/// A network with an agent.
struct Site {
    is_xdp: bool,
    stage: Stage,
    /// It goes after the agent that uses it.
    _pins: BpfFolder,
}

/// Measures both, and prints figures of each family.
pub(crate) fn measure() -> Result<()> {
    let rounds: usize = setting("ROUNDS", 11)?;
    let clients: usize = setting("THREADS", 2)?;
    note(format_args!(
        "connections with one request each, from outside through a node to {ENDPOINTS} endpoints on another one"
    ));
    let sites = [Site::new("nft")?, Site::new("xdp")?];
    for site in &sites {
        let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), TARGET);
        Question::Request.serve(site.stage.pod(POD), &[any], clients)?;
        site.is_ready()?;
    }
    for (family, infix) in [(Ip::V4, ""), (Ip::V6, "_ipv6")] {
        let frontend = [SocketAddr::new(family.external_ip(WEB), PORT)];
        let ask = |which: usize, lasting| {
            let from: &Namespace = sites[which].stage.client();
            Question::Request.per_second(from, &frontend, clients, lasting)
        };
        let before = sites[XDP].sent(family)?;
        [NFT, XDP]
            .into_iter()
            .try_for_each(|which| ask(which, TURN).map(drop))?;
        let turns: Turns<2> = Turns::take(rounds, |which| ask(which, TURN))?;
        let sent = sites[XDP].sent(family)? - before;
        let figure = |name: &str, value| print(&format!("cps{infix}_{name}"), format_args!("{value:.0}"));
        figure("nft", turns.rate(NFT));
        figure("xdp", turns.rate(XDP));
        let (low, high) = turns.spread(XDP, NFT);
        print(
            &format!("cps{infix}_xdp_to_nft"),
            format_args!(
                "{:.2} # goal 1.4 or more, quartiles {low:.2} to {high:.2}",
                turns.ratio(XDP, NFT)
            ),
        );
        note(format_args!("XDP sent {sent} packets of them"));
        // Each connection has at least three packets of the client, and three of the endpoint.
        let least = 0.9 * 6.0 * turns.rate(XDP) * TURN.as_secs_f64() * f64::from(u32::try_from(rounds)?);
        #[expect(clippy::cast_precision_loss, reason = "there are fewer than 2^52 packets")]
        let sent = sent as f64;
        ensure!(
            sent >= least,
            "XDP sent {sent} packets, and had to send at least {least:.0}: what was measured is not XDP"
        );
    }
    Ok(())
}

impl Site {
    fn new(data_plane: &str) -> Result<Self> {
        let pins = BpfFolder::new(&format!("pins-requests-{data_plane}"))?;
        let external = Ip::BOTH.map(|family| family.external_ip(WEB).to_string());
        let web = bare_service("web", WEB)
            .external_ips(&external.each_ref().map(String::as_str))
            .port("http", Protocol::Tcp, PORT, TARGET);
        let mut objects = vec![web.build()];
        objects.extend(Ip::BOTH.map(|family| {
            let name = format!("web-{}", family.of(["v4", "v6"]));
            let slice = Slice::new(NAMESPACE, &name, "web").port("http", Protocol::Tcp, TARGET);
            let add = |slice: Slice, number| slice.ready(endpoint(family, number), "node2");
            (0..ENDPOINTS).fold(slice, add).build()
        }));
        let stage = Stage::with(&objects, |plan| {
            let plan = plan
                .own_setting("dataPlane", data_plane)
                .own_setting("socketLoadBalancing", "off")
                .own_setting("bpfFolder", pins.path().display().to_string());
            match data_plane {
                "xdp" => plan.own_setting("xdp", serde_json::json!({ "devices": ["eth0"] })),
                _ => plan,
            }
        })?;
        stage.world.ready_for_xdp()?;
        let (node, pod) = (&stage.world.node(2)?.namespace, stage.pod(POD));
        // The kernel must forget closed connections before their ports are used again, for all alike.
        for namespace in [stage.node(), node] {
            namespace.sysctls(&[("net/netfilter/nf_conntrack_tcp_timeout_close", "1")])?;
        }
        stage
            .client()
            .sysctls(&[("net/ipv4/ip_local_port_range", "1024 65535")])?;
        for family in Ip::BOTH {
            let own = stage.pod_address(POD, family);
            for address in (0..ENDPOINTS).map(|number| endpoint(family, number)) {
                if address == own {
                    continue;
                }
                let bits = family.of([32, 128]);
                pod.ip(&format!("addr add {address}/{bits} dev eth0 nodad"))?;
                node.ip(&format!("route replace {address} dev pod10"))?;
            }
        }
        Ok(Self {
            is_xdp: data_plane == "xdp",
            stage,
            _pins: pins,
        })
    }

    /// Waits until everything is answered as it is measured.
    fn is_ready(&self) -> Result<()> {
        if self.is_xdp {
            self.stage.tandem.wait_outside()?;
        }
        // The first packets teach the nodes the MAC addresses of their neighbours.
        for family in Ip::BOTH {
            let frontend = [SocketAddr::new(family.external_ip(WEB), PORT)];
            Question::Request.per_second(self.stage.client(), &frontend, 1, TURN)?;
        }
        Ok(())
    }

    /// The status of packets from outside.
    fn outside(&self) -> Result<Value> {
        Ok(self.stage.tandem.status()?["outside"].clone())
    }

    /// How many packets of a family XDP translated and sent.
    fn sent(&self, family: Ip) -> Result<u64> {
        let outside = self.outside()?;
        let sent = outside["families"][usize::from(family == Ip::V6)]["sent"].as_u64();
        sent.with_context(|| format!("the status does not say what was sent: {outside}"))
    }
}

/// An endpoint's address.
fn endpoint(family: Ip, number: u8) -> IpAddr {
    let ranges = tandem_tests::node::PodRanges::of_node(2);
    let last = 10 + number;
    family.of([ranges.v4(last).into(), ranges.v6(last).into()])
}
