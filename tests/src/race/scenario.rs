//! The scenarios for Tandem, which takes its objects from a folder: what shrinks in each.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::flood::{Plan, serve};
use super::{Figures, Options, flood};
use crate::eventually;
use crate::manifests::{Folder, Policy, Service};
use crate::netns::{Namespace, feed_command};
use crate::node::PodRanges;
use crate::scratch::Scratch;
use crate::stage::{self, Ip, TARGET, bare_service, slices};
use crate::tandem::Tandem;
use crate::topology::{EXTERNAL_RANGES, SERVICE_RANGES, World};
use crate::traffic::Protocol;

const FILE: &str = "race.yaml";
const PORT: u16 = 80;
const NODE_PORT: u16 = 30_080;
/// The pods: `web-1` and `web-2` on `node1`, `web-3` on `node2`, and the pod that connects.
const PODS: [(&str, u8, u8); 4] = [("web-1", 1, 10), ("web-2", 1, 11), ("web-3", 2, 10), ("client", 1, 9)];
/// Addresses that the client pod has besides its own: 10.244.1.64 and so on, fd00:10:244:1::1:64 and so on.
const SOURCES: u8 = 48;

/// A flood and what changes meanwhile.
pub(super) struct Scenario {
    title: &'static str,
    /// Its share of all connections, in percent.
    share: u64,
    from_outside: bool,
    pub(super) plan: Plan,
    pub(super) frontends: BTreeSet<SocketAddr>,
    pub(super) right: BTreeSet<(IpAddr, IpAddr)>,
    /// The objects before the first change, after the first change and so on, in turns. The first ones are there at the
    /// end.
    turns: Vec<Vec<Value>>,
    /// Whether the objects of a turn are fewer than the ones before.
    shrinks: fn(usize) -> bool,
}

impl Scenario {
    /// A Service on its ClusterIPs, from a pod.
    pub(super) fn inside(title: &'static str, share: u64, number: u8) -> Self {
        let to: Vec<SocketAddr> = Ip::BOTH
            .map(|family| SocketAddr::new(family.cluster_ip(number), PORT))
            .into();
        Self {
            title,
            share,
            from_outside: false,
            frontends: to.iter().copied().collect(),
            right: pairs(&to, &["web-1", "web-2"]),
            plan: Plan { to, ..Plan::default() },
            turns: Vec::new(),
            shrinks: |turn| turn == 1,
        }
    }
}

/// Floods a node with Tandem, one scenario after the other, and reports each when it is done.
pub fn run(options: &Options, mut tell: impl FnMut(&str, &Figures)) -> Result<Figures> {
    let world = World::with_pods(&PODS)?;
    let node = &world.node(1)?.namespace;
    forget_closed(node)?;
    for pod in &world.pods[..3] {
        serve(&pod.namespace, TARGET, 1)?;
    }
    many_ports(&world.pod("client")?.namespace)?;
    many_ports(&world.client)?;
    add_sources(&world)?;
    refuse_strays(&world)?;
    let scratch = Scratch::new("race")?;
    let folder = Folder::new(scratch.path().join("manifests"))?;
    stage::write_world(&folder, &world)?;
    let mut tandem = Tandem::on(world.node(1)?).directory(&folder).start()?;
    tandem.wait_ready()?;
    let mut sum = Figures::default();
    for scenario in scenarios(&world) {
        let part = Options {
            connections: options.connections * scenario.share / 100,
            lasting: options.lasting * u32::try_from(scenario.share)? / 100,
            ..*options
        };
        folder.write(FILE, &scenario.turns[0])?;
        settle(node, &scenario)?;
        let client = if scenario.from_outside {
            &world.client
        } else {
            &world.pod("client")?.namespace
        };
        let change = |step: usize| {
            let turn = step % scenario.turns.len();
            match &scenario.turns[turn][..] {
                [] => folder.remove(FILE)?,
                objects => folder.write(FILE, objects)?,
            }
            Ok((scenario.shrinks)(turn))
        };
        let figures = flood(&scenario, node, client, &part, change)?;
        tell(scenario.title, &figures);
        figures.ensure_meaningful()?;
        sum.add(&figures);
    }
    tandem.finish()?;
    Ok(sum)
}

/// Floods a ClusterIP on a node without rules. The figures must then show connections that nobody translated.
pub fn run_without_rules(options: &Options) -> Result<Figures> {
    let world = World::with_pods(&PODS[3..])?;
    let scenario = Scenario::inside("a node without rules", 100, 10);
    let client = &world.pod("client")?.namespace;
    flood(&scenario, &world.node(1)?.namespace, client, options, |_| Ok(false))
}

/// Waits until the node's rules know the scenario's addresses.
fn settle(node: &Namespace, scenario: &Scenario) -> Result<()> {
    let known = || {
        let text = node.exec(&["nft", "list", "ruleset"]).ok()?;
        let has = |to: &SocketAddr| {
            let (address, port) = (to.ip().to_string(), to.port().to_string());
            text.contains(&address) && text.contains(&port)
        };
        let all = scenario.frontends.iter().all(has);
        (all && scenario.plan.to.iter().any(has)).then_some(())
    };
    eventually(Duration::from_secs(20), known).context("the first objects were not programmed")
}

/// Makes the kernel forget closed connections before their ports are used again.
pub(super) fn forget_closed(node: &Namespace) -> Result<()> {
    node.sysctls(&[("net/netfilter/nf_conntrack_tcp_timeout_close", "1")])
}

/// Gives the client many ports, so that a flood uses the same port again only late.
pub(super) fn many_ports(client: &Namespace) -> Result<()> {
    client.sysctls(&[("net/ipv4/ip_local_port_range", "1024 65535")])
}

fn scenarios(world: &World) -> Vec<Scenario> {
    let outside = Ip::BOTH.map(|family| family.external_ip(30));
    let node = world.nodes[0].addresses();
    vec![
        two_become_one(),
        one_becomes_none(),
        service_goes(),
        two_become_one_with_affinity(),
        policies(&outside, &node),
        swaps(),
    ]
}

/// A dual-stack Service with one port.
pub(super) fn plain_service(name: &str, number: u8) -> Service {
    bare_service(name, number).port("tcp", Protocol::Tcp, PORT, TARGET)
}

fn with_slices(service: Service, name: &str, pods: &[&str]) -> Vec<Value> {
    let mut objects = vec![service.build()];
    objects.extend(slices(name, pods));
    objects
}

fn two_become_one() -> Scenario {
    shrinking("two endpoints become one", 25, 10, |number| {
        plain_service("web", number)
    })
}

fn two_become_one_with_affinity() -> Scenario {
    let title = "two endpoints become one, ClientIP affinity";
    let mut scenario = shrinking(title, 15, 13, |number| plain_service("web", number).affinity(60));
    scenario.plan.from = sources();
    scenario
}

/// A Service whose ClusterIPs end in this number. It has two endpoints and one endpoint in turns.
fn shrinking(title: &'static str, share: u64, number: u8, service: fn(u8) -> Service) -> Scenario {
    let turn = |pods: &[&str]| with_slices(service(number), "web", pods);
    let both = turn(&["web-1", "web-2"]);
    Scenario {
        turns: vec![both.clone(), turn(&["web-1"]), both, turn(&["web-2"])],
        shrinks: |turn| turn % 2 == 1,
        ..Scenario::inside(title, share, number)
    }
}

fn one_becomes_none() -> Scenario {
    let turn = |pods: &[&str]| with_slices(plain_service("lonely", 11), "lonely", pods);
    Scenario {
        turns: vec![turn(&["web-1"]), turn(&[])],
        ..Scenario::inside("one endpoint becomes none", 20, 11)
    }
}

fn service_goes() -> Scenario {
    let mut scenario = Scenario::inside("a Service is removed and comes back", 10, 12);
    scenario.turns = vec![
        with_slices(plain_service("fickle", 12), "fickle", &["web-1", "web-2"]),
        Vec::new(),
    ];
    scenario.plan.away_at_times = true;
    scenario
}

/// A nodePort and an externalIP: only the local endpoint, or also one on another node.
fn policies(outside: &[IpAddr; 2], node: &[IpAddr; 2]) -> Scenario {
    let service = |policy| {
        let service = bare_service("edge", 30).node_port("tcp", Protocol::Tcp, PORT, TARGET, NODE_PORT);
        let addresses = Ip::external_ips(30);
        let service = service.external_ips(&addresses.each_ref().map(String::as_str));
        with_slices(service.external_policy(policy), "edge", &["web-1", "web-3"])
    };
    let to: Vec<SocketAddr> = outside
        .iter()
        .map(|address| SocketAddr::new(*address, PORT))
        .chain(node.iter().map(|address| SocketAddr::new(*address, NODE_PORT)))
        .collect();
    Scenario {
        title: "nodePort and externalIP, policy Cluster becomes Local",
        share: 15,
        from_outside: true,
        frontends: to.iter().copied().collect(),
        right: pairs(&to, &["web-1", "web-3"]),
        plan: Plan { to, ..Plan::default() },
        turns: vec![service(Policy::Cluster), service(Policy::Local)],
        shrinks: |turn| turn == 1,
    }
}

/// Two Services that never exist at the same time, with endpoints of their own, so that one may get the other's id. The
/// addresses are external ones: no rule drops packets to them while their Service is away.
fn swaps() -> Scenario {
    let service = |name: &str, number: u8, pod: &str| {
        let addresses = Ip::external_ips(number);
        let service = plain_service(name, number).external_ips(&addresses.each_ref().map(String::as_str));
        with_slices(service, name, &[pod])
    };
    let to = |number: u8| Ip::BOTH.map(|family| SocketAddr::new(family.external_ip(number), PORT));
    let (right, left) = (to(STRAYS[0]), to(STRAYS[1]));
    Scenario {
        title: "a Service is replaced by another one in the same change",
        share: 15,
        from_outside: true,
        // A connection to the Service that is away leaves the node unchanged.
        frontends: BTreeSet::new(),
        right: &pairs(&right, &["web-1"]) | &pairs(&left, &["web-2"]),
        plan: Plan {
            to: [right, left].concat(),
            away_at_times: true,
            ..Plan::default()
        },
        turns: vec![
            service("right", STRAYS[0], "web-1"),
            service("left", STRAYS[1], "web-2"),
        ],
        shrinks: |_| true,
    }
}

/// The external addresses of [`swaps`], by their last numbers.
const STRAYS: [u8; 2] = [21, 22];

/// Resets connections to a Service that is away as soon as they come back to the router.
fn refuse_strays(world: &World) -> Result<()> {
    let mut lines = vec![
        "add table inet strays".to_owned(),
        "add chain inet strays prerouting { type filter hook prerouting priority filter; }".to_owned(),
    ];
    for (family, number) in Ip::BOTH
        .into_iter()
        .flat_map(|family| STRAYS.map(|number| (family, number)))
    {
        lines.push(format!(
            "add rule inet strays prerouting iifname gateway {} daddr {} meta l4proto tcp reject with tcp reset",
            family.table(),
            family.external_ip(number)
        ));
    }
    // All other packets that leave a node untranslated get no answer, as in a network that does not know the address.
    for family in Ip::BOTH {
        for range in [family.of(SERVICE_RANGES), family.of(EXTERNAL_RANGES)] {
            lines.push(format!(
                "add rule inet strays prerouting iifname gateway {} daddr {range} drop",
                family.table()
            ));
        }
    }
    let text = lines.join("\n") + "\n";
    let mut command = Command::new("nft");
    command.args(["-f", "-"]);
    world.router().run(|| feed_command(&mut command, &text))??;
    Ok(())
}

fn pairs(to: &[SocketAddr], pods: &[&str]) -> BTreeSet<(IpAddr, IpAddr)> {
    let of = |to: &SocketAddr, pod: &&str| {
        let (_, node, number) = PODS.into_iter().find(|(name, ..)| name == pod)?;
        let ranges = PodRanges::of_node(node);
        let family = if to.is_ipv4() { Ip::V4 } else { Ip::V6 };
        Some((to.ip(), family.of([ranges.v4(number).into(), ranges.v6(number).into()])))
    };
    to.iter()
        .flat_map(|to| pods.iter().filter_map(move |pod| of(to, pod)))
        .collect()
}

/// The client pod's further addresses.
fn sources() -> Vec<IpAddr> {
    let number = |index: u8| (64 + index, u16::from(64 + index));
    (0..SOURCES)
        .map(number)
        .flat_map(|(v4, v6)| {
            [
                IpAddr::from([10, 244, 1, v4]),
                IpAddr::from([0xfd00, 0x10, 0x244, 1, 0, 0, 1, v6]),
            ]
        })
        .collect()
}

fn add_sources(world: &World) -> Result<()> {
    let (mut addresses, mut routes) = (String::new(), String::new());
    for source in sources() {
        let bits = if source.is_ipv4() { 32 } else { 128 };
        let unchecked = if bits == 128 { " nodad" } else { "" };
        writeln!(addresses, "addr add {source}/{bits} dev eth0{unchecked}")?;
        writeln!(routes, "route replace {source} dev pod9")?;
    }
    world.pod("client")?.namespace.ip(&addresses)?;
    world.node(1)?.namespace.ip(&routes)
}
