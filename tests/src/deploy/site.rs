//! The cluster in which an installation lives, and what the steps do in it.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;

use super::Figures;
use super::changes::{self, Changes};
use super::load::{Load, Way};
use crate::cluster::path;
use crate::code::root;
use crate::eventually;
use crate::fabric::GATEWAYS;
use crate::kubelets::{Kubelets, PodView, images};
use crate::netns::Namespace;
use crate::topology::SERVICE_RANGES;
use crate::traffic::{Protocol, Request};

/// The namespace of the release and of kube-proxy.
pub(super) const NAMESPACE: &str = "kube-system";
/// The label of the chart's Pods.
pub(super) const TANDEM: &str = "app.kubernetes.io/name=tandem";
/// The label of kubeadm's kube-proxy.
pub(super) const KUBE_PROXY: &str = "k8s-app=kube-proxy";
/// The release.
const RELEASE: &str = "tandem";
/// How often a node is asked whether only one Pod answers.
const ASKED: usize = 8;
/// How long the nodes may take to do what a step demands.
pub(super) const PATIENCE: Duration = Duration::from_mins(2);

/// The cluster, its servers, and the traffic to them.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) load: Option<Load>,
    pub(super) changes: Option<Changes>,
    pub(super) servers: Vec<PodView>,
    pub(super) kubelets: Kubelets,
    nodes: usize,
}

impl Site {
    /// Starts nodes with all images, and the servers. No service proxy runs yet.
    pub(super) fn new(nodes: u8, tags: &[&str]) -> Result<Self> {
        let kubelets = Kubelets::start(nodes)?;
        kubelets.load(&[images::whoami()?, images::kube_proxy()?, images::crashing("crashes")?])?;
        kubelets.load_tandem(tags)?;
        kubelets.apply(&kubelets.whoami("web"))?;
        let nodes = usize::from(nodes);
        let servers = kubelets.wait_pods("default", "app=web", nodes)?;
        Ok(Self {
            load: None,
            changes: None,
            servers,
            kubelets,
            nodes,
        })
    }

    /// Starts the changes and the traffic. Services must work.
    pub(super) fn start_load(&mut self, interval: Duration) -> Result<()> {
        self.changes = Some(Changes::start(&self.kubelets, &self.servers)?);
        for address in self.kubelets.cluster_ips(changes::NAME)? {
            answers(&self.kubelets.node(1)?.namespace, (address, 80).into())?;
        }
        self.load = Some(Load::start(self.ways()?, interval)?);
        Ok(())
    }

    /// Ends the changes and the traffic, and counts.
    pub(super) fn stop_load(&mut self, figures: &mut Figures) -> Result<()> {
        if let Some(load) = self.load.take() {
            let (sums, outcomes) = load.stop()?;
            figures.connections += sums.connections;
            figures.messages += sums.messages;
            figures.lost += sums.lost;
            figures
                .wrong
                .extend(outcomes.into_iter().map(|outcome| ("traffic".to_owned(), outcome)));
        }
        self.changes.take().map_or(Ok(()), Changes::stop)
    }

    /// Every way of the traffic.
    fn ways(&self) -> Result<Vec<Way>> {
        let mut ways = Vec::new();
        let mut add = |name: String, from: &Namespace, protocol, to: SocketAddr, keeps| {
            ways.push(Way {
                name: format!("{name} {protocol} {to}"),
                from: from.clone(),
                protocol,
                to,
                keeps,
            });
        };
        let (web, moving) = (
            self.kubelets.cluster_ips("web")?,
            self.kubelets.cluster_ips(changes::NAME)?,
        );
        let pod = self.servers.last().context("no servers")?;
        let pod = self.kubelets.network_of(pod)?;
        let mut sources = vec![("a Pod".to_owned(), pod)];
        for machine in self.kubelets.machines() {
            sources.push((machine.name().to_owned(), machine.node().namespace.clone()));
        }
        for (name, from) in &sources {
            for address in &web {
                add(name.clone(), from, Protocol::Tcp, (*address, 80).into(), true);
                add(name.clone(), from, Protocol::Udp, (*address, 80).into(), false);
            }
            for address in &moving {
                add(name.clone(), from, Protocol::Tcp, (*address, 80).into(), false);
            }
        }
        let client = &self.kubelets.cluster().client;
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let port = self.node_port(protocol)?;
            for machine in self.kubelets.machines() {
                for address in machine.node().addresses() {
                    let keeps = protocol == Protocol::Tcp;
                    add("outside".to_owned(), client, protocol, (address, port).into(), keeps);
                }
            }
        }
        Ok(ways)
    }

    fn node_port(&self, protocol: Protocol) -> Result<u16> {
        let service = self.kubelets.api().get(&path("Service", "default", "web")?)?;
        let ports = service["spec"]["ports"].as_array().cloned().unwrap_or_default();
        let port = ports.iter().find(|port| port["protocol"] == protocol.to_string());
        let number = port.and_then(|port| u16::try_from(port["nodePort"].as_u64()?).ok());
        number.with_context(|| format!("Service web has no nodePort for {protocol}"))
    }

    /// Waits until Service `web` answers on each node in both families.
    pub(super) fn services_answer(&self) -> Result<()> {
        for machine in self.kubelets.machines() {
            for address in self.kubelets.cluster_ips("web")? {
                answers(&machine.node().namespace, (address, 80).into())?;
            }
        }
        Ok(())
    }

    /// Fails if the rules of a node do not follow. One Pod becomes the only endpoint of the Service that changes, and from
    /// then on only that Pod may answer, on every node and in both families. Rules that nobody keeps send to others.
    pub(super) fn rules_follow(&self, turn: usize) -> Result<()> {
        let Some(changes) = &self.changes else {
            return Ok(());
        };
        let name = changes.pin(turn)?;
        for machine in self.kubelets.machines() {
            for address in self.kubelets.cluster_ips(changes::NAME)? {
                let request = Request::tcp((address, 80).into()).timeout(Duration::from_secs(1));
                let mut others = Vec::new();
                let alone = eventually(PATIENCE, || {
                    let ask = |_| request.send(&machine.node().namespace).ok();
                    let by: Vec<_> = (0..ASKED).map(ask).collect();
                    let names = by
                        .iter()
                        .map(|outcome| outcome.as_ref()?.answered_by().map(str::to_owned));
                    others = names.filter(|answered| answered.as_deref() != Some(name)).collect();
                    others.is_empty().then_some(())
                });
                ensure!(
                    alone.is_some(),
                    "the rules of {} do not follow: at {address} only {name} should answer, and {others:?} do",
                    machine.name()
                );
            }
        }
        changes.unpin()
    }

    /// `helm install` or `helm upgrade` of the chart with these values.
    pub(super) fn helm(&self, verb: &str, values: &[&str], more: &[&str]) -> Result<()> {
        let values = values.iter().flat_map(|value| ["--set-string", value]);
        let more: Vec<&str> = values.chain(more.iter().copied()).collect();
        self.helm_in(NAMESPACE, verb, &more).map(drop)
    }

    /// The same in any namespace. Returns what Helm says.
    fn helm_in(&self, namespace: &str, verb: &str, more: &[&str]) -> Result<String> {
        let chart = root().join("deploy/chart").display().to_string();
        let repository = format!("image.repository={}/tandem", images::REGISTRY);
        let fixed = [verb, RELEASE, &chart, "--namespace", namespace, "--set", &repository];
        self.kubelets.helm(&[&fixed, more].concat())
    }

    /// Installs a release in this namespace, with the usual values. Returns what Helm says.
    pub(super) fn install_in(&self, namespace: &str, tag: &str, more: &[&str]) -> Result<String> {
        let (tag, host) = (format!("image.tag={tag}"), format!("apiServer.host={}", GATEWAYS.0));
        let values = ["--set-string", tag.as_str(), "--set-string", &host];
        self.helm_in(namespace, "install", &[&values, more].concat())
    }

    /// The usual values: this tag, and the API server's address.
    pub(super) fn install(&self, tag: &str, values: &[&str], more: &[&str]) -> Result<()> {
        let values = values.iter().flat_map(|value| ["--set-string", value]);
        let more: Vec<&str> = values.chain(more.iter().copied()).collect();
        self.install_in(NAMESPACE, tag, &more).map(drop)
    }

    /// `helm upgrade --reset-then-reuse-values`.
    pub(super) fn upgrade(&self, values: &[&str], more: &[&str]) -> Result<()> {
        self.helm("upgrade", values, &[&["--reset-then-reuse-values"], more].concat())
    }

    /// `helm rollback`, and waits until it is done.
    pub(super) fn rollback(&self) -> Result<()> {
        self.kubelets.helm(&[
            "rollback",
            RELEASE,
            "--namespace",
            NAMESPACE,
            "--wait",
            "--timeout",
            "2m",
        ])?;
        self.all_ready().map(drop)
    }

    /// `mode: cleanup`, until every node is clean, and then `helm uninstall`. Fails if something is left.
    pub(super) fn uninstall(&self, figures: &mut Figures) -> Result<()> {
        self.upgrade(&["mode=cleanup"], &["--wait", "--timeout", "2m"])?;
        self.rolled_out("tandem")?;
        self.kubelets
            .helm(&["uninstall", RELEASE, "--namespace", NAMESPACE, "--wait"])?;
        self.nothing_left(figures)
    }

    /// Fails if something of Tandem is left.
    pub(super) fn nothing_left(&self, figures: &mut Figures) -> Result<()> {
        // Kubernetes removes the Pods of a DaemonSet that was deleted a moment later.
        let gone = eventually(PATIENCE, || self.leftovers().ok()?.is_empty().then_some(()));
        let left = figures.leftovers.insert(self.leftovers()?);
        ensure!(gone.is_some(), "left: {left:?}");
        Ok(())
    }

    /// Waits for `kubectl rollout status`.
    pub(super) fn rolled_out(&self, daemon_set: &str) -> Result<()> {
        let name = format!("daemonset/{daemon_set}");
        let arguments = ["--namespace", NAMESPACE, "rollout", "status", &name, "--timeout=120s"];
        self.kubelets.kubectl(&arguments).map(drop)
    }

    /// Waits until Tandem's Pods are ready on all nodes, and no others are left.
    pub(super) fn all_ready(&self) -> Result<Vec<PodView>> {
        self.kubelets.wait_pods(NAMESPACE, TANDEM, self.nodes)
    }

    /// Waits until a Pod of Tandem runs on each node. It need not be ready.
    pub(super) fn all_run(&self) -> Result<Vec<PodView>> {
        self.each_node(|pod| pod.object["status"]["phase"] == "Running" && !pod.ends)
    }

    fn each_node(&self, fine: impl Fn(&PodView) -> bool) -> Result<Vec<PodView>> {
        let mut pods = Vec::new();
        let found = eventually(PATIENCE, || {
            std::thread::sleep(Duration::from_millis(50));
            pods = self.kubelets.pods(NAMESPACE, TANDEM).ok()?;
            (pods.len() == self.nodes && pods.iter().all(&fine)).then_some(())
        });
        ensure!(found.is_some(), "Tandem's Pods after {PATIENCE:?}: {pods:#?}");
        Ok(pods)
    }

    /// What Tandem says in a Pod: `tandem ARGUMENTS`, also if it ends with an error.
    pub(super) fn says(&self, pod: &PodView, arguments: &[&str]) -> Result<String> {
        let fixed = [
            "--namespace",
            &pod.namespace,
            "exec",
            &pod.name,
            "--",
            "/usr/local/bin/tandem",
        ];
        self.kubelets.kubectl_says(&[&fixed, arguments].concat())
    }

    /// Waits until `tandem ready` says this in every Pod.
    pub(super) fn all_say(&self, words: &str) -> Result<()> {
        for pod in self.all_run()? {
            let mut said = String::new();
            let heard = eventually(PATIENCE, || {
                said = self.says(&pod, &["ready"]).ok()?;
                said.contains(words).then_some(())
            });
            ensure!(
                heard.is_some(),
                "tandem ready in {} says {said:?}, and not {words:?}",
                pod.name
            );
        }
        Ok(())
    }

    /// Installs kubeadm's kube-proxy in this mode, and waits until it has programmed every node.
    pub(super) fn kube_proxy(&self, mode: &str) -> Result<()> {
        self.kubelets
            .kubeadm_kube_proxy(&json!({ "mode": mode, mode: { "minSyncPeriod": "100ms" } }))?;
        self.kube_proxy_programs(mode)
    }

    /// Installs kube-proxy from the copy that [`Self::remove_kube_proxy`] made, as docs/install.md says.
    pub(super) fn kube_proxy_from_copy(&self, mode: &str) -> Result<()> {
        self.kubelets.kubectl(&["apply", "-f", &self.copy()])?;
        self.kube_proxy_programs(mode)
    }

    fn copy(&self) -> String {
        self.kubelets.folder().join("kube-proxy.yaml").display().to_string()
    }

    /// Waits until kube-proxy has programmed every node. Its Pods have no probe that says so.
    fn kube_proxy_programs(&self, mode: &str) -> Result<()> {
        self.kubelets.wait_pods(NAMESPACE, KUBE_PROXY, self.nodes)?;
        let rules: [&str; 2] = match mode {
            "iptables" => ["iptables-nft-save -t nat", "ip6tables-nft-save -t nat"],
            _ => ["nft list table ip kube-proxy", "nft list table ip6 kube-proxy"],
        };
        for machine in self.kubelets.machines() {
            for rules in rules {
                let arguments: Vec<&str> = rules.split(' ').collect();
                let programmed = eventually(PATIENCE, || {
                    let text = machine.node().namespace.exec(&arguments).ok()?;
                    text.contains("default/web").then_some(())
                });
                programmed.with_context(|| format!("{}: `{rules}` does not list Service web", machine.name()))?;
            }
        }
        Ok(())
    }

    /// Deletes kube-proxy's DaemonSet as docs/install.md says, with a copy, and waits until its Pods are gone.
    pub(super) fn remove_kube_proxy(&self) -> Result<()> {
        let get = [
            "--namespace",
            NAMESPACE,
            "get",
            "daemonset",
            "kube-proxy",
            "--output=yaml",
        ];
        let text = self.kubelets.kubectl(&get)?;
        fs::write(self.copy(), text).context("write the copy of kube-proxy's DaemonSet")?;
        self.kubelets
            .kubectl(&["--namespace", NAMESPACE, "delete", "daemonset", "kube-proxy"])?;
        self.kubelets.wait_pods(NAMESPACE, KUBE_PROXY, 0)?;
        Ok(())
    }

    /// What Tandem left: tables, routes, rules, files, objects of the API server.
    pub(super) fn leftovers(&self) -> Result<Vec<String>> {
        let mut left = Vec::new();
        for machine in self.kubelets.machines() {
            let node = &machine.node().namespace;
            // Both tables, and the node's lock.
            let tables = node.exec(&["nft", "list", "tables"])?;
            let ours = tables.lines().filter(|line| line.contains("tandem"));
            left.extend(ours.map(|line| format!("{}: {line}", machine.name())));
            for (family, range) in ["-4", "-6"].iter().zip(SERVICE_RANGES) {
                let routes = node.exec(&["ip", family, "route", "show", "table", "all", "root", range])?;
                left.extend(
                    routes
                        .lines()
                        .filter(|line| !line.starts_with("default"))
                        .map(|line| format!("{}: route {line}", machine.name())),
                );
                let rules = node.exec(&["ip", family, "rule"])?;
                let usual = ["lookup local", "lookup main", "lookup default"];
                let others = rules
                    .lines()
                    .filter(|line| !usual.iter().any(|usual| line.contains(usual)));
                left.extend(others.map(|line| format!("{}: rule {line}", machine.name())));
            }
            for file in ["/run/tandem", "/var/lib/tandem", "/etc/tandem"] {
                if machine.outside(file).exists() {
                    left.push(format!("{}: {file}", machine.name()));
                }
            }
        }
        let kinds = "daemonsets,controllerrevisions,pods,configmaps,serviceaccounts,roles,rolebindings,clusterroles,clusterrolebindings";
        let labels = "app.kubernetes.io/name=tandem";
        let objects =
            self.kubelets
                .kubectl(&["get", kinds, "--all-namespaces", "--selector", labels, "--output=name"])?;
        left.extend(objects.lines().map(str::to_owned));
        let secrets = self.kubelets.kubectl(&[
            "get",
            "secrets",
            "--all-namespaces",
            "--selector",
            "owner=helm",
            "--output=name",
        ])?;
        left.extend(secrets.lines().map(str::to_owned));
        Ok(left)
    }

    /// The manifests of this file, with the image and the API server's address put in.
    pub(super) fn manifest(&self, name: &str, tag: &str, host: &str) -> Result<String> {
        let file = root().join("deploy/manifests").join(name);
        let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        let mut out = String::new();
        let mut changed = 0;
        for line in text.lines() {
            let blank = &line[..line.len() - line.trim_start().len()];
            let word = line.trim_start();
            if word.starts_with("image:") {
                changed += 1;
                let _ = writeln!(out, "{blank}image: {}/tandem:{tag}", images::REGISTRY);
            } else if word.starts_with("- --master=") {
                let _ = writeln!(out, "{blank}- --master=https://{host}:6443");
            } else {
                let _ = writeln!(out, "{line}");
            }
        }
        ensure!(changed > 0, "{} has no image", file.display());
        let place = self.kubelets.folder().join(name);
        fs::write(&place, out).with_context(|| format!("write {}", place.display()))?;
        Ok(place.display().to_string())
    }

    /// The memory of an agent.
    pub(super) fn resident(&self, pod: &PodView) -> Result<f64> {
        let [pid] = self.kubelets.processes_of(pod, "tandem")?[..] else {
            bail!("Pod {} has no one process of Tandem", pod.name);
        };
        let status = fs::read_to_string(format!("/proc/{pid}/status")).context("read a process's status")?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .context("no VmRSS")?;
        let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse().context("VmRSS")?;
        Ok(kilobytes / 1024.0)
    }
}

/// Waits until this address answers.
fn answers(from: &Namespace, to: SocketAddr) -> Result<()> {
    let request = Request::tcp(to).timeout(Duration::from_millis(100));
    let answer = eventually(PATIENCE, || request.send(from).ok()?.answer().map(drop));
    answer.with_context(|| format!("{to} does not answer from {} after {PATIENCE:?}", from.name()))
}
