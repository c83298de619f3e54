//! Two nodes; Tandem on the first one, whose device is XDP's; the pods of one Service on the second one.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{devices, servers};
use crate::bpffs::BpfFolder;
use crate::eventually;
use crate::manifests::{self, Folder, Service, Slice};
use crate::scratch::Scratch;
use crate::stage::Ip;
use crate::tandem::Tandem;
use crate::topology::World;
use crate::traffic::Protocol;

/// How many endpoints the Service has. The flows of each have a page of ports.
pub(super) const PODS: u8 = 8;
const PATIENCE: Duration = Duration::from_mins(1);
const NAMES: [&str; PODS as usize] = ["p-1", "p-2", "p-3", "p-4", "p-5", "p-6", "p-7", "p-8"];
/// Second addresses of the second node.
const SECOND: [&str; 2] = ["192.0.2.112", "2001:db8:2::112"];

/// The parts are dropped in this order.
pub(super) struct Place {
    pub(super) tandem: Tandem,
    pub(super) world: World,
    _pins: BpfFolder,
    _scratch: Scratch,
}

impl Place {
    pub(super) fn new() -> Result<Self> {
        let pods: Vec<(&str, u8, u8)> = NAMES
            .into_iter()
            .zip(10..)
            .map(|(name, number)| (name, 2, number))
            .collect();
        let world = World::with_pods(&pods)?;
        world.ready_for_xdp()?;
        for (pod, number) in world.pods.iter().zip(1..) {
            servers::start(pod, number)?;
        }
        let scratch = Scratch::new("switch-flows")?;
        let folder = Folder::new(scratch.path().join("manifests"))?;
        let mut objects: Vec<Value> = world.nodes.iter().map(manifests::node).collect();
        objects.push(manifests::service_cidr());
        objects.extend(service("web", 10, &world, NAMES.len()));
        objects.extend(service("one", 11, &world, 1));
        folder.write("objects.yaml", &objects)?;
        let pins = BpfFolder::new("switch-flows-pins")?;
        let plan = Tandem::on(world.node(1)?).directory(&folder);
        let tandem = plan
            .own_setting("dataPlane", "xdp")
            .own_setting("socketLoadBalancing", "off")
            .own_setting("bpfFolder", pins.path().display().to_string())
            .own_setting("xdp", devices())
            .start()?;
        let mut place = Self {
            tandem,
            world,
            _pins: pins,
            _scratch: scratch,
        };
        place.tandem.wait_ready()?;
        place.wait_on()?;
        Ok(place)
    }

    /// Waits until new flows are taken.
    pub(super) fn wait_on(&self) -> Result<()> {
        self.tandem.wait_outside()
    }

    pub(super) fn wait_state(&self, state: &str) -> Result<()> {
        let mut last = json!(null);
        let is_so = eventually(PATIENCE, || {
            last = self.tandem.status().ok()?["outside"].clone();
            (last["state"] == json!(state)).then_some(())
        });
        is_so.with_context(|| format!("packets from outside are not {state}: {last:#}"))
    }

    /// How many flows XDP has.
    pub(super) fn flows(&self) -> Result<u64> {
        let status = self.tandem.status()?;
        let families = status["outside"]["families"].as_array().cloned().unwrap_or_default();
        Ok(families.iter().filter_map(|family| family["flows"].as_u64()).sum())
    }

    /// How many packets were passed for this reason.
    pub(super) fn passed(&self, reason: &str) -> Result<u64> {
        let status = self.tandem.status()?;
        let families = status["outside"]["families"].as_array().cloned().unwrap_or_default();
        let passed = families.iter().filter_map(|family| family["passed"].as_array());
        let counts = passed.flatten().filter(|left| left["reason"] == json!(reason));
        Ok(counts.filter_map(|left| left["count"].as_u64()).sum())
    }

    /// The address of the Service with all endpoints, or of the one with one.
    pub(super) fn frontend(family: Ip, one: bool) -> IpAddr {
        family.external_ip(if one { 11 } else { 10 })
    }

    /// Takes the carrier from the first node's device, or gives it back.
    pub(super) fn carrier(&self, there: bool) -> Result<()> {
        self.world.cable_to(1, there)
    }

    pub(super) fn route_by_second_address(&self) -> Result<()> {
        let node = &self.world.node(2)?.namespace;
        node.ip(&format!(
            "addr replace {}/24 dev eth0\naddr replace {}/64 dev eth0 nodad\n",
            SECOND[0], SECOND[1]
        ))?;
        self.route_by(SECOND.map(str::to_owned))
    }

    pub(super) fn route_by_first_address(&self) -> Result<()> {
        self.route_by(self.world.node(2)?.addresses().map(|address| address.to_string()))
    }

    fn route_by(&self, [v4, v6]: [String; 2]) -> Result<()> {
        let pods = self.world.node(2)?.pod_ranges();
        self.world.node(1)?.namespace.ip(&format!(
            "route replace {}/24 via {v4}\nroute replace {}/64 via {v6}\n",
            pods.v4, pods.v6
        ))
    }

    /// Gives the second node's device another MAC address, and tells nobody.
    pub(super) fn other_mac_address(&self) -> Result<()> {
        self.world
            .node(2)?
            .namespace
            .ip("link set eth0 address 02:00:00:00:77:01\n")
    }

    /// Masquerades what the first node's pods send out of the cluster, as CNI plugins do.
    pub(super) fn masquerade_others(&self) -> Result<()> {
        let node = &self.world.node(1)?.namespace;
        for family in ["ip", "ip6"] {
            node.exec(&["nft", "add table", family, "masquerades"])?;
            let chain = "{ type nat hook postrouting priority srcnat; }";
            node.exec(&["nft", "add chain", family, "masquerades", "post", chain])?;
            let rule = "oifname eth0 ct direction original masquerade fully-random";
            node.exec(&["nft", "add rule", family, "masquerades", "post", rule])?;
        }
        Ok(())
    }
}

/// A Service with so many of the pods as endpoints, for datagrams and connections.
fn service(name: &str, number: u8, world: &World, pods: usize) -> Vec<Value> {
    let cluster = Ip::BOTH.map(|family| family.cluster_ip(number).to_string());
    let external = Ip::BOTH.map(|family| family.external_ip(number).to_string());
    let service = Service::new("flows", name)
        .cluster_ips(&cluster.each_ref().map(String::as_str))
        .external_ips(&external.each_ref().map(String::as_str))
        .port("tcp", Protocol::Tcp, servers::PORT, servers::PORT);
    let udp = (0..servers::PORTS).map(|number| (format!("udp-{number}"), servers::PORT + number));
    let service = udp.clone().fold(service, |service, (name, port)| {
        service.port(&name, Protocol::Udp, port, servers::PORT)
    });
    let mut objects = vec![service.build()];
    for family in Ip::BOTH {
        let slice = Slice::new("flows", &format!("{name}-{}", family.table()), name)
            .family(family == Ip::V6)
            .port("tcp", Protocol::Tcp, servers::PORT);
        let slice = udp.clone().fold(slice, |slice, (name, _)| {
            slice.port(&name, Protocol::Udp, servers::PORT)
        });
        let endpoints = world.pods.iter().take(pods);
        let slice = endpoints.fold(slice, |slice, pod| slice.ready(family.of(pod.addresses()), "node2"));
        objects.push(slice.build());
    }
    objects
}
