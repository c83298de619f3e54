//! What ties a program to a cgroup folder.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
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
    /// The link could not be pinned, or a pin could not be removed.
    #[error("pin the link")]
    Pin(#[source] io::Error),
    /// The kernel is too old for links.
    #[error("the kernel has no links for cgroup programs")]
    NoLink,
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
    program: &mut CgroupSockAddr,
    folder: &Path,
    pin: &Path,
) -> Result<(PinnedLink, Attached), AttachError> {
    let folder = File::open(folder).map_err(AttachError::Folder)?;
    if pin.exists() {
        if let Some(link) = adopt(program, &folder, pin)? {
            return Ok((link, Attached::Adopted));
        }
        std::fs::remove_file(pin).map_err(AttachError::Pin)?;
    }
    // A link allows other programs beside it, whatever this mode says.
    let id = program
        .attach(folder, CgroupAttachMode::Single)
        .map_err(AttachError::Attach)?;
    let link = program.take_link(id).map_err(AttachError::Attach)?;
    let link: FdLink = link.try_into().map_err(|_| AttachError::NoLink)?;
    let link = link
        .pin(pin)
        .map_err(|error| AttachError::Pin(io::Error::other(error)))?;
    Ok((link, Attached::Anew))
}

/// Gives a pinned link another program, whichever folder it is of. If the folder is gone, there is nothing to do.
pub(crate) fn replace(program: &CgroupSockAddr, pin: &Path) -> io::Result<()> {
    let program = program.fd().map_err(io::Error::other)?;
    let link = sys::open(pin).ok_or_else(io::Error::last_os_error)?;
    match sys::update(link.as_fd(), program.as_fd()) {
        Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => Ok(()),
        result => result,
    }
}

/// Detaches the program of a pinned link at once. The pin of a link alone may hold it for a moment longer.
pub(crate) fn detach(pin: &Path) {
    if let Some(link) = sys::open(pin) {
        // It fails if the folder is gone, and nothing is attached then.
        let _: io::Result<()> = sys::detach(link.as_fd());
    }
}

/// Gives the pinned link this program, if it is a link of this folder.
fn adopt(program: &CgroupSockAddr, folder: &File, pin: &Path) -> Result<Option<PinnedLink>, AttachError> {
    use std::os::unix::fs::MetadataExt as _;
    let fd = program.fd().map_err(AttachError::Attach)?.as_fd();
    let Some(link) = sys::open(pin) else { return Ok(None) };
    // The number of a cgroup folder is that of its inode.
    let wanted = folder.metadata().map_err(AttachError::Folder)?.ino();
    if sys::cgroup_of(link.as_fd()) != Some(wanted) || sys::update(link.as_fd(), fd).is_err() {
        return Ok(None);
    }
    Ok(PinnedLink::from_pin(pin).ok())
}

/// The calls that aya lacks.
mod sys {
    use std::ffi::CString;
    use std::io;
    use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
    use std::os::unix::ffi::OsStrExt as _;
    use std::path::Path;

    const OBJ_GET: i32 = 7;
    const OBJ_GET_INFO_BY_FD: i32 = 15;
    const LINK_UPDATE: i32 = 29;
    const LINK_DETACH: i32 = 34;
    /// `BPF_LINK_TYPE_CGROUP`
    const CGROUP: u32 = 3;

    /// What `bpf` gets (`union bpf_attr`), as far as it is used here. The kernel takes a part of it for the whole.
    fn bpf(command: i32, words: &mut [u32]) -> io::Result<i32> {
        #[expect(unsafe_code, reason = "the system call has no other name")]
        // SAFETY: the kernel reads and writes at most the given size, which is that of `words`.
        let result = unsafe { libc::syscall(libc::SYS_bpf, command, words.as_mut_ptr(), size_of_val(words)) };
        match i32::try_from(result) {
            Ok(result) if result >= 0 => Ok(result),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Two 32-bit halves of an address, as they lie in memory.
    fn halves<T>(at: *const T) -> [u32; 2] {
        let at = at as u64;
        let bytes = at.to_ne_bytes();
        [0, 4].map(|from| u32::from_ne_bytes([bytes[from], bytes[from + 1], bytes[from + 2], bytes[from + 3]]))
    }

    /// Opens what is pinned.
    pub(super) fn open(pin: &Path) -> Option<OwnedFd> {
        let path = CString::new(pin.as_os_str().as_bytes()).ok()?;
        let [low, high] = halves(path.as_ptr());
        let fd = bpf(OBJ_GET, &mut [low, high, 0, 0]).ok()?;
        #[expect(unsafe_code, reason = "owns a file descriptor")]
        // SAFETY: the kernel has just given it, and nobody else has it.
        Some(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// The number of the cgroup folder that a link is attached to. 0 if the folder is gone, none if it is no such link.
    pub(super) fn cgroup_of(link: BorrowedFd<'_>) -> Option<u64> {
        // struct bpf_link_info: type, id, prog_id, (unused), cgroup_id (64 bits), attach_type
        let mut info = [0_u32; 8];
        let [low, high] = halves(info.as_mut_ptr().cast_const());
        let len = u32::try_from(size_of_val(&info)).ok()?;
        bpf(OBJ_GET_INFO_BY_FD, &mut [fd(link)?, len, low, high]).ok()?;
        let words = [info[4].to_ne_bytes(), info[5].to_ne_bytes()].concat();
        (info[0] == CGROUP).then(|| u64::from_ne_bytes(words.try_into().unwrap_or_default()))
    }

    /// Gives a link another program. Each call sees the old program or the new one.
    pub(super) fn update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
        let bad = || io::Error::from(io::ErrorKind::InvalidInput);
        let (link, program) = (fd(link).ok_or_else(bad)?, fd(program).ok_or_else(bad)?);
        bpf(LINK_UPDATE, &mut [link, program, 0, 0]).map(drop)
    }

    /// Takes a link from its folder.
    pub(super) fn detach(link: BorrowedFd<'_>) -> io::Result<()> {
        let link = fd(link).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        bpf(LINK_DETACH, &mut [link]).map(drop)
    }

    fn fd(of: BorrowedFd<'_>) -> Option<u32> {
        u32::try_from(of.as_raw_fd()).ok()
    }
}
