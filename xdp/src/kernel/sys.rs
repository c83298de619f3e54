//! The calls of `bpf` that aya lacks.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

const OBJ_PIN: i32 = 6;
const OBJ_GET: i32 = 7;
const PROG_QUERY: i32 = 16;
const OBJ_GET_INFO_BY_FD: i32 = 15;
const LINK_CREATE: i32 = 28;
const LINK_UPDATE: i32 = 29;
const LINK_DETACH: i32 = 34;
/// `BPF_LINK_TYPE_CGROUP`
const CGROUP: u32 = 3;
/// `BPF_LINK_TYPE_XDP`
const DEVICE: u32 = 6;
/// `BPF_XDP`, a kind of attachment.
const XDP: u32 = 37;

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
pub(crate) fn open(pin: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let [low, high] = halves(path.as_ptr());
    let fd = bpf(OBJ_GET, &mut [low, high, 0, 0])?;
    #[expect(unsafe_code, reason = "owns a file descriptor")]
    // SAFETY: the kernel has just given it, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The number of the cgroup folder that a link is attached to. 0 if the folder is gone, none if it is no such link.
pub(crate) fn cgroup_of(link: BorrowedFd<'_>) -> io::Result<Option<u64>> {
    // struct bpf_link_info: type, id, prog_id, (unused), cgroup_id (64 bits), attach_type
    let mut info = [0_u32; 8];
    let [low, high] = halves(info.as_mut_ptr().cast_const());
    let len = u32::try_from(size_of_val(&info)).map_err(io::Error::other)?;
    match bpf(OBJ_GET_INFO_BY_FD, &mut [fd(link)?, len, low, high]) {
        // It is a map, or a program.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(None),
        result => result?,
    };
    let words = [info[4].to_ne_bytes(), info[5].to_ne_bytes()].concat();
    Ok((info[0] == CGROUP).then(|| u64::from_ne_bytes(words.try_into().unwrap_or_default())))
}

/// The index of the device that a link is attached to, and the number of its program. The index is 0 if the device is gone or the
/// program was detached. None if it is no such link.
pub(crate) fn device_of(link: BorrowedFd<'_>) -> io::Result<Option<(u32, u32)>> {
    // struct bpf_link_info: type, id, prog_id, (unused), ifindex
    let mut info = [0_u32; 8];
    let [low, high] = halves(info.as_mut_ptr().cast_const());
    let len = u32::try_from(size_of_val(&info)).map_err(io::Error::other)?;
    match bpf(OBJ_GET_INFO_BY_FD, &mut [fd(link)?, len, low, high]) {
        // It is a map, or a program.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(None),
        result => result?,
    };
    Ok((info[0] == DEVICE).then_some((info[4], info[2])))
}

/// Whether there is a device of this index in the thread's network.
pub(crate) fn is_device(index: u32) -> bool {
    let mut name = [0; libc::IF_NAMESIZE];
    #[expect(unsafe_code, reason = "the standard library has no name for it")]
    // SAFETY: there is room for a name, which is all that is written.
    let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr()) };
    !found.is_null()
}

/// Attaches a program to a device, if no other is attached there. `flags` says by whom the program is run (`XDP_FLAGS_…`).
pub(crate) fn attach(program: BorrowedFd<'_>, device: u32, flags: u32) -> io::Result<OwnedFd> {
    let link = bpf(LINK_CREATE, &mut [fd(program)?, device, XDP, flags])?;
    #[expect(unsafe_code, reason = "owns a file descriptor")]
    // SAFETY: the kernel has just given it, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(link) })
}

/// Pins what a descriptor is of.
pub(crate) fn pin(what: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let [low, high] = halves(path.as_ptr());
    bpf(OBJ_PIN, &mut [low, high, fd(what)?, 0]).map(drop)
}

/// The numbers of the maps that a program uses. aya asks by the program's number, for which CAP_BPF is not enough.
pub(crate) fn maps_of(program: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    const MOST: usize = 64;
    let mut ids = [0_u32; MOST];
    // struct bpf_prog_info, up to the maps: after 13 words comes how many there are, and then where they are to be written.
    let mut info = [0_u32; 16];
    let [low, high] = halves(ids.as_mut_ptr().cast_const());
    (info[13], info[14], info[15]) = (u32::try_from(MOST).map_err(io::Error::other)?, low, high);
    let [low, high] = halves(info.as_mut_ptr().cast_const());
    let len = u32::try_from(size_of_val(&info)).map_err(io::Error::other)?;
    bpf(OBJ_GET_INFO_BY_FD, &mut [fd(program)?, len, low, high])?;
    let count = usize::try_from(info[13]).map_err(io::Error::other)?;
    Ok(ids.into_iter().take(count).collect())
}

/// Gives a link another program. Each call sees the old program or the new one.
pub(crate) fn update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    bpf(LINK_UPDATE, &mut [fd(link)?, fd(program)?, 0, 0]).map(drop)
}

/// Takes a link from its folder, at once.
pub(crate) fn detach(link: BorrowedFd<'_>) -> io::Result<()> {
    bpf(LINK_DETACH, &mut [fd(link)?]).map(drop)
}

/// The programs that are attached to a cgroup folder itself: whether others may be attached beside them or below, and the number
/// of the first.
pub(crate) fn attached(folder: BorrowedFd<'_>, hook: u32) -> io::Result<Option<(u32, u32)>> {
    // More than one is only there if each allows others, and then nobody asks for their numbers.
    let mut ids = [0_u32; 64];
    let [low, high] = halves(ids.as_mut_ptr().cast_const());
    let count = u32::try_from(ids.len()).map_err(io::Error::other)?;
    // target_fd, attach_type, query_flags, attach_flags, prog_ids (64 bits), prog_cnt
    let mut query = [fd(folder)?, hook, 0, 0, low, high, count, 0];
    bpf(PROG_QUERY, &mut query)?;
    Ok((query[6] > 0).then_some((query[3], ids[0])))
}

fn fd(of: BorrowedFd<'_>) -> io::Result<u32> {
    u32::try_from(of.as_raw_fd()).map_err(io::Error::other)
}
