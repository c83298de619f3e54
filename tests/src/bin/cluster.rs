//! `make cluster`: a real control plane and three nodes as namespaces, which keep running for experiments. `make
//! cluster-down` removes them. Every node runs Tandem.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use rustix::process::{Pid, Signal, kill_process};
use tandem_tests::cluster::{self, Cluster};
use tandem_tests::manifests::Service;
use tandem_tests::netns::run_command;
use tandem_tests::tandem::{Tandem, beside};
use tandem_tests::traffic::{Protocol, Request};

const FOLDER: &str = "/run/tandem-cluster";
/// This file exists once everything runs.
const COMPLETE: &str = "complete";
const NODES: [&str; 3] = ["node1", "node2", "node3"];
const PODS: [&str; 3] = ["web-1", "web-2", "web-3"];
const NODE_PORT: u16 = 30080;

/// A real control plane and three nodes as namespaces, which keep running for experiments.
#[derive(Parser)]
enum Action {
    /// Start it, unless it runs.
    Up,
    /// Remove it.
    Down,
}

fn main() -> Result<()> {
    match Action::parse() {
        Action::Up if Path::new(FOLDER).join(COMPLETE).exists() => {
            println!("The cluster is there already (`make cluster-down` removes it).\n");
            explain()
        }
        Action::Up => up().or_else(|error| {
            // What was made is of no use, and would be in the way of the next attempt.
            down()?;
            Err(error)
        }),
        Action::Down => down(),
    }
}

fn up() -> Result<()> {
    let folder = Path::new(FOLDER);
    if folder.exists() {
        println!("Removing what is left of a cluster that was never complete…");
        down()?;
    }
    println!(
        "Starting etcd, kube-apiserver, kube-controller-manager and {} nodes…",
        NODES.len()
    );
    let mut cluster = Cluster::start_kept(folder, 3)?;
    write_kubectl(folder)?;

    println!("Starting a pod on each node and a Service `web` for them…");
    for (number, name) in (1..).zip(PODS) {
        cluster.add_pod(name, number, "web")?;
        serve(&cluster, name)?;
    }
    let service = Service::new("default", "web")
        .node_port("tcp", Protocol::Tcp, 80, 8080, NODE_PORT)
        .node_port("udp", Protocol::Udp, 80, 8080, NODE_PORT)
        .spec("ipFamilyPolicy", "RequireDualStack");
    cluster.api().create(&service.build())?;

    println!("Starting Tandem on each node…");
    for node in &cluster.nodes {
        Tandem::on(node)
            .kubeconfig(&cluster.tandem_kubeconfig())
            .start_kept(&folder.join(&node.name))?;
    }
    println!("Waiting until it answers from outside…\n");
    for address in cluster.node(1)?.addresses() {
        let request = Request::tcp((address, NODE_PORT).into());
        let answer = tandem_tests::eventually(std::time::Duration::from_secs(20), || {
            request
                .send(&cluster.client)
                .ok()
                .filter(|outcome| outcome.answer().is_some())
        });
        ensure!(
            answer.is_some(),
            "{address} port {NODE_PORT} does not answer; see {FOLDER}/node1/tandem.log"
        );
    }
    explain()
}

/// Starts a pod's server. It keeps running when this program ends.
fn serve(cluster: &Cluster, name: &str) -> Result<()> {
    let pod = cluster.pod(name)?;
    let log = File::create(Path::new(FOLDER).join(format!("{name}.log"))).context("make a log file")?;
    let mut command = Command::new(beside("whoami")?);
    command.arg(name).args(
        pod.addresses()
            .map(|address| std::net::SocketAddr::new(address, 8080).to_string()),
    );
    command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    pod.namespace.spawn(&mut command)?;
    Ok(())
}

fn write_kubectl(folder: &Path) -> Result<()> {
    let (path, binary) = (folder.join("kubectl"), cluster::binary()?);
    let binary = binary.display();
    let script = format!(
        "#!/bin/sh\nexec ip netns exec tandem-cp {binary} kubectl --kubeconfig {FOLDER}/admin.kubeconfig \"$@\"\n"
    );
    fs::write(&path, script).and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o755)))?;
    Ok(())
}

fn explain() -> Result<()> {
    let tandem = beside("tandem")?;
    let tandem = tandem.display();
    println!(
        "\
A Kubernetes control plane runs in namespace tandem-cp; node1, node2 and node3 are namespaces tandem-node1 …, each with
Tandem in kube-proxy's place. Service `web` has a pod on each node (namespaces tandem-web-1 …).

  kubectl            {FOLDER}/kubectl get nodes,pods,services,endpointslices -o wide
  ask from outside   ip netns exec tandem-client bash -c 'head -1 </dev/tcp/192.0.2.11/{NODE_PORT}'
                     ip netns exec tandem-client bash -c 'head -1 </dev/tcp/2001:db8:2::11/{NODE_PORT}'
  ask from a pod     ip netns exec tandem-web-1 bash -c 'head -1 </dev/tcp/CLUSTER-IP/80'
  a shell on a node  ip netns exec tandem-node1 bash
  what Tandem knows  {tandem} services -A --socket {FOLDER}/node1/tandem.sock
                     {tandem} status --socket {FOLDER}/node1/tandem.sock
  what it programmed ip netns exec tandem-node1 nft list table ip tandem
  its log            {FOLDER}/node1/tandem.log
  another Service    {FOLDER}/kubectl expose pod web-1 --name one --port 81 --target-port 8080

`make cluster-down` removes all of it, and every program in these namespaces."
    );
    Ok(())
}

fn down() -> Result<()> {
    let pods = PODS.map(|pod| format!("tandem-{pod}"));
    let nodes = NODES.map(|node| format!("tandem-{node}"));
    let others = ["tandem-client", "tandem-cp"].map(str::to_owned);
    for name in pods.into_iter().chain(nodes).chain(others) {
        if Path::new("/run/netns").join(&name).exists() {
            remove(&name)?;
        }
    }
    if Path::new(FOLDER).exists() {
        fs::remove_dir_all(FOLDER).with_context(|| format!("remove {FOLDER}"))?;
    }
    println!("The cluster is removed.");
    Ok(())
}

/// Kills all processes in a namespace, and deletes it.
fn remove(name: &str) -> Result<()> {
    let pids = run_command(Command::new("ip").args(["netns", "pids", name]))?;
    for pid in pids
        .split_whitespace()
        .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
    {
        let _ = kill_process(pid, Signal::KILL); // it may have ended by itself
    }
    run_command(Command::new("ip").args(["netns", "delete", name]))?;
    Ok(())
}
