//! The world of `make sockets`: two nodes, pods with servers, those who ask, and the Tandem that is judged.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::addresses::Ip;
use crate::bpffs::BpfFolder;
use crate::cgroup::Cgroups;
use crate::manifests::{self, Folder};
use crate::netns::Namespace;
use crate::node::Pod;
use crate::patience;
use crate::scratch::Scratch;
use crate::stage::{PROTOCOLS, TARGET};
use crate::tandem::{SOCKETS, Tandem};
use crate::topology::World;
use crate::traffic::{Protocol, Server};

use super::services::{self, HOST, endpoint, node_address};
use super::variant::Variant;

/// The port on which `web-2` speaks MPTCP.
pub(super) const MPTCP_TARGET: u16 = 8090;
/// The ports on which `web-2` answers datagrams, besides [`TARGET`].
pub(super) const MORE_TARGETS: [u16; 6] = [8081, 8082, 8083, 8084, 8085, 8086];

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Asker {
    /// A process of the node.
    Node,
    /// A pod in the node's network.
    HostPod,
    /// A pod that serves nothing.
    Pod,
    /// Another one.
    SecondPod,
    /// The pod `web-1`, which serves.
    Server,
    /// A container with a network of its own that is no pod.
    Container,
    /// A thread in the hierarchy's root, in the node's network.
    Root,
}

impl Asker {
    /// Whether it has the node's network.
    pub(super) fn is_in_node_network(self) -> bool {
        matches!(self, Self::Node | Self::HostPod | Self::Root)
    }

    /// Its name as an endpoint, if it is one.
    pub(super) fn endpoint(self) -> Option<&'static str> {
        match self {
            Self::Server => Some("web-1"),
            _ => None,
        }
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Node => "a process of the node",
            Self::HostPod => "a pod in the node's network",
            Self::Pod => "a pod",
            Self::SecondPod => "a second pod",
            Self::Server => "the endpoint web-1",
            Self::Container => "a container that is no pod",
            Self::Root => "a thread in the hierarchy's root",
        }
    }
}

/// Everything. The parts are dropped in this order.
pub(super) struct Site {
    pub(super) tandem: Option<Tandem>,
    _other_tandem: Tandem,
    folder: Folder,
    _servers: Vec<Server>,
    host_pod: Namespace,
    root: Namespace,
    container: Pod,
    pub(super) variant: Variant,
    /// The source that an endpoint sees of a connection without a Service.
    direct: BTreeMap<(Asker, &'static str, Ip), IpAddr>,
    pub(super) world: World,
    pins: BpfFolder,
    _scratch: Scratch,
    changes: u16,
    /// What [`Site::new_reasons`] counted last.
    counted: Mutex<[BTreeMap<String, u64>; 2]>,
}

impl Site {
    /// Builds it, with Tandem on the second node as it always is. The first node has none yet.
    pub(super) fn new() -> Result<Self> {
        let mut world = World::with_pods(&[
            ("web-1", 1, 10),
            ("web-2", 1, 11),
            ("web-3", 2, 10),
            ("shell", 1, 20),
            ("shell-2", 1, 21),
        ])?;
        world.give_cgroups()?;
        let groups = world.groups(1)?;
        let container = world.node(1)?.add_pod("box", 30)?;
        container.namespace.settle(&groups.container("box")?)?;
        let host_pod = world.node(1)?.namespace.beside(&groups.pod(HOST)?);
        let root = world.node(1)?.namespace.beside(&Cgroups::root()?);
        let scratch = Scratch::new("sockets")?;
        let folder = Folder::new(scratch.path().join("manifests"))?;
        folder.write("cluster.yaml", &cluster(&world))?;
        folder.write("services.yaml", &objects())?;
        folder.write(MARKER_FILE, &marker(1))?;
        let mut other_tandem = Tandem::on(world.node(2)?).directory(&folder).start()?;
        other_tandem.wait_ready()?;
        Ok(Self {
            tandem: None,
            _other_tandem: other_tandem,
            folder,
            _servers: servers(&world, &host_pod)?,
            host_pod,
            root,
            container,
            variant: Variant::Usual,
            direct: BTreeMap::new(),
            pins: BpfFolder::new("pins")?,
            world,
            _scratch: scratch,
            changes: 1,
            counted: Mutex::default(),
        })
    }

    /// Starts Tandem on the first node with other settings.
    pub(super) fn start(&mut self, variant: Variant) -> Result<()> {
        if let Some(tandem) = self.tandem.take() {
            tandem.finish()?;
        }
        let plan = Tandem::on(self.world.node(1)?).directory(&self.folder);
        let plan = variant.apply(plan.sockets(self.world.groups(1)?, &self.pins));
        let mut tandem = plan.start()?;
        tandem.wait_ready()?;
        self.tandem = Some(tandem);
        self.variant = variant;
        self.wait_sockets()?;
        self.new_reasons(Ip::V4).map(drop)
    }

    /// Ends it, and checks what it logged.
    pub(super) fn finish(mut self) -> Result<()> {
        match self.tandem.take() {
            Some(tandem) => tandem.finish(),
            None => Ok(()),
        }
    }

    /// Waits until the sockets' programs answer, if they should.
    fn wait_sockets(&self) -> Result<()> {
        let (node, pods) = (self.variant.takes_node(), self.variant.takes_pods());
        let ready = || {
            let status = self.tandem.as_ref()?.status().ok()?;
            let families = status["families"].as_array()?;
            let follow = families.iter().all(|family| family["follower"]["state"] == "on");
            let sockets = &status["sockets"];
            let at = |folder: &Value| folder["folder"].is_string();
            let all = follow && sockets["state"] == "on" && at(&sockets["node"]) && (!pods || at(&sockets["pods"]));
            (!node || all).then_some(())
        };
        let found = crate::eventually(SOCKETS, ready);
        found.with_context(|| format!("sockets are not on: {:#?}", self.tandem.as_ref().map(Tandem::status)))
    }

    /// The namespace and folder of who asks.
    pub(super) fn place(&self, asker: Asker) -> Result<Namespace> {
        Ok(match asker {
            Asker::Node => self.node()?.clone(),
            Asker::HostPod => self.host_pod.clone(),
            Asker::Pod => self.world.pod("shell")?.namespace.clone(),
            Asker::SecondPod => self.world.pod("shell-2")?.namespace.clone(),
            Asker::Server => self.world.pod("web-1")?.namespace.clone(),
            Asker::Container => self.container.namespace.clone(),
            Asker::Root => self.root.clone(),
        })
    }

    /// The first node's namespace.
    pub(super) fn node(&self) -> Result<&Namespace> {
        Ok(&self.world.node(1)?.namespace)
    }

    /// The own address of who asks.
    pub(super) fn own_address(&self, asker: Asker, family: Ip) -> Result<IpAddr> {
        Ok(match asker {
            Asker::Node | Asker::HostPod | Asker::Root => node_address(1, family),
            Asker::Pod => family.of(self.world.pod("shell")?.addresses()),
            Asker::SecondPod => family.of(self.world.pod("shell-2")?.addresses()),
            Asker::Server => family.of(self.world.pod("web-1")?.addresses()),
            Asker::Container => family.of(self.container.addresses()),
        })
    }

    /// The addresses that a node may give to what it masquerades: its own, and that of its pods' gateway.
    pub(super) fn masquerades(&self, node: u8, family: Ip) -> Result<[IpAddr; 2]> {
        let ranges = self.world.node(node)?.pod_ranges();
        Ok([
            node_address(node, family),
            family.of([ranges.v4(1).into(), ranges.v6(1).into()]),
        ])
    }

    /// Asks every endpoint without a Service, and notes which source it saw.
    pub(super) fn learn_sources(&mut self) -> Result<()> {
        for asker in [
            Asker::Node,
            Asker::HostPod,
            Asker::Root,
            Asker::Pod,
            Asker::SecondPod,
            Asker::Server,
            Asker::Container,
        ] {
            let place = self.place(asker)?;
            for name in ["web-1", "web-2", "web-3", HOST] {
                for family in Ip::BOTH {
                    let outcome = crate::traffic::Request::tcp(endpoint(name, family)).send(&place)?;
                    let answer = outcome
                        .answer()
                        .with_context(|| format!("{} asks {name}: {outcome}", asker.title()))?;
                    ensure!(answer.by == name, "{} answers for {name}", answer.by);
                    self.direct.insert((asker, name, family), answer.source.ip());
                }
            }
        }
        Ok(())
    }

    /// The source that an endpoint sees if this one asks it without a Service.
    pub(super) fn direct_source(&self, asker: Asker, by: &str, family: Ip) -> Option<IpAddr> {
        let found = self
            .direct
            .iter()
            .find(|((who, name, of), _)| (*who, *name, *of) == (asker, by, family));
        found.map(|(_, source)| *source)
    }

    /// Writes a file of the folder, and waits until the first node has programmed it.
    pub(super) fn apply(&mut self, file: &str, objects: &[Value]) -> Result<()> {
        self.folder.write(file, objects)?;
        self.changes += 1;
        self.folder.write(MARKER_FILE, &marker(self.changes))?;
        let wanted = json!([SocketAddr::new(MARKER_ADDRESS.into(), self.changes).to_string()]);
        let tandem = self.tandem.as_ref().context("no Tandem runs")?;
        let programmed = || {
            let text = tandem.command(&["services", "marker", "-n", "zz", "-o", "json"]).ok()?;
            let service: Value = serde_json::from_str(&text).ok()?;
            (service["ports"][0]["families"][0]["all"]["endpoints"] == wanted).then_some(())
        };
        crate::eventually(Duration::from_secs(20), programmed).context("a change was not programmed in 20 s")
    }

    /// How many instructions the kernel's verifier has looked at, of all programs together.
    pub(super) fn verified_instructions(&self) -> Result<u64> {
        let status = status(&self.tandem.as_ref().context("no Tandem runs")?.socket())?;
        let count = status["sockets"]["verifiedInstructions"].as_u64();
        count.context("the status has no number of verified instructions")
    }

    /// The reasons for which something was left to nftables since the last time, in this family.
    pub(super) fn new_reasons(&self, family: Ip) -> Result<Vec<String>> {
        let after = self.reasons()?;
        let before = std::mem::replace(
            &mut *self.counted.lock().unwrap_or_else(PoisonError::into_inner),
            after.clone(),
        );
        let [before, after] = [before, after].map(|counts| family.of(counts));
        let changed = |(name, count): (String, u64)| (before.get(&name) != Some(&count)).then_some(name);
        Ok(after.into_iter().filter_map(changed).collect())
    }

    /// How often each reason has left something to nftables, IPv4 first.
    fn reasons(&self) -> Result<[BTreeMap<String, u64>; 2]> {
        let status = status(&self.tandem.as_ref().context("no Tandem runs")?.socket())?;
        let of_family = |number: usize| {
            let counts = &status["families"][number]["follower"]["leftConnections"];
            let counts = counts.as_array().map(Vec::as_slice).unwrap_or_default();
            let count = |count: &Value| Some((count["reason"].as_str()?.to_owned(), count["count"].as_u64()?));
            counts.iter().filter_map(count).collect()
        };
        Ok([0, 1].map(of_family))
    }
}

/// What `tandem status -o json` prints, without a program for each time.
fn status(socket: &Path) -> Result<Value> {
    let mut stream = UnixStream::connect(socket).context("connect to Tandem's own API")?;
    stream.set_read_timeout(Some(patience(Duration::from_secs(5))))?;
    stream.write_all(b"GET /v1/status HTTP/1.1\r\nHost: tandem\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("read the status")?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the status has no body")?;
    ensure!(head.starts_with("HTTP/1.1 200"), "answered with {head:?}");
    serde_json::from_str(body).with_context(|| format!("no status: {body}"))
}

const MARKER_FILE: &str = "zz-marker.yaml";
const MARKER_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);

/// A Service that nobody uses. The port of its endpoint shows which change was the last.
fn marker(change: u16) -> [Value; 2] {
    let service = manifests::Service::new("zz", "marker").cluster_ips(&["10.111.255.254"]);
    let slice = manifests::Slice::new("zz", "marker", "marker").port("", Protocol::Tcp, change);
    [
        service.port("", Protocol::Tcp, 9, 9).build(),
        slice.ready(MARKER_ADDRESS.into(), "elsewhere").build(),
    ]
}

/// The nodes, each in a zone of its own, and the ranges.
fn cluster(world: &World) -> Vec<Value> {
    let node = |node: &crate::node::Node| {
        let mut object = manifests::node(node);
        object["metadata"]["labels"]["topology.kubernetes.io/zone"] = json!(node.name);
        object
    };
    let mut objects: Vec<Value> = world.nodes.iter().map(node).collect();
    objects.push(manifests::service_cidr());
    objects
}

/// Every Service that stays as it is.
fn objects() -> Vec<Value> {
    let mut objects: Vec<Value> = services::ALL.iter().flat_map(services::Spec::objects).collect();
    let five: Vec<(u16, u16)> = MORE_TARGETS.iter().map(|target| (target - 8000, *target)).collect();
    objects.extend(services::many_ports(
        ("many", 40),
        Protocol::Udp,
        &five,
        &["web-2"],
        false,
    ));
    let sixteen: Vec<(u16, u16)> = (1..=16).map(|port| (port, TARGET)).collect();
    objects.extend(services::many_ports(
        ("sticky-many", 41),
        Protocol::Tcp,
        &sixteen,
        &["web-1", "web-2", "web-3"],
        true,
    ));
    objects.extend(services::many_ports(
        ("mptcp", 42),
        Protocol::Tcp,
        &[(80, MPTCP_TARGET)],
        &["web-2"],
        false,
    ));
    objects
}

fn servers(world: &World, host_pod: &Namespace) -> Result<Vec<Server>> {
    let mut servers = Vec::new();
    for name in ["web-1", "web-2", "web-3"] {
        let pod = world.pod(name)?;
        // Servers take data with the first packet, also without an option of their own.
        pod.namespace.sysctls(&[("net/ipv4/tcp_fastopen", "1027")])?;
        let addresses = pod.addresses().map(|address| SocketAddr::new(address, TARGET));
        servers.extend(Server::start_all(&pod.namespace, name, &PROTOCOLS, &addresses)?);
    }
    let web = world.pod("web-2")?;
    for address in web.addresses() {
        for port in MORE_TARGETS {
            let at = SocketAddr::new(address, port);
            servers.push(Server::start(&web.namespace, "web-2", Protocol::Udp, at)?);
        }
        if super::has_mptcp() {
            servers.push(Server::start_mptcp(
                &web.namespace,
                "web-2",
                SocketAddr::new(address, MPTCP_TARGET),
            )?);
        }
    }
    let host = Ip::BOTH.map(|family| SocketAddr::new(node_address(1, family), TARGET));
    servers.extend(Server::start_all(
        host_pod,
        HOST,
        &[Protocol::Tcp, Protocol::Udp],
        &host,
    )?);
    Ok(servers)
}
