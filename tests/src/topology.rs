//! The networks of the demo and the flow tests, without a control plane.
//!
//! ```text
//!   client 198.51.100.2 ── fabric ──┬── node1 192.0.2.11 ──┬── web-1 10.244.1.10
//!          2001:db8:99::2           │   2001:db8:2::11     └── web-2 10.244.1.11
//!                                   └── node2 192.0.2.12 ───── web-3 10.244.2.10
//!                                       2001:db8:2::12        (fd00:10:244:N::10 and so on)
//! ```
//!
//! The nodes' default routes go to the fabric, which knows the nodes, their pods and the client. Packets *from the
//! client* to service ranges, LoadBalancer and external addresses are sent to `node1` (see [`World::enter_by`]).
//! Packets from nodes and pods to such addresses find no route there: only the sender's own node can make them work.

use anyhow::{Context as _, Result};

pub use crate::addresses::{CLIENT, EXTERNAL_RANGES, POD_RANGES, SERVICE_RANGES};
use crate::cgroup::{Cgroups, NodeGroups};
use crate::fabric::Fabric;
use crate::netns::Namespace;
use crate::node::{Node, Pod, PodRanges};

/// The pods of [`World::new`]: their names, the numbers of their nodes and of their addresses.
pub const PODS: [(&str, u8, u8); 3] = [("web-1", 1, 10), ("web-2", 1, 11), ("web-3", 2, 10)];

/// Namespaces and their links; everything is gone when it is dropped.
#[derive(Debug)]
pub struct World {
    /// A client outside the cluster.
    pub client: Namespace,
    /// Pods, `web-1` first; see [`World::pod`].
    pub pods: Vec<Pod>,
    /// `node1`, `node2`.
    pub nodes: Vec<Node>,
    fabric: Fabric,
    /// It goes last, when no thread of this world runs any more.
    cgroups: Option<(Vec<NodeGroups>, Cgroups)>,
}

impl World {
    /// Two nodes; `web-1` and `web-2` on the first, `web-3` on the second.
    pub fn new() -> Result<Self> {
        Self::with_pods(&PODS)
    }

    /// Two nodes with other pods: their names, the numbers of their nodes (1, 2) and of their addresses.
    pub fn with_pods(pods: &[(&str, u8, u8)]) -> Result<Self> {
        let mut world = Self::without_pods(2)?;
        for (name, node, number) in pods {
            world.add_pod(name, *node, *number)?;
        }
        Ok(world)
    }

    /// So many nodes with routes to each other's pods, and no pods yet.
    pub fn without_pods(count: u8) -> Result<Self> {
        let fabric = Fabric::new(Namespace::new("fabric")?)?;
        let client = Namespace::new("client")?;
        fabric.connect_client(&client)?;
        let mut world = Self {
            client,
            pods: Vec::new(),
            nodes: Vec::new(),
            fabric,
            cgroups: None,
        };
        for number in 1..=count {
            let namespace = Namespace::new(&format!("node{number}"))?;
            let node = world
                .fabric
                .connect_node(number, namespace, PodRanges::of_node(number), &world.nodes)?;
            world.nodes.push(node);
        }
        world.enter_by(1)?;
        Ok(world)
    }

    /// Adds a pod to node 1, 2, …; its addresses end in `number`.
    pub fn add_pod(&mut self, name: &str, node: u8, number: u8) -> Result<&Pod> {
        let pod = self.node(node)?.add_pod(name, number)?;
        if self.cgroups.is_some() {
            pod.namespace.settle(&self.groups(node)?.pod(name)?)?;
        }
        self.pods.push(pod);
        self.pods.last().context("a pod was just added")
    }

    /// Gives each node and each pod a cgroup folder, now and when a pod is added. What enters a namespace of theirs enters
    /// the folder too.
    pub fn give_cgroups(&mut self) -> Result<()> {
        let cgroups = Cgroups::new("world")?;
        let mut all = Vec::new();
        for node in &self.nodes {
            let groups = cgroups.node(&node.name)?;
            node.namespace.settle(&groups.system()?)?;
            for pod in self.pods.iter().filter(|pod| pod.node == node.name) {
                pod.namespace.settle(&groups.pod(&pod.name)?)?;
            }
            all.push(groups);
        }
        self.cgroups = Some((all, cgroups));
        Ok(())
    }

    /// The cgroup folders of node 1, 2, ….
    pub fn groups(&self, number: u8) -> Result<&NodeGroups> {
        let (groups, _) = self.cgroups.as_ref().context("this world has no cgroups")?;
        let index = usize::from(number).checked_sub(1);
        index
            .and_then(|index| groups.get(index))
            .with_context(|| format!("there is no node {number}"))
    }

    /// Has the cables to the nodes be as those of network cards are (see [`Fabric::ready_for_xdp`]).
    pub fn ready_for_xdp(&self) -> Result<()> {
        self.nodes.iter().try_for_each(|node| self.fabric.ready_for_xdp(node))
    }

    /// Plugs the cable to node 1, 2, … in, or pulls it out.
    pub fn cable_to(&self, number: u8, plugged: bool) -> Result<()> {
        let (name, state) = (&self.node(number)?.name, if plugged { "up" } else { "down" });
        self.fabric.namespace.ip(&format!("link set {name} {state}\n"))
    }

    /// Removes a pod as if it had crashed: its namespace is gone, and nothing answers for it.
    pub fn remove_pod(&mut self, name: &str) -> Result<()> {
        self.pod(name)?.unplug()?;
        self.pods.retain(|pod| pod.name != name);
        Ok(())
    }

    /// Node 1, 2, ….
    pub fn node(&self, number: u8) -> Result<&Node> {
        usize::from(number)
            .checked_sub(1)
            .and_then(|index| self.nodes.get(index))
            .with_context(|| format!("there is no node {number}"))
    }

    /// A pod by its name.
    pub fn pod(&self, name: &str) -> Result<&Pod> {
        self.pods
            .iter()
            .find(|pod| pod.name == name)
            .with_context(|| format!("there is no pod {name}"))
    }

    /// The router between the nodes and the client.
    pub(crate) fn router(&self) -> &Namespace {
        &self.fabric.namespace
    }

    /// From now on, sends the client's packets for service, LoadBalancer and external addresses to this node.
    pub fn enter_by(&self, number: u8) -> Result<()> {
        self.fabric.enter_by(self.node(number)?)
    }
}
