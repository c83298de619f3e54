//! Programs of others that allow no program beside them, or below.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use aya::programs::{ProgramError, loaded_programs};

use super::sys;

/// What a program allows that is attached to a folder: another one in a folder below in its place, or any number beside it.
const ALLOW_OVERRIDE: u32 = 1;
const ALLOW_MULTI: u32 = 2;

/// Whether a refusal may come from such a program: the kernel says EPERM.
pub(crate) fn may_be_the_reason(error: &ProgramError) -> bool {
    let ProgramError::SyscallError(error) = error else {
        return false;
    };
    error.io_error.kind() == io::ErrorKind::PermissionDenied
}

/// The folder with a program that allows no other in this folder for the calls of the named program, and what it is.
pub(crate) fn alone(program: &str, folder: &Path) -> Option<(PathBuf, String)> {
    let hook = hook(program)?;
    let mut allowed_above = 0;
    for at in folder.ancestors() {
        // Above the hierarchy are folders of other kinds, to which nothing is attached.
        let here = File::open(at)
            .ok()
            .and_then(|at| sys::attached(at.as_fd(), hook).ok())?;
        if let Some((flags, id)) = here {
            if flags & (ALLOW_MULTI | allowed_above) == 0 {
                return Some((at.to_owned(), named(id)));
            }
            // The next folder above that has a program decides only if this one has none.
            return None;
        }
        allowed_above = ALLOW_OVERRIDE;
    }
    None
}

/// The number and the name of a program, in words.
pub fn named(id: u32) -> String {
    let program = loaded_programs().flatten().find(|program| program.id() == id);
    match program.as_ref().and_then(|program| program.name_as_str()) {
        Some(name) if !name.is_empty() => format!("program {id}, {name}"),
        _ => format!("program {id}"),
    }
}

/// The number of a program's hook (`enum bpf_attach_type`).
fn hook(program: &str) -> Option<u32> {
    let hooks = [
        ("connect4", 10),
        ("connect6", 11),
        ("sendmsg4", 14),
        ("sendmsg6", 15),
        ("recvmsg4", 19),
        ("recvmsg6", 20),
        ("getpeername4", 29),
        ("getpeername6", 30),
    ];
    let found = hooks.into_iter().find(|(name, _)| program.ends_with(name))?;
    Some(found.1)
}
