//! What is rendered from files of values and kept in the repository: the examples of the tests, and the plain manifests.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use super::helm::{Helm, NAMESPACE, RELEASE};
use crate::code::root;

/// A file of values, and the file with what the chart makes of it.
#[derive(Debug)]
pub(super) struct Rendering {
    /// The name of both files, without its end.
    pub(super) name: String,
    /// The values.
    pub(super) values: PathBuf,
    /// Where the rendering is kept.
    pub(super) kept: PathBuf,
    /// Whether it is for `kubectl apply`.
    pub(super) plain: bool,
}

impl Rendering {
    /// All of them.
    pub(super) fn all() -> Result<Vec<Self>> {
        let mut all = Self::of("tests/data/chart/values", "tests/data/chart/rendered", false)?;
        all.extend(Self::of("deploy/manifests/values", "deploy/manifests", true)?);
        Ok(all)
    }

    fn of(values: &str, kept: &str, plain: bool) -> Result<Vec<Self>> {
        let folder = root().join(values);
        let mut all = Vec::new();
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let values = entry?.path();
            let file = values.file_name().unwrap_or_default();
            all.push(Self {
                name: Path::new(file).with_extension("").display().to_string(),
                kept: root().join(kept).join(file),
                values,
                plain,
            });
        }
        all.sort_by(|one, other| one.name.cmp(&other.name));
        ensure!(!all.is_empty(), "{}: there are no values", folder.display());
        Ok(all)
    }

    /// What the chart makes of the values now.
    pub(super) fn make(&self, helm: &Helm) -> Result<String> {
        let text = helm.template(RELEASE, NAMESPACE, &self.values, &[])?;
        if !self.plain {
            return Ok(text);
        }
        let values = fs::read_to_string(&self.values)?;
        let head: Vec<&str> = values.lines().take_while(|line| line.starts_with('#')).collect();
        let file = self.values.file_name().unwrap_or_default().display();
        // Helm does not manage what kubectl applies.
        let of_helm = ["# Source: ", "helm.sh/chart: ", "app.kubernetes.io/managed-by: "];
        let kept = text
            .lines()
            .filter(|line| !of_helm.iter().any(|of_helm| line.trim_start().starts_with(of_helm)));
        let made = format!("# Made by `make manifests` from the chart, with values/{file}.");
        let lines = head.into_iter().chain([made.as_str()]).chain(kept);
        Ok(lines.flat_map(|line| [line, "\n"]).collect())
    }

    /// Fails if the kept rendering is another one.
    pub(super) fn check(&self, made: &str) -> Result<()> {
        let place = self.kept.display();
        let kept = fs::read_to_string(&self.kept)
            .with_context(|| format!("{place}: write it with `make manifests`, and read it"))?;
        let mut lines = (kept.lines().map(Some).chain([None])).zip(made.lines().map(Some).chain([None]));
        match (1..).zip(&mut lines).find(|(_, (kept, made))| kept != made) {
            None => Ok(()),
            Some((number, (kept, made))) => bail!(
                "{place}, line {number}: {kept:?} is kept, and the chart makes {made:?}: if that is right, `make manifests`"
            ),
        }
    }

    /// Keeps what the chart makes now.
    pub(super) fn keep(&self, helm: &Helm) -> Result<()> {
        if let Some(folder) = self.kept.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&self.kept, self.make(helm)?).with_context(|| format!("write {}", self.kept.display()))
    }
}
