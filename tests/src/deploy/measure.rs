//! How long an installation takes until it works, and what an agent costs.

use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context as _, Result, ensure};

use super::Figures;
use super::site::{NAMESPACE, PATIENCE, Site, TANDEM};
use crate::eventually;
use crate::kubelets::PodView;
use crate::manifests::Service;
use crate::netns::Namespace;
use crate::nft;
use crate::traffic::{Protocol, Request};

/// How many Services there are when memory is measured.
const SERVICES: usize = 10;
/// How often an agent is started.
const STARTS: usize = 20;
/// How often Tandem is installed on a node without rules.
const INSTALLS: usize = 5;
/// The number of clock ticks in a second in `/proc`, which is the same on every machine.
const TICKS: u64 = 100;
/// The time between two requests while an answer is waited for.
const EVERY: Duration = Duration::from_millis(2);
/// How long memory is left alone before it is measured.
const SETTLES: Duration = Duration::from_secs(10);

/// One installation: how long each part of it took from the start of `kubectl apply`.
#[derive(Clone, Copy, Debug)]
pub struct Install {
    /// kubectl ended.
    pub applied: Duration,
    /// The agent's process on the node started, to a hundredth of a second.
    pub started: Duration,
    /// The first answer.
    pub answered: Duration,
}

/// The label of the node that alone gets an agent.
const ALONE: &str = "alone";

/// Installs the manifests on one node without rules, again and again, and then on all nodes, where they stay. All nodes share
/// this machine's processors, so an installation on all of them takes longer than it does if each has its own.
pub(super) fn installs(site: &Site, file: &str, figures: &mut Figures) -> Result<()> {
    site.kubelets
        .kubectl(&["label", "node", "node1", &format!("{ALONE}=yes")])?;
    let alone = only_on(file, ALONE)?;
    while figures.installs.len() < INSTALLS {
        figures.installs.push(install(site, &alone, 1)?);
        site.kubelets.kubectl(&["delete", "-f", &alone])?;
        site.kubelets.wait_pods(NAMESPACE, TANDEM, 0)?;
        for machine in site.kubelets.machines() {
            remove_tables(&machine.node().namespace)?;
        }
    }
    site.kubelets
        .kubectl(&["label", "node", "node1", &format!("{ALONE}-")])?;
    figures.install_everywhere = Some(install(site, file, site.kubelets.machines().len())?);
    Ok(())
}

/// The manifests for nodes with this label alone.
fn only_on(file: &str, label: &str) -> Result<String> {
    let text = fs::read_to_string(file).with_context(|| format!("read {file}"))?;
    let selector = "      nodeSelector:\n";
    ensure!(
        text.matches(selector).count() == 1,
        "{file} has not one Pod template with a nodeSelector"
    );
    let text = text.replace(selector, &format!("{selector}        {label}: \"yes\"\n"));
    let file = format!("{file}.{label}");
    fs::write(&file, text).with_context(|| format!("write {file}"))?;
    Ok(file)
}

/// Applies the manifests, and waits until a node without rules answers and as many agents are ready as given.
fn install(site: &Site, file: &str, agents: usize) -> Result<Install> {
    let address = site.kubelets.cluster_ips("web")?[0];
    let node = site.kubelets.node(1)?.namespace.clone();
    let request = Request::tcp((address, 80).into()).timeout(Duration::from_millis(10));
    ensure!(
        request.send(&node)?.answer().is_none(),
        "{address} answers before anything is installed"
    );
    let (began, applied, answered) = thread::scope(|scope| {
        let began = Instant::now();
        let applied = scope.spawn(|| {
            site.kubelets.kubectl(&["apply", "-f", file])?;
            anyhow::Ok(Instant::now())
        });
        let answered = until_answer(&request, &node);
        anyhow::Ok((began, applied.join().ok().context("kubectl panicked")??, answered?))
    })?;
    let pods = site.kubelets.wait_pods(NAMESPACE, TANDEM, agents)?;
    let pod = pods
        .iter()
        .find(|pod| pod.node == "node1")
        .context("no agent on node1")?;
    Ok(Install {
        applied: applied - began,
        started: started(site, pod)?.saturating_duration_since(began),
        answered: answered - began,
    })
}

/// Takes Tandem's tables away, which an agent that has ended leaves.
fn remove_tables(node: &Namespace) -> Result<()> {
    for family in nft::FAMILIES {
        if nft::has_table(node, family)? {
            node.exec(&["nft", "delete", "table", family, nft::TABLE])?;
        }
    }
    Ok(())
}

/// The memory of the agents at ten Services, at rest.
pub(super) fn memory(site: &mut Site, figures: &mut Figures, _: Duration) -> Result<()> {
    let services = site.kubelets.api().get("/api/v1/services")?;
    let count = services["items"].as_array().map_or(0, Vec::len);
    for number in count..SERVICES {
        let service = Service::new("default", &format!("more-{number}")).port("tcp", Protocol::Tcp, 80, 8080);
        site.kubelets.api().create(&service.build())?;
    }
    thread::sleep(SETTLES);
    let pods = site.all_ready()?;
    let sizes = pods.iter().map(|pod| site.resident(pod)).collect::<Result<Vec<_>>>()?;
    figures.resident = sizes.into_iter().reduce(f64::max);
    Ok(())
}

/// Starts an agent again and again on a node without rules. The traffic must have ended.
pub(super) fn starts(site: &mut Site, figures: &mut Figures, _: Duration) -> Result<()> {
    site.stop_load(figures)?;
    site.remove_kube_proxy()?;
    for machine in site.kubelets.machines() {
        machine.node().namespace.exec(&["nft", "flush", "ruleset"])?;
    }
    site.install("one", &["nodeSelector.starts=yes"], &[])?;
    let address = site.kubelets.cluster_ips("web")?[0];
    let node = site.kubelets.node(1)?.namespace.clone();
    let request = Request::tcp((address, 80).into()).timeout(Duration::from_millis(10));
    for _ in 0..STARTS {
        remove_tables(&node)?;
        ensure!(
            request.send(&node)?.answer().is_none(),
            "{address} answers without rules"
        );
        site.kubelets.kubectl(&["label", "node", "node1", "starts=yes"])?;
        let answered = until_answer(&request, &node)?;
        let pod = site.kubelets.wait_pods(NAMESPACE, TANDEM, 1)?.remove(0);
        figures
            .start_to_answer
            .push(answered.duration_since(started(site, &pod)?));
        site.kubelets.kubectl(&["label", "node", "node1", "starts-"])?;
        site.kubelets.wait_pods(NAMESPACE, TANDEM, 0)?;
    }
    // A cleanup reaches only nodes that the release selects.
    site.kubelets.kubectl(&["label", "node", "node1", "starts=yes"])?;
    site.kubelets.wait_pods(NAMESPACE, TANDEM, 1)?;
    site.uninstall(figures)
}

/// Asks until an answer comes, and returns when.
fn until_answer(request: &Request, node: &Namespace) -> Result<Instant> {
    let asked = node.run(|| {
        eventually(PATIENCE, || {
            let answered = request.send_here().answer().is_some();
            if !answered {
                thread::sleep(EVERY);
            }
            answered.then(Instant::now)
        })
    })?;
    asked.with_context(|| format!("no answer after {PATIENCE:?}"))
}

/// When the agent's process in this Pod started, to a hundredth of a second.
fn started(site: &Site, pod: &PodView) -> Result<Instant> {
    let pids = site.kubelets.processes_of(pod, "tandem")?;
    let pid = pids
        .first()
        .with_context(|| format!("Pod {} has no process of Tandem", pod.name))?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("read a process's start")?;
    // The name of the program may have blanks; it is in brackets. The start is the 22nd field.
    let fields = stat.rsplit_once(')').context("a process without a name")?.1;
    let ticks: u64 = fields
        .split_whitespace()
        .nth(19)
        .context("no start")?
        .parse()
        .context("a start")?;
    let started = Duration::from_millis(ticks * 1000 / TICKS);
    let uptime = fs::read_to_string("/proc/uptime").context("read the time since the boot")?;
    let now = uptime.split(' ').next().and_then(|seconds| seconds.parse().ok());
    let now = Duration::from_secs_f64(now.context("no time since the boot")?);
    Instant::now()
        .checked_sub(now.saturating_sub(started))
        .context("a process that started too early")
}
