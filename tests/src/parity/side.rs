//! One of two worlds with the same nodes, pods, clients and addresses. kube-proxy works in one, Tandem in the other.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::flow::Place;
use super::responder::Responder;
use crate::cgroup::{Cgroups, NodeGroups};
use crate::fabric::Fabric;
use crate::netns::{Namespace, feed_command};
use crate::node::{Node, Pod};
use crate::stage::Ip;
use crate::topology::CLIENT;

/// The slot number of a node itself.
const HOST: u8 = 0;
/// The number of `shell-N` among the pods of its node.
const SHELL: u8 = 10;
/// The first number of the scenarios' pods. 11 is a pod of the untouched Service, 9 is its client.
pub(super) const FIRST: u8 = 12;

/// A slot for a pod: its node and its number there.
pub(super) type SlotKey = (u8, u8);

/// A world.
#[derive(Debug)]
pub(super) struct Side {
    /// The program that makes Services work here.
    pub(super) program: &'static str,
    pub(super) nodes: Vec<Node>,
    pub(super) client: Namespace,
    pub(super) fabric: Fabric,
    slots: BTreeMap<SlotKey, Slot>,
    /// Those of the nodes, if this world has any. They go last, when no thread is in them any more.
    groups: Vec<NodeGroups>,
    _cgroups: Option<Cgroups>,
}

/// A namespace for a pod, with its servers. Pods of later scenarios use it again.
#[derive(Debug)]
struct Slot {
    place: Pod,
    servers: Responder,
}

impl Side {
    /// Adds what is the same in both worlds: second addresses, shells, servers on the nodes. With cgroups, what enters the
    /// network of a node or a pod enters its folder too.
    pub(super) fn new(
        program: &'static str,
        nodes: Vec<Node>,
        client: Namespace,
        fabric: Fabric,
        cgroups: Option<Cgroups>,
    ) -> Result<Self> {
        let mut groups = Vec::new();
        if let Some(cgroups) = &cgroups {
            for node in &nodes {
                let of_node = cgroups.node(&node.name)?;
                node.namespace.settle(&of_node.system()?)?;
                groups.push(of_node);
            }
        }
        let mut side = Self {
            program,
            nodes,
            client,
            fabric,
            slots: BTreeMap::new(),
            groups,
            _cgroups: cgroups,
        };
        side.fabric
            .namespace
            .address("gateway", &["198.18.0.1/24", "2001:db8:18::1/64"])?;
        side.lead_nowhere()?;
        for (number, node) in (1..).zip(&side.nodes) {
            let [v4, v6] = secondary(number);
            // The node sends from this address only if a program asks for it.
            node.namespace.ip(&format!(
                "addr add {v4}/24 dev eth0\naddr add {v6}/64 dev eth0 nodad preferred_lft 0\n"
            ))?;
        }
        let [v4, v6] = other_client();
        side.client.ip(&format!(
            "addr add {v4}/24 dev eth0\naddr add {v6}/64 dev eth0 nodad preferred_lft 0\n"
        ))?;
        for number in 1..=3 {
            side.serve((number, HOST), &format!("host-{number}"))?;
            side.serve((number, SHELL), &format!("shell-{number}"))?;
        }
        Ok(side)
    }

    /// Answers packets with an error if no program treated them as a Service's. The routing would do so too, but only
    /// once a second for each sender.
    fn lead_nowhere(&self) -> Result<()> {
        let fabric = &self.fabric.namespace;
        fabric.cable("nowhere", &[], fabric, "nobody", &[])?;
        fabric.ip("route add default dev nowhere\nroute add ::/0 dev nowhere\n")?;
        let rule = "add table inet nowhere\n\
            add chain inet nowhere forward { type filter hook forward priority filter; }\n\
            add rule inet nowhere forward oifname nowhere reject with icmpx no-route\n";
        fabric.run(|| feed_command(Command::new("nft").args(["-f", "-"]), rule))??;
        Ok(())
    }

    pub(super) fn node(&self, number: u8) -> Result<&Node> {
        of_node(&self.nodes, number).with_context(|| format!("there is no node {number}"))
    }

    /// The cgroup folders of a node, if this world has any.
    pub(super) fn groups(&self, number: u8) -> Option<&NodeGroups> {
        of_node(&self.groups, number)
    }

    /// The pods that were served, and the nodes' own networks are none of them.
    pub(super) fn pods(&self) -> impl Iterator<Item = &Pod> {
        let pods = self.slots.iter().filter(|((_, number), _)| *number != HOST);
        pods.map(|(_, slot)| &slot.place)
    }

    /// Adds a pod that no scenario has.
    pub(super) fn add_pod(&self, node: u8, name: &str, number: u8) -> Result<Pod> {
        let pod = self.node(node)?.add_pod(name, number)?;
        if let Some(groups) = self.groups(node) {
            pod.namespace.settle(&groups.pod(name)?)?;
        }
        Ok(pod)
    }

    /// Gives a slot a name. Makes the slot if it does not exist yet.
    pub(super) fn serve(&mut self, slot: SlotKey, name: &str) -> Result<()> {
        if !self.slots.contains_key(&slot) {
            let (number, pod) = slot;
            let node = self.node(number)?;
            let place = if pod == HOST {
                Pod {
                    name: name.to_owned(),
                    node: node.name.clone(),
                    namespace: node.namespace.clone(),
                    v4: node.v4,
                    v6: node.v6,
                }
            } else {
                self.add_pod(number, &format!("{}-pod{pod}", node.name), pod)?
            };
            let servers = Responder::start(&place.namespace, place.addresses())?;
            self.slots.insert(slot, Slot { place, servers });
        }
        self.slot(slot)?.servers.rename(name);
        Ok(())
    }

    /// A pod that was served.
    pub(super) fn pod(&self, slot: SlotKey) -> Result<&Pod> {
        Ok(&self.slot(slot)?.place)
    }

    pub(super) fn shell(&self, number: u8) -> Result<&Pod> {
        self.pod((number, SHELL))
    }

    /// The namespace that a flow comes from, and the sender's own addresses.
    pub(super) fn sender(&self, from: &Place, slot: Option<SlotKey>, family: Ip) -> Result<(Namespace, Vec<IpAddr>)> {
        Ok(match from {
            Place::Client { number: 1, .. } => (self.client.clone(), vec![family.of(CLIENT)]),
            Place::Client { .. } => (self.client.clone(), vec![family.of(other_client())]),
            Place::Node(number) => {
                let node = self.node(*number)?;
                (node.namespace.clone(), vec![family.of(node.addresses())])
            }
            Place::Pod(name) => {
                let pod = self.pod(slot.with_context(|| format!("there is no pod {name}"))?)?;
                (pod.namespace.clone(), vec![family.of(pod.addresses())])
            }
        })
    }

    fn slot(&self, slot: SlotKey) -> Result<&Slot> {
        self.slots
            .get(&slot)
            .with_context(|| format!("no pod was made at {slot:?}"))
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        // All are asked to stop at once, not one after the other.
        self.slots.values().for_each(|slot| slot.servers.stop());
    }
}

fn of_node<T>(all: &[T], number: u8) -> Option<&T> {
    usize::from(number).checked_sub(1).and_then(|index| all.get(index))
}

/// The slot of `shell-N`.
pub(super) fn shell_slot(name: &str) -> Option<SlotKey> {
    let number = name.strip_prefix("shell-")?.parse().ok()?;
    (1..=3).contains(&number).then_some((number, SHELL))
}

/// The addresses of the second client outside.
pub(super) fn other_client() -> [IpAddr; 2] {
    CLIENT.map(next)
}

/// A node's second addresses.
pub(super) fn secondary(number: u8) -> [IpAddr; 2] {
    let v6 = 0x2001_0db8_0018_0000_0000_0000_0000_0010_u128 + u128::from(number);
    [[198, 18, 0, 10 + number].into(), IpAddr::V6(v6.into())]
}

fn next(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => IpAddr::V4((address.to_bits() + 1).into()),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() + 1).into()),
    }
}
