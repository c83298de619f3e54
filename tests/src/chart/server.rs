//! What a real API server says to the chart: to each object, about the security of the pods, and to Helm itself.

use std::collections::BTreeMap;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use http::Method;
use serde_json::{Value, json};

use super::helm::{self, Helm, NAMESPACE, RELEASE};
use super::objects;
use super::renderings::Rendering;
use super::{Cases, example, node};
use crate::cluster::{self, Cluster};
use crate::eventually;
use crate::scratch::Scratch;

const PATIENCE: Duration = Duration::from_secs(30);
/// A label of a namespace; its last part is what happens.
const POD_SECURITY: &str = "pod-security.kubernetes.io";
/// What the pods of the agent need that `restricted` forbids, and nothing else.
const NEEDED: [&str; 3] = ["hostNetwork", "NET_ADMIN", "runAsNonRoot"];
/// What it says more if the pods see a folder of the node.
const FOR_FOLDERS: [&str; 2] = ["restricted volume types", "seLinuxOptions"];

pub(super) fn judge(cases: &mut Cases, cluster: &Cluster) -> Result<Vec<String>> {
    let helm = Helm::with(&cluster.admin_kubeconfig())?;
    namespace(cluster, "warned", "warn")?;
    namespace(cluster, "forbidden", "enforce")?;
    let mut said = Vec::new();
    for rendering in Rendering::all()? {
        let name = &rendering.name;
        let made = rendering.make(&helm)?;
        cases.judge(&format!("{name}: the API server takes it"), taken(cluster, &made));
        let privileged = made.contains("privileged: true");
        let warned = helm
            .template(RELEASE, "warned", &rendering.values, &[])
            .and_then(|made| warnings(cluster, &made));
        let outcome = warned.and_then(|warned| {
            let mut wanted = NEEDED.to_vec();
            if privileged {
                wanted.extend(["privileged", "allowPrivilegeEscalation != false"]);
            }
            if made.contains("hostPath:") {
                wanted.extend(FOR_FOLDERS);
            }
            if made.contains("dataPlane: xdp") {
                wanted.extend(node::CAPABILITIES);
            }
            if wanted == NEEDED {
                said.clone_from(&warned);
            }
            ensure!(
                warned.len() == wanted.len() && wanted.iter().all(|word| warned.iter().any(|warned| warned == word)),
                "restricted says {warned:?}, and not {wanted:?}"
            );
            Ok(())
        });
        cases.judge(&format!("{name}: what Pod Security says"), outcome);
    }
    cases.judge("a namespace that enforces Pod Security", forbidden(cluster, &helm));
    cases.judge("what the notes name as missing", missing(cluster, &helm));
    cases.judge("a ClusterIP for a host", cluster_ip(cluster, &helm));
    cases.judge("two releases are installed and uninstalled", releases(cluster, &helm));
    cases.judge("a release goes to dataPlane xdp and back", planes(cluster, &helm));
    Ok(said)
}

/// Makes a namespace in which Pod Security `restricted` does this.
fn namespace(cluster: &Cluster, name: &str, does: &str) -> Result<()> {
    let metadata = json!({ "name": name, "labels": { format!("{POD_SECURITY}/{does}"): "restricted" } });
    let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata });
    cluster.api().create(&object).map(drop)
}

/// Runs a command where the API server can be reached.
fn run(cluster: &Cluster, command: &mut Command) -> Result<Output> {
    let output = cluster.inside().run(|| command.output())?;
    output.with_context(|| format!("run {command:?}"))
}

/// `helm VERB` of the chart in this namespace.
fn release(cluster: &Cluster, helm: &Helm, verb: &str, namespace: &str, more: &[&str]) -> Result<Output> {
    let chart = helm::chart().display().to_string();
    let fixed = [verb, RELEASE, &chart, "--namespace", namespace];
    run(cluster, &mut helm.command(&[&fixed[..], more].concat())?)
}

/// The file of values of this example.
fn values(name: &str) -> Result<String> {
    Ok(example(name)?.values.display().to_string())
}

fn kubectl(cluster: &Cluster, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(cluster::binary()?);
    command
        .arg("kubectl")
        .arg("--kubeconfig")
        .arg(cluster.admin_kubeconfig());
    run(cluster, command.args(arguments))
}

/// What the API server would do with a rendering.
fn dry_run(cluster: &Cluster, made: &str) -> Result<Output> {
    let scratch = Scratch::new("dry-run")?;
    let file = scratch.path().join("rendered.yaml");
    std::fs::write(&file, made)?;
    let file = file.display().to_string();
    let output = kubectl(
        cluster,
        &["apply", "--dry-run=server", "--validate=strict", "-f", &file],
    )?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}", complaint.trim());
    Ok(output)
}

/// Fails if the API server would refuse an object or warn about it.
fn taken(cluster: &Cluster, made: &str) -> Result<()> {
    let output = dry_run(cluster, made)?;
    let (said, complaint) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    let taken = said
        .lines()
        .filter(|line| line.ends_with("created (server dry run)"))
        .count();
    let objects = objects::parse(made)?.len();
    ensure!(
        taken == objects && complaint.is_empty(),
        "{taken} of {objects} objects are taken:\n{said}{complaint}"
    );
    Ok(())
}

/// What Pod Security says to a rendering, one word for each forbidden thing.
fn warnings(cluster: &Cluster, made: &str) -> Result<Vec<String>> {
    let output = dry_run(cluster, made)?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    let mut lines = complaint.lines();
    let line = lines.next().context("no warning")?;
    ensure!(lines.next().is_none(), "more than one warning:\n{complaint}");
    words(line)
}

/// The words of `Warning: would violate PodSecurity "restricted:latest": WHAT (DETAILS), WHAT (DETAILS)`.
fn words(line: &str) -> Result<Vec<String>> {
    let (_, rest) = line
        .split_once("would violate PodSecurity \"restricted:latest\": ")
        .with_context(|| format!("another warning: {line}"))?;
    let mut words = Vec::new();
    for part in rest.split_terminator(')').map(|part| part.trim_start_matches(", ")) {
        let (what, details) = part
            .split_once(" (")
            .with_context(|| format!("no details: {part:?} of {line}"))?;
        match what {
            "host namespaces" => words.extend(
                details
                    .split(", ")
                    .map(|detail| detail.trim_end_matches("=true").to_owned()),
            ),
            "unrestricted capabilities" => {
                let (_, named) = details
                    .split_once("must not include ")
                    .context("no capabilities are named")?;
                let (named, _) = named.split_once(" in ").context("no capabilities are named")?;
                words.extend(named.split('"').skip(1).step_by(2).map(str::to_owned));
            }
            "runAsNonRoot != true" => words.push("runAsNonRoot".to_owned()),
            other => words.push(other.to_owned()),
        }
    }
    Ok(words)
}

/// In such a namespace no pod is made. The notes and an Event say why, and what the notes advise helps.
fn forbidden(cluster: &Cluster, helm: &Helm) -> Result<()> {
    let output = release(cluster, helm, "install", "forbidden", &["--values", &values("host")?])?;
    let said = String::from_utf8_lossy(&output.stdout);
    let advice = said
        .lines()
        .find_map(|line| line.trim().strip_prefix("kubectl label namespace "));
    ensure!(
        output.status.success() && said.contains("NO POD WILL START"),
        "the notes do not say it:\n{said}"
    );
    let advice = advice.with_context(|| format!("the notes advise nothing:\n{said}"))?;

    let events = "/api/v1/namespaces/forbidden/events?fieldSelector=reason=FailedCreate";
    let refusal = eventually(PATIENCE, || {
        let list = cluster.api().get(events).ok()?;
        let message = list["items"].get(0)?["message"].as_str()?.to_owned();
        Some(message)
    });
    let refusal = refusal.context("no Event says that no pod can be made")?;
    for word in [
        "violates PodSecurity \"restricted:latest\"",
        "hostNetwork=true",
        "NET_ADMIN",
    ] {
        ensure!(refusal.contains(word), "the Event does not say {word:?}: {refusal}");
    }
    let labelled = kubectl(cluster, &[&["label", "namespace"], &words_of(advice)[..]].concat())?;
    ensure!(
        labelled.status.success(),
        "{advice}: {}",
        String::from_utf8_lossy(&labelled.stderr)
    );
    // The controller tries again, later and later. A new revision makes it try at once.
    let set = "/apis/apps/v1/namespaces/forbidden/daemonsets/tandem";
    let change = json!({ "spec": { "template": { "metadata": { "annotations": { "again": "1" } } } } });
    cluster.api().patch(set, &change)?;
    let made = eventually(PATIENCE, || {
        let pods = cluster.api().get("/api/v1/namespaces/forbidden/pods").ok()?;
        (!pods["items"].as_array()?.is_empty()).then_some(())
    });
    made.with_context(|| format!("no pod is made after `kubectl label namespace {advice}`"))?;
    let output = run(
        cluster,
        &mut helm.command(&["uninstall", RELEASE, "--namespace", "forbidden"])?,
    )?;
    helm::good(&output).map(drop)
}

fn words_of(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// With a cluster, the notes name a ConfigMap or a Secret that is not there, and nothing if it is there.
fn missing(cluster: &Cluster, helm: &Helm) -> Result<()> {
    for (name, kind, object, key) in [
        ("existing", "ConfigMap", "kube-proxy", "config.conf"),
        ("kubeconfig-config-map", "ConfigMap", "cluster-access", "config"),
        ("kubeconfig-secret", "Secret", "0123", "1e3"),
    ] {
        let values = values(name)?;
        let more = ["--dry-run=server", "--values", &values];
        let says =
            format!("NO POD WILL START: there is no {kind} {object} with the key {key} in namespace {NAMESPACE}.");
        let plural = format!("/api/v1/namespaces/{NAMESPACE}/{}s", kind.to_lowercase());
        for keys in [&[][..], &["another"], &["another", key]] {
            if !keys.is_empty() {
                let field = if kind == "Secret" { "stringData" } else { "data" };
                let texts: BTreeMap<&str, &str> = keys.iter().map(|key| (*key, "text")).collect();
                let made = json!({ "metadata": { "name": object }, field: texts });
                cluster.api().call(Method::POST, &plural, Some(&made))?;
            }
            let said = helm::good(&release(cluster, helm, "install", NAMESPACE, &more)?)?;
            ensure!(
                said.lines().any(|line| line == says) != keys.contains(&key),
                "{kind} {object} has the keys {keys:?}, and the notes say:\n{said}"
            );
            if !keys.is_empty() {
                cluster.api().delete(&format!("{plural}/{object}"), &json!({}))?;
            }
        }
    }
    Ok(())
}

/// With a cluster, Helm knows the address that cannot work.
fn cluster_ip(cluster: &Cluster, helm: &Helm) -> Result<()> {
    let service = eventually(PATIENCE, || {
        cluster.api().get("/api/v1/namespaces/default/services/kubernetes").ok()
    });
    let service = service.context("there is no Service kubernetes")?;
    let address = service["spec"]["clusterIP"].as_str().context("it has no ClusterIP")?;
    let host = format!("apiServer.host={address}");
    let values = values("host")?;
    let output = release(
        cluster,
        helm,
        "install",
        NAMESPACE,
        &["--values", &values, "--set", &host],
    )?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    let says = format!("apiServer.host: {address:?}: is the ClusterIP of the Service kubernetes");
    ensure!(
        !output.status.success() && complaint.contains(&says),
        "helm says: {complaint}"
    );
    Ok(())
}

/// Installs two releases, changes one to the other mode, and uninstalls both. Nothing of them is left.
fn releases(cluster: &Cluster, helm: &Helm) -> Result<()> {
    let before = owned(cluster)?;
    ensure!(before.is_empty(), "something is there before: {before:?}");
    let values = values("host")?;
    for namespace in ["first", "second"] {
        let more = ["--create-namespace", "--values", &values];
        helm::good(&release(cluster, helm, "install", namespace, &more)?)?;
    }
    let more = ["--reset-then-reuse-values", "--set", "mode=cleanup"];
    helm::good(&release(cluster, helm, "upgrade", "first", &more)?)?;
    let set = cluster.api().get("/apis/apps/v1/namespaces/first/daemonsets/tandem")?;
    let strategy = json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 0, "maxUnavailable": "100%" } });
    ensure!(
        set["spec"]["updateStrategy"] == strategy,
        "{}",
        set["spec"]["updateStrategy"]
    );
    ensure!(
        owned(cluster)?.len() == 2 * 5,
        "not five objects each: {:?}",
        owned(cluster)?
    );
    for namespace in ["first", "second"] {
        helm::good(&run(
            cluster,
            &mut helm.command(&["uninstall", RELEASE, "--namespace", namespace])?,
        )?)?;
    }
    let left = eventually(PATIENCE, || owned(cluster).ok().filter(Vec::is_empty));
    left.map(drop)
        .ok_or_else(|| anyhow!("something is left: {:?}", owned(cluster)))
}

/// Switches a release to `xdp`. Helm refuses to leave the field out as long as the pods of `xdp` are installed: those that
/// come next could not remove what is on the nodes. By way of `nft` or `cleanup`, it works.
fn planes(cluster: &Cluster, helm: &Helm) -> Result<()> {
    let (plain, xdp, nft) = (values("host")?, values("xdp")?, values("xdp-off")?);
    let (devices, none) = (values("xdp-devices")?, values("xdp-devices-off")?);
    let to = |verb: &str, values: &str, more: &[&str]| {
        let more = [&["--create-namespace", "--values", values][..], more].concat();
        release(cluster, helm, verb, "planes", &more[usize::from(verb != "install")..])
    };
    helm::good(&to("install", &plain, &[])?)?;
    helm::good(&to("upgrade", &plain, &[])?)?;
    helm::good(&to("upgrade", &xdp, &[])?)?;
    let says = "tandemConfiguration.dataPlane: is xdp in the release that is installed: give nft";
    for more in [&[][..], &["--set", "tandemConfiguration.dataPlane=null"]] {
        let refused = to("upgrade", if more.is_empty() { &plain } else { &xdp }, more)?;
        let complaint = String::from_utf8_lossy(&refused.stderr);
        ensure!(
            !refused.status.success() && complaint.contains(says),
            "helm leaves programs on the nodes: {complaint}"
        );
    }
    helm::good(&to("upgrade", &nft, &[])?)?;
    helm::good(&to("upgrade", &plain, &[])?)?;
    // Devices come and go in any order: the agents detach what is attached by themselves.
    for values in [&xdp, &devices, &none, &devices, &xdp] {
        helm::good(&to("upgrade", values, &[])?)?;
    }
    helm::good(&to("upgrade", &xdp, &["--set", "mode=cleanup"])?)?;
    helm::good(&to("upgrade", &plain, &[])?)?;
    let output = run(
        cluster,
        &mut helm.command(&["uninstall", RELEASE, "--namespace", "planes"])?,
    )?;
    helm::good(&output).map(drop)
}

/// The objects with the chart's label.
fn owned(cluster: &Cluster) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for kind in [
        "apis/apps/v1/daemonsets",
        "api/v1/serviceaccounts",
        "api/v1/configmaps",
        "apis/rbac.authorization.k8s.io/v1/clusterroles",
        "apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    ] {
        let list = cluster
            .api()
            .get(&format!("/{kind}?labelSelector=app.kubernetes.io/name=tandem"))?;
        let name = |object: &Value| format!("{kind} {}", object["metadata"]["name"]);
        all.extend(objects::list(&list["items"]).map(name));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_that_pod_security_forbids_is_one_word() -> Result<()> {
        let line = "Warning: would violate PodSecurity \"restricted:latest\": host namespaces (hostNetwork=true, hostPID=true), \
            unrestricted capabilities (container \"tandem\" must not include \"BPF\", \"NET_ADMIN\" in \
            securityContext.capabilities.add), runAsNonRoot != true (pod or container \"tandem\" must set \
            securityContext.runAsNonRoot=true), seccompProfile (pod must set it)";
        let wanted = [
            "hostNetwork",
            "hostPID",
            "BPF",
            "NET_ADMIN",
            "runAsNonRoot",
            "seccompProfile",
        ];
        ensure!(words(line)? == wanted, "{:?}", words(line)?);
        ensure!(words("Warning: spec.a: deprecated").is_err());
        Ok(())
    }
}
