//! inotify on the folders that configuration files are in: files that are written, renamed into place (as editors do) or
//! reached through a link that is swapped (as ConfigMaps do) are all changes of a folder. It only says that something may
//! have changed; it waits on a thread of its own.

use std::collections::BTreeSet;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

pub(super) struct Watch {
    inotify: OwnedFd,
    files: Vec<PathBuf>,
}

impl Watch {
    pub(super) fn new(files: Vec<PathBuf>) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC)?;
        let watch = Self { inotify, files };
        watch.renew();
        Ok(watch)
    }

    /// Watches what the paths lead through now. What cannot be watched is noticed by what is around it.
    fn renew(&self) {
        let made = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        let all = made | WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_FROM | WatchFlags::DELETE;
        let (folders, around) = self.folders();
        // The later one counts for a folder that is both.
        for (folders, flags) in [(around, made), (folders, all)] {
            for folder in folders {
                // Fails for a folder that is not there at present.
                let _ = inotify::add_watch(&self.inotify, &folder, flags);
            }
        }
    }

    /// The folder of each file and those that links on the way lead to; and the ones around them.
    fn folders(&self) -> (BTreeSet<PathBuf>, BTreeSet<PathBuf>) {
        let (mut folders, mut all_around) = (BTreeSet::new(), BTreeSet::new());
        for file in &self.files {
            let mut path = file.clone();
            // As many links as the kernel follows.
            for _ in 0..40 {
                let folder = match path.parent() {
                    Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
                    Some(folder) => folder,
                    None => break,
                };
                folders.insert(folder.to_owned());
                if let Some(around) = folder.parent().filter(|around| !around.as_os_str().is_empty()) {
                    all_around.insert(around.to_owned());
                }
                let Ok(target) = path.read_link() else { break };
                path = folder.join(target);
            }
        }
        (folders, all_around)
    }

    /// Waits until something changes in one of the folders.
    pub(super) fn wait(&self) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        loop {
            let mut reader = Reader::new(&self.inotify, &mut buffer);
            match reader.next() {
                // The kernel took the watch off with its folder; another event told why.
                Ok(event) if event.events() == ReadFlags::IGNORED => {}
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // Other folders may lead to the files now.
        self.renew();
        Ok(())
    }
}
