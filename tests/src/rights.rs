//! Every feature of the agent with exactly the capabilities that the chart gives, and with each of them taken away. A
//! capability that no feature misses is one too many.

mod features;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use serde_json::Value;

use crate::stage::Stage;

pub use features::Feature;

/// The manifest that is rendered from the chart.
const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/manifests/tandem.yaml");

/// What was found.
#[derive(Debug, Default)]
pub struct Figures {
    /// The capabilities that the chart gives.
    pub given: Vec<String>,
    /// How many features were tried with them.
    pub features: usize,
    /// Features that do not work with them, and why.
    pub missing: Vec<String>,
    /// Capabilities without which every feature works.
    pub unused: Vec<String>,
    /// What does not work without each capability.
    pub needed: Vec<(String, Vec<Feature>)>,
}

/// The capabilities of the agent's container in the rendered manifest.
pub fn given() -> Result<Vec<String>> {
    given_in(Path::new(MANIFEST))
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
    let given = given()?;
    let mut figures = Figures {
        features: Feature::ALL.len(),
        ..Figures::default()
    };
    said(&format!("with {}", given.join(", ")));
    for (feature, verdict) in try_all(&given) {
        said(&format!("  {feature}: {}", words(&verdict)));
        if let Err(error) = verdict {
            figures.missing.push(format!("{feature}: {error:#}"));
        }
    }
    for taken in &given {
        said(&format!("without {taken}"));
        let rest: Vec<String> = given.iter().filter(|other| *other != taken).cloned().collect();
        let named = format!("CAP_{taken} is missing");
        let mut needs = Vec::new();
        for (feature, verdict) in try_all(&rest) {
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
        if needs.is_empty() {
            figures.unused.push(taken.clone());
        }
        figures.needed.push((taken.clone(), needs));
    }
    figures.given = given;
    Ok(figures)
}

fn words(verdict: &Result<()>) -> String {
    match verdict {
        Ok(()) => "works".to_owned(),
        Err(error) => format!("does not work: {error:#}"),
    }
}

/// Tries every feature on one node. If the agent does not even start, no feature works.
fn try_all(capabilities: &[String]) -> Vec<(Feature, Result<()>)> {
    let settings = |plan| {
        let plan = features::settings(plan).capabilities(capabilities);
        plan.expect_error("not permitted").expect_error("Permission denied")
    };
    let mut stage = match Stage::with(&features::objects(), settings) {
        Ok(stage) => stage,
        Err(error) => {
            let error = format!("{error:#}");
            let why = error.lines().last().unwrap_or_default();
            let failed = |feature| (feature, Err(anyhow!("the agent does not run: {why}")));
            return Feature::ALL.into_iter().map(failed).collect();
        }
    };
    Feature::ALL
        .into_iter()
        .map(|feature| (feature, feature.check(&mut stage)))
        .collect()
}
