//! The steps, in the order in which they are taken.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::bad_input;
use super::changes::Gaps;
use super::registry::Registry;
use super::site::{KUBE_PROXY, NAMESPACE, PATIENCE, Site, TANDEM};
use super::step::Step;
use super::{Figures, measure};
use crate::cluster::{API_SERVER, path};
use crate::code::root;
use crate::eventually;
use crate::kubelets::images;
use crate::nft;

/// The tags of Tandem's image that the nodes have from the beginning.
pub(super) const TAGS: &[&str] = &["one", "two"];
/// The tag of the image that the nodes must pull.
const PULLED: &str = "three";
/// How long each connection waits to a registry that takes its time.
const SLOW: Duration = Duration::from_secs(10);
/// The step in which nothing is done.
pub(super) const NOTHING: &str = "nothing is done";
/// How long nothing is done.
const QUIET: Duration = Duration::from_secs(20);
/// How long both run side by side. The chart's liveness probe ends a container that does not answer for 60 s.
const FOR_GOOD: Duration = Duration::from_secs(75);
/// What `tandem ready` says beside a kube-proxy.
const BESIDE: &str = "kube-proxy: one runs on this node too";

const INSTALL_FRESH: Step = Step::new(
    "manifests on nodes without rules, the API server by its name",
    install_fresh,
);
const INSTALL_CHART: Step = Step::new("chart on nodes without rules", |site, _, interval| {
    site.install("one", &[], &["--wait", "--timeout", "2m"])?;
    begin(site, interval)
});
const DO_NOTHING: Step = Step::new(NOTHING, |_, _, _| {
    thread::sleep(QUIET);
    Ok(())
});
const STARTS: Step = Step::new("process start to first answer", measure::starts);
const UPGRADE: Step = Step::new("upgrade", upgrade);
const GO_BACK: Step = Step::new(
    "back to kube-proxy in nftables mode, mode: cleanup, uninstall",
    |site, figures, _| {
        site.kube_proxy("nftables")?;
        // docs/install.md waits for this, because a user has no other sign that kube-proxy has programmed its rules.
        site.all_say(BESIDE)?;
        site.uninstall(figures)
    },
);

/// Every step.
pub fn all() -> Vec<Step> {
    [
        comes(),
        bad_input::upgrades(),
        bad_input::others(),
        faults(),
        other_ways(),
    ]
    .concat()
}

/// The installation comes, meets kube-proxy in iptables mode, goes, comes in its place, and is upgraded.
fn comes() -> Vec<Step> {
    vec![
        INSTALL_FRESH,
        DO_NOTHING,
        Step::new(
            "kubeadm's kube-proxy in iptables mode comes beside Tandem",
            |site, _, _| {
                site.kube_proxy("iptables")?;
                site.all_say(BESIDE)?;
                beside_is_named(site)?;
                // For good: longer than a liveness probe that fails would let an agent live.
                thread::sleep(FOR_GOOD);
                site.all_say(BESIDE)?;
                let pods = site.kubelets.pods(NAMESPACE, TANDEM)?;
                let calm = pods.iter().all(|pod| !pod.ready && pod.restarts == 0);
                ensure!(
                    calm,
                    "beside a kube-proxy, an agent is ready or was restarted: {pods:#?}"
                );
                Ok(())
            },
        ),
        Step::new("back to kube-proxy by the manifests", |site, figures, _| {
            clean_by_manifests(site, figures)
        }),
        Step::new("chart in iptables mode's place, all nodes at once", |site, _, _| {
            site.install("one", &[], &[])?;
            site.all_say(BESIDE)?;
            site.remove_kube_proxy()?;
            site.rolled_out("tandem")?;
            site.all_ready()?;
            // Nobody has told the rules of iptables mode to go. They are named, and decide nothing.
            ensure!(
                nft::has_kube_services(&site.kubelets.node(1)?.namespace),
                "the chains of iptables mode are gone, so this step proves nothing"
            );
            problems(site, &["kube-proxy"])?;
            clean_after_kube_proxy(site)?;
            problems(site, &[])
        }),
        UPGRADE,
        Step::new("upgrade from a registry that takes 10 s", slow_upgrade),
    ]
}

/// What may happen to a node.
fn faults() -> Vec<Step> {
    vec![
        Step::new("kubelet restarts", |site, _, _| {
            let machine = site.kubelets.machine_mut(2)?;
            machine.kill_kubelet()?;
            thread::sleep(Duration::from_secs(2));
            machine.start_kubelet()?;
            site.kubelets.wait_nodes()?;
            site.all_ready().map(drop)
        }),
        Step::new("an agent is killed", |site, _, _| {
            let pods = site.all_ready()?;
            let pod = pods.first().context("no Pod of Tandem")?;
            for pid in site.kubelets.processes_of(pod, "tandem")? {
                site.kubelets.machines()[0].kill_process(pid)?;
            }
            let restarted = eventually(PATIENCE, || {
                let pods = site.kubelets.pods(NAMESPACE, TANDEM).ok()?;
                (pods.iter().any(|pod| pod.restarts > 0) && pods.iter().all(|pod| pod.ready)).then_some(())
            });
            restarted.context("the agent was not started again")
        }),
        Step::new(
            "kubeadm's kube-proxy comes beside Tandem in nftables mode, and goes",
            |site, _, _| {
                site.kube_proxy("nftables")?;
                site.all_say(BESIDE)?;
                site.remove_kube_proxy()?;
                site.all_ready().map(drop)
            },
        ),
    ]
}

/// In nftables mode's place and back, by every other way of installing; and what is measured.
fn other_ways() -> Vec<Step> {
    vec![
        GO_BACK,
        Step::new("chart in nftables mode's place, node by node", node_by_node),
        Step::new(
            "back to kube-proxy in iptables mode, mode: cleanup, uninstall",
            |site, figures, _| {
                site.kube_proxy("iptables")?;
                site.uninstall(figures)
            },
        ),
        Step::new("kubectl set image, and back", set_image),
        Step::new("chart with kubeadm's own configuration", |site, _, _| {
            site.helm("install", &["image.tag=one", "existingConfigMap.name=kube-proxy"], &[])?;
            site.all_say(BESIDE)?;
            site.remove_kube_proxy()?;
            site.rolled_out("tandem")?;
            site.all_ready().map(drop)
        }),
        Step::new("memory at ten Services", measure::memory),
        Step::new(
            "back to kube-proxy from the copy of its DaemonSet, mode: cleanup, uninstall",
            |site, figures, _| {
                site.kube_proxy_from_copy("iptables")?;
                site.uninstall(figures)
            },
        ),
        STARTS,
    ]
}

/// An installation that meets everything that a user can get wrong.
pub fn bad_inputs() -> Vec<Step> {
    [
        vec![INSTALL_CHART],
        bad_input::upgrades(),
        bad_input::others(),
        vec![GO_BACK],
    ]
    .concat()
}

/// Only what is measured about starts, on nodes where nothing else happens.
pub fn starts() -> Vec<Step> {
    vec![
        INSTALL_FRESH,
        Step::new("memory", measure::memory),
        Step::new("back to kube-proxy by the manifests", |site, figures, _| {
            site.kube_proxy("nftables")?;
            site.all_say(BESIDE)?;
            clean_by_manifests(site, figures)
        }),
        STARTS,
    ]
}

/// kube-proxy alone, whose DaemonSet is restarted: to tell what is lost without Tandem.
pub fn kube_proxy_alone() -> Vec<Step> {
    vec![
        Step::new(
            "kube-proxy in nftables mode on nodes without rules",
            |site, _, interval| {
                site.kube_proxy("nftables")?;
                site.services_answer()?;
                site.start_load(interval)
            },
        ),
        DO_NOTHING,
        Step::new("kube-proxy restarts", |site, _, _| {
            let fixed = [
                "--namespace",
                NAMESPACE,
                "rollout",
                "restart",
                "daemonset",
                "kube-proxy",
            ];
            site.kubelets.kubectl(&fixed)?;
            site.rolled_out("kube-proxy")
        }),
        DO_NOTHING,
    ]
}

/// Install, upgrade, uninstall.
pub fn short() -> Vec<Step> {
    vec![INSTALL_CHART, UPGRADE, GO_BACK]
}

fn install_fresh(site: &mut Site, figures: &mut Figures, interval: Duration) -> Result<()> {
    let file = site.manifest("tandem.yaml", "one", API_SERVER)?;
    measure::installs(site, &file, figures)?;
    site.rolled_out("tandem")?;
    begin(site, interval)
}

/// Starts the traffic once Services work.
fn begin(site: &mut Site, interval: Duration) -> Result<()> {
    site.services_answer()?;
    problems(site, &[])?;
    site.start_load(interval)
}

fn upgrade(site: &mut Site, figures: &mut Figures, _: Duration) -> Result<()> {
    upgrade_to(site, figures, "two", "update_gap_ms_max")
}

fn slow_upgrade(site: &mut Site, figures: &mut Figures, _: Duration) -> Result<()> {
    let _registry = Registry::with_tandem(&site.kubelets, PULLED, SLOW)?;
    upgrade_to(site, figures, PULLED, "update_gap_slow_registry_ms_max")
}

fn upgrade_to(site: &Site, figures: &mut Figures, tag: &str, when: &'static str) -> Result<()> {
    let gaps = Gaps::watch(&site.kubelets, &site.servers)?;
    site.upgrade(&[&format!("image.tag={tag}")], &["--wait", "--timeout", "4m"])?;
    site.rolled_out("tandem")?;
    site.all_ready()?;
    let changes = site.changes.as_ref().context("nothing changes")?;
    figures.update_gaps.push((when, changes.longest(&gaps)?));
    Ok(())
}

fn node_by_node(site: &mut Site, _: &mut Figures, _: Duration) -> Result<()> {
    let terms = json!([{ "matchExpressions": [{ "key": "without-kube-proxy", "operator": "DoesNotExist" }] }]);
    let affinity = json!({ "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms },
    }});
    // kube-proxy's Pods stay as they are until their node is labelled. In nftables mode, some do not survive a restart.
    let change = json!({ "spec": {
        "updateStrategy": { "type": "OnDelete", "rollingUpdate": null },
        "template": { "spec": { "affinity": affinity } },
    }});
    let change = change.to_string();
    let fixed = [
        "--namespace",
        NAMESPACE,
        "patch",
        "daemonset",
        "kube-proxy",
        "--type=merge",
        "-p",
        &change,
    ];
    site.kubelets.kubectl(&fixed)?;
    site.install("one", &["nodeSelector.with-tandem=yes"], &[])?;
    for (done, name) in ["node1", "node2", "node3"].into_iter().enumerate() {
        site.kubelets.kubectl(&["label", "node", name, "with-tandem=yes"])?;
        let runs = eventually(PATIENCE, || {
            let pods = site.kubelets.pods(NAMESPACE, TANDEM).ok()?;
            let beside = pods.iter().find(|pod| pod.node == name)?;
            site.says(beside, &["ready"]).ok()?.contains(BESIDE).then_some(())
        });
        ensure!(runs.is_some(), "Tandem does not run beside kube-proxy on {name}");
        site.kubelets
            .kubectl(&["label", "node", name, "without-kube-proxy=yes"])?;
        site.kubelets.wait_pods(NAMESPACE, TANDEM, done + 1)?;
        site.kubelets.wait_pods(NAMESPACE, KUBE_PROXY, 2 - done)?;
    }
    site.services_answer()?;
    site.remove_kube_proxy()?;
    problems(site, &[])
}

/// Runs `kube-proxy --cleanup` on every node, by the DaemonSet that docs/install.md has for it.
fn clean_after_kube_proxy(site: &Site) -> Result<()> {
    let docs = root().join("docs/install.md");
    let text = fs::read_to_string(&docs).with_context(|| format!("read {}", docs.display()))?;
    let mut blocks = text
        .split("```yaml\n")
        .skip(1)
        .filter_map(|block| block.split("```").next());
    let block = blocks.find(|block| block.contains("name: kube-proxy-cleanup"));
    let block = block.context("docs/install.md has no DaemonSet kube-proxy-cleanup")?;
    let image = |name: &str| format!("image: {}/{name}", images::REGISTRY);
    let block = block
        .replace("image: registry.k8s.io/kube-proxy:", &image("kube-proxy:"))
        .replace(
            "image: registry.k8s.io/pause:3.10.1",
            &format!("image: {}", images::PAUSE),
        );
    let file = site.kubelets.folder().join("kube-proxy-cleanup.yaml");
    fs::write(&file, block).with_context(|| format!("write {}", file.display()))?;
    let file = file.display().to_string();
    site.kubelets.kubectl(&["apply", "-f", &file])?;
    site.rolled_out("kube-proxy-cleanup")?;
    site.kubelets.kubectl(&["delete", "-f", &file, "--wait"]).map(drop)
}

/// Cleans the nodes by the plain manifests, and looks for what is left.
fn clean_by_manifests(site: &Site, figures: &mut Figures) -> Result<()> {
    let file = site.manifest("tandem-cleanup.yaml", "one", API_SERVER)?;
    site.kubelets.kubectl(&["apply", "-f", &file])?;
    site.rolled_out("tandem")?;
    site.kubelets.kubectl(&["delete", "-f", &file, "--wait"])?;
    site.nothing_left(figures)
}

fn set_image(site: &mut Site, figures: &mut Figures, _: Duration) -> Result<()> {
    let before = site
        .kubelets
        .api()
        .get("/apis/apps/v1/namespaces/kube-system/daemonsets/kube-proxy")?;
    let old = before["spec"]["template"]["spec"]["containers"][0]["image"]
        .as_str()
        .context("no image")?;
    let new = format!("{}/tandem:one", images::REGISTRY);
    for image in [&new, old] {
        let image = format!("kube-proxy={image}");
        let fixed = ["--namespace", NAMESPACE, "set", "image", "daemonset/kube-proxy", &image];
        site.kubelets.kubectl(&fixed)?;
        site.rolled_out("kube-proxy")?;
        site.services_answer()?;
    }
    // Tandem ended before kube-proxy came back. In iptables mode, the tables that it left come first until they are removed.
    clean_by_manifests(site, figures)
}

/// Waits until each agent's status has problems of these objects, and no others.
fn problems(site: &Site, wanted: &[&str]) -> Result<()> {
    for pod in site.all_ready()? {
        let mut said = String::new();
        let right = eventually(PATIENCE, || {
            said = site.says(&pod, &["status", "-o", "json"]).ok()?;
            let status: Value = serde_json::from_str(&said).ok()?;
            let objects = status["problems"]
                .as_array()?
                .iter()
                .map(|problem| problem["object"].as_str());
            (objects.collect::<Option<Vec<_>>>()? == wanted).then_some(())
        });
        ensure!(
            right.is_some(),
            "the status of {} has not the problems {wanted:?}:\n{said}",
            pod.name
        );
    }
    Ok(())
}

/// A kube-proxy beside Tandem is named by an Event at each node.
fn beside_is_named(site: &Site) -> Result<()> {
    for machine in site.kubelets.machines() {
        let name = machine.name();
        let named = eventually(PATIENCE, || {
            let events = site
                .kubelets
                .api()
                .get("/api/v1/events?fieldSelector=reason=KubeProxyRuns")
                .ok()?;
            let events = events["items"].as_array().cloned().unwrap_or_default();
            events
                .iter()
                .any(|event| event["involvedObject"]["name"] == name)
                .then_some(())
        });
        named.with_context(|| format!("no Event says that a kube-proxy runs on {name}"))?;
        site.kubelets.api().get(&path("Node", "", name)?)?;
    }
    Ok(())
}
