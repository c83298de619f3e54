//! What nodes may leave behind, and how to look for it.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::Machine;
use crate::cluster::Cluster;

/// The words by which whatever belongs to some nodes is known.
#[derive(Clone, Debug)]
pub struct Trace(Vec<String>);

impl Trace {
    pub(super) fn new(cluster: &Cluster, machines: &[Machine]) -> Self {
        let mut words = vec![cluster.folder().display().to_string()];
        words.extend(
            machines
                .iter()
                .map(|machine| machine.node().namespace.name().to_owned()),
        );
        Self(words)
    }

    /// What is there of them: processes, mounts, network namespaces, cgroups, files.
    pub fn left(&self) -> Result<Vec<String>> {
        let mut left = Vec::new();
        for folder in entries(Path::new("/proc"))? {
            let command = fs::read(folder.join("cmdline")).unwrap_or_default();
            let group = fs::read_to_string(folder.join("cgroup")).unwrap_or_default();
            let mounts = fs::read_to_string(folder.join("mountinfo")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            let own = folder == Path::new("/proc/self") || folder.ends_with(std::process::id().to_string());
            if !own && [&command, &group, &mounts].into_iter().any(|text| self.names(text)) {
                left.push(format!("process {}: {command}", folder.display()));
            }
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("read the mounts")?;
        left.extend(
            mounts
                .lines()
                .filter(|line| self.names(line))
                .map(|line| format!("mount {line}")),
        );
        for parent in ["/run/netns", "/sys/fs/cgroup"] {
            for entry in entries(Path::new(parent))? {
                let below = if parent == "/sys/fs/cgroup" {
                    entries(&entry)?
                } else {
                    Vec::new()
                };
                let all = std::iter::once(&entry).chain(&below);
                left.extend(
                    all.filter(|path| self.names(&path.to_string_lossy()))
                        .map(|path| path.display().to_string()),
                );
            }
        }
        left.extend(self.0.iter().filter(|word| Path::new(word).exists()).cloned());
        Ok(left)
    }

    fn names(&self, text: &str) -> bool {
        self.0.iter().any(|word| text.contains(word.as_str()))
    }
}

/// What is in a folder; nothing if it is no folder.
fn entries(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}
