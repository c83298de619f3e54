//! inotify on the folders of the configuration files. A file that is written, renamed into place (as editors do) or
//! reached through a link that is swapped (as in ConfigMaps) is a change of a folder. The watch only says that
//! something may have changed. It waits on a thread of its own.

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

    /// Watches the folders that the paths lead through now. If a folder cannot be watched because it does not exist,
    /// the watch on its parent notices when it comes.
    fn renew(&self) {
        let made = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        let all = made | WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_FROM | WatchFlags::DELETE;
        let (folders, around) = self.folders();
        // If a folder is in both sets, the later flags replace the earlier ones.
        for (folders, flags) in [(around, made), (folders, all)] {
            for folder in folders {
                // This fails if the folder does not exist at present.
                let _ = inotify::add_watch(&self.inotify, &folder, flags);
            }
        }
    }

    /// First the folder of each file, and the folders that links on its path lead to. Then the parents of all of these.
    fn folders(&self) -> (BTreeSet<PathBuf>, BTreeSet<PathBuf>) {
        let (mut folders, mut all_around) = (BTreeSet::new(), BTreeSet::new());
        for file in &self.files {
            let mut path = file.clone();
            // The kernel follows 40 links, too.
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
                // The kernel removed the watch together with its folder. Another event said so before.
                Ok(event) if event.events() == ReadFlags::IGNORED => {}
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // The paths may lead through other folders now.
        self.renew();
        Ok(())
    }
}
