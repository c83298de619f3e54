//! Every feature of the agent with exactly the capabilities that the chart gives, and with each of them taken away. A
//! capability that no feature misses is one too many. Once more with `dataPlane: xdp`, for which the chart gives more.

mod ask;
mod features;
mod inside;
mod outside;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use serde_json::Value;

use crate::code::root;
use crate::stage::Stage;
use crate::tandem::Plan;

pub use features::Feature;
use inside::Inside;

/// What the chart can install.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Installation {
    /// nftables alone.
    Nft,
    /// `dataPlane: xdp`, with `xdp.devices`.
    Xdp,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Figures {
    /// The capabilities that the chart gives.
    pub given: Vec<String>,
    /// Those that it gives with `dataPlane: xdp`.
    pub given_xdp: Vec<String>,
    /// How many features were tried with them.
    pub features: usize,
    /// Features that do not work with them, and why.
    pub missing: Vec<String>,
    /// Capabilities without which every feature works.
    pub unused: Vec<String>,
    /// What does not work without each capability.
    pub needed: Vec<(String, Vec<Feature>)>,
}

impl Installation {
    const ALL: [Self; 2] = [Self::Nft, Self::Xdp];

    /// The manifests that are rendered from the chart.
    fn manifests(self) -> &'static [&'static str] {
        match self {
            Self::Nft => &["tandem.yaml"],
            Self::Xdp => &["tandem-xdp.yaml", "tandem-xdp-devices.yaml"],
        }
    }

    /// The capabilities of the agent's container.
    fn given(self) -> Result<Vec<String>> {
        let folder = root().join("deploy/manifests");
        let names = self.manifests().iter();
        let mut given = names
            .map(|name| given_in(&folder.join(name)))
            .collect::<Result<Vec<_>>>()?;
        let last = given.pop().context("no manifest")?;
        ensure!(
            given.iter().all(|other| *other == last),
            "manifests of one kind give several capabilities: {given:?}, {last:?}"
        );
        Ok(last)
    }

    fn title(self) -> &'static str {
        match self {
            Self::Nft => "",
            Self::Xdp => "dataPlane xdp, ",
        }
    }

    /// Tries everything with the chart's capabilities, and without each of them.
    fn run(self, figures: &mut Figures, said: &impl Fn(&str)) -> Result<Vec<String>> {
        let (given, title) = (self.given()?, self.title());
        said(&format!("{title}with {}", given.join(", ")));
        for (feature, verdict) in try_all(self, &given, &[]) {
            said(&format!("  {feature}: {}", words(&verdict)));
            if let Err(error) = verdict {
                figures.missing.push(format!("{title}{feature}: {error:#}"));
            }
        }
        for taken in &given {
            said(&format!("{title}without {taken}"));
            let rest: Vec<String> = given.iter().filter(|other| *other != taken).cloned().collect();
            let named = format!("CAP_{taken}");
            let mut needs = Vec::new();
            for (feature, verdict) in try_all(self, &rest, &EXPECTED) {
                said(&format!("  {feature}: {}", words(&verdict)));
                if let Err(error) = verdict {
                    let why = format!("{error:#}");
                    ensure!(
                        why.contains(&named),
                        "without {taken}, {feature} fails and does not say why: {why}"
                    );
                    needs.push(feature);
                }
            }
            // Where the programs cannot be loaded, nftables serves alone.
            ensure!(
                taken == FOR_NFTABLES || needs.iter().all(|feature| feature.is_in_kernel()),
                "{taken} is for the programs in the kernel, and without it more does not work: {needs:?}"
            );
            if needs.is_empty() {
                figures.unused.push(format!("{title}{taken}"));
            }
            figures.needed.push((format!("{title}{taken}"), needs));
        }
        Ok(given)
    }
}

/// The capability that nftables needs.
const FOR_NFTABLES: &str = "NET_ADMIN";
/// What the agent logs as an error where a capability is missing.
const EXPECTED: [&str; 3] = ["not permitted", "Permission denied", "nftables serves alone"];

/// The capabilities of the agent's container in the rendered manifest.
pub fn given() -> Result<Vec<String>> {
    Installation::Nft.given()
}

fn given_in(manifest: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(manifest).with_context(|| format!("read {}", manifest.display()))?;
    for document in text.split("\n---") {
        let object: Value = serde_saphyr::from_str(document).with_context(|| format!("{}", manifest.display()))?;
        if object["kind"] != "DaemonSet" {
            continue;
        }
        let container = &object["spec"]["template"]["spec"]["containers"][0];
        let capabilities = &container["securityContext"]["capabilities"];
        ensure!(
            capabilities["drop"] == serde_json::json!(["ALL"]),
            "it keeps others: {capabilities}"
        );
        let added = capabilities["add"].as_array().context("no capability is added")?;
        return added
            .iter()
            .map(|name| name.as_str().map(str::to_owned).context("a capability is a text"))
            .collect();
    }
    bail!("{} has no DaemonSet", manifest.display())
}

/// Tries every feature with the chart's capabilities, and without each of them. `said` hears of each trial.
pub fn run(said: impl Fn(&str)) -> Result<Figures> {
    let mut figures = Figures {
        features: Feature::ALL.len(),
        ..Figures::default()
    };
    let [given, given_xdp] = Installation::ALL.map(|installation| installation.run(&mut figures, &said));
    (figures.given, figures.given_xdp) = (given?, given_xdp?);
    Ok(figures)
}

fn words(verdict: &Result<()>) -> String {
    match verdict {
        Ok(()) => "works".to_owned(),
        Err(error) => format!("does not work: {error:#}"),
    }
}

/// Tries every feature on one node. If the agent does not even start, no feature works.
fn try_all(installation: Installation, capabilities: &[String], expected: &[&str]) -> Vec<(Feature, Result<()>)> {
    let features: Vec<Feature> = Feature::ALL
        .into_iter()
        .filter(|feature| installation == Installation::Xdp || !feature.is_in_kernel())
        .collect();
    let failed = |error: anyhow::Error| {
        let error = format!("{error:#}");
        let why = error.lines().last().unwrap_or_default();
        let failed = |feature: &Feature| (*feature, Err(anyhow!("the agent does not run: {why}")));
        features.iter().map(failed).collect()
    };
    // The folders outlast the agent, which is in the stage.
    let inside = match installation {
        Installation::Nft => Ok(None),
        Installation::Xdp => Inside::new().map(Some),
    };
    let inside = match inside {
        Ok(inside) => inside,
        Err(error) => return failed(error),
    };
    let settings = |plan: Plan| {
        let plan = features::settings(plan).capabilities(capabilities);
        let plan = match &inside {
            Some(inside) => inside.settings(plan),
            None => plan,
        };
        expected.iter().fold(plan, |plan, text| plan.expect_error(text))
    };
    let mut stage = match Stage::with(&features::objects(), settings) {
        Ok(stage) => stage,
        Err(error) => return failed(error),
    };
    if let Err(error) = stage.world.ready_for_xdp() {
        return failed(error);
    }
    let check = |feature: &Feature| (*feature, feature.check(&mut stage, inside.as_ref()));
    features.iter().map(check).collect()
}
