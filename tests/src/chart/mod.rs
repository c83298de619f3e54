//! The chart of `deploy/chart` as Helm renders it, for `make chart`: what it refuses, what it makes, whether Tandem can
//! read it, and what a real API server says to it.

mod documents;
mod helm;
mod node;
mod objects;
mod read;
mod renderings;
mod rights;
mod server;
mod wrong;

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use helm::{Helm, NAMESPACE, RELEASE};
use renderings::Rendering;
pub use rights::Audited;
use wrong::Wrong;

/// There are at least this many examples and wrong values.
const EXAMPLES: usize = 10;
const WRONG: usize = 30;

/// Cases that were judged.
pub struct Cases<'t> {
    /// Hears of each case, and why it is wrong.
    tell: &'t dyn Fn(&str, Option<&str>),
    /// All of them.
    pub count: usize,
    /// Those that are wrong.
    pub wrong: usize,
}

impl<'t> Cases<'t> {
    /// No case yet.
    pub fn new(tell: &'t dyn Fn(&str, Option<&str>)) -> Self {
        Self {
            tell,
            count: 0,
            wrong: 0,
        }
    }

    fn judge(&mut self, case: &str, outcome: Result<()>) {
        self.count += 1;
        self.wrong += usize::from(outcome.is_err());
        (self.tell)(case, outcome.err().map(|error| format!("{error:#}")).as_deref());
    }
}

/// Judges everything that needs no API server.
pub fn without_a_cluster(cases: &mut Cases) -> Result<()> {
    let (helm, renderings, wrong) = (Helm::new()?, Rendering::all()?, Wrong::all()?);
    cases.judge("the chart has Tandem's version", documents::check_version());
    cases.judge("every value is described", documents::check_values());
    cases.judge("the table of values is up to date", documents::check_readme());
    cases.judge("there are enough examples", {
        let examples = renderings.iter().filter(|rendering| !rendering.plain).count();
        if examples < EXAMPLES || wrong.len() < WRONG {
            Err(anyhow!("only {examples}, and {} wrong values", wrong.len()))
        } else {
            Ok(())
        }
    });
    for rendering in &renderings {
        let name = &rendering.name;
        cases.judge(&format!("{name}: lint"), lint(&helm, rendering));
        match rendering.make(&helm) {
            Err(error) => cases.judge(&format!("{name}: rendered"), Err(error)),
            Ok(made) => {
                cases.judge(&format!("{name}: rendered as it is kept"), rendering.check(&made));
                cases.judge(&format!("{name}: its rules"), rules(&made));
                if !made.contains("--cleanup") {
                    cases.judge(&format!("{name}: Tandem reads it"), read::check(&made));
                }
            }
        }
    }
    for wrong in &wrong {
        cases.judge(&format!("refused: {}", wrong.case), wrong.check(&helm));
    }
    cases.judge("an old Kubernetes is refused", old(&helm));
    cases.judge("two releases share nothing", apart(&helm));
    cases.judge("the notes", notes(&helm));
    Ok(())
}

/// Judges what a real API server says. Returns what Pod Security `restricted` says to the chart.
pub fn with_a_cluster(cases: &mut Cases, site: &Audited) -> Result<Vec<String>> {
    server::judge(cases, &site.cluster)
}

/// Judges the rights of the chart's own role.
pub fn rights(cases: &mut Cases, site: &Audited) -> Result<()> {
    rights::judge(cases, site)
}

/// Writes everything that is made from the chart: renderings, manifests, the table of values.
pub fn keep() -> Result<()> {
    let helm = Helm::new()?;
    for rendering in Rendering::all()? {
        rendering.keep(&helm)?;
    }
    documents::keep_readme()
}

fn lint(helm: &Helm, rendering: &Rendering) -> Result<()> {
    let (chart, values) = (
        helm::chart().display().to_string(),
        rendering.values.display().to_string(),
    );
    let output = helm.run(&[
        "lint",
        "--strict",
        &chart,
        "--namespace",
        NAMESPACE,
        "--values",
        &values,
    ])?;
    helm::good(&output).map(drop)
}

/// What holds for every rendering, whatever the values are.
fn rules(made: &str) -> Result<()> {
    let objects = objects::parse(made)?;
    let set = objects::of(&objects, "DaemonSet")?;
    let selector = serde_json::json!({ "app.kubernetes.io/name": "tandem", "app.kubernetes.io/instance": RELEASE });
    ensure!(
        set["spec"]["selector"]["matchLabels"] == selector,
        "the selector changed, and Kubernetes refuses every upgrade: {}",
        set["spec"]["selector"]
    );
    let pod = &set["spec"]["template"]["spec"];
    for container in objects::list(&pod["initContainers"]).chain(objects::list(&pod["containers"])) {
        ensure!(container["ports"].is_null(), "ports are hostPorts here: {container:#}");
        ensure!(
            objects::list(&container["volumeMounts"]).all(|mount| mount["subPath"].is_null()),
            "a subPath follows no change: {container:#}"
        );
    }
    node::check(&objects, made.contains("--cleanup"))?;
    let annotations = set["spec"]["template"]["metadata"]["annotations"].as_object();
    if annotations
        .into_iter()
        .flatten()
        .any(|(name, _)| name.contains("checksum"))
    {
        bail!("a changed configuration would restart pods");
    }
    Ok(())
}

fn example(name: &str) -> Result<Rendering> {
    let found = Rendering::all()?.into_iter().find(|rendering| rendering.name == name);
    found.with_context(|| format!("there is no example {name}"))
}

fn old(helm: &Helm) -> Result<()> {
    let values = example("host")?.values;
    let of = |version: &str| helm.template(RELEASE, NAMESPACE, &values, &["--kube-version", version]);
    for version in ["1.28.0", "1.31.9-eks-1234567", "1.36.3"] {
        of(version)?;
    }
    let refused = of("1.27.16").err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(
        refused.contains("chart requires kubeVersion: >=1.28.0-0 which is incompatible with Kubernetes v1.27.16"),
        "{refused:?}"
    );
    Ok(())
}

/// Fails if releases with different names or namespaces have an object in common.
fn apart(helm: &Helm) -> Result<()> {
    let values = example("host")?.values;
    let long = "a-release-name-that-is-as-long-as-helm-lets-it-be-now";
    let mut seen = Vec::new();
    let dashes = [("b-tandem", "a"), ("tandem", "a-b")];
    let releases = [("tandem", "one"), ("tandem", "two"), ("other", "one"), (long, "one")];
    for (release, namespace) in releases.into_iter().chain(dashes) {
        for object in objects::parse(&helm.template(release, namespace, &values, &[])?)? {
            let metadata = &object["metadata"];
            let name = metadata["name"].as_str().unwrap_or_default();
            ensure!(
                !name.is_empty() && name.len() <= 63 + namespace.len(),
                "a name is too long: {name}"
            );
            let key = format!("{} {} {name}", object["kind"], metadata["namespace"]);
            ensure!(
                !seen.contains(&key),
                "{release} in {namespace} has what another release has: {key}"
            );
            seen.push(key);
        }
    }
    Ok(())
}

/// Fails if the notes leave out what must be done next.
fn notes(helm: &Helm) -> Result<()> {
    let chart = helm::chart().display().to_string();
    for (name, parts) in [
        (
            "host",
            [
                "delete daemonset kube-proxy",
                "rollout status daemonset/tandem",
                "mode=cleanup",
            ],
        ),
        (
            "one-health-address",
            [
                "conntrack is given, and kernelSettings is false",
                "mode=cleanup",
                "proxy.disabled",
            ],
        ),
        (
            "cleanup",
            [
                "its node is clean",
                "rollout status daemonset/tandem",
                "uninstall tandem",
            ],
        ),
        (
            "xdp",
            [
                "what is missing if they are not",
                "give tandemConfiguration.dataPlane=nft",
                "NEVER UNINSTALL WITHOUT mode=cleanup",
            ],
        ),
        (
            "xdp-devices",
            [
                "an init container reserves the ports 49152-65535 on each node",
                "--set-json tandemConfiguration.xdp.devices=[]",
                "conntrack is given, and kernelSettings is false",
            ],
        ),
        (
            "xdp-devices-off",
            [
                "flows that XDP has go on for an hour at most",
                "rollout restart daemonset/tandem",
                "A later upgrade may leave xdp.devices out",
            ],
        ),
    ] {
        let values = example(name)?.values.display().to_string();
        let fixed = [
            "install",
            RELEASE,
            &chart,
            "--namespace",
            NAMESPACE,
            "--dry-run=client",
            "--values",
            &values,
        ];
        let said = helm::good(&helm.run(&fixed)?)?;
        let notes = said.rsplit("NOTES:").next().unwrap_or_default();
        for part in parts {
            ensure!(notes.contains(part), "{name}: {part:?} is not in the notes:\n{notes}");
        }
    }
    Ok(())
}
