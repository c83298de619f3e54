//! The cgroup v2 folders that programs are attached to: the topmost one for the node's programs, kubelet's for the pods'.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// The number of the topmost folder of the hierarchy, in every kernel.
const ROOT: u64 = 1;

/// What kubelet's folder is called with the drivers `systemd` and `cgroupfs`.
const KUBELETS: [&str; 2] = ["kubepods.slice", "kubepods"];

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// No cgroup v2 hierarchy is mounted.
    #[error("no cgroup v2 hierarchy is mounted")]
    NoHierarchy,
    /// The mount shows a part of the hierarchy only.
    #[error(
        "{0} is not the topmost folder of the cgroup v2 hierarchy: a container with a cgroup namespace of its own sees \
         only a part of it, so the node's folder must be mounted into the container"
    )]
    Part(PathBuf),
    /// A folder is not in the hierarchy.
    #[error("{0} is not a folder of the cgroup v2 hierarchy at {1}")]
    Elsewhere(PathBuf, PathBuf),
    /// A folder cannot be read.
    #[error("{0}: {1}")]
    Folder(PathBuf, #[source] io::Error),
}

/// A folder of the hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// Where it is.
    pub path: PathBuf,
    /// Its number, by which programs know it.
    pub id: u64,
    /// How far it is below the topmost folder, which is 0.
    pub level: u64,
}

impl Folder {
    fn read(path: PathBuf, level: u64) -> Result<Self, CgroupError> {
        match fs::metadata(&path) {
            Ok(found) => Ok(Self {
                id: found.ino(),
                path,
                level,
            }),
            Err(error) => Err(CgroupError::Folder(path, error)),
        }
    }

    /// The topmost folder, by the table of mounts (`/proc/self/mountinfo`).
    pub fn topmost(mountinfo: &str) -> Result<Self, CgroupError> {
        let mounts = mounts(mountinfo);
        let first = mounts.first().ok_or(CgroupError::NoHierarchy)?.clone();
        let folders = mounts.into_iter().map(|path| Self::read(path, 0));
        // Several mounts may show the hierarchy, or parts of it.
        let found = folders.into_iter().flatten().find(|folder| folder.id == ROOT);
        found.ok_or(CgroupError::Part(first))
    }

    /// The folder that counts as the topmost one, if it is not the one that the table of mounts says.
    pub fn given(path: &Path, mountinfo: &str) -> Result<Self, CgroupError> {
        let folder = Self::read(path.to_owned(), 0)?;
        if folder.id == ROOT {
            return Ok(folder);
        }
        // Programs are told how far a folder is below the topmost one of the hierarchy.
        let topmost = Self::topmost(mountinfo)?;
        match path.strip_prefix(&topmost.path) {
            Ok(below) => Ok(Self {
                level: u64::try_from(below.components().count()).unwrap_or_default(),
                ..folder
            }),
            Err(_) => Err(CgroupError::Elsewhere(path.to_owned(), topmost.path)),
        }
    }

    /// Kubelet's folder: the one that is given, or one of the names that kubelet uses. None if there is none yet.
    pub fn pods(&self, given: Option<&Path>) -> Result<Option<Self>, CgroupError> {
        let names: Vec<&Path> = match given {
            Some(given) => vec![given],
            None => KUBELETS.iter().map(Path::new).collect(),
        };
        let mut first = None;
        for name in names {
            let name = name.strip_prefix("/").unwrap_or(name);
            let path = self.path.join(name);
            if path.is_dir() {
                let level = self.level + u64::try_from(name.components().count()).unwrap_or_default();
                let folder = Self::read(path, level)?;
                // Kubelet's cgroup driver was changed if there is another one: the old folder is empty.
                if given.is_some() || folder.children()? > 0 {
                    return Ok(Some(folder));
                }
                first.get_or_insert(folder);
            }
        }
        Ok(first)
    }

    /// How many folders are right below it: for kubelet's folder with the driver `cgroupfs`, pods and classes of pods.
    pub fn children(&self) -> Result<usize, CgroupError> {
        let failed = |error| CgroupError::Folder(self.path.clone(), error);
        let entries = fs::read_dir(&self.path).map_err(failed)?;
        Ok(entries.flatten().filter(|entry| entry.path().is_dir()).count())
    }
}

/// Where cgroup v2 is mounted. The shortest path comes first.
fn mounts(mountinfo: &str) -> Vec<PathBuf> {
    let mount = |line: &str| {
        // Before " - " stand optional fields, of which there may be any number; after it the type.
        let (before, after) = line.split_once(" - ")?;
        let kind = after.split(' ').next()?;
        let path = before.split(' ').nth(4)?;
        (kind == "cgroup2" && path.starts_with('/')).then(|| PathBuf::from(unescaped(path)))
    };
    let mut mounts: Vec<PathBuf> = mountinfo.lines().filter_map(mount).collect();
    mounts.sort_by_key(|path| path.as_os_str().len());
    mounts
}

/// The kernel writes blanks, tabs, line ends and backslashes in paths as `\040`.
fn unescaped(path: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(path.to_owned(), |path, (escaped, plain)| path.replace(escaped, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
25 23 0:22 / /sys/fs/cgroup rw shared:5 - tmpfs tmpfs rw,mode=755
26 25 0:23 / /sys/fs/cgroup/cpu rw,relatime shared:6 - cgroup cgroup rw,cpu
35 25 0:32 / /sys/fs/cgroup/unified rw,relatime shared:15 master:3 - cgroup2 cgroup2 rw
36 25 0:32 / /mnt/my\\040node/cgroup rw - cgroup2 cgroup2 rw
";

    #[test]
    fn the_hierarchy_is_found_beside_cgroup_v1_and_the_shortest_mount_comes_first() {
        let found = mounts(HYBRID);
        assert_eq!(
            found,
            [Path::new("/mnt/my node/cgroup"), Path::new("/sys/fs/cgroup/unified")]
        );
        assert!(mounts("").is_empty());
        assert!(mounts("no line of a mount table - cgroup2").is_empty());
        let error = Folder::topmost("").unwrap_err();
        assert_eq!(error.to_string(), "no cgroup v2 hierarchy is mounted");
    }

    #[test]
    fn a_folder_that_is_not_the_topmost_one_is_told() {
        // The topmost folder of a file system in memory has the number of a hierarchy's, so a folder below it is taken.
        let scratch = std::env::temp_dir().join(format!("tandem-topmost-{}", std::process::id()));
        fs::create_dir(&scratch).unwrap();
        let line = format!("35 25 0:32 / {} rw - cgroup2 cgroup2 rw", scratch.display());
        let error = Folder::topmost(&line).unwrap_err();
        fs::remove_dir(&scratch).unwrap();
        assert!(error.to_string().contains("is not the topmost folder"), "{error}");
    }

    #[test]
    fn kubelets_folder_is_found_by_its_names_or_as_it_is_given() {
        let top = std::env::temp_dir().join(format!("tandem-cgroups-{}", std::process::id()));
        fs::create_dir_all(top.join("kubepods/besteffort")).unwrap();
        fs::create_dir_all(top.join("custom/deep/pods")).unwrap();
        let folder = Folder::read(top.clone(), 0).unwrap();
        let pods = folder.pods(None).unwrap().unwrap();
        assert_eq!((pods.path.clone(), pods.level), (top.join("kubepods"), 1));
        assert_eq!(pods.children().unwrap(), 1);
        let given = folder.pods(Some(Path::new("/custom/deep/pods"))).unwrap().unwrap();
        assert_eq!((given.path, given.level), (top.join("custom/deep/pods"), 3));
        assert_eq!(folder.pods(Some(Path::new("nowhere"))).unwrap(), None);
        // An empty one is of another cgroup driver, which kubelet had before.
        fs::create_dir(top.join("kubepods.slice")).unwrap();
        assert_eq!(folder.pods(None).unwrap().unwrap().path, top.join("kubepods"));
        fs::create_dir(top.join("kubepods.slice/kubepods-burstable.slice")).unwrap();
        assert_eq!(folder.pods(None).unwrap().unwrap().path, top.join("kubepods.slice"));
        fs::remove_dir_all(&top).unwrap();
    }
}
