//! cgroup v2 folders of a test, for threads that stand for the processes of nodes and pods.
//!
//! ```text
//!   the hierarchy's root                 this process
//!   └── tdm-<pid>-<n>-<label>
//!       ├── node1                        stands for the topmost folder of a node: `nodeCgroup`
//!       │   ├── system                   the node's own processes
//!       │   ├── kubepods                 kubelet's folder
//!       │   │   ├── web-1                a pod
//!       │   │   └── …
//!       │   └── other                    containers that are no pods
//!       └── node2
//! ```
//!
//! All folders are *threaded*: each thread of this process can be in another one. A thread enters a folder together with
//! its network namespace, if the namespace has one ([`crate::netns::Namespace::settle`]). A socket belongs to the folder
//! of the thread that made it, and a program to the folder of the thread that started it.
//!
//! The hierarchy is found by the table of mounts, because it may stand beside the first version's. Dropping [`Cgroups`]
//! removes all folders. After a test that was killed, the reaper of [`crate::netns`] removes them.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};

use crate::group::Group;
use crate::{eventually, netns};

/// How long threads and processes may take to leave a folder before it is removed.
const PATIENCE: Duration = Duration::from_secs(10);

/// The folders of one world. Dropping it removes them; the threads in them must be about to end.
#[derive(Debug)]
pub struct Cgroups {
    top: PathBuf,
}

/// The folders of one node.
#[derive(Clone, Debug)]
pub struct NodeGroups {
    top: PathBuf,
}

impl Cgroups {
    /// Makes the topmost folder; the label is part of its name.
    pub fn new(label: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        netns::start_reaper()?;
        let root = move_to_root()?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let top = root.join(format!("{}{count}-{label}", netns::prefix(process::id())));
        make_threaded(&top)?;
        Ok(Self { top })
    }

    /// Makes the folders of a node.
    pub fn node(&self, name: &str) -> Result<NodeGroups> {
        let top = self.top.join(name);
        for folder in [&top, &top.join("kubepods"), &top.join("other"), &top.join("system")] {
            make_threaded(folder)?;
        }
        Ok(NodeGroups { top })
    }

    /// The hierarchy's root, in which a kernel's own threads are.
    pub fn root() -> Result<Group> {
        Ok(Group::at(move_to_root()?))
    }
}

impl NodeGroups {
    /// The folder that stands for the node's topmost one.
    pub fn path(&self) -> &Path {
        &self.top
    }

    /// The node's own processes.
    pub fn system(&self) -> Result<Group> {
        self.group("system")
    }

    /// A pod, also one in the node's network.
    pub fn pod(&self, name: &str) -> Result<Group> {
        self.group(&format!("kubepods/{name}"))
    }

    /// A container that is no pod's.
    pub fn container(&self, name: &str) -> Result<Group> {
        self.group(&format!("other/{name}"))
    }

    fn group(&self, name: &str) -> Result<Group> {
        let folder = self.top.join(name);
        make_threaded(&folder)?;
        Ok(Group::at(folder))
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        if eventually(PATIENCE, || remove(&self.top).ok()).is_none() {
            eprintln!("cgroup {} was not removed", self.top.display());
        }
    }
}

/// Where the hierarchy is mounted. The shortest path is taken, because others may show a part of it.
fn mount() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("read the mounts")?;
    let folders = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (folder, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then_some(folder)
    });
    let shortest = folders.min_by_key(|folder| folder.len());
    shortest.map(PathBuf::from).context("no cgroup v2 hierarchy is mounted")
}

/// Moves this process to the hierarchy's root, once, and returns the root. The threads of a process can only be in
/// folders that have their nearest folder of the usual kind in common, and the root may always be that one.
fn move_to_root() -> Result<PathBuf> {
    static ROOT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let moved = ROOT.get_or_init(|| {
        let root = mount().map_err(|error| format!("{error:#}"))?;
        let own = fs::read_to_string("/proc/self/cgroup").map_err(|error| format!("read the own cgroup: {error}"))?;
        if !own.lines().any(|line| line == "0::/") {
            // 0 is the process that writes.
            fs::write(root.join("cgroup.procs"), "0")
                .map_err(|error| format!("move to cgroup {}: {error}", root.display()))?;
        }
        Ok(root)
    });
    moved.clone().map_err(|error| anyhow!("{error}"))
}

/// Makes a folder for threads, if there is none yet.
fn make_threaded(folder: &Path) -> Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
        made => made.with_context(|| format!("make cgroup {}", folder.display()))?,
    }
    fs::write(folder.join("cgroup.type"), "threaded")
        .with_context(|| format!("make cgroup {} one for threads", folder.display()))
}

/// Removes a folder and those below it. Folders hold files too, which go with them.
fn remove(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
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

#[cfg(test)]
mod tests {
    use super::mount;

    #[test]
    fn the_hierarchy_is_found_beside_the_first_version() {
        assert!(mount().is_ok_and(|folder| folder.join("cgroup.procs").exists()));
    }
}
