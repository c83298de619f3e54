//! A [`World`] that is ready for requests: a server in every pod, Tandem on the first node, its objects in a folder.
//!
//! ```no_run
//! # use tandem_tests::stage::{Ip, Stage, service, slices};
//! # fn main() -> anyhow::Result<()> {
//! let mut objects = vec![service("web", 10).build()];
//! objects.extend(slices("web", &["web-1", "web-3"]));
//! let stage = Stage::new(&objects)?;
//! let answers = stage.ask(stage.client(), 40, tandem_tests::traffic::Protocol::Tcp, (Ip::V6.cluster_ip(10), 80))?;
//! assert_eq!(answers.names(), ["web-1", "web-3"]);
//! # Ok(())
//! # }
//! ```
//!
//! Every pod serves TCP, UDP and SCTP on port [`TARGET`]. The flow tests and the demo use this.

mod answers;
mod objects;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::eventually;
use crate::manifests::{self, Folder};
use crate::netns::Namespace;
use crate::nft;
use crate::node::Pod;
use crate::scratch::Scratch;
use crate::tandem::{Plan, Tandem};
use crate::topology::World;
use crate::traffic::{Outcome, Protocol, Request, Server};

pub use answers::Answers;
pub use objects::{Ip, NAMESPACE, TARGET, bare_service, node_port_service, port_name, service, slice, slices};

/// All transports, in the order in which tests go through them.
pub const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

/// How long a request waits if no answer is expected. Packets here take less than a millisecond.
const SILENCE: Duration = Duration::from_millis(400);

/// The world, its servers and its Tandem.
#[derive(Debug)]
pub struct Stage {
    /// Tandem on `node1`.
    pub tandem: Tandem,
    /// Where it takes its objects from.
    pub folder: Folder,
    servers: Vec<(String, Server)>, // they end before the folders in which they run are removed
    /// The namespaces.
    pub world: World,
    changes: u16,
    _scratch: Scratch,
}

impl Stage {
    /// Starts with these objects and waits until they are programmed.
    pub fn new(objects: &[Value]) -> Result<Self> {
        Self::with(objects, |plan| plan)
    }

    /// The same with other settings.
    pub fn with(objects: &[Value], settings: impl FnOnce(Plan) -> Plan) -> Result<Self> {
        let world = World::new()?;
        let servers = serve_in_all_pods(&world)?;
        let scratch = Scratch::new("stage")?;
        let folder = Folder::new(scratch.path().join("manifests"))?;
        write_world(&folder, &world)?;
        folder.write("objects.yaml", objects)?;
        folder.write(objects::MARKER_FILE, &objects::marker(1))?;
        let tandem = settings(Tandem::on(world.node(1)?).directory(&folder)).start()?;
        let mut stage = Self {
            tandem,
            folder,
            world,
            servers,
            changes: 1,
            _scratch: scratch,
        };
        stage.tandem.wait_ready()?;
        Ok(stage)
    }

    /// Writes a file of the folder and waits until it is programmed.
    pub fn apply(&mut self, file: &str, objects: &[Value]) -> Result<()> {
        self.folder.write(file, objects)?;
        self.settle()
    }

    /// Removes a file of the folder and waits until its objects are gone.
    pub fn remove(&mut self, file: &str) -> Result<()> {
        self.folder.remove(file)?;
        self.settle()
    }

    /// Waits until everything that was written before is programmed: until a later change is programmed.
    pub fn settle(&mut self) -> Result<()> {
        self.changes += 1;
        self.folder
            .write(objects::MARKER_FILE, &objects::marker(self.changes))?;
        let wanted = json!([SocketAddr::new(objects::MARKER_ADDRESS.into(), self.changes).to_string()]);
        let programmed = || {
            let text = self
                .tandem
                .command(&["services", "marker", "-n", objects::MARKER_NAMESPACE, "-o", "json"]);
            let service: Value = serde_json::from_str(&text.ok()?).ok()?;
            (service["ports"][0]["families"][0]["all"]["endpoints"] == wanted).then_some(())
        };
        eventually(Duration::from_secs(20), programmed).context("a change was not programmed in 20 s")
    }

    /// The last element that a change writes, as nftables holds it: an endpoint of a Service that nobody uses.
    pub fn last_element(&self) -> Vec<u8> {
        let port = self.changes.to_be_bytes();
        [&objects::MARKER_ADDRESS.octets()[..], &port].concat()
    }

    /// Sends many requests that all must be answered.
    pub fn ask(&self, from: &Namespace, count: usize, protocol: Protocol, to: (IpAddr, u16)) -> Result<Answers> {
        Answers::gather(from, count, &Request::new(protocol, to.into()))
    }

    /// Sends one request, and returns whatever the result is.
    pub fn send(&self, from: &Namespace, protocol: Protocol, to: (IpAddr, u16)) -> Result<Outcome> {
        Request::new(protocol, to.into()).timeout(SILENCE).send(from)
    }

    /// The outside client.
    pub fn client(&self) -> &Namespace {
        &self.world.client
    }

    /// `node1`, where Tandem runs.
    pub fn node(&self) -> &Namespace {
        &self.world.nodes[0].namespace
    }

    /// A pod's namespace. The pod must exist.
    pub fn pod(&self, name: &str) -> &Namespace {
        &self.pod_named(name).namespace
    }

    /// A pod's address. The pod must exist.
    pub fn pod_address(&self, name: &str, family: Ip) -> IpAddr {
        family.of(self.pod_named(name).addresses())
    }

    /// The address of node 1, 2, ….
    pub fn node_address(&self, number: usize, family: Ip) -> IpAddr {
        family.of(self.world.nodes[number - 1].addresses())
    }

    /// The source that a server sees if `node1` masquerades a client: the node's address, or that of its pods' gateway.
    pub fn masqueraded(&self, family: Ip) -> [IpAddr; 2] {
        let pods = self.world.nodes[0].pod_ranges();
        let gateway = [pods.v4(1).into(), pods.v6(1).into()];
        [self.node_address(1, family), family.of(gateway)]
    }

    /// New connections that a Service's port has seen in this family, by the counters in the ruleset of `node1`.
    pub fn connections(&self, family: Ip, service: &str, port: &str) -> Result<u64> {
        nft::connections(self.node(), family.table(), &format!("{NAMESPACE}/{service}:{port}"))
    }

    /// Fails unless that counter shows exactly this number of requests.
    ///
    /// A UDP client may choose a source port again while the kernel remembers it. That is no new connection.
    pub fn expect_counted(&self, family: Ip, service: &str, protocol: Protocol, requests: usize) -> Result<()> {
        let counted = self.connections(family, service, &port_name(protocol))?;
        let least = if protocol == Protocol::Udp {
            requests - requests / 10
        } else {
            requests
        };
        ensure!(
            (least as u64..=requests as u64).contains(&counted),
            "{service} {protocol} {family:?}: {counted} connections counted after {requests} requests"
        );
        Ok(())
    }

    /// Fails unless the service is refused at once from every place.
    pub fn expect_refused(&self, protocol: Protocol, to: (IpAddr, u16)) -> Result<()> {
        for from in [self.client(), self.pod("web-2")] {
            let outcome = self.send(from, protocol, to)?;
            ensure!(
                outcome.refused_at_once(),
                "{protocol} {to:?} from {}: {outcome}",
                from.name()
            );
        }
        let outcome = self.send(self.node(), protocol, to)?;
        let refused = if protocol == Protocol::Tcp {
            outcome.refused_at_once()
        } else {
            outcome.failed_at_once()
        };
        ensure!(refused, "{protocol} {to:?} from the node itself: {outcome}");
        Ok(())
    }

    /// Stops a pod's servers, as if its program had crashed.
    pub fn silence(&mut self, pod: &str) {
        self.servers.retain(|(name, _)| name != pod);
    }

    fn pod_named(&self, name: &str) -> &Pod {
        self.world
            .pods
            .iter()
            .find(|pod| pod.name == name)
            .unwrap_or(&self.world.pods[0])
    }
}

/// Starts a server in every pod, every protocol and family.
pub fn serve_in_all_pods(world: &World) -> Result<Vec<(String, Server)>> {
    let mut servers = Vec::new();
    for pod in &world.pods {
        let addresses = pod.addresses().map(|address| SocketAddr::new(address, TARGET));
        let started = Server::start_all(&pod.namespace, &pod.name, &PROTOCOLS, &addresses)?;
        servers.extend(started.into_iter().map(|server| (pod.name.clone(), server)));
    }
    Ok(servers)
}

/// Writes the objects that every cluster has: its nodes and its ranges of ClusterIPs.
pub fn write_world(folder: &Folder, world: &World) -> Result<()> {
    let mut objects: Vec<Value> = world.nodes.iter().map(manifests::node).collect();
    objects.push(manifests::service_cidr());
    folder.write("cluster.yaml", &objects)
}
