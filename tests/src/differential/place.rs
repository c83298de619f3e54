//! One of the two worlds: three nodes, an agent on the first one, pods with servers, and a client outside with several addresses.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::history::{Specs, numbers};
use super::servers;
use super::spec::{CLIENTS, PODS, Spec, client};
use crate::addresses::Ip;
use crate::bpffs::BpfFolder;
use crate::eventually;
use crate::manifests::{self, Folder, Service, Slice};
use crate::netns::Namespace;
use crate::scratch::Scratch;
use crate::tandem::Tandem;
use crate::topology::World;
use crate::traffic::Protocol;

/// How long a change may take. The machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);
const MARKER: &str = "marker";
const MARKERS: &str = "zz";

/// A world. The parts are dropped in this order.
pub(super) struct Place {
    tandem: Tandem,
    folder: Folder,
    world: World,
    /// What its files say.
    written: BTreeMap<u8, Spec>,
    changes: u16,
    is_xdp: bool,
    _pins: BpfFolder,
    _scratch: Scratch,
}

impl Place {
    /// A world whose agent has this data plane.
    pub(super) fn new(is_xdp: bool) -> Result<Self> {
        let label = if is_xdp { "differential-xdp" } else { "differential-nft" };
        let mut world = World::without_pods(3)?;
        for (name, node, number) in PODS {
            world.add_pod(name, node, number)?;
        }
        world.ready_for_xdp()?;
        for (number, pod) in world.pods.iter().enumerate() {
            servers::start(pod, number)?;
        }
        let mut lines = String::new();
        for number in 0..CLIENTS {
            let [v4, v6] = Ip::BOTH.map(|family| client(family, number));
            let _ = write!(lines, "addr add {v4}/24 dev eth0\naddr add {v6}/64 dev eth0 nodad\n");
        }
        world.client.ip(&lines)?;
        let scratch = Scratch::new(label)?;
        let folder = Folder::new(scratch.path().join("manifests"))?;
        let mut objects: Vec<Value> = world.nodes.iter().map(manifests::node).collect();
        objects.push(manifests::service_cidr());
        folder.write("cluster.yaml", &objects)?;
        let pins = BpfFolder::new(label)?;
        let plan = Tandem::on(world.node(1)?).directory(&folder);
        let tandem = if is_xdp {
            plan.own_setting("dataPlane", "xdp")
                .own_setting("socketLoadBalancing", "off")
                .own_setting("bpfFolder", pins.path().display().to_string())
                .devices(&["eth0"])
        } else {
            plan.own_setting("dataPlane", "nft")
        };
        Ok(Self {
            tandem: tandem.start()?,
            folder,
            world,
            written: BTreeMap::new(),
            changes: 0,
            is_xdp,
            _pins: pins,
            _scratch: scratch,
        })
    }

    /// Waits until the agent serves.
    pub(super) fn ready(&mut self) -> Result<()> {
        self.tandem.wait_ready()?;
        if self.is_xdp {
            self.tandem.wait_outside()
        } else {
            Ok(())
        }
    }

    /// The client's namespace.
    pub(super) fn client(&self) -> &Namespace {
        &self.world.client
    }

    /// The addresses of the node with the agent, as clients and as its own pods see them.
    pub(super) fn node(&self, family: Ip) -> [IpAddr; 2] {
        let node = &self.world.nodes[0];
        let ranges = node.pod_ranges();
        let gateway = [ranges.v4(1).into(), ranges.v6(1).into()];
        [family.of(node.addresses()), family.of(gateway)]
    }

    /// Has the Services be these, and waits until that is programmed. Some of them are deleted before.
    pub(super) fn apply(&mut self, specs: &Specs, again: &[u8]) -> Result<()> {
        for number in numbers() {
            let (wanted, file) = (specs.get(&number), format!("{}.yaml", Spec::name(number)));
            if self.written.get(&number) == wanted {
                continue;
            }
            if wanted.is_none() || (again.contains(&number) && self.written.contains_key(&number)) {
                self.folder.remove(&file)?;
                self.written.remove(&number);
            }
            if let Some(wanted) = wanted {
                self.folder.write(&file, &wanted.objects())?;
                self.written.insert(number, wanted.clone());
            }
        }
        self.settle()?;
        self.ready()
    }

    /// Waits until everything that was written before is programmed in both families: until a later change is.
    fn settle(&mut self) -> Result<()> {
        self.changes += 1;
        let node = self.world.node(2)?.addresses();
        let addresses = Ip::BOTH.map(|family| family.cluster_ip(254).to_string());
        let service = Service::new(MARKERS, MARKER).cluster_ips(&addresses.each_ref().map(String::as_str));
        let slices = node.map(|address| {
            let slice = Slice::new(MARKERS, &format!("{MARKER}-{}", u8::from(address.is_ipv6())), MARKER);
            let slice = slice.port("", Protocol::Tcp, self.changes);
            slice.ready(address, "elsewhere").build()
        });
        let service = service.port("", Protocol::Tcp, 9, 9).build();
        let objects: Vec<Value> = [service].into_iter().chain(slices).collect();
        self.folder.write("zz-marker.yaml", &objects)?;
        let wanted = node.map(|address| json!([SocketAddr::new(address, self.changes).to_string()]));
        let programmed = || {
            let text = self.tandem.command(&["services", MARKER, "-n", MARKERS, "-o", "json"]);
            let service: Value = serde_json::from_str(&text.ok()?).ok()?;
            let families = &service["ports"][0]["families"];
            let is = |at: usize| families[at]["all"]["endpoints"] == wanted[at];
            (is(0) && is(1)).then_some(())
        };
        eventually(PATIENCE, programmed).with_context(|| format!("a change was not programmed in {PATIENCE:?}"))
    }

    /// Ends the agent and checks what it left and said.
    pub(super) fn finish(self) -> Result<()> {
        self.tandem.finish()
    }
}
