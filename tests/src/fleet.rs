//! A [`Cluster`] at work: three nodes that each run a Tandem, servers in the pods, and questions to all nodes at once.
//!
//! ```no_run
//! # use tandem_tests::{fleet::{self, TARGET}, manifests::Service, stage::Ip, traffic::Protocol};
//! # fn main() -> anyhow::Result<()> {
//! fleet::shared(|fleet| {
//!     fleet.add_pod("web-1", 1, "web")?;
//!     let service = Service::new("default", "web").port("http", Protocol::Tcp, 80, TARGET);
//!     let service = fleet.cluster.api().create(&service.build())?;
//!     fleet.wait_for("web", &[Ip::V4], &["web-1"], TARGET)?;
//!     let address = fleet::cluster_ip(&service, Ip::V4)?;
//!     fleet.expect_answers(Protocol::Tcp, (address, 80), &["web-1"])
//! })
//! # }
//! ```
//!
//! Tandem's user has only the rights of its own role. Every pod serves TCP and UDP on [`TARGET`] and [`OTHER`].
//! The tests against the real control plane use this.

mod marker;
mod say;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::cluster::{Cluster, path};
use crate::eventually;
use crate::manifests::{Service, Slice};
use crate::netns::Namespace;
use crate::nft;
use crate::node::Pod;
use crate::stage::{Answers, Ip};
use crate::tandem::{Plan, Tandem};
use crate::traffic::{Outcome, Protocol, Request, Server};

pub use say::{changes, cluster_ip, cluster_ips, connections, lost_sources, rows, tables};

/// The port that every pod serves. It answers with the pod's name.
pub const TARGET: u16 = 8080;
/// Another port. It answers with the pod's name and `-other`.
pub const OTHER: u16 = 9090;
/// A pod on `node2` that no Service selects, for requests that come from a pod.
pub const SHELL: &str = "shell";

/// With this many requests, each of three endpoints is picked. The chance that one is missed is below 1 : 1,000,000.
const MANY: usize = 40;
/// How long a change may take through the API server, its controllers and Tandem; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a request waits if no answer is expected.
const SILENCE: Duration = Duration::from_millis(400);

/// Three nodes, each with its Tandem.
#[derive(Debug)]
pub struct Fleet {
    /// `node1`, `node2`, `node3`.
    pub tandems: Vec<Tandem>,
    /// The nodes, the pods and the control plane.
    pub cluster: Cluster,
    servers: BTreeMap<String, Vec<Server>>,
    changes: u16,
}

/// Runs a test on the fleet that all tests of this program share, one after the other. Then checks every node.
///
/// Each test must use its own names for Services and pods. If a test fails, its fleet is not used again.
pub fn shared(test: impl FnOnce(&mut Fleet) -> Result<()>) -> Result<()> {
    static FLEET: Mutex<Option<Fleet>> = Mutex::new(None);
    let mut kept = FLEET.lock().unwrap_or_else(PoisonError::into_inner);
    let mut fleet = kept.take().map_or_else(Fleet::start, Ok)?;
    test(&mut fleet)?;
    fleet.judge()?;
    *kept = Some(fleet);
    Ok(())
}

impl Fleet {
    /// Starts a control plane and three nodes with their Tandems. Returns when these are ready.
    pub fn start() -> Result<Self> {
        Self::start_with(Cluster::start(3)?, |_, plan| plan)
    }

    /// The same in a cluster that runs already. `plan` completes the plan of Tandem 1, 2, 3.
    pub fn start_with(cluster: Cluster, plan: impl Fn(usize, Plan) -> Plan) -> Result<Self> {
        let kubeconfig = cluster.tandem_kubeconfig();
        let start = |(node, number)| plan(number, Tandem::on(node).kubeconfig(&kubeconfig)).start();
        let tandems = cluster.nodes.iter().zip(1..).map(start).collect::<Result<Vec<_>>>()?;
        let mut fleet = Self {
            tandems,
            cluster,
            servers: BTreeMap::new(),
            changes: 0,
        };
        for tandem in &mut fleet.tandems {
            tandem.wait_ready()?;
        }
        fleet.add_pod(SHELL, 2, SHELL)?;
        fleet.plant()?;
        Ok(fleet)
    }

    /// Adds a pod with label `app: APP` on node 1, 2, 3 and starts its servers.
    pub fn add_pod(&mut self, name: &str, node: u8, app: &str) -> Result<()> {
        let serve = |pod: &Pod| {
            let mut servers = Vec::new();
            for (port, name) in [(TARGET, name.to_owned()), (OTHER, format!("{name}-other"))] {
                let addresses = pod.addresses().map(|address| SocketAddr::new(address, port));
                servers.extend(Server::start_all(
                    &pod.namespace,
                    &name,
                    &[Protocol::Tcp, Protocol::Udp],
                    &addresses,
                )?);
            }
            Ok(servers)
        };
        let servers = self.cluster.add_serving_pod(name, node, app, serve)?;
        self.servers.insert(name.to_owned(), servers);
        Ok(())
    }

    /// Adds pods `NAME-1`, … on these nodes and a dual-stack Service with hand-made slices. So it works without the
    /// controllers, which take a minute to come back after an outage. Returns the Service once all nodes have it.
    pub fn add_fixed(&mut self, name: &str, nodes: &[u8]) -> Result<Value> {
        let mut service = Service::new("default", name)
            .spec("ipFamilyPolicy", "RequireDualStack")
            .port("http", Protocol::Tcp, 80, TARGET)
            .build();
        service["spec"]["selector"] = Value::Null;
        let service = self.cluster.api().create(&service)?;
        let pods: Vec<String> = (1..=nodes.len()).map(|number| format!("{name}-{number}")).collect();
        for (pod, node) in pods.iter().zip(nodes) {
            self.add_pod(pod, *node, name)?;
        }
        for family in Ip::BOTH {
            let slice = Slice::new("default", &format!("{name}-{}", family.table()), name);
            let mut slice = slice.port("http", Protocol::Tcp, TARGET);
            for pod in &pods {
                let pod = self.cluster.pod(pod)?;
                slice = slice.ready(family.of(pod.addresses()), &pod.node);
            }
            self.cluster.api().create(&slice.build())?;
        }
        let pods: Vec<&str> = pods.iter().map(String::as_str).collect();
        self.wait_for(name, &Ip::BOTH, &pods, TARGET)?;
        self.settle()?;
        Ok(service)
    }

    /// Removes a pod at once.
    pub fn remove_pod(&mut self, name: &str) -> Result<()> {
        self.cluster.remove_pod(name)?;
        self.servers.remove(name);
        Ok(())
    }

    /// Changes fields of a Service in namespace `default`. If the change has a `status`, it changes the Service's
    /// status.
    pub fn patch(&self, service: &str, change: &Value) -> Result<Value> {
        let path = path("Service", "default", service)?;
        let api = self.cluster.api();
        if change.get("status").is_some() {
            return api.patch(&format!("{path}/status"), change);
        }
        api.patch(&path, change)
    }

    /// Deletes a Service in namespace `default`.
    pub fn delete(&self, service: &str) -> Result<()> {
        self.cluster
            .api()
            .delete(&path("Service", "default", service)?, &json!({}))
    }

    /// Waits until, on every node, every port of a Service in these families leads to exactly these pods at this port,
    /// and the Service has no other family.
    pub fn wait_for(&self, service: &str, families: &[Ip], pods: &[&str], target: u16) -> Result<()> {
        let mut wanted = BTreeMap::new();
        for family in families {
            let sockets = pods.iter().map(|pod| {
                let address = family.of(self.cluster.pod(pod)?.addresses());
                Ok(SocketAddr::new(address, target).to_string())
            });
            let mut sockets = sockets.collect::<Result<Vec<_>>>()?;
            sockets.sort();
            wanted.insert(family.of(["IPv4", "IPv6"]).to_owned(), sockets);
        }
        for (tandem, node) in self.tandems.iter().zip(&self.cluster.nodes) {
            let seen = || {
                let text = tandem.command(&["services", service, "-n", "default", "-o", "json"]);
                serde_json::from_str::<Value>(&text.ok()?).ok()
            };
            let is_so = eventually(PATIENCE, || (say::endpoints(&seen()?)? == wanted).then_some(()));
            is_so.with_context(|| {
                format!(
                    "{}: {service} never had {wanted:?}: {:#}",
                    node.name,
                    seen().unwrap_or_default()
                )
            })?;
        }
        Ok(())
    }

    /// Fails unless exactly these servers answer requests from every node and from a pod.
    pub fn expect_answers(&self, protocol: Protocol, to: (IpAddr, u16), servers: &[&str]) -> Result<()> {
        for from in self.places()? {
            let answers = self.ask(from, protocol, to)?;
            ensure!(
                answers.names() == servers,
                "{protocol} {to:?} from {}: {:?} answered instead of {servers:?}",
                from.name(),
                answers.names()
            );
        }
        Ok(())
    }

    /// Fails unless requests from every node and from a pod are refused at once.
    pub fn expect_refused(&self, to: (IpAddr, u16)) -> Result<()> {
        self.expect(to, "refused", Outcome::refused_at_once)
    }

    /// Fails unless requests from every node and from a pod get no answer.
    pub fn expect_lost(&self, to: (IpAddr, u16)) -> Result<()> {
        self.expect(to, "lost", Outcome::timed_out)
    }

    /// Sends many requests that all must be answered.
    pub fn ask(&self, from: &Namespace, protocol: Protocol, to: (IpAddr, u16)) -> Result<Answers> {
        Answers::gather(from, MANY, &Request::new(protocol, to.into()))
    }

    /// Sends one request over TCP, with a short timeout.
    pub fn send(&self, from: &Namespace, to: (IpAddr, u16)) -> Result<Outcome> {
        Request::tcp(to.into()).timeout(SILENCE).send(from)
    }

    /// The places from which requests come: every node and a pod.
    pub fn places(&self) -> Result<Vec<&Namespace>> {
        let nodes = self.cluster.nodes.iter().map(|node| &node.namespace);
        Ok(nodes.chain([&self.cluster.pod(SHELL)?.namespace]).collect())
    }

    /// The status of every node's Tandem.
    pub fn statuses(&self) -> Result<Vec<Value>> {
        self.tandems.iter().map(Tandem::status).collect()
    }

    /// Waits until the status of every node is as it should be.
    pub fn wait_status(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Result<()> {
        for (tandem, node) in self.tandems.iter().zip(&self.cluster.nodes) {
            let seen = eventually(PATIENCE, || tandem.status().ok().filter(&is_so));
            seen.with_context(|| format!("{}: never {what}: {:#?}", node.name, tandem.status()))?;
        }
        Ok(())
    }

    /// Lists and loads every node's tables with nft. Fails if a Tandem logged an ERROR that was not announced.
    pub fn judge(&self) -> Result<()> {
        for (tandem, node) in self.tandems.iter().zip(&self.cluster.nodes) {
            nft::check(&node.namespace).with_context(|| node.name.clone())?;
            tandem.check_log().with_context(|| node.name.clone())?;
        }
        Ok(())
    }

    fn expect(&self, to: (IpAddr, u16), what: &str, is_so: impl Fn(&Outcome) -> bool) -> Result<()> {
        for from in self.places()? {
            let outcome = self.send(from, to)?;
            ensure!(is_so(&outcome), "{to:?} from {} not {what}: {outcome}", from.name());
        }
        Ok(())
    }
}
