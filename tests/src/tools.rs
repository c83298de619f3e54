//! The programs of `make tools`: Helm, crane and containerd.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

/// A program of `make tools`, from the folder `TANDEM_TOOLS` if it is set.
pub fn tool(name: &str) -> Result<PathBuf> {
    let folder = std::env::var_os("TANDEM_TOOLS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/bin"),
        PathBuf::from,
    );
    let path = folder.join(name);
    ensure!(
        path.exists(),
        "{} is not there: build it with `make tools`",
        path.display()
    );
    Ok(path)
}

/// Helm with this kubeconfig, and with folders of its own below `home`, so that the user's settings do not count.
pub(crate) fn helm(home: &Path, kubeconfig: &Path, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(tool("helm")?);
    command.args(arguments).env("KUBECONFIG", kubeconfig);
    for folder in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(folder, home.join(folder));
    }
    Ok(command)
}
