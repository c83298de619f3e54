//! Helm, as a user runs it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};

use crate::code::root;
use crate::scratch::Scratch;
use crate::tools;

/// The release and the namespace of all renderings that are kept.
pub(super) const RELEASE: &str = "tandem";
/// A namespace that every cluster has.
pub(super) const NAMESPACE: &str = "kube-system";

/// The folder of the chart.
pub(super) fn chart() -> PathBuf {
    root().join("deploy/chart")
}

/// Helm with folders of its own, so that the user's settings and clusters do not count.
#[derive(Debug)]
pub(super) struct Helm {
    scratch: Scratch,
    kubeconfig: PathBuf,
}

impl Helm {
    /// Helm without a cluster.
    pub(super) fn new() -> Result<Self> {
        let scratch = Scratch::new("helm")?;
        let kubeconfig = scratch.path().join("no-kubeconfig");
        Ok(Self { scratch, kubeconfig })
    }

    /// Helm with the cluster of this kubeconfig. It must run where that cluster can be reached.
    pub(super) fn with(kubeconfig: &Path) -> Result<Self> {
        Ok(Self {
            kubeconfig: kubeconfig.to_owned(),
            ..Self::new()?
        })
    }

    /// `helm ARGUMENTS`.
    pub(super) fn command(&self, arguments: &[&str]) -> Result<Command> {
        tools::helm(self.scratch.path(), &self.kubeconfig, arguments)
    }

    /// Runs `helm ARGUMENTS`, however it ends.
    pub(super) fn run(&self, arguments: &[&str]) -> Result<Output> {
        let output = self.command(arguments)?.output();
        output.with_context(|| format!("run helm {arguments:?}"))
    }

    /// Renders the chart with a file of values.
    pub(super) fn template(&self, release: &str, namespace: &str, values: &Path, more: &[&str]) -> Result<String> {
        let (chart, values) = (chart().display().to_string(), values.display().to_string());
        let fixed = [
            "template",
            release,
            &chart,
            "--namespace",
            namespace,
            "--values",
            &values,
        ];
        good(&self.run(&[&fixed, more].concat())?)
    }

    /// Writes values to a file of its folder.
    pub(super) fn values(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.scratch.path().join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }
}

/// What it printed, or an error with its complaint if it failed or warned.
pub(super) fn good(output: &Output) -> Result<String> {
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success() && complaint.is_empty(),
        "helm: {}: {}",
        output.status,
        complaint.trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
