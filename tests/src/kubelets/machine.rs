//! One node as a machine: its namespaces, its containerd and its kubelet.
//!
//! The node sees this machine's files, but `/run` and `/var` are its own, `/proc` shows only its processes, and the
//! settings of the kernel that kubelet wants to change are files. Its first process is `pause`, which reaps.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::cgroup::Cgroup;
use super::files;
use crate::cluster::{Cluster, Program, binary};
use crate::eventually;
use crate::netns::run_command;
use crate::node::Node;
use crate::tandem::beside;
use crate::tools::tool;

/// How long containerd or the first process may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// Prepares the mounts of a node, and becomes its first process. `$1` is the node's folder, `$2` the program.
const INIT: &str = r#"set -e
mount --make-rshared /
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mount --bind "$1/var" /var
mount --bind "$1/hosts" /etc/hosts
for file in "$1"/kernel/*; do
  name=${file##*/}
  case $name in kernel_keys_*) name=kernel/keys/${name#kernel_keys_} ;; *) name=${name%%_*}/${name#*_} ;; esac
  mount --bind "$file" "/proc/sys/$name"
done
# kube-proxy's Pod mounts this folder. It must not be made on the machine itself.
lib=$(readlink -f /lib)
if [ ! -d "$lib/modules" ]; then
  mkdir /run/.lib /run/.work
  mount -t overlay overlay -o "lowerdir=$lib,upperdir=/run/.lib,workdir=/run/.work" "$lib"
  mkdir "$lib/modules"
fi
: >"$1/started"
exec "$2""#;

/// A node. When it is dropped, all its processes are killed.
#[derive(Debug)]
pub struct Machine {
    node: Node,
    folder: PathBuf,
    /// The number of its first process.
    first: u32,
    kubelet: Option<Program>,
    containerd: Option<Program>,
    /// `unshare`, which waits for the first process.
    holder: Child,
    cgroup: Cgroup,
}

impl Machine {
    /// Makes the node, and starts containerd.
    pub(super) fn new(cluster: &Cluster, node: &Node) -> Result<Self> {
        let folder = cluster.folder().join(&node.name);
        let cgroup = Cgroup::new(node.namespace.name())?;
        files::write(&folder, cluster.folder(), node, &cgroup.root())?;
        let mut command = Command::new("unshare");
        command
            .args([
                "--mount",
                "--propagation",
                "private",
                "--pid",
                "--fork",
                "--kill-child=KILL",
            ])
            .args(["sh", "-c", INIT, "init"])
            .args([folder.as_path(), &beside("pause")?])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("init.log")).context("make a log file")?);
        let holder = node.namespace.spawn(&mut command)?;
        let mut machine = Self {
            node: node.clone(),
            folder,
            first: 0,
            kubelet: None,
            containerd: None,
            holder,
            cgroup,
        };
        machine.wait_first()?;
        machine.start_containerd()?;
        Ok(machine)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.node.name
    }

    /// Its network.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Its cgroups' name, and the kubelet's setting.
    pub fn cgroup(&self) -> String {
        self.cgroup.root()
    }

    /// The folder with its files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file of the node, seen from outside.
    pub fn outside(&self, path: &str) -> PathBuf {
        // A link would lead to this machine's folder.
        let own = path.strip_prefix("/var/run/").map(|rest| format!("run/{rest}"));
        let own = own.as_deref().unwrap_or(path.trim_start_matches('/'));
        Path::new("/proc").join(self.first.to_string()).join("root").join(own)
    }

    /// A program inside the node's namespaces. The network is that of the thread that starts it.
    fn inside(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.first))
            .args(["--mount", "--pid", "--"])
            .arg(program);
        command
    }

    /// Runs a program on the node and returns what it printed.
    pub fn run(&self, program: &Path, arguments: &[&str]) -> Result<String> {
        let mut command = self.inside(program);
        command.args(arguments);
        self.node
            .namespace
            .run(|| run_command(&mut command))?
            .with_context(|| format!("on {}", self.name()))
    }

    /// Runs `ctr` for the images and containers of Kubernetes.
    pub fn ctr(&self, arguments: &[&str]) -> Result<String> {
        let all = [&["--address", files::SOCKET, "--namespace", "k8s.io"], arguments].concat();
        self.run(&tool("ctr")?, &all)
    }

    /// Puts the images of an OCI archive on the node.
    pub fn load(&self, archive: &Path) -> Result<()> {
        let archive = archive.display().to_string();
        self.ctr(&["images", "import", "--local", &archive]).map(drop)
    }

    /// Says that a registry is at this address, over plain HTTP.
    pub fn use_registry(&self, registry: &str, address: &str) -> Result<()> {
        files::registry(&self.folder, registry, address)
    }

    /// Starts kubelet.
    pub fn start_kubelet(&mut self) -> Result<()> {
        ensure!(self.kubelet.is_none(), "{}: its kubelet runs already", self.name());
        let mut command = self.inside(&binary()?);
        let file = |name: &str| self.folder.join(name).display().to_string();
        command.args([
            "kubelet".to_owned(),
            format!("--config={}", file("kubelet.json")),
            format!("--kubeconfig={}", file("kubelet.kubeconfig")),
            format!("--hostname-override={}", self.node.name),
            format!("--node-ip={},{}", self.node.v4, self.node.v6),
            "--root-dir=/var/lib/kubelet".to_owned(),
            "--cert-dir=/var/lib/kubelet/pki".to_owned(),
            "--v=1".to_owned(),
        ]);
        let kubelet = Program::start_command(&self.node.namespace, &self.folder, "kubelet", command, false)?;
        self.kubelet = Some(kubelet);
        Ok(())
    }

    /// Kills kubelet. Its containers run on.
    pub fn kill_kubelet(&mut self) -> Result<()> {
        let kubelet = self.kubelet.take().context("kubelet does not run")?;
        kill(&kubelet)
    }

    /// Kills one of the node's processes, by the number that this machine gives it.
    pub fn kill_process(&self, pid: u32) -> Result<()> {
        signal(pid, Signal::KILL)
    }

    /// The end of a program's log.
    pub fn log_tail(&self, program: &str, lines: usize) -> String {
        let log = fs::read_to_string(self.folder.join(format!("{program}.log"))).unwrap_or_default();
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    fn start_containerd(&mut self) -> Result<()> {
        let containerd = tool("containerd")?;
        let mut command = self.inside(&containerd);
        // It looks for its shim there.
        let folder = containerd.parent().context("containerd is in no folder")?;
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .env("PATH", format!("{}:{path}:/usr/sbin:/sbin", folder.display()))
            .arg("--config")
            .arg(self.folder.join("containerd.toml"));
        let program = Program::start_command(&self.node.namespace, &self.folder, "containerd", command, false)?;
        let socket = self.outside(files::SOCKET);
        let program = self.containerd.insert(program);
        let answers = eventually(PATIENCE, || match program.check() {
            Err(error) => Some(Err(error)),
            Ok(()) => socket.exists().then_some(Ok(())),
        });
        answers.with_context(|| format!("{}: containerd has no socket after {PATIENCE:?}", self.node.name))?
    }

    /// Waits until the first process has made the mounts, and finds its number.
    fn wait_first(&mut self) -> Result<()> {
        let started = self.folder.join("started");
        let deadline = std::time::Instant::now() + PATIENCE;
        while !started.exists() {
            if let Some(status) = self.holder.try_wait()? {
                let why = self.log_tail("init", 5);
                bail!("{}: its mounts could not be made: {status}: {why}", self.name());
            }
            ensure!(
                std::time::Instant::now() < deadline,
                "{}: no mounts after {PATIENCE:?}",
                self.name()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        self.first = child(self.holder.id())?;
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The kernel kills all other processes of the node, and only then ends the first one.
        let killed = child(self.holder.id()).and_then(|first| signal(first, Signal::KILL));
        if let Err(error) = killed {
            eprintln!("{}: its processes were not killed: {error:#}", self.node.name);
            let _ = self.holder.kill();
        }
        let _ = self.holder.wait();
    }
}

/// Kills a program that `nsenter` started.
fn kill(program: &Program) -> Result<()> {
    signal(child(program.pid())?, Signal::KILL)
}

fn signal(pid: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no process")?;
    kill_process(pid, signal).context("send a signal")
}

/// The child of a process that has one.
fn child(parent: u32) -> Result<u32> {
    let file = format!("/proc/{parent}/task/{parent}/children");
    let text = fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
    let first = text.split_whitespace().next();
    first
        .and_then(|pid| pid.parse().ok())
        .with_context(|| format!("process {parent} has no child"))
}
