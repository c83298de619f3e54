//! Pods that real kubelets run.

use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{Kubelets, Machine, PATIENCE};
use crate::netns::Namespace;

/// A Pod as the API server has it.
#[derive(Clone, Debug)]
pub struct PodView {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The number that no other Pod ever has.
    pub uid: String,
    /// The node it is on; empty if it is on none.
    pub node: String,
    /// Its addresses, IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// Whether it is ready.
    pub ready: bool,
    /// Whether it is being deleted.
    pub ends: bool,
    /// How often its containers have started again.
    pub restarts: u64,
    /// The whole object.
    pub object: Value,
}

impl PodView {
    fn read(object: Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let (metadata, status) = (&object["metadata"], &object["status"]);
        let addresses = list(&status["podIPs"]);
        let is_ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
        let restarts = list(&status["containerStatuses"]);
        Self {
            name: text(&metadata["name"]),
            namespace: text(&metadata["namespace"]),
            uid: text(&metadata["uid"]),
            node: text(&object["spec"]["nodeName"]),
            addresses: addresses
                .iter()
                .filter_map(|entry| entry["ip"].as_str()?.parse().ok())
                .collect(),
            ready: list(&status["conditions"]).iter().any(is_ready),
            ends: metadata["deletionTimestamp"].is_string(),
            restarts: restarts.iter().filter_map(|entry| entry["restartCount"].as_u64()).sum(),
            object,
        }
    }
}

impl Kubelets {
    /// The Pods of a namespace with this label, for example `app=web`, by the names of their nodes.
    pub fn pods(&self, namespace: &str, label: &str) -> Result<Vec<PodView>> {
        let list = self
            .api()
            .get(&format!("/api/v1/namespaces/{namespace}/pods?labelSelector={label}"))?;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let mut pods: Vec<PodView> = items.into_iter().map(PodView::read).collect();
        pods.sort_by(|one, other| (&one.node, &one.name).cmp(&(&other.node, &other.name)));
        Ok(pods)
    }

    /// Waits until as many Pods with this label are ready as given, and there are no others.
    pub fn wait_pods(&self, namespace: &str, label: &str, count: usize) -> Result<Vec<PodView>> {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let pods = self.pods(namespace, label)?;
            if pods.len() == count && pods.iter().all(|pod| pod.ready && !pod.ends) {
                return Ok(pods);
            }
            if std::time::Instant::now() > deadline {
                bail!("{}", self.why(&pods, count));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The machine that a Pod is on.
    pub fn machine_of(&self, pod: &PodView) -> Result<&Machine> {
        let machine = self.machines.iter().find(|machine| machine.name() == pod.node);
        machine.with_context(|| format!("Pod {} is on no node", pod.name))
    }

    /// A Pod's network, from which a test can send.
    pub fn network_of(&self, pod: &PodView) -> Result<Namespace> {
        let machine = self.machine_of(pod)?;
        let results = machine.folder().join("var/lib/cni/results");
        let entries = fs::read_dir(&results).with_context(|| format!("read {}", results.display()))?;
        for entry in entries {
            let path = entry?.path();
            let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            if text.contains(&pod.uid) {
                let result: Value = serde_json::from_str(&text).with_context(|| format!("read {}", path.display()))?;
                let file = result["netns"]
                    .as_str()
                    .with_context(|| format!("no netns in {}", path.display()))?;
                return Namespace::of_others(&pod.name, &machine.outside(file));
            }
        }
        bail!("Pod {} has no network in {}", pod.name, results.display())
    }

    /// What a Pod's container has logged, its earlier starts included.
    pub fn log_of(&self, pod: &PodView, container: &str) -> Result<String> {
        let machine = self.machine_of(pod)?;
        let folder = format!("var/log/pods/{}_{}_{}/{container}", pod.namespace, pod.name, pod.uid);
        let folder = machine.folder().join(folder);
        let entries = fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))?;
        let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        files.sort();
        let texts = files.iter().map(fs::read_to_string).collect::<Result<Vec<_>, _>>();
        Ok(texts.with_context(|| format!("read {}", folder.display()))?.concat())
    }

    /// The processes of a Pod with this program, by the numbers that this machine gives them.
    pub fn processes_of(&self, pod: &PodView, program: &str) -> Result<Vec<u32>> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").context("read /proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let read = |file: &str| fs::read_to_string(entry.path().join(file)).unwrap_or_default();
            let named = read("cmdline")
                .split('\0')
                .next()
                .is_some_and(|first| first.ends_with(program));
            if named && read("cgroup").contains(&pod.uid) {
                found.push(pid);
            }
        }
        Ok(found)
    }

    /// Why Pods are not as they should be.
    fn why(&self, pods: &[PodView], count: usize) -> String {
        let mut lines = vec![format!("{} of {count} Pods after {PATIENCE:?}:", pods.len())];
        for pod in pods {
            let status = &pod.object["status"];
            let containers = &status["containerStatuses"];
            lines.push(format!(
                "{} on {:?}: ready {}, ends {}, restarts {}: {containers} {}",
                pod.name, pod.node, pod.ready, pod.ends, pod.restarts, status["initContainerStatuses"]
            ));
            let named = pod.object["spec"]["containers"].as_array().cloned().unwrap_or_default();
            for name in named.iter().filter_map(|container| container["name"].as_str()) {
                let log = self.log_of(pod, name).unwrap_or_default();
                let all: Vec<&str> = log.lines().collect();
                lines.extend(
                    all[all.len().saturating_sub(10)..]
                        .iter()
                        .map(|line| format!("  {line}")),
                );
            }
        }
        let events = self.kubectl(&["get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"]);
        let events = events.unwrap_or_default();
        let all: Vec<&str> = events.lines().collect();
        lines.extend(
            all[all.len().saturating_sub(15)..]
                .iter()
                .map(|line| (*line).to_owned()),
        );
        lines.join("\n")
    }
}
