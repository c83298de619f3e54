//! The setting of the demo: the namespaces, a server in every pod, a Tandem on each node, a folder of manifests.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use tandem_tests::manifests::Folder;
use tandem_tests::netns::{Namespace, run_command};
use tandem_tests::scratch::Scratch;
use tandem_tests::stage::{Ip, serve_in_all_pods, write_world};
use tandem_tests::tandem::{Plan, Tandem};
use tandem_tests::topology::{CLIENT, World};
use tandem_tests::traffic::Server;

use crate::services;

/// Everything that has to be removed again.
pub(crate) struct Setting {
    tandems: Vec<Tandem>,
    pub(crate) world: World,
    pub(crate) folder: Folder,
    _servers: Vec<(String, Server)>,
    _scratch: Scratch,
}

/// The sender of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Client,
    Node(u8),
    Pod(&'static str),
}

impl Setting {
    pub(crate) fn new() -> Result<Self> {
        let world = World::new().context("make the namespaces")?;
        let servers = serve_in_all_pods(&world)?;
        let scratch = Scratch::new("demo")?;
        let folder = Folder::new(scratch.path().join("manifests"))?;
        write_world(&folder, &world)?;
        services::write(&folder, &now()?)?;
        let plans = world.nodes.iter().map(|node| Tandem::on(node).directory(&folder));
        let mut tandems = plans.map(Plan::start).collect::<Result<Vec<_>>>()?;
        for tandem in &mut tandems {
            tandem.wait_ready()?;
        }
        Ok(Self {
            tandems,
            world,
            folder,
            _servers: servers,
            _scratch: scratch,
        })
    }

    pub(crate) fn picture(&self, elapsed: Duration) -> String {
        let [client4, client6] = CLIENT.map(|address| address.to_string());
        let [node1, node2] = [&self.world.nodes[0], &self.world.nodes[1]];
        let pods: Vec<String> = self
            .world
            .pods
            .iter()
            .map(|pod| format!("{} {}  {}", pod.name, pod.v4, pod.v6))
            .collect();
        let picture = [
            format!("client {client4:<15} ─┬─ node1 {:<15} ─┬─ {}", node1.v4, pods[0]),
            format!("       {client6:<15}  │        {:<15}  └─ {}", node1.v6, pods[1]),
            format!("       {:<15}  └─ node2 {:<15} ─── {}", "", node2.v4, pods[2]),
            format!("       {:<15}           {:<15}", "", node2.v6),
        ];
        let (agents, count, seconds) = (self.tandems.len(), pods.len(), elapsed.as_secs_f64());
        let ready =
            format!("{agents} nodes with an agent each, {count} pods, a folder of manifests: ready in {seconds:.1} s");
        format!("\n{}\n\n{ready}", picture.join("\n"))
    }

    pub(crate) fn namespace(&self, place: Place) -> Result<&Namespace> {
        Ok(match place {
            Place::Client => &self.world.client,
            Place::Node(number) => &self.world.node(number)?.namespace,
            Place::Pod(name) => &self.world.pod(name)?.namespace,
        })
    }

    /// The addresses that its packets have when they leave the place.
    pub(crate) fn addresses(&self, place: Place, family: Ip) -> Result<Vec<IpAddr>> {
        Ok(match place {
            Place::Client => vec![family.of(CLIENT)],
            Place::Pod(name) => vec![family.of(self.world.pod(name)?.addresses())],
            Place::Node(number) => {
                let node = self.world.node(number)?;
                let pods = node.pod_ranges();
                vec![
                    family.of(node.addresses()),
                    family.of([pods.v4(1).into(), pods.v6(1).into()]),
                ]
            }
        })
    }

    /// Runs `tandem ARGUMENTS` on the first node, and returns what it printed.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Result<String> {
        self.tandems[0].command(arguments)
    }

    /// Ends the agents and checks what they leave.
    pub(crate) fn end(mut self) -> Result<()> {
        let endings: Vec<Result<()>> = self.tandems.drain(..).map(Tandem::finish).collect();
        endings.into_iter().collect()
    }
}

/// The time as the API writes it.
fn now() -> Result<String> {
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let date = run_command(std::process::Command::new("date").args(["-u", "+%FT%TZ", "-d", &format!("@{seconds}")]))?;
    Ok(date.trim().to_owned())
}
