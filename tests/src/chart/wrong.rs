//! Values that the chart must refuse, each with words that name its path.

use std::fs;

use anyhow::{Context as _, Result, anyhow, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::helm::{Helm, NAMESPACE, RELEASE};
use crate::code::root;
use crate::manifests::to_yaml;

/// One case of `tests/data/chart/wrong.yaml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wrong {
    /// What is wrong.
    pub(super) case: String,
    /// What is changed in values that are right. Null removes a key.
    change: Value,
    /// A part of the line that says what is wrong.
    says: String,
}

impl Wrong {
    /// All cases.
    pub(super) fn all() -> Result<Vec<Self>> {
        let path = root().join("tests/data/chart/wrong.yaml");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        serde_saphyr::from_str(&text).map_err(|error| anyhow!("{}: {error}", path.display()))
    }

    /// Fails if the chart takes the values, or if it refuses them without one line that says what is wrong.
    pub(super) fn check(&self, helm: &Helm) -> Result<()> {
        let right = fs::read_to_string(root().join("tests/data/chart/values/host.yaml"))?;
        let mut values: Value = serde_saphyr::from_str(&right).map_err(|error| anyhow!("{error}"))?;
        merge(&mut values, &self.change);
        let path = helm.values("wrong.yaml", &to_yaml(&values)?)?.display().to_string();
        let chart = super::helm::chart().display().to_string();
        let output = helm.run(&["template", RELEASE, &chart, "--namespace", NAMESPACE, "--values", &path])?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success(), "the chart takes {values}");
        let lines = complaint.lines().filter(|line| line.contains(&self.says));
        ensure!(
            lines.count() == 1 && output.stdout.is_empty(),
            "no line says {:?}, or several do:\n{complaint}",
            self.says
        );
        Ok(())
    }
}

/// Changes values as a JSON merge patch does.
fn merge(values: &mut Value, change: &Value) {
    let (Some(own), Value::Object(fields)) = (values.as_object_mut(), change) else {
        *values = change.clone();
        return;
    };
    for (name, change) in fields {
        if change.is_null() {
            own.remove(name);
        } else {
            merge(own.entry(name).or_insert(Value::Null), change);
        }
    }
}
