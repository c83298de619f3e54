//! inotify on the folder and on its parent. So it follows at once if the folder is replaced: by a rename, by removing
//! it and making it again, or by a link that leads to another folder.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The names that may have changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Changes {
    /// The files with these names.
    Files(BTreeSet<OsString>),
    /// Any file.
    All,
}

pub(super) struct Watch {
    inotify: AsyncFd<OwnedFd>,
    path: PathBuf,
    folder: Option<i32>,
    parent: Option<i32>,
}

impl Watch {
    /// Makes a watch that watches nothing yet. See [`Self::renew`].
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self {
            inotify: register(fd)?,
            path: path.to_owned(),
            folder: None,
            parent: None,
        })
    }

    /// Watches the folder that the path leads to now.
    pub(super) fn renew(&mut self) -> io::Result<()> {
        // If a file is written, it is complete when it is closed or moved here. A link is complete when it is made.
        let flags = WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        let folder = inotify::add_watch(self.inotify.get_ref(), &self.path, flags);
        if let Some(old) = self.folder.take().filter(|old| folder != Ok(*old)) {
            // This fails if the kernel removed the watch together with the folder.
            let _ = inotify::remove_watch(self.inotify.get_ref(), old);
        }
        let parent = match self.path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Some(Path::new(".")),
            parent => parent,
        };
        // If the parent may not be read, a replaced folder is only noticed later.
        let flags = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        self.parent = parent.and_then(|parent| inotify::add_watch(self.inotify.get_ref(), parent, flags).ok());
        self.folder = Some(folder?);
        Ok(())
    }

    /// Waits for the next changes, and returns all that there are.
    pub(super) async fn changes(&mut self) -> io::Result<Changes> {
        loop {
            let mut ready = self.inotify.readable().await?;
            let changes = self.read();
            ready.clear_ready();
            match changes? {
                Changes::Files(names) if names.is_empty() => {}
                changes => return Ok(changes),
            }
        }
    }

    fn read(&self) -> io::Result<Changes> {
        let mut names = BTreeSet::new();
        let mut all = false;
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut reader = Reader::new(self.inotify.get_ref(), &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
            let itself = ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT | ReadFlags::QUEUE_OVERFLOW;
            if event.events().intersects(itself) {
                all = true;
            } else if Some(event.wd()) == self.folder {
                match name {
                    // ConfigMaps are swapped like this: the files are links through `..data`.
                    Some(name) if name.as_bytes().starts_with(b"..") => all = true,
                    // A file that was just made is still empty. A link is complete.
                    Some(name) if event.events().contains(ReadFlags::CREATE) && !self.is_complete(name) => {}
                    Some(name) => drop(names.insert(name.to_owned())),
                    None => {}
                }
            } else if Some(event.wd()) == self.parent {
                all |= name.is_some() && name == self.path.file_name();
            }
        }
        Ok(if all { Changes::All } else { Changes::Files(names) })
    }

    fn is_complete(&self, name: &OsStr) -> bool {
        self.path
            .join(name)
            .symlink_metadata()
            .is_ok_and(|found| found.is_symlink() || found.nlink() > 1)
    }
}

#[expect(unsafe_code, reason = "tokio cannot see that the descriptor stays open; see SAFETY")]
fn register(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the AsyncFd owns the OwnedFd, which is open until it is dropped and always the same descriptor.
    let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    Ok(registered?)
}
