//! A folder in each cgroup hierarchy of this machine, for the Pods of one node.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::eventually;

const ROOT: &str = "/sys/fs/cgroup";
/// How long processes may take to end after they were killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// It is removed on drop. Its processes must have ended.
#[derive(Debug)]
pub(super) struct Cgroup {
    name: String,
    folders: Vec<PathBuf>,
}

impl Cgroup {
    /// Makes it in each hierarchy.
    pub(super) fn new(name: &str) -> Result<Self> {
        let mut group = Self {
            name: name.to_owned(),
            folders: Vec::new(),
        };
        for hierarchy in hierarchies()? {
            let folder = hierarchy.join(name);
            fs::create_dir_all(&folder).with_context(|| format!("make cgroup {}", folder.display()))?;
            // In the first version of cgroups, a new cpuset is empty and takes no process.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if let Ok(all) = fs::read_to_string(hierarchy.join(file)) {
                    let file = folder.join(file);
                    fs::write(&file, all).with_context(|| format!("write {}", file.display()))?;
                }
            }
            group.folders.push(folder);
        }
        Ok(group)
    }

    /// As the kubelet's setting `cgroupRoot`.
    pub(super) fn root(&self) -> String {
        format!("/{}", self.name)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for folder in &self.folders {
            if eventually(PATIENCE, || remove(folder).ok()).is_none() {
                eprintln!("cgroup {} was not removed", folder.display());
            }
        }
    }
}

/// The folders in which cgroups are made.
fn hierarchies() -> Result<Vec<PathBuf>> {
    let root = Path::new(ROOT);
    if root.join("cgroup.controllers").exists() {
        // Version 2. Children get only the controllers that are switched on here.
        let controllers = fs::read_to_string(root.join("cgroup.controllers")).context("read the cgroup controllers")?;
        let all: Vec<String> = controllers.split_whitespace().map(|name| format!("+{name}")).collect();
        fs::write(root.join("cgroup.subtree_control"), all.join(" ")).context("switch on cgroup controllers")?;
        return Ok(vec![root.to_owned()]);
    }
    let mounts = fs::read_to_string("/proc/self/mounts").context("read the mounts")?;
    let folders = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (folder, kind) = (fields.next()?, fields.next()?);
        // runc also makes cgroups in a hierarchy of version 2 beside those of version 1
        (kind.starts_with("cgroup") && folder.starts_with(ROOT)).then(|| PathBuf::from(folder))
    });
    Ok(folders.collect())
}

/// Removes a cgroup and those below it.
fn remove(folder: &Path) -> std::io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(folder)
}
