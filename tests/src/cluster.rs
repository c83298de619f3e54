//! A real control plane with nodes and pods as namespaces.
//!
//! ```no_run
//! # use tandem_tests::{cluster::Cluster, manifests::Service, tandem::Tandem, traffic::Protocol};
//! # fn main() -> anyhow::Result<()> {
//! let mut cluster = Cluster::start(3)?; // about ten seconds
//! cluster.add_pod("web-1", 1, "web")?; // a Pod with label app: web on node1, Running and Ready
//! cluster.api().create(&Service::new("default", "web").port("http", Protocol::Tcp, 80, 8080).build())?;
//! let mut tandem = Tandem::on(cluster.node(1)?).kubeconfig(&cluster.tandem_kubeconfig()).start()?;
//! tandem.wait_ready()?;
//! cluster.delete_pod("web-1")?; // now terminating, still serving
//! cluster.remove_pod("web-1")?; // now gone
//! # Ok(())
//! # }
//! ```
//!
//! etcd, kube-apiserver and kube-controller-manager run in the namespace that is also the nodes' gateway. No kubelet
//! runs, unless [`crate::kubelets`] starts them: this module reports the Pods' state in its place. The test starts the servers in the pods
//! ([`crate::traffic::Server`]). There is an outside client as in [`crate::topology`]. Dropping it removes everything.

mod api;
mod files;
mod programs;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::fabric::Fabric;
use crate::manifests;
use crate::netns::{Namespace, run_command};
use crate::node::{Node, Pod, PodRanges};
use crate::scratch::Scratch;

pub use api::{Api, path};
pub(crate) use files::{API_SERVER, AUTHORITY, KUBERNETES_CLUSTER_IP, PORT, TANDEM_TOKEN, kubelet_kubeconfig};
pub use programs::{Program, binary};

/// How long the control plane may take to answer for the first time.
const PATIENCE: Duration = Duration::from_secs(90);

/// A control plane, its nodes and pods.
#[derive(Debug)]
pub struct Cluster {
    /// `node1`, `node2`, ….
    pub nodes: Vec<Node>,
    /// A client outside the cluster.
    pub client: Namespace,
    pods: BTreeMap<String, Pod>,
    api: Api,
    api_server: Option<Program>,
    /// Flags of the API server, beside the usual ones.
    flags: Vec<String>,
    programs: Vec<Program>,
    place: Place,
    fabric: Fabric,
    reporter: Reporter,
}

/// Who reports the state of nodes and Pods.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Reporter {
    /// [`Cluster`] itself.
    Test,
    /// Real kubelets. There is a scheduler too, and Pods have service accounts.
    Kubelets,
}

/// The place of a cluster: its namespaces' names and its folder.
#[derive(Debug)]
enum Place {
    /// Names that only this test uses. Everything is removed at the end.
    Scratch(Scratch),
    /// Fixed names, left running: `make cluster`.
    Kept(PathBuf),
}

impl Place {
    fn path(&self) -> &Path {
        match self {
            Self::Scratch(scratch) => scratch.path(),
            Self::Kept(path) => path,
        }
    }

    fn namespace(&self, label: &str) -> Result<Namespace> {
        match self {
            Self::Scratch(_) => Namespace::new(label),
            Self::Kept(_) => Namespace::fixed(&format!("tandem-{label}")),
        }
    }
}

impl Cluster {
    /// Starts a control plane with this number of nodes. Returns when it answers and the nodes have their pod ranges.
    pub fn start(nodes: u8) -> Result<Self> {
        Self::start_by(nodes, &[])
    }

    /// The same with more flags for the API server.
    pub fn start_by(nodes: u8, flags: &[&str]) -> Result<Self> {
        Self::start_at(Place::Scratch(Scratch::new("cluster")?), nodes, flags, Reporter::Test)
    }

    /// A control plane for this number of nodes with real kubelets, which the caller starts.
    pub(crate) fn start_for_kubelets(nodes: u8) -> Result<Self> {
        let scratch = Scratch::new("cluster")?;
        Self::start_at(Place::Scratch(scratch), nodes, &[], Reporter::Kubelets)
    }

    /// The same in namespaces `tandem-cp`, `tandem-node1`, … with its files in this folder. It stays when it is
    /// dropped.
    pub fn start_kept(folder: &Path, nodes: u8) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("make folder {}", folder.display()))?;
        Self::start_at(Place::Kept(folder.to_owned()), nodes, &[], Reporter::Test)
    }

    fn start_at(place: Place, nodes: u8, flags: &[&str], reporter: Reporter) -> Result<Self> {
        let flags = programs::flags(place.path(), flags, reporter);
        let fabric = Fabric::new(place.namespace("cp")?)?;
        let (inside, folder) = (&fabric.namespace, place.path().to_owned());
        files::write(&folder)?;
        let keep = matches!(place, Place::Kept(_));
        let etcd = Program::start(inside, &folder, "etcd", &programs::etcd(&folder), keep)?;
        let arguments = [programs::api_server(&folder), flags.clone()].concat();
        let api_server = Program::start(inside, &folder, "kube-apiserver", &arguments, keep)?;
        // While these start, the client and the nodes are made.
        let client = place.namespace("client")?;
        fabric.connect_client(&client)?;
        let namespaces = (1..=nodes).map(|number| place.namespace(&format!("node{number}")));
        let namespaces = namespaces.collect::<Result<Vec<_>>>()?;
        let api = Api::connect(inside, &folder.join(files::ADMIN))?;
        let mut cluster = Self {
            nodes: Vec::new(),
            client,
            pods: BTreeMap::new(),
            api,
            api_server: Some(api_server),
            flags,
            programs: vec![etcd],
            place,
            fabric,
            reporter,
        };
        cluster.wait_api()?;
        let inside = &cluster.fabric.namespace;
        let mut arguments = vec![(
            "kube-controller-manager",
            programs::controller_manager(&folder, reporter),
        )];
        if reporter == Reporter::Kubelets {
            arguments.push(("kube-scheduler", programs::scheduler(&folder)));
        }
        for (name, arguments) in arguments {
            let program = Program::start(inside, &folder, name, &arguments, keep)?;
            cluster.programs.push(program);
        }
        cluster.api.create(&files::permission())?;
        for (number, namespace) in (1..).zip(namespaces) {
            cluster.add_node(number, namespace)?;
        }
        cluster.enter_by(1)?;
        Ok(cluster)
    }

    /// The API server, as its administrator.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// Node 1, 2, ….
    pub fn node(&self, number: u8) -> Result<&Node> {
        let index = usize::from(number).checked_sub(1);
        index
            .and_then(|index| self.nodes.get(index))
            .with_context(|| format!("there is no node {number}"))
    }

    /// A pod by its name.
    pub fn pod(&self, name: &str) -> Result<&Pod> {
        self.pods.get(name).with_context(|| format!("there is no pod {name}"))
    }

    /// The namespace of the control plane. The administrator's programs must run there too.
    pub fn inside(&self) -> &Namespace {
        &self.fabric.namespace
    }

    /// The administrator's kubeconfig.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.place.path().join(files::ADMIN)
    }

    /// Tandem's kubeconfig. Its user has only the rights of kube-proxy's own role.
    pub fn tandem_kubeconfig(&self) -> PathBuf {
        self.place.path().join(files::TANDEM)
    }

    /// Runs kubectl as the administrator and returns what it printed.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(binary()?);
        command
            .arg("kubectl")
            .arg("--kubeconfig")
            .arg(self.admin_kubeconfig())
            .args(arguments);
        self.inside().run(|| run_command(&mut command))?
    }

    /// The folder of its files.
    pub(crate) fn folder(&self) -> &Path {
        self.place.path()
    }

    /// The nodes' network.
    pub(crate) fn fabric(&self) -> &Fabric {
        &self.fabric
    }

    /// From now on, sends the client's packets for service, LoadBalancer and external addresses to this node.
    pub fn enter_by(&self, number: u8) -> Result<()> {
        self.fabric.enter_by(self.node(number)?)
    }

    /// Kills the API server as `kill -9` does.
    pub fn kill_api_server(&mut self) {
        self.api_server = None;
    }

    /// Starts the API server again and waits until it answers.
    pub fn start_api_server(&mut self) -> Result<()> {
        let (folder, keep) = (self.place.path(), matches!(self.place, Place::Kept(_)));
        let arguments = [programs::api_server(folder), self.flags.clone()].concat();
        self.api_server = Some(Program::start(
            self.inside(),
            folder,
            "kube-apiserver",
            &arguments,
            keep,
        )?);
        self.wait_api()
    }

    /// Starts the real kube-proxy on a node, in nftables mode. It ends when it is dropped.
    pub fn start_kube_proxy(&self, number: u8) -> Result<Program> {
        self.start_kube_proxy_with(number, &manifests::configuration())
    }

    /// The same with another configuration.
    pub fn start_kube_proxy_with(&self, number: u8, configuration: &Value) -> Result<Program> {
        let node = self.node(number)?;
        let configuration = files::kube_proxy(self.place.path(), &node.name, configuration)?;
        let arguments = vec![format!("--config={}", configuration.display()), "--v=1".to_owned()];
        Program::start(&node.namespace, self.place.path(), "kube-proxy", &arguments, false)
    }

    /// Makes a Pod in namespace `default` with label `app: APP` on node 1, 2, …, and its network. The Pod is Running
    /// and Ready, and calls its ports 8080 and 9090 `main` and `other`.
    pub fn add_pod(&mut self, name: &str, node: u8, app: &str) -> Result<&Pod> {
        self.add_serving_pod(name, node, app, |_| Ok(()))?;
        self.pod(name)
    }

    /// The same, and calls `serve` once the pod has its network, before the API server hears of it. A Pod that is Ready
    /// must answer.
    pub fn add_serving_pod<T>(
        &mut self,
        name: &str,
        node: u8,
        app: &str,
        serve: impl FnOnce(&Pod) -> Result<T>,
    ) -> Result<T> {
        let ranges = self.node(node)?.pod_ranges();
        let is_free = |number: &u8| self.pods.values().all(|pod| pod.v4 != ranges.v4(*number));
        let number = (10..=254).find(is_free).context("too many pods on this node")?;
        let namespace = self.place.namespace(name)?;
        let node = self.node(node)?;
        let pod = node.add_pod_in(namespace, name, number)?;
        let served = serve(&pod)?;
        self.api.create(&pod_object("default", name, node, &pod, app))?;
        self.pods.insert(name.to_owned(), pod);
        Ok(served)
    }

    /// Sets whether a Pod is ready.
    pub fn set_ready(&self, name: &str, ready: bool) -> Result<()> {
        let status = if ready { "True" } else { "False" };
        let change = json!({ "status": { "conditions": [{ "type": "Ready", "status": status }] } });
        self.api
            .patch(&format!("{}/status", path("Pod", "default", name)?), &change)
            .map(drop)
    }

    /// Deletes a Pod with its grace period. It terminates and still serves until [`Self::remove_pod`].
    pub fn delete_pod(&self, name: &str) -> Result<()> {
        self.api
            .delete(&path("Pod", "default", name)?, &json!({ "gracePeriodSeconds": 30 }))
    }

    /// Removes a Pod at once, and its network.
    pub fn remove_pod(&mut self, name: &str) -> Result<()> {
        self.api
            .delete(&path("Pod", "default", name)?, &json!({ "gracePeriodSeconds": 0 }))?;
        self.pod(name)?.unplug()?;
        self.pods.remove(name);
        Ok(())
    }

    /// The EndpointSlices of a Service, both families.
    pub fn slices(&self, namespace: &str, service: &str) -> Result<Vec<Value>> {
        let list = self.api.get(&format!(
            "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices?labelSelector=kubernetes.io/service-name={service}"
        ))?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    fn add_node(&mut self, number: u8, namespace: Namespace) -> Result<()> {
        let name = format!("node{number}");
        self.api.create(&json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name } },
        }))?;
        let address = path("Node", "", &name)?;
        let pods = crate::eventually(PATIENCE, || {
            let object = self.api.get(&address).ok()?;
            let range = |index: usize| object["spec"]["podCIDRs"][index].as_str()?.split('/').next();
            Some(PodRanges {
                v4: range(0)?.parse().ok()?,
                v6: range(1)?.parse().ok()?,
            })
        });
        let pods = pods.with_context(|| format!("the controller manager gave {name} no pod ranges in {PATIENCE:?}"))?;
        let node = self.fabric.connect_node(number, namespace, pods, &self.nodes)?;
        if self.reporter == Reporter::Kubelets {
            self.nodes.push(node);
            return Ok(());
        }
        let status = json!({ "status": {
            "addresses": [
                { "type": "InternalIP", "address": node.v4 },
                { "type": "InternalIP", "address": node.v6 },
                { "type": "Hostname", "address": name },
            ],
            "conditions": [{ "type": "Ready", "status": "True", "reason": "Tested", "message": "no kubelet" }],
        }});
        self.api.patch(&format!("{address}/status"), &status)?;
        self.nodes.push(node);
        Ok(())
    }

    fn wait_api(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = self.api.get_text("/readyz") {
            if let Some(server) = &mut self.api_server {
                server.check()?;
            }
            if Instant::now() > deadline {
                bail!("the API server does not answer after {PATIENCE:?}: {error:#}");
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

/// A Pod that runs and is ready, as a kubelet would report it.
pub(crate) fn pod_object(namespace: &str, name: &str, node: &Node, pod: &Pod, app: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "namespace": namespace, "name": name, "labels": { "app": app } },
        "spec": { "nodeName": node.name, "containers": [{
            "name": "main",
            "image": "none.example/main",
            "ports": [{ "name": "main", "containerPort": 8080 }, { "name": "other", "containerPort": 9090 }],
        }]},
        "status": {
            "phase": "Running",
            "hostIP": node.v4,
            "hostIPs": [{ "ip": node.v4 }, { "ip": node.v6 }],
            "podIP": pod.v4,
            "podIPs": [{ "ip": pod.v4 }, { "ip": pod.v6 }],
            "conditions": [{ "type": "Ready", "status": "True" }],
            "containerStatuses": [{
                "name": "main", "image": "none.example/main", "imageID": "", "restartCount": 0, "ready": true,
                "state": { "running": {} },
            }],
        },
    })
}
