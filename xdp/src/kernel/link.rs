//! What ties a program to a cgroup folder.

use std::error::Error;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::{CgroupAttachMode, CgroupSockAddr, ProgramError};

use super::foreign;
use super::line::line;
use super::sys;

/// What the kernel calls the type of a cgroup v2 file system (`CGROUP2_SUPER_MAGIC`).
const CGROUP2: u32 = 0x6367_7270;

/// Why a program is not attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The folder is not there, or cannot be opened.
    #[error("open the cgroup folder {0}: {1}")]
    Folder(PathBuf, #[source] io::Error),
    /// The folder is on another file system.
    #[error("{0} is no folder of a cgroup v2 hierarchy: no program can be attached to it")]
    NotCgroup(PathBuf),
    /// Somebody else's program wants to be alone.
    #[error(
        "a program that allows no other is attached to {folder} ({foreign}): {program} cannot be attached to {wanted}"
    )]
    Foreign {
        /// The folder of that program.
        folder: PathBuf,
        /// The program: its number and name.
        foreign: String,
        /// The program that was to be attached.
        program: &'static str,
        /// The folder that it was to be attached to.
        wanted: PathBuf,
    },
    /// The kernel refused.
    #[error("attach {program} to {folder}: {error}")]
    Attach {
        /// The program.
        program: &'static str,
        /// The folder.
        folder: PathBuf,
        /// What the kernel said.
        error: String,
    },
    /// The link could not be pinned, or a pin could not be removed.
    #[error("pin the link {0}: {1}")]
    Pin(PathBuf, #[source] io::Error),
}

/// How a program came to its folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// By a new link.
    Anew,
    /// By the link that an earlier run pinned: it has this program now.
    Adopted,
}

/// Attaches a program to a folder by the link that is pinned, or by a new one. There is no moment without a program if the link
/// is the folder's. One of another folder, or whose folder is gone, is replaced.
pub(crate) fn attach(
    name: &'static str,
    program: &mut CgroupSockAddr,
    path: &Path,
    pin: &Path,
) -> Result<(PinnedLink, Attached), AttachError> {
    let failed = |error| AttachError::Folder(path.to_owned(), error);
    let folder = File::open(path).map_err(failed)?;
    let kind = rustix::fs::fstatfs(&folder).map_err(|error| failed(error.into()))?;
    if u32::try_from(kind.f_type) != Ok(CGROUP2) {
        return Err(AttachError::NotCgroup(path.to_owned()));
    }
    let not_pinned = |error| AttachError::Pin(pin.to_owned(), error);
    if pin.exists() {
        if let Some(link) = adopt(program, &folder, pin).map_err(failed)? {
            return Ok((link, Attached::Adopted));
        }
        detach(pin);
        std::fs::remove_file(pin).map_err(not_pinned)?;
    }
    let not_attached = |error: &(dyn Error + 'static)| AttachError::Attach {
        program: name,
        folder: path.to_owned(),
        error: line(error),
    };
    let refused = |error: ProgramError| match foreign::alone(name, path) {
        Some((folder, foreign)) if foreign::may_be_the_reason(&error) => AttachError::Foreign {
            folder,
            foreign,
            program: name,
            wanted: path.to_owned(),
        },
        _ => not_attached(&error),
    };
    // A link allows other programs beside it, whatever this mode says.
    let id = program.attach(folder, CgroupAttachMode::Single).map_err(refused)?;
    let link = program.take_link(id).map_err(refused)?;
    let link: FdLink = link.try_into().map_err(|error: LinkError| not_attached(&error))?;
    let link = link
        .pin(pin)
        .map_err(|error| not_pinned(io::Error::other(line(&error))))?;
    Ok((link, Attached::Anew))
}

/// Gives a pinned link another program, whichever folder it is of. If the folder is gone, or if it is no link of a cgroup
/// folder, there is nothing to do.
pub(crate) fn replace(program: &CgroupSockAddr, pin: &Path) -> io::Result<()> {
    let program = program.fd().map_err(io::Error::other)?;
    let link = sys::open(pin)?;
    if sys::cgroup_of(link.as_fd())?.is_none() {
        return Ok(());
    }
    match sys::update(link.as_fd(), program.as_fd()) {
        Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => Ok(()),
        result => result,
    }
}

/// Detaches the program of a pinned link at once, as far as this process may. The last name of a link alone may hold it for a
/// moment after it was removed.
pub(crate) fn detach(pin: &Path) {
    if let Ok(link) = sys::open(pin) {
        // It fails if the folder is gone, and nothing is attached then.
        let _: io::Result<()> = sys::detach(link.as_fd());
    }
}

/// The number of the folder that a pinned link is attached to; none if it is attached to none.
pub(crate) fn folder_of(pin: &Path) -> Option<u64> {
    let link = sys::open(pin).ok()?;
    sys::cgroup_of(link.as_fd()).ok().flatten()
}

/// Gives the pinned link this program, if it is a link of this folder.
fn adopt(program: &CgroupSockAddr, folder: &File, pin: &Path) -> io::Result<Option<PinnedLink>> {
    use std::os::unix::fs::MetadataExt as _;
    let program = program.fd().map_err(io::Error::other)?;
    let Ok(link) = sys::open(pin) else { return Ok(None) };
    // The number of a cgroup folder is that of its inode.
    let wanted = folder.metadata()?.ino();
    let is_its = sys::cgroup_of(link.as_fd()).ok().flatten() == Some(wanted);
    if !is_its || sys::update(link.as_fd(), program.as_fd()).is_err() {
        return Ok(None);
    }
    Ok(PinnedLink::from_pin(pin).ok())
}
