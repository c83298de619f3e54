//! What happens to the agent's system calls, its pins and its folders.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::site::Site;
use crate::eventually;

const PATIENCE: Duration = Duration::from_secs(20);

/// strace, which makes the agent's system calls fail. Dropping it lets them be.
pub(super) struct Faults(Child);

impl Faults {
    /// From now on, calls of this name fail with this error: all, or from the one with this number on.
    pub(super) fn start(site: &Site, call: &str, error: &str) -> Result<Self> {
        let pid = site.tandem.pid().context("the agent does not run")?;
        let mut command = Command::new("strace");
        command
            .args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")])
            .args(["-e", &format!("inject={call}:error={error}")])
            .args(["-p", &pid.to_string()])
            .stdin(Stdio::null());
        let faults = Self(command.spawn().context("start strace")?);
        let traced = || {
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
            let all = tasks.flatten().all(|task| {
                fs::read_to_string(task.path().join("status")).is_ok_and(|text| !text.contains("TracerPid:\t0\n"))
            });
            all.then_some(())
        };
        eventually(PATIENCE, traced).context("strace does not trace the agent")?;
        Ok(faults)
    }

    /// Lets the calls be, and waits until strace has left.
    pub(super) fn end(mut self) -> Result<()> {
        self.leave()
    }

    fn leave(&mut self) -> Result<()> {
        if self.0.try_wait().context("wait for strace")?.is_some() {
            return Ok(());
        }
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("no such process")?, Signal::TERM).context("end strace")?;
        let ended = eventually(PATIENCE, || self.0.try_wait().ok().flatten());
        ended.map(drop).context("strace does not end")
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        if self.leave().is_err() {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// How to start the agent so that the call of `bpf` with this number fails in each of its threads; none to only count
/// the calls in this file. The agent stays the process that was started.
pub(super) fn wrapper(failing: Option<(usize, &str)>, file: &Path) -> Vec<String> {
    let file = file.display().to_string();
    let mut words: Vec<String> = [
        "strace",
        "-D",
        "-f",
        "--seccomp-bpf",
        "-qq",
        "-o",
        &file,
        "-e",
        "trace=bpf",
    ]
    .map(str::to_owned)
    .to_vec();
    if let Some((number, error)) = failing {
        words.extend(["-e".to_owned(), format!("inject=bpf:error={error}:when={number}")]);
    }
    words
}

/// The most calls that one thread made, as strace wrote them.
pub(super) fn most_calls(file: &Path) -> Result<usize> {
    let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let mut counts = std::collections::BTreeMap::new();
    for line in text.lines().filter(|line| line.contains(" bpf(")) {
        *counts.entry(line.split(' ').next().unwrap_or_default()).or_insert(0) += 1;
    }
    let most = counts.into_values().max().unwrap_or_default();
    ensure!(most > 10, "strace saw only {most} calls of bpf:\n{text}");
    Ok(most)
}

/// The folders of pins of all layouts.
fn layouts(site: &Site) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(site.pins()) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.context("read the folder of pins")?,
    };
    entries.map(|entry| Ok(entry?.path())).collect()
}

/// Deletes all pins below these folders of each layout.
pub(super) fn delete_pins(site: &Site, below: &[&str]) -> Result<()> {
    for layout in layouts(site)? {
        for folder in below {
            let folder = layout.join(folder);
            for entry in fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
                let path = entry?.path();
                fs::remove_file(&path).with_context(|| format!("delete {}", path.display()))?;
            }
        }
    }
    Ok(())
}

/// Deletes everything that is pinned, and the folders.
pub(super) fn delete_everything_pinned(site: &Site) -> Result<()> {
    match fs::remove_dir_all(site.pins()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context("delete the pins"),
        _ => Ok(()),
    }
}

/// Waits until no program is attached to the node's folder, nor below it. The kernel detaches a program a moment after the last
/// name of its link is deleted.
pub(super) fn wait_detached(site: &Site) -> Result<()> {
    let folder = site.world.groups(1)?.path();
    let detached = || {
        let shown = Command::new("bpftool")
            .args(["cgroup", "tree"])
            .arg(folder)
            .output()
            .ok()?;
        let none = !String::from_utf8_lossy(&shown.stdout).contains("cgroup_");
        (shown.status.success() && none).then_some(())
    };
    eventually(PATIENCE, detached).with_context(|| format!("programs are attached to {}", folder.display()))
}

/// Removes kubelet's folder. Nothing may be in it.
pub(super) fn remove_pods_folder(site: &Site) -> Result<()> {
    let folder = site.pods_folder()?;
    let gone = || remove(&folder).ok();
    eventually(PATIENCE, gone).with_context(|| format!("{} is not empty", folder.display()))
}

fn remove(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(folder)
}

/// Makes it again, with the folder of the pod that asks.
pub(super) fn make_pods_folder(site: &Site) -> Result<()> {
    let folder = site.pods_folder()?;
    fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
    fs::write(folder.join("cgroup.type"), "threaded").context("make a folder of threads")?;
    site.world.groups(1)?.pod("shell")?;
    if !folder.join("shell").is_dir() {
        bail!("{} has no pod", folder.display());
    }
    Ok(())
}
