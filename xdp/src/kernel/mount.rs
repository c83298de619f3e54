//! The BPF file system that pins are in.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::statfs;
use rustix::mount::{MountFlags, mount};

/// What the kernel calls the type of a BPF file system (`BPF_FS_MAGIC`).
const BPF_FS: u32 = 0xcafe_4a11;

/// Why there is no BPF file system.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The folder of the file system cannot be looked at.
    #[error("look at {0}, where a BPF file system is to be: {1}")]
    Folder(PathBuf, #[source] io::Error),
    /// None is there, and the kernel refuses to mount one.
    #[error(
        "no BPF file system is at {0}, and to mount one was refused ({1}): mount one there (mount -t bpf bpf {0}), or give \
         the process CAP_SYS_ADMIN"
    )]
    Refused(PathBuf, io::Error),
}

/// Mounts a BPF file system at the parent of the pins' folder, if there is none. Returns whether it did.
///
/// One that is mounted in a container's own namespace of mounts goes with the container, and so do the pins: for pins that
/// outlive it, the node's must be mounted into the container.
pub(crate) fn below(pins: &Path) -> Result<bool, MountError> {
    let parent = parent(pins);
    if is_bpf(parent).map_err(|error| MountError::Folder(parent.to_owned(), error))? {
        return Ok(false);
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RELATIME;
    // Other users need not see which maps there are.
    mount("bpf", parent, "bpf", flags, c"mode=0700")
        .map_err(|error| MountError::Refused(parent.to_owned(), error.into()))?;
    Ok(true)
}

/// Where the file system of a folder of pins is.
pub(crate) fn parent(pins: &Path) -> &Path {
    pins.parent().unwrap_or(pins)
}

/// Whether a folder is on a BPF file system.
pub(crate) fn is_bpf(folder: &Path) -> io::Result<bool> {
    let found = statfs(folder)?;
    Ok(u32::try_from(found.f_type) == Ok(BPF_FS))
}
