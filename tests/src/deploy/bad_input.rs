//! What a user can get wrong. Each is named where an operator looks, and is undone. A broken upgrade stops at one node.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::Figures;
use super::registry::Registry;
use super::site::{NAMESPACE, PATIENCE, Site, TANDEM};
use super::step::Step;
use crate::cluster::{KUBERNETES_CLUSTER_IP, path};
use crate::eventually;
use crate::fabric::GATEWAYS;
use crate::kubelets::{PodView, images};

/// How long a broken upgrade is left alone before it is rolled back. It is longer than the chart's `minReadySeconds`.
const STUCK: Duration = Duration::from_secs(8);
/// The port of a server that takes connections and says nothing.
const SILENT: u16 = 6500;
/// The namespace of a second release.
const OTHER: &str = "other";
/// The tag of an image for another processor.
const FOREIGN: &str = "foreign";

/// Upgrades that cannot work.
pub(super) fn upgrades() -> Vec<Step> {
    vec![
        Step::new("image that cannot be pulled", |site, _, _| {
            broken(
                site,
                &["image.tag=missing"],
                &["ErrImagePull", "registry.tandem.test/tandem:missing"],
            )
        }),
        Step::new("image for another processor", |site, _, _| {
            let _registry = Registry::start(&site.kubelets, FOREIGN, &[images::foreign(FOREIGN)?], Duration::ZERO)?;
            broken(
                site,
                &["image.tag=foreign"],
                &["ErrImagePull", "no match for platform in manifest"],
            )
        }),
        Step::new("image that crashes", |site, _, _| {
            broken(site, &["image.tag=crashes"], &["CrashLoopBackOff"])
        }),
        Step::new("configuration that is refused", |site, _, _| {
            // The running agents keep their settings. The new Pod starts with the file as it is.
            let before = site.all_ready()?;
            site.upgrade(&["image.tag=two", "kubeProxyConfiguration.clusterCIDR=no-range"], &[])?;
            stops_at_one_node(site, &before, &["clusterCIDR", "no-range"])?;
            for pod in &before {
                let named = eventually(PATIENCE, || {
                    let said = site.says(pod, &["status"]).ok()?;
                    (said.contains("clusterCIDR") && said.contains("no-range")).then_some(())
                });
                named.with_context(|| format!("the status of {} does not name the new settings", pod.name))?;
            }
            site.rollback()
        }),
        Step::new("ConfigMap that is not there", |site, _, _| {
            broken_anew(
                site,
                &["image.tag=one", "existingConfigMap.name=nobodys"],
                &["configmap \"nobodys\" not found"],
            )
        }),
        Step::new("ConfigMap without the key", |site, _, _| {
            let half = json!({ "apiVersion": "v1", "kind": "ConfigMap", "data": { "other.conf": "" },
                "metadata": { "namespace": NAMESPACE, "name": "half" } });
            site.kubelets.apply(&[half])?;
            broken_anew(
                site,
                &["image.tag=one", "existingConfigMap.name=half"],
                &["/var/lib/kube-proxy/config.conf", "No such file"],
            )
        }),
        Step::new("API server's port that refuses", |site, _, _| {
            broken(site, &["apiServer.port=1"], &[&format!("{}:1", GATEWAYS.0), "refused"])
        }),
        Step::new("API server that is silent", |site, _, _| {
            let inside = site.kubelets.cluster().inside();
            let address = SocketAddr::from((GATEWAYS.0, SILENT));
            let _listener = inside.run(|| TcpListener::bind(address))?.context("listen")?;
            broken(
                site,
                &["apiServer.port=6500"],
                &[&address.to_string(), "no connection within 10 s"],
            )
        }),
        Step::new("API server's name that nobody knows", |site, _, _| {
            broken(site, &["apiServer.host=api.invalid"], &["api.invalid:6443"])
        }),
        Step::new("API server with another authority", |site, _, _| {
            // Each kubelet has signed its certificate itself.
            let values = ["apiServer.host=localhost", "apiServer.port=10250"];
            broken(site, &values, &["localhost:10250", "certificate"])
        }),
    ]
}

/// What is wrong with the cluster or beside the chart.
pub(super) fn others() -> Vec<Step> {
    vec![
        Step::new("API server by its ClusterIP", by_cluster_ip),
        Step::new("a right that is missing", without_right),
        Step::new("/run/tandem that cannot be written", read_only),
        Step::new("a second release in another namespace", second_release),
        Step::new("a namespace whose Pod Security refuses the Pods", guarded),
        Step::new("a node that goes in the middle of an upgrade", node_goes),
    ]
}

/// An upgrade that changes these values, and of which an operator reads all these words.
fn broken(site: &Site, values: &[&str], words: &[&str]) -> Result<()> {
    broken_by(site, "--reset-then-reuse-values", values, words)
}

/// The same with these values alone. To take a value away by null does not outlast a rollback in Helm 4.3.
fn broken_anew(site: &Site, values: &[&str], words: &[&str]) -> Result<()> {
    broken_by(site, "--reset-values", values, words)
}

fn broken_by(site: &Site, how: &str, values: &[&str], words: &[&str]) -> Result<()> {
    let before = site.all_ready()?;
    let values: Vec<&str> = values.iter().flat_map(|value| ["--set", value]).collect();
    site.helm("upgrade", &[], &[&[how], &values[..]].concat())?;
    stops_at_one_node(site, &before, words)?;
    site.rollback()
}

/// Waits until one new Pod shows all these words. The agents that were there before run on, and no other one is new.
fn stops_at_one_node(site: &Site, before: &[PodView], words: &[&str]) -> Result<()> {
    let (mut pods, mut shown) = (Vec::new(), String::new());
    let seen = eventually(PATIENCE, || {
        thread::sleep(Duration::from_millis(200));
        pods = site.kubelets.pods(NAMESPACE, TANDEM).ok()?;
        let new = pods.iter().find(|pod| before.iter().all(|old| old.uid != pod.uid))?;
        shown = shows(site, new);
        words.iter().all(|word| shown.contains(word)).then_some(())
    });
    ensure!(seen.is_some(), "no new Pod shows all of {words:?}:\n{shown}");
    thread::sleep(STUCK);
    let now = site.kubelets.pods(NAMESPACE, TANDEM)?;
    let runs_on = |old: &&PodView| now.iter().any(|pod| pod.uid == old.uid && pod.ready && !pod.ends);
    let (same, new) = (
        before.iter().filter(runs_on).count(),
        now.len().saturating_sub(before.len()),
    );
    ensure!(
        same == before.len() && new == 1,
        "{same} of {} agents run on, and {new} new ones wait; one should",
        before.len()
    );
    Ok(())
}

/// What an operator reads of a Pod: its status, its Events, its log, and why it is not ready.
fn shows(site: &Site, pod: &PodView) -> String {
    let mut text = pod.object["status"]["containerStatuses"].to_string();
    let about = format!(
        "/api/v1/namespaces/{}/events?fieldSelector=involvedObject.uid={}",
        pod.namespace, pod.uid
    );
    let events = site.kubelets.api().get(&about).unwrap_or_default();
    for event in events["items"].as_array().into_iter().flatten() {
        let _ = write!(text, "\n{}: {}", text_of(&event["reason"]), text_of(&event["message"]));
    }
    let log = site.kubelets.log_of(pod, "tandem").unwrap_or_default();
    let _ = write!(text, "\n{log}");
    text
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The chart refuses it. It works as long as Tandem runs, and would not after a reboot, so elsewhere it is a problem in
/// the status.
fn by_cluster_ip(site: &mut Site, _: &mut Figures, _: Duration) -> Result<()> {
    let refused = site.upgrade(&[&format!("apiServer.host={KUBERNETES_CLUSTER_IP}")], &[]);
    let said = refused.err().map(|error| format!("{error:#}")).unwrap_or_default();
    let wanted = format!("apiServer.host: \"{KUBERNETES_CLUSTER_IP}\": is the ClusterIP of the Service kubernetes");
    ensure!(said.contains(&wanted), "Helm says {said:?}, and not {wanted:?}");

    let account = "/var/run/secrets/kubernetes.io/serviceaccount";
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "one",
        "contexts": [{ "name": "one", "context": { "cluster": "one", "user": "one" } }],
        "clusters": [{ "name": "one", "cluster": {
            "server": format!("https://{KUBERNETES_CLUSTER_IP}"), "certificate-authority": format!("{account}/ca.crt") } }],
        "users": [{ "name": "one", "user": { "tokenFile": format!("{account}/token") } }],
    });
    let config_map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "data": { "kubeconfig": kubeconfig.to_string() },
        "metadata": { "namespace": NAMESPACE, "name": "access" } });
    site.kubelets.apply(&[config_map])?;
    let access = "apiServer.kubeconfigConfigMap";
    let values = [
        "image.tag=one".to_owned(),
        format!("{access}.name=access"),
        format!("{access}.key=kubeconfig"),
    ];
    let values = values.each_ref().map(String::as_str);
    site.helm("upgrade", &values, &["--reset-values", "--wait", "--timeout", "2m"])?;
    site.rolled_out("tandem")?;
    for pod in site.all_ready()? {
        let named = eventually(PATIENCE, || {
            let said = site.says(&pod, &["status"]).ok()?;
            said.contains(&format!(
                "its address {KUBERNETES_CLUSTER_IP} lies inside the Service range"
            ))
            .then_some(())
        });
        named.with_context(|| format!("the status of {} does not name the ClusterIP", pod.name))?;
    }
    site.rollback()
}

/// The role loses one kind. Running agents read on, and a new one says what it must not do.
fn without_right(site: &mut Site, _: &mut Figures, _: Duration) -> Result<()> {
    let before = site.all_ready()?;
    let address = path("ClusterRole", "", &format!("{NAMESPACE}:tandem"))?;
    let role = site.kubelets.api().get(&address)?;
    let rules = role["rules"].as_array().context("the role has no rules")?;
    let lists_slices = |rule: &&Value| {
        rule["resources"]
            .as_array()
            .is_some_and(|kinds| kinds.contains(&json!("endpointslices")))
    };
    let fewer: Vec<&Value> = rules.iter().filter(|rule| !lists_slices(rule)).collect();
    ensure!(
        fewer.len() < rules.len(),
        "no rule lists endpointslices alone: {rules:?}"
    );
    site.kubelets.api().patch(&address, &json!({ "rules": fewer }))?;
    site.kubelets
        .kubectl(&["--namespace", NAMESPACE, "rollout", "restart", "daemonset/tandem"])?;
    stops_at_one_node(site, &before, &["endpointslices", "403"])?;
    site.kubelets.api().patch(&address, &json!({ "rules": rules }))?;
    site.rolled_out("tandem")?;
    site.all_ready().map(drop)
}

fn read_only(site: &mut Site, _: &mut Figures, _: Duration) -> Result<()> {
    let before = site.all_ready()?;
    let mount = json!({ "name": "run", "mountPath": "/run/tandem", "readOnly": true });
    let container = json!({ "name": "tandem", "volumeMounts": [mount] });
    let change = json!({ "spec": { "template": { "spec": { "containers": [container] } } } }).to_string();
    let in_namespace = ["--namespace", NAMESPACE];
    site.kubelets
        .kubectl(&[&in_namespace[..], &["patch", "daemonset", "tandem", "-p", &change]].concat())?;
    stops_at_one_node(
        site,
        &before,
        &["/run/tandem/tandem.sock: cannot listen: Read-only file system"],
    )?;
    site.kubelets
        .kubectl(&[&in_namespace[..], &["rollout", "undo", "daemonset/tandem"]].concat())?;
    site.rolled_out("tandem")?;
    site.all_ready().map(drop)
}

/// The second release stands by. It takes over when the first one goes, and gives the nodes back.
fn second_release(site: &mut Site, _: &mut Figures, _: Duration) -> Result<()> {
    site.kubelets.kubectl(&["create", "namespace", OTHER])?;
    let release = |site: &Site, namespace: &str| site.install_in(namespace, "one", &["--wait", "--timeout", "2m"]);
    let gone = |site: &Site, namespace: &str| {
        let arguments = [
            "uninstall",
            "tandem",
            "--namespace",
            namespace,
            "--wait",
            "--timeout",
            "2m",
        ];
        site.kubelets.helm(&arguments)?;
        site.kubelets.wait_pods(namespace, TANDEM, 0)
    };
    release(site, OTHER)?;
    let nodes = site.kubelets.machines().len();
    let all_say = |site: &Site, words: &str| -> Result<()> {
        for pod in site.kubelets.wait_pods(OTHER, TANDEM, nodes)? {
            let said = eventually(PATIENCE, || {
                site.says(&pod, &["ready"]).ok()?.contains(words).then_some(())
            });
            said.with_context(|| {
                format!(
                    "tandem ready in the second release on {} does not say {words:?}",
                    pod.node
                )
            })?;
        }
        Ok(())
    };
    all_say(site, "ready: stands by: another tandem serves this node")?;
    gone(site, NAMESPACE)?;
    all_say(site, "ready: serves this node")?;
    release(site, NAMESPACE)?;
    gone(site, OTHER)?;
    site.kubelets.kubectl(&["delete", "namespace", OTHER])?;
    site.all_ready().map(drop)
}

/// Nothing starts, and NOTES and an Event say why.
fn guarded(site: &mut Site, _: &mut Figures, _: Duration) -> Result<()> {
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": {
        "name": "guarded", "labels": { "pod-security.kubernetes.io/enforce": "restricted" } } });
    site.kubelets.apply(&[namespace])?;
    let notes = site.install_in("guarded", "one", &[])?;
    let said = "NO POD WILL START: namespace guarded enforces Pod Security level restricted";
    ensure!(notes.contains(said), "NOTES do not say {said:?}:\n{notes}");
    let named = eventually(PATIENCE, || {
        let about = "/api/v1/namespaces/guarded/events?fieldSelector=reason=FailedCreate";
        let events = site.kubelets.api().get(about).ok()?.to_string();
        (events.contains("violates PodSecurity") && events.contains("hostNetwork=true")).then_some(())
    });
    named.context("no Event says that Pod Security refuses the Pods")?;
    ensure!(
        site.kubelets.pods("guarded", TANDEM)?.is_empty(),
        "there are Pods all the same"
    );
    site.kubelets
        .helm(&["uninstall", "tandem", "--namespace", "guarded", "--wait"])?;
    site.kubelets.kubectl(&["delete", "namespace", "guarded"]).map(drop)
}

/// A kubelet ends while another node is upgraded, until the Node is not ready. Every agent serves on, and the upgrade
/// ends when the node is back.
fn node_goes(site: &mut Site, _: &mut Figures, _: Duration) -> Result<()> {
    let before = site.all_ready()?;
    let tag = if uses(&before, "two") { "one" } else { "two" };
    site.upgrade(&[&format!("image.tag={tag}")], &[])?;
    let first = eventually(PATIENCE, || {
        let pods = site.kubelets.pods(NAMESPACE, TANDEM).ok()?;
        pods.into_iter().find(|pod| uses(std::slice::from_ref(pod), tag))
    });
    let first = first.context("the upgrade does not begin")?;
    let gone = before
        .iter()
        .find(|pod| pod.node != first.node)
        .context("there is one node")?;
    let machines = site.kubelets.machines();
    let number = machines
        .iter()
        .position(|machine| machine.name() == gone.node)
        .context("no such node")?;
    let number = u8::try_from(number + 1)?;
    site.kubelets.machine_mut(number)?.kill_kubelet()?;
    let not_ready = eventually(PATIENCE, || {
        let node = site.kubelets.api().get(&path("Node", "", &gone.node).ok()?).ok()?;
        let conditions = node["status"]["conditions"].as_array()?;
        let of_ready = conditions.iter().find(|condition| condition["type"] == "Ready")?;
        (of_ready["status"] != "True").then_some(())
    });
    not_ready.context("the Node stays Ready without its kubelet")?;
    ensure!(
        !site.kubelets.processes_of(gone, "tandem")?.is_empty(),
        "the agent of the node that went has ended"
    );
    ensure!(
        !uses(&site.kubelets.pods(NAMESPACE, TANDEM)?, tag),
        "the upgrade did not wait for the node"
    );
    site.kubelets.machine_mut(number)?.start_kubelet()?;
    site.kubelets.wait_nodes()?;
    site.rolled_out("tandem")?;
    ensure!(uses(&site.all_ready()?, tag), "not every node was upgraded");
    Ok(())
}

/// Whether these Pods all have the image with this tag.
fn uses(pods: &[PodView], tag: &str) -> bool {
    let image = images::tandem_name(tag);
    pods.iter()
        .all(|pod| pod.object["spec"]["containers"][0]["image"] == image.as_str())
}
