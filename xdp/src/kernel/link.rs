//! What ties a program to a cgroup folder.

use std::fs::File;
use std::io;
use std::path::Path;

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::{CgroupAttachMode, CgroupSockAddr, ProgramError};

/// Why a program is not attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The folder cannot be opened.
    #[error("open the cgroup folder")]
    Folder(#[source] io::Error),
    /// The kernel refused.
    #[error("attach the program")]
    Attach(#[source] ProgramError),
    /// The link could not be pinned.
    #[error("pin the link")]
    Pin(#[source] aya::pin::PinError),
    /// The kernel did not replace the program.
    #[error("replace the program of a link")]
    Update(#[source] io::Error),
    /// The kernel is too old for links.
    #[error("the kernel has no links for cgroup programs")]
    NoLink,
}

/// Attaches a program to a folder, and pins the link.
pub(crate) fn attach(program: &mut CgroupSockAddr, folder: &Path, pin: &Path) -> Result<PinnedLink, AttachError> {
    let folder = File::open(folder).map_err(AttachError::Folder)?;
    // A link allows other programs beside it, whatever this mode says.
    let id = program
        .attach(folder, CgroupAttachMode::Single)
        .map_err(AttachError::Attach)?;
    let link = program.take_link(id).map_err(AttachError::Attach)?;
    let link: FdLink = link.try_into().map_err(|_| AttachError::NoLink)?;
    link.pin(pin).map_err(AttachError::Pin)
}
