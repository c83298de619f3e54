//! What is below a cgroup folder.

use std::fs;
use std::path::Path;

use super::report::Below;

/// A hierarchy is not deeper than this. A loop is not possible, but a container can make folders as it likes.
const DEEPEST: usize = 32;

/// Counts processes and pods in a folder and below it. What vanishes meanwhile is not counted.
pub(super) fn below(folder: &Path) -> Below {
    let mut found = Below::default();
    count(folder, 0, &mut found);
    found
}

fn count(folder: &Path, depth: usize, found: &mut Below) {
    // A folder of threads has no list of processes.
    let read = |name: &str| fs::read_to_string(folder.join(name));
    let processes = read("cgroup.procs")
        .or_else(|_| read("cgroup.threads"))
        .unwrap_or_default();
    found.processes += processes.lines().count();
    if depth == DEEPEST {
        return;
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.pods += usize::from(is_pod(&entry.file_name().to_string_lossy()));
            count(&entry.path(), depth + 1, found);
        }
    }
}

/// Whether kubelet gives a pod's folder this name: `podUID`, or `kubepods-besteffort-podUID.slice` with systemd.
fn is_pod(name: &str) -> bool {
    let name = name.strip_suffix(".slice").unwrap_or(name);
    let uid = name.strip_prefix("pod").or_else(|| Some(name.rsplit_once("-pod")?.1));
    uid.is_some_and(|uid| !uid.is_empty() && uid.chars().all(|char| char.is_ascii_hexdigit() || "-_".contains(char)))
}

#[cfg(test)]
mod tests {
    use super::is_pod;

    #[test]
    fn folders_of_pods_are_told_by_their_names() {
        let uid = "0e6b9a8c-6c5a-4d0e-9d8e-0d8f4b0a1c2d";
        let systemd = uid.replace('-', "_");
        for name in [
            format!("pod{uid}"),
            format!("kubepods-besteffort-pod{systemd}.slice"),
            format!("kubepods-pod{systemd}.slice"),
        ] {
            assert!(is_pod(&name), "{name}");
        }
        for name in [
            "kubepods.slice",
            "besteffort",
            "kubepods-burstable.slice",
            "pod",
            "podman",
            "cri-containerd-0e6b.scope",
        ] {
            assert!(!is_pod(name), "{name}");
        }
    }
}
