//! Real nodes: each has a kubelet, containerd and runc of its own, and real containers.
//!
//! ```no_run
//! # use tandem_tests::kubelets::{Kubelets, images};
//! # fn main() -> anyhow::Result<()> {
//! let kubelets = Kubelets::start(3)?; // nodes Ready, half a minute
//! kubelets.load(&[images::whoami()?])?; // on every node
//! kubelets.kubectl(&["get", "nodes"])?;
//! # Ok(())
//! # }
//! ```
//!
//! The control plane is that of [`crate::cluster`], with a scheduler. A node is a network namespace with a mount
//! namespace and a process namespace ([`machine`]). So when its first process ends, the kernel ends all others and
//! removes all mounts, whatever state they are in. Cgroups are the machine's: each node has a folder of its own in each
//! hierarchy. Pods get their network by the CNI plugins `ptp` and `host-local`, in both families; the routes between
//! the nodes are those of [`crate::cluster`].

mod cgroup;
mod files;
pub mod images;
mod left;
pub mod machine;
mod objects;
mod pods;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use serde_json::Value;
use tandem_image::Named;

use crate::cluster::{Api, Cluster, path};
use crate::eventually;
use crate::manifests::to_yaml;
use crate::netns::run_command;
use crate::node::Node;
use crate::tools;

pub use left::Trace;
pub use machine::Machine;
pub use pods::PodView;

/// How long nodes and Pods may take until they are ready.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A control plane with real nodes. Dropping it ends all of it.
#[derive(Debug)]
pub struct Kubelets {
    // They must end before their network goes.
    machines: Vec<Machine>,
    cluster: Cluster,
}

impl Kubelets {
    /// Starts the control plane and this number of nodes. Returns when all are Ready.
    pub fn start(nodes: u8) -> Result<Self> {
        let cluster = Cluster::start_for_kubelets(nodes)?;
        let mut kubelets = Self {
            machines: Vec::new(),
            cluster,
        };
        for node in &kubelets.cluster.nodes {
            kubelets.machines.push(Machine::new(&kubelets.cluster, node)?);
        }
        kubelets.load(&[images::pause()?])?;
        for machine in &mut kubelets.machines {
            machine.start_kubelet()?;
        }
        kubelets.wait_nodes()?;
        Ok(kubelets)
    }

    /// The control plane and the nodes' network.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The API server, as its administrator.
    pub fn api(&self) -> &Api {
        self.cluster.api()
    }

    /// The network of node 1, 2, ….
    pub fn node(&self, number: u8) -> Result<&Node> {
        self.cluster.node(number)
    }

    /// The nodes' machines, `node1` first.
    pub fn machines(&self) -> &[Machine] {
        &self.machines
    }

    /// Node 1, 2, … to change what runs on it.
    pub fn machine_mut(&mut self, number: u8) -> Result<&mut Machine> {
        let index = usize::from(number).checked_sub(1);
        index
            .and_then(|index| self.machines.get_mut(index))
            .with_context(|| format!("there is no node {number}"))
    }

    /// Puts images on every node.
    pub fn load(&self, images: &[Named]) -> Result<()> {
        let archive = images::archive(self.cluster.folder(), images)?;
        let loaded = self.load_archive(&archive);
        let _ = fs::remove_file(&archive); // it is large, and the folder goes at the end anyway
        loaded
    }

    /// Puts the images of an OCI archive on every node.
    pub fn load_archive(&self, archive: &Path) -> Result<()> {
        thread::scope(|scope| {
            let loads: Vec<_> = self
                .machines
                .iter()
                .map(|machine| scope.spawn(move || machine.load(archive)))
                .collect();
            loads
                .into_iter()
                .try_for_each(|load| load.join().map_err(|_| anyhow!("loading an image panicked"))?)
        })
    }

    /// Puts Tandem's image on every node, under these tags: the project's own image if `TANDEM_IMAGE` names its layout, or
    /// else one of this build.
    pub fn load_tandem(&self, tags: &[&str]) -> Result<()> {
        let Some(layout) = images::own_layout() else {
            let built = tags.iter().map(|tag| images::tandem(tag)).collect::<Result<Vec<_>>>()?;
            return self.load(&built);
        };
        let archive = self.cluster.folder().join("own-image.tar");
        tandem_image::layout::archive(&layout, &archive)?;
        for machine in &self.machines {
            let before = machine.ctr(&["images", "list", "--quiet"])?;
            machine.load(&archive)?;
            let after = machine.ctr(&["images", "list", "--quiet"])?;
            let new = after.lines().find(|name| !before.contains(*name));
            let name = new.with_context(|| format!("{} has no image with a name", layout.display()))?;
            for tag in tags {
                machine.ctr(&["images", "tag", name, &images::tandem_name(tag)])?;
            }
        }
        Ok(())
    }

    /// Runs kubectl as the administrator and returns what it printed.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.cluster.kubectl(arguments)
    }

    /// The same, with all that it printed, however it ended.
    pub fn kubectl_says(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(crate::cluster::binary()?);
        let kubeconfig = self.cluster.admin_kubeconfig();
        command
            .arg("kubectl")
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .args(arguments);
        let output = self.cluster.inside().run(|| command.output())?.context("run kubectl")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(text(&output.stdout) + &text(&output.stderr))
    }

    /// Applies objects with kubectl.
    pub fn apply(&self, objects: &[Value]) -> Result<()> {
        let texts = objects.iter().map(to_yaml).collect::<Result<Vec<_>>>()?;
        let file = self.cluster.folder().join("apply.yaml");
        fs::write(&file, texts.join("---\n")).with_context(|| format!("write {}", file.display()))?;
        self.kubectl(&["apply", "-f", &file.display().to_string()]).map(drop)
    }

    /// Runs another of the control plane's tools as the administrator, for example `kubeadm`.
    pub fn administer(&self, tool: &str, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(crate::cluster::binary()?);
        command.arg(tool).args(arguments).current_dir(self.cluster.folder());
        self.cluster.inside().run(|| run_command(&mut command))?
    }

    /// Runs Helm as the administrator, with files of its own.
    pub fn helm(&self, arguments: &[&str]) -> Result<String> {
        let home = self.cluster.folder().join("helm");
        let mut command = tools::helm(&home, &self.cluster.admin_kubeconfig(), arguments)?;
        command.current_dir(self.cluster.folder());
        self.cluster.inside().run(|| run_command(&mut command))?
    }

    /// The folder of its files.
    pub fn folder(&self) -> &Path {
        self.cluster.folder()
    }

    /// What to look for after it was dropped.
    pub fn trace(&self) -> Trace {
        Trace::new(&self.cluster, &self.machines)
    }

    /// Waits until every node is Ready.
    pub fn wait_nodes(&self) -> Result<()> {
        for machine in &self.machines {
            let address = path("Node", "", machine.name())?;
            let ready = eventually(PATIENCE, || {
                let node = self.api().get(&address).ok()?;
                let conditions = node["status"]["conditions"].as_array()?;
                conditions
                    .iter()
                    .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
                    .then_some(())
            });
            ready.with_context(|| {
                let node = self.api().get(&address).unwrap_or_default();
                format!(
                    "{} is not Ready after {PATIENCE:?}: {:#}\nits kubelet's log:\n{}",
                    machine.name(),
                    node["status"]["conditions"],
                    machine.log_tail("kubelet", 40)
                )
            })?;
        }
        Ok(())
    }
}
