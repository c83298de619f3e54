//! What the agent can do for which a program might need rights, each as a question with real packets or real listings.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::eventually;
use crate::manifests::Policy;
use crate::netns::feed_command;
use crate::nft;
use crate::stage::{Ip, Stage, bare_service, node_port_service, port_name, service, slices};
use crate::tandem::Plan;
use crate::traffic::{self, Protocol, Request};

use super::ask::{answered, every_family};
use super::inside::Inside;
use super::outside;

const PATIENCE: Duration = Duration::from_secs(10);
const NODE_PORT: u16 = 30_080;
const UDP_PORT: u16 = 30_053;
const HEALTH_PORT: u16 = 31_000;

/// Something that users rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// The agent owns its tables, so that no other program can change them.
    OwnTables,
    /// One large change is one transaction.
    LargeChanges,
    /// ClusterIPs.
    ClusterIps,
    /// nodePorts at the node's addresses.
    NodePorts,
    /// nodePorts at 127.0.0.1 and ::1.
    LoopbackNodePorts,
    /// Health check nodePorts.
    HealthChecks,
    /// `/healthz` of the node.
    Healthz,
    /// Routes of the ranges of ClusterIPs.
    ServiceRoutes,
    /// UDP flows whose endpoint has gone are cut.
    UdpFlows,
    /// The tables that a kube-proxy left are removed.
    KubeProxyTables,
    /// A change of another program's routes is noticed, and the route comes back.
    RouteWatch,
    /// The tables survive a restart, and are taken over.
    Restart,
    /// Sockets of the node and of its pods are translated, also after a restart. Only with `dataPlane: xdp`.
    Sockets,
    /// Packets from outside pass in XDP, once an init container has reserved their ports. Only with `xdp.devices`.
    Outside,
}

impl Feature {
    /// All of them. After the agent was restarted, the programs in the kernel are tried.
    pub const ALL: [Self; 14] = [
        Self::OwnTables,
        Self::LargeChanges,
        Self::ClusterIps,
        Self::NodePorts,
        Self::LoopbackNodePorts,
        Self::HealthChecks,
        Self::Healthz,
        Self::ServiceRoutes,
        Self::UdpFlows,
        Self::KubeProxyTables,
        Self::RouteWatch,
        Self::Restart,
        Self::Sockets,
        Self::Outside,
    ];

    /// Whether programs in the kernel do it, which the chart asks for with `dataPlane: xdp` alone.
    pub(super) fn is_in_kernel(self) -> bool {
        matches!(self, Self::Sockets | Self::Outside)
    }

    /// Whether it works.
    pub(super) fn check(self, stage: &mut Stage, inside: Option<&Inside>) -> Result<()> {
        match self {
            Self::OwnTables => own_tables(stage),
            Self::LargeChanges => large_changes(stage),
            Self::ClusterIps => {
                every_family(|family| answered(stage, stage.client(), (family.cluster_ip(10), 80).into()))
            }
            Self::NodePorts => every_family(|family| {
                answered(
                    stage,
                    stage.client(),
                    SocketAddr::new(stage.node_address(1, family), NODE_PORT),
                )
            }),
            Self::LoopbackNodePorts => every_family(|family| {
                let here = family.of(["127.0.0.1", "::1"]).parse()?;
                answered(stage, stage.node(), SocketAddr::new(here, NODE_PORT))
            }),
            Self::HealthChecks => every_family(|family| page(stage, family, HEALTH_PORT, "/")),
            Self::Healthz => every_family(|family| page(stage, family, 10_256, "/healthz")),
            Self::ServiceRoutes => routes(stage),
            Self::UdpFlows => udp_flows(stage),
            Self::KubeProxyTables => kube_proxy_tables(stage),
            Self::RouteWatch => {
                stage.node().exec(&["ip", "route", "flush", "table", "7473"])?;
                routes(stage)
            }
            Self::Restart => {
                stage.tandem.kill()?;
                stage.tandem.restart()?;
                stage.tandem.wait_ready()?;
                every_family(|family| answered(stage, stage.client(), (family.cluster_ip(10), 80).into()))
            }
            Self::Sockets => inside.context("dataPlane is nft")?.check(stage),
            Self::Outside => outside::check(stage),
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OwnTables => "tables of its own",
            Self::LargeChanges => "large changes in one transaction",
            Self::ClusterIps => "ClusterIPs",
            Self::NodePorts => "nodePorts",
            Self::LoopbackNodePorts => "nodePorts on loopback addresses",
            Self::HealthChecks => "health check nodePorts",
            Self::Healthz => "/healthz",
            Self::ServiceRoutes => "routes of Service ranges",
            Self::UdpFlows => "cutting UDP flows",
            Self::KubeProxyTables => "removing what kube-proxy left",
            Self::RouteWatch => "keeping routes",
            Self::Restart => "restart",
            Self::Sockets => "socket load balancing",
            Self::Outside => "packets from outside in XDP (xdp.devices)",
        })
    }
}

/// Objects that use every feature.
pub(super) fn objects() -> Vec<Value> {
    let dns = bare_service("dns", 11).node_port(
        &port_name(Protocol::Udp),
        Protocol::Udp,
        80,
        crate::stage::TARGET,
        UDP_PORT,
    );
    let checked = service("checked", 12)
        .load_balancer(&[])
        .external_policy(Policy::Local)
        .spec("healthCheckNodePort", HEALTH_PORT);
    let mut objects = vec![
        node_port_service("web", 10, NODE_PORT).build(),
        dns.build(),
        checked.build(),
    ];
    objects.extend(outside::objects());
    for name in ["web", "dns", "checked"] {
        objects.extend(slices(name, &["web-1"]));
    }
    objects
}

/// Settings that switch every feature on.
pub(super) fn settings(plan: Plan) -> Plan {
    plan.own_setting("nodePortLoopback", true)
        .own_setting("serviceRoutes", true)
}

/// Whether the node answers this page with 200.
fn page(stage: &Stage, family: Ip, port: u16, path: &str) -> Result<()> {
    let to = SocketAddr::new(stage.node_address(1, family), port);
    let answers = || traffic::page::probe(stage.client(), to, path).ok();
    eventually(PATIENCE, answers).with_context(|| format!("{to}{path} does not answer with 200"))
}

fn own_tables(stage: &Stage) -> Result<()> {
    for family in nft::FAMILIES {
        let refused = stage.node().exec(&["nft", "flush", "table", family, "tandem"]).is_err();
        ensure!(refused, "another program could flush table {family} tandem");
    }
    Ok(())
}

fn large_changes(stage: &Stage) -> Result<()> {
    let log = stage.tandem.log();
    let small = log.iter().find(|line| line.contains("no large socket buffer"));
    ensure!(small.is_none(), "{small:?}");
    Ok(())
}

fn routes(stage: &Stage) -> Result<()> {
    let there = || {
        let [v4, v6] = ["-4", "-6"].map(|family| stage.node().exec(&["ip", family, "route", "show", "table", "all"]));
        let there = v4.ok()?.contains("10.96.0.0/12 dev lo") && v6.ok()?.contains("fd00:10:96::/112 dev lo");
        there.then_some(())
    };
    eventually(PATIENCE, there).context("a Service range has no route to lo")
}

/// Two clients keep their ports. Their endpoint is exchanged, so only a cut lets them reach the new one.
fn udp_flows(stage: &mut Stage) -> Result<()> {
    let by = |stage: &Stage, family: Ip| -> Result<Option<String>> {
        let from = SocketAddr::new(stage.pod_address("web-2", family), 40_053);
        let request = Request::udp((family.cluster_ip(11), 80).into()).from_port(from);
        let outcome = request.timeout(Duration::from_millis(400)).send(stage.pod("web-2"))?;
        Ok(outcome.answered_by().map(str::to_owned))
    };
    for family in Ip::BOTH {
        ensure!(
            by(stage, family)?.as_deref() == Some("web-1"),
            "{family:?}: web-1 does not answer"
        );
    }
    let mut objects = objects();
    objects.retain(|object| object["metadata"]["labels"]["kubernetes.io/service-name"] != "dns");
    objects.extend(slices("dns", &["web-3"]));
    stage.apply("objects.yaml", &objects)?;
    every_family(|family| {
        let cut = || by(stage, family).ok().flatten().filter(|name| name == "web-3");
        eventually(PATIENCE, cut)
            .map(drop)
            .context("the client still has the endpoint that is gone")
    })
}

/// Tables appear as a kube-proxy leaves them, and go.
fn kube_proxy_tables(stage: &Stage) -> Result<()> {
    let rules = nft::FAMILIES
        .map(|family| format!("table {family} kube-proxy {{\n chain services {{\n }}\n}}\n"))
        .concat();
    let mut command = std::process::Command::new("nft");
    command.args(["-f", "-"]);
    stage.node().run(|| feed_command(&mut command, &rules))??;
    let gone = || {
        let tables = stage.node().exec(&["nft", "list", "tables"]).ok()?;
        (!tables.contains("kube-proxy")).then_some(())
    };
    // For some seconds, the agent leaves the health check address to a kube-proxy that might have made them.
    eventually(Duration::from_secs(20), gone).context("tables that nobody keeps are still there")
}
