//! The world of `make xdp-switch`: two nodes, pods that serve, a pod that asks, and the agent of the first node.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::bpffs::BpfFolder;
use crate::conntrack;
use crate::eventually;
use crate::fleet::TARGET;
use crate::manifests::{self, Folder, Service, Slice};
use crate::netns::Namespace;
use crate::node::Pod;
use crate::parity::Responder;
use crate::scratch::Scratch;
use crate::stage::Ip;
use crate::tandem::Tandem;
use crate::topology::World;
use crate::traffic::Protocol;

/// The endpoints of the Service that never changes.
pub(super) const WEB: [&str; 3] = ["web-1", "web-2", "web-3"];
/// The port for connections that stay open.
pub(super) const LONG_PORT: u16 = 7000;
/// Who asks, besides the pod: a process of the node.
pub(super) const NODE: &str = "the node";
/// The pods of which one is the endpoint of the Service that changes.
const SHIFT: [&str; 2] = ["shift-1", "shift-2"];
const NODE_PORT: u16 = 30080;
/// How long a change may take. The machine is busy.
const PATIENCE: Duration = Duration::from_secs(40);
const SHIFT_FILE: &str = "shift.yaml";

/// Everything. The parts are dropped in this order.
pub(super) struct Site {
    pub(super) tandem: Tandem,
    pub(super) folder: Folder,
    _servers: Vec<Responder>,
    pub(super) world: World,
    pins: BpfFolder,
    /// Which of [`SHIFT`] is the endpoint.
    shifted: usize,
    _scratch: Scratch,
}

impl Site {
    /// Builds it. The agent serves by nftables alone.
    pub(super) fn new() -> Result<Self> {
        let mut world = World::with_pods(&[
            (WEB[0], 1, 10),
            (WEB[1], 1, 11),
            (WEB[2], 2, 10),
            (SHIFT[0], 1, 12),
            (SHIFT[1], 2, 12),
            ("shell", 1, 20),
        ])?;
        world.give_cgroups()?;
        let scratch = Scratch::new("switch")?;
        let folder = Folder::new(scratch.path().join("manifests"))?;
        let mut objects: Vec<Value> = world.nodes.iter().map(manifests::node).collect();
        objects.push(manifests::service_cidr());
        folder.write("cluster.yaml", &objects)?;
        folder.write("services.yaml", &services(&world)?)?;
        let pins = BpfFolder::new("switch-pins")?;
        // UDP sockets that nftables serves stay with it for as long as the kernel remembers their flows.
        world.node(1)?.namespace.sysctls(&[
            ("net/netfilter/nf_conntrack_udp_timeout", "2"),
            ("net/netfilter/nf_conntrack_udp_timeout_stream", "2"),
        ])?;
        let plan = Tandem::on(world.node(1)?).directory(&folder);
        let plan = plan.sockets(world.groups(1)?, &pins).own_setting("dataPlane", "nft");
        let mut site = Self {
            _servers: serve(&world)?,
            tandem: plan.start()?,
            folder,
            world,
            pins,
            shifted: 0,
            _scratch: scratch,
        };
        site.write_shift(0)?;
        site.tandem.wait_ready()?;
        site.wait_shifted()?;
        Ok(site)
    }

    /// Who asks, and from where.
    pub(super) fn clients(&self) -> Result<[(&'static str, Namespace); 2]> {
        let pod = &self.world.pod("shell")?.namespace;
        Ok([(NODE, self.node()?.clone()), ("a pod", pod.clone())])
    }

    pub(super) fn node(&self) -> Result<&Namespace> {
        Ok(&self.world.node(1)?.namespace)
    }

    /// The addresses of the Service that never changes.
    pub(super) fn web(&self, family: Ip) -> Result<Vec<SocketAddr>> {
        let node = family.of(self.world.node(1)?.addresses());
        Ok(vec![
            SocketAddr::new(family.cluster_ip(10), 80),
            SocketAddr::new(node, NODE_PORT),
        ])
    }

    /// The address for a connection that stays open.
    pub(super) fn long(number: usize) -> SocketAddr {
        SocketAddr::new(Ip::BOTH[number % 2].cluster_ip(10), LONG_PORT)
    }

    /// The address of the Service that changes.
    pub(super) fn shift_address(family: Ip) -> SocketAddr {
        SocketAddr::new(family.cluster_ip(11), 80)
    }

    /// Where the programs and maps are pinned.
    pub(super) fn pins(&self) -> &Path {
        self.pins.path()
    }

    /// Kubelet's folder.
    pub(super) fn pods_folder(&self) -> Result<PathBuf> {
        Ok(self.world.groups(1)?.path().join("kubepods"))
    }

    /// Changes `dataPlane` while the agent runs, and waits until it has an effect.
    pub(super) fn turn(&mut self, plane: &str) -> Result<()> {
        self.tandem.change_own_setting("dataPlane", plane)?;
        if plane == "xdp" {
            return self.tandem.wait_sockets();
        }
        self.wait_state("ending")
    }

    /// How many connections that stay open sockets took so far. It begins anew if the maps do.
    pub(super) fn long_by_sockets(&self) -> Result<u64> {
        self.by_sockets(|port| port == u64::from(LONG_PORT))
    }

    /// The same for all connections.
    pub(super) fn taken_by_sockets(&self) -> Result<u64> {
        self.by_sockets(|_| true)
    }

    fn by_sockets(&self, is_meant: impl Fn(u64) -> bool) -> Result<u64> {
        let text = self.tandem.command(&["services", "-n", "default", "-o", "json"])?;
        let list: Value = serde_json::from_str(&text).context("read what services prints")?;
        let each = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
        let ports = each(&list, "items")
            .into_iter()
            .flat_map(|service| each(&service, "ports"))
            .filter(|port| port["port"].as_u64().is_some_and(&is_meant));
        let families = ports.flat_map(|port| each(&port, "families"));
        Ok(families
            .filter_map(|family| family["connections"]["sockets"].as_u64())
            .sum())
    }

    /// How many TCP connections to frontends, without those that stay open, the kernel remembers as nftables translated them. It
    /// forgets one ten seconds after its end.
    pub(super) fn translated_by_nftables(&self) -> Result<usize> {
        let mut frontends = Vec::new();
        for family in Ip::BOTH {
            frontends.extend(self.web(family)?);
            frontends.push(Self::shift_address(family));
        }
        let flows = conntrack::of(self.node()?, Protocol::Tcp)?;
        Ok(flows.iter().filter(|flow| frontends.contains(&flow.to)).count())
    }

    /// Whether the status gives a reason with these words why sockets do not answer.
    pub(super) fn says(&self, words: &str) -> bool {
        let status = self.tandem.status().unwrap_or_default();
        status["sockets"]["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains(words))
    }

    /// Waits until sockets are in this state.
    pub(super) fn wait_state(&self, state: &str) -> Result<()> {
        let is_so = || (self.tandem.status().ok()?["sockets"]["state"] == json!(state)).then_some(());
        eventually(PATIENCE, is_so).with_context(|| format!("sockets are not {state} after {PATIENCE:?}"))
    }

    /// Starts the agent again, and waits until it does everything that it did before.
    pub(super) fn restart(&mut self) -> Result<()> {
        self.tandem.restart()?;
        self.tandem.wait_ready()?;
        self.tandem.wait_sockets()
    }

    /// The present endpoint of the Service that changes.
    pub(super) fn shifted_to(&self) -> &'static str {
        SHIFT[self.shifted]
    }

    /// Exchanges the endpoint, without waiting for anybody.
    pub(super) fn exchange(&mut self) -> Result<()> {
        self.write_shift(1 - self.shifted)
    }

    /// The endpoint that was there before the last change.
    pub(super) fn shifted_from(&self) -> &'static str {
        SHIFT[1 - self.shifted]
    }

    fn write_shift(&mut self, to: usize) -> Result<()> {
        self.shifted = to;
        let service = Service::new("default", "shift").cluster_ips(&addresses(11).each_ref().map(String::as_str));
        let service = PORTS.iter().fold(service, |service, (name, protocol)| {
            service.port(name, *protocol, 80, TARGET)
        });
        let mut objects = vec![service.build()];
        objects.extend(slices(
            &self.world,
            "shift",
            &[SHIFT[to]],
            &PORTS.map(|(name, of)| (name, of, TARGET)),
        )?);
        self.folder.write(SHIFT_FILE, &objects)
    }

    /// Waits until the tables have the present endpoint alone, and until the agent says so. The agent says it once both
    /// data planes have it.
    pub(super) fn wait_shifted(&self) -> Result<()> {
        eventually(PATIENCE, || self.is_shifted().ok()?.then_some(()))
            .with_context(|| format!("the endpoint of a Service was not exchanged in {PATIENCE:?}"))
    }

    /// Whether the last change is programmed.
    pub(super) fn is_shifted(&self) -> Result<bool> {
        for family in Ip::BOTH {
            let elements = self
                .node()?
                .exec(&["nft", "list", "map", family.table(), "tandem", "endpoints"])?;
            let has = |name: &str| -> Result<bool> {
                let address = family.of(self.world.pod(name)?.addresses());
                Ok(elements.contains(&format!("{address} . ")))
            };
            if has(self.shifted_from())? || !has(SHIFT[self.shifted])? {
                return Ok(false);
            }
        }
        let text = self
            .tandem
            .command(&["services", "shift", "-n", "default", "-o", "json"])?;
        let service: Value = serde_json::from_str(&text).context("read what services prints")?;
        let pod = self.world.pod(SHIFT[self.shifted])?;
        let ports = service["ports"].as_array().context("no ports")?;
        let families = ports
            .iter()
            .flat_map(|port| port["families"].as_array().into_iter().flatten());
        let wanted = pod
            .addresses()
            .map(|address| json!([SocketAddr::new(address, TARGET).to_string()]));
        let mut count = 0;
        let all = families
            .inspect(|_| count += 1)
            .all(|family| wanted.contains(&family["all"]["endpoints"]));
        Ok(all && count == 2 * PORTS.len())
    }

    /// Ends the agent, and checks what it logged.
    pub(super) fn finish(self) -> Result<()> {
        self.tandem.finish()
    }
}

const PORTS: [(&str, Protocol); 2] = [("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];

fn addresses(number: u8) -> [String; 2] {
    Ip::BOTH.map(|family| family.cluster_ip(number).to_string())
}

/// The Services that never change.
fn services(world: &World) -> Result<Vec<Value>> {
    let service = Service::new("default", "web").cluster_ips(&addresses(10).each_ref().map(String::as_str));
    let service = PORTS.iter().fold(service, |service, (name, protocol)| {
        service.node_port(name, *protocol, 80, TARGET, NODE_PORT)
    });
    let service = service.node_port("long", Protocol::Tcp, LONG_PORT, LONG_PORT, NODE_PORT + 1);
    let mut ports: Vec<(&str, Protocol, u16)> = PORTS.map(|(name, of)| (name, of, TARGET)).to_vec();
    ports.push(("long", Protocol::Tcp, LONG_PORT));
    let mut objects = vec![service.build()];
    objects.extend(slices(world, "web", &WEB, &ports)?);
    Ok(objects)
}

fn slices(world: &World, service: &str, pods: &[&str], ports: &[(&str, Protocol, u16)]) -> Result<Vec<Value>> {
    let mut objects = Vec::new();
    for family in Ip::BOTH {
        let name = format!("{service}-{}", family.table());
        let slice = Slice::new("default", &name, service);
        let mut slice = ports.iter().fold(slice, |slice, (name, protocol, port)| {
            slice.port(name, *protocol, *port)
        });
        for name in pods {
            let pod = world.pod(name)?;
            slice = slice.ready(family.of(pod.addresses()), &pod.node);
        }
        objects.push(slice.build());
    }
    Ok(objects)
}

/// A pod, and its network for servers. They are in no pod's folder, so that kubelet's can be removed.
pub(super) fn server_place<'a>(world: &'a World, name: &str) -> Result<(&'a Pod, Namespace)> {
    let pod = world.pod(name)?;
    let number = if pod.node == world.node(1)?.name { 1 } else { 2 };
    let place = pod.namespace.beside(&world.groups(number)?.system()?);
    Ok((pod, place))
}

/// Servers in all pods that serve.
fn serve(world: &World) -> Result<Vec<Responder>> {
    let mut servers = Vec::new();
    for name in WEB.iter().chain(&SHIFT) {
        let (pod, place) = server_place(world, name)?;
        let server = Responder::start(&place, pod.addresses())?;
        server.rename(name);
        servers.push(server);
    }
    Ok(servers)
}
