//! One control plane and two worlds of the same shape, with the real kube-proxy on the nodes of one, and Tandem on
//! those of the other. Both follow the same objects at the same time.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::configuration::Configuration;
use super::forward::Forwarder;
use super::side::Side;
use crate::addresses::SERVICE_RANGES;
use crate::bpffs::BpfFolder;
use crate::cgroup::Cgroups;
use crate::cluster::{Api, Cluster, PORT, Program, path};
use crate::data_plane::DataPlane;
use crate::eventually;
use crate::fabric::{Fabric, GATEWAYS};
use crate::fleet::{OTHER, TARGET, cluster_ips};
use crate::manifests::{Service, Slice};
use crate::netns::{Namespace, run_command};
use crate::nft::FAMILIES;
use crate::stage::Ip;
use crate::tandem::Tandem;
use crate::traffic::{Protocol, Request};

/// How many nodes each world has.
pub(super) const NODES: u8 = 3;
/// The namespace of the runner's own objects.
pub(super) const OWN: &str = "parity-own";
/// A Service that the runner changes after every step. It has no other purpose.
const MARKER: &str = "marker";
/// How long a program may take to start, or to follow a change.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long kube-proxy may take to know the ranges of ClusterIPs before it is started again.
const RANGES: Duration = Duration::from_secs(5);
const TRIES: usize = 3;

/// Both worlds and the programs in them.
#[derive(Debug)]
pub(super) struct Twins {
    tandems: Vec<Tandem>,
    proxies: Vec<Program>,
    /// kube-proxy's world, then Tandem's.
    pub(super) sides: [Side; 2],
    pub(super) cluster: Cluster,
    marks: u16,
    entry: u8,
    /// Where the Tandems of node 1, 2, … pin what follows in sockets; none if nothing does.
    pins: Vec<BpfFolder>,
    /// What XDP had counted before, by reason.
    counted: BTreeMap<String, u64>,
    _forwarder: Forwarder,
}

impl Twins {
    /// Starts the control plane and makes both worlds. No program makes Services work yet.
    pub(super) fn start(data_plane: DataPlane) -> Result<Self> {
        let cluster = Cluster::start(NODES)?;
        let theirs = Side::new(
            "kube-proxy",
            cluster.nodes.clone(),
            cluster.client.clone(),
            cluster.fabric().clone(),
            None,
        )?;
        let fabric = Fabric::new(Namespace::new("twin")?)?;
        let client = Namespace::new("twin-client")?;
        fabric.connect_client(&client)?;
        let mut nodes = Vec::new();
        for (number, node) in (1..).zip(&cluster.nodes) {
            let namespace = Namespace::new(&format!("twin-node{number}"))?;
            nodes.push(fabric.connect_node(number, namespace, node.pod_ranges(), &nodes)?);
        }
        fabric.enter_by(nodes.first().context("no nodes")?)?;
        let api_server = SocketAddr::new(GATEWAYS.0.into(), PORT);
        let forwarder = Forwarder::start(&fabric.namespace, cluster.inside(), api_server)?;
        let (cgroups, pins) = match data_plane {
            DataPlane::Nft => (None, Vec::new()),
            DataPlane::Xdp => {
                let pins = (1..=NODES).map(|number| BpfFolder::new(&format!("node{number}-pins")));
                (Some(Cgroups::new("parity")?), pins.collect::<Result<_>>()?)
            }
        };
        if data_plane == DataPlane::Xdp {
            nodes.iter().try_for_each(|node| fabric.ready_for_xdp(node))?;
        }
        let ours = Side::new("Tandem", nodes, client, fabric, cgroups)?;
        let twins = Self {
            tandems: Vec::new(),
            proxies: Vec::new(),
            sides: [theirs, ours],
            cluster,
            marks: 0,
            entry: 1,
            pins,
            counted: BTreeMap::new(),
            _forwarder: forwarder,
        };
        twins.plant()?;
        Ok(twins)
    }

    pub(super) fn api(&self) -> &Api {
        self.cluster.api()
    }

    /// Tandem's world.
    pub(super) fn ours(&self) -> &Side {
        &self.sides[1]
    }

    /// Whether Tandem's sockets translate too.
    pub(super) fn follows_in_sockets(&self) -> bool {
        !self.pins.is_empty()
    }

    /// Starts both programs with this configuration; returns when they have seen all objects.
    pub(super) fn start_programs(&mut self, configuration: Configuration) -> Result<()> {
        let file = configuration.build();
        for number in 1..=NODES {
            self.proxies.push(self.cluster.start_kube_proxy_with(number, &file)?);
            let mut plan = Tandem::on(self.ours().node(number)?).kubeconfig(&self.cluster.tandem_kubeconfig());
            for (field, value) in file.as_object().into_iter().flatten() {
                plan = plan.setting(field, value.clone());
            }
            let pins = self.pins.get(usize::from(number) - 1);
            if let Some((groups, pins)) = self.ours().groups(number).zip(pins) {
                plan = plan.sockets(groups, pins).devices(&["eth0"]);
            }
            self.tandems.push(plan.start()?);
        }
        let follows = self.follows_in_sockets();
        for tandem in &mut self.tandems {
            tandem.wait_ready()?;
            if follows {
                tandem.wait_sockets()?;
                tandem.wait_outside()?;
            }
        }
        self.settle()?;
        (1..=NODES).try_for_each(|number| self.teach_ranges(number, &file))
    }

    /// kube-proxy writes the ranges of ServiceCIDRs only in a full sync. If it lists them after its first sync, as
    /// happens on a busy machine, it does without them for an hour. Then it is started again.
    fn teach_ranges(&mut self, number: u8, file: &Value) -> Result<()> {
        for _ in 0..TRIES {
            let node = &self.sides[0].node(number)?.namespace;
            let known = || {
                let mut pairs = FAMILIES.iter().zip(SERVICE_RANGES);
                let lists = |(family, range): (&&str, &str)| {
                    let table = node.exec(&["nft", "list", "table", family, "kube-proxy"]);
                    table.is_ok_and(|text| text.contains(range))
                };
                pairs.all(lists).then_some(())
            };
            if eventually(RANGES, known).is_some() {
                return Ok(());
            }
            let place = usize::from(number) - 1;
            eprintln!("kube-proxy on node {number} does not know the ranges of ClusterIPs: it is started again");
            drop(self.proxies.remove(place));
            let again = self.cluster.start_kube_proxy_with(number, file)?;
            self.proxies.insert(place, again);
            self.settle()?;
        }
        Ok(())
    }

    /// Stops both programs and removes their tables.
    pub(super) fn stop_programs(&mut self) -> Result<()> {
        self.proxies.clear();
        let judged: Vec<Result<()>> = self.tandems.drain(..).map(Tandem::finish).collect();
        for (side, table) in self.sides.iter().zip(["kube-proxy", "tandem"]) {
            for node in &side.nodes {
                for family in FAMILIES {
                    let delete = || run_command(Command::new("nft").args(["delete", "table", family, table]));
                    node.namespace.run(delete)?.with_context(|| node.name.clone())?;
                }
            }
        }
        judged.into_iter().collect()
    }

    /// How many packets XDP did not translate, by reason. The programs go on to count from one Tandem to the next, so this is the
    /// same as what the present ones count.
    pub(super) fn passed(&mut self) -> Result<BTreeMap<String, u64>> {
        let mut all: BTreeMap<String, u64> = BTreeMap::new();
        for tandem in &self.tandems {
            let status = tandem.status()?;
            let families = status["outside"]["families"].as_array().cloned().unwrap_or_default();
            for left in families
                .iter()
                .flat_map(|family| family["passed"].as_array().cloned().unwrap_or_default())
            {
                let reason = left["reason"].as_str().unwrap_or_default().to_owned();
                *all.entry(reason).or_default() += left["count"].as_u64().unwrap_or_default();
            }
        }
        let news = all.iter().map(|(reason, packets)| {
            let before = self.counted.get(reason).copied().unwrap_or_default();
            (reason.clone(), packets.saturating_sub(before))
        });
        let news = news.collect();
        self.counted = all;
        Ok(news)
    }

    /// Fails if one of them has ended, or if a Tandem has logged an error.
    pub(super) fn check_programs(&mut self) -> Result<()> {
        self.proxies.iter_mut().try_for_each(Program::check)?;
        for tandem in &self.tandems {
            tandem.status()?;
            tandem.check_log()?;
        }
        Ok(())
    }

    /// Sends the clients' packets for Services to this node, in both worlds.
    pub(super) fn enter_by(&mut self, number: u8) -> Result<()> {
        if self.entry != number {
            for side in &self.sides {
                side.fabric.enter_by(side.node(number)?)?;
            }
            self.entry = number;
        }
        Ok(())
    }

    /// Makes the marker. Its endpoint is the same pod in both worlds.
    fn plant(&self) -> Result<()> {
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": OWN } });
        self.api().create(&namespace)?;
        let pod = self.ours().shell(2)?;
        make_fixed(
            self.api(),
            MARKER,
            &[(Protocol::Tcp, 80, TARGET)],
            &[pod.addresses().map(|address| (address, pod.node.as_str()))],
        )?;
        Ok(())
    }

    /// Waits until every node of both worlds has programmed all changes that were made at the API server before: a
    /// later change of a Service and its slices has arrived. Controllers may react to a change later.
    pub(super) fn settle(&mut self) -> Result<()> {
        self.marks += 1;
        let (port, target) = (
            1000 + self.marks,
            if self.marks.is_multiple_of(2) { TARGET } else { OTHER },
        );
        let ports = |number: u16| json!([{ "name": "http", "protocol": "TCP", "port": number }]);
        let spec = json!([{ "name": "http", "protocol": "TCP", "port": port, "targetPort": target }]);
        let service = self
            .api()
            .patch(&path("Service", OWN, MARKER)?, &json!({ "spec": { "ports": spec } }))?;
        for family in Ip::BOTH {
            let slice = path("EndpointSlice", OWN, &slice_name(MARKER, family))?;
            self.api().patch(&slice, &json!({ "ports": ports(target) }))?;
        }
        let addresses = cluster_ips(&service)?;
        let wanted = if target == TARGET { "shell-2" } else { "shell-2-other" };
        for side in &self.sides {
            for (node, address) in side
                .nodes
                .iter()
                .flat_map(|node| addresses.map(|address| (node, address)))
            {
                let request = Request::tcp((address, port).into()).timeout(Duration::from_millis(200));
                let seen = || (request.send(&node.namespace).ok()?.answered_by() == Some(wanted)).then_some(());
                eventually(PATIENCE, seen).with_context(|| {
                    format!(
                        "{} on {} did not program a change ({address}) in {PATIENCE:?}",
                        side.program, node.name
                    )
                })?;
            }
        }
        Ok(())
    }
}

impl Drop for Twins {
    fn drop(&mut self) {
        // An error that is being returned says more than what Tandems report when they are dropped.
        for tandem in self.tandems.drain(..) {
            if let Err(error) = tandem.finish() {
                eprintln!("tandem: {error:#}");
            }
        }
    }
}

/// Makes a dual-stack Service with these ports and their targets. Controllers make no slices for it. Its endpoints have
/// an address of each family, and are on the nodes with these names.
pub(super) fn make_fixed(
    api: &Api,
    name: &str,
    ports: &[(Protocol, u16, u16)],
    endpoints: &[[(IpAddr, &str); 2]],
) -> Result<Value> {
    let service = Service::new(OWN, name).spec("ipFamilyPolicy", "RequireDualStack");
    let service = ports.iter().fold(service, |service, (protocol, port, target)| {
        service.port(&port_name(*protocol, *port), *protocol, *port, *target)
    });
    let mut service = service.build();
    service["spec"]["selector"] = Value::Null;
    let service = api.create(&service)?;
    for family in Ip::BOTH {
        let slice = Slice::new(OWN, &slice_name(name, family), name);
        let slice = ports.iter().fold(slice, |slice, (protocol, port, target)| {
            slice.port(&port_name(*protocol, *port), *protocol, *target)
        });
        let slice = endpoints.iter().fold(slice, |slice, pair| {
            let (address, node) = family.of(*pair);
            slice.ready(address, node)
        });
        api.create(&slice.build())?;
    }
    Ok(service)
}

fn port_name(protocol: Protocol, port: u16) -> String {
    format!("{protocol}-{port}").to_lowercase()
}

fn slice_name(service: &str, family: Ip) -> String {
    format!("{service}-{}", family.table())
}
